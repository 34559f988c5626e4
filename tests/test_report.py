"""The problem report: complete, masked, bounded, and Markdown whatever stands in the log."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from assistant.incident import Incident
from assistant.report import LIMIT, clip, fence, mask_homes, missing, write_report
from probes.registry import record
from probes.scanner import FileRead, Hit, Match, RootException, ScanReport, Traceback
from probes.types import ProbeResult

Run = Callable[..., tuple[int, str, str]]
LOG = """\
INFO 11-22 10:00:00 [api_server.py:1896] vLLM API server version 0.10.2
INFO 11-22 10:00:01 [utils.py:233] non-default args: {'model': '/home/ada/models/llama', 'api_key': 'sk-proj-abcdefghijklmnop1234567890'}
Traceback (most recent call last):
  File "/home/ada/venv/lib/python3.12/site-packages/vllm/worker.py", line 10, in run
    raise torch.OutOfMemoryError(message)
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.70 GiB of which 1.20 GiB is free.
INFO 11-22 10:05:00 [loggers.py:1] restarted
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.00 GiB. GPU 0 has a total capacity of 23.70 GiB of which 0.20 GiB is free.
"""
HOST = [
    ProbeResult("gpu_memory", "warning", "98% of a GPU's memory is held.", "显存占用 98%。", facts={"gpu_count": 2, "gpu_name": "NVIDIA L4", "gpu_total_gib": 22.5}),
    ProbeResult("versions", "ok", "Fine.", "正常。", facts={"vllm_version": "0.10.2", "driver_version": "570.1"}, data={"os": "Debian 12", "kernel": "6.1", "used": "/e", "environments": [{"path": "/e", "packages": {"torch": "2.8.0", "vllm": "0.10.2"}}]}),
    ProbeResult("gpu_health", "unknown", "No NVML.", "没有 NVML。"),
    ProbeResult("gpu_links", "unknown", "No NVML.", "没有 NVML。"),
]  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "vllm.log"
    path.write_text(LOG)
    return path


@pytest.fixture
def host(tmp_path: Path) -> Path:
    path = tmp_path / "host.json"
    path.write_text(json.dumps(record(HOST), ensure_ascii=False))
    return path


def headings(text: str) -> list[str]:
    """The headings outside of code."""
    return re.findall(r"^## (.+)$", re.sub(r"^(`{3,})\w*\n.*?^\1$", "", text, flags=re.M | re.S), re.M)


def test_the_report_has_all_parts(crashcart: Run, log: Path, host: Path) -> None:
    code, out, err = crashcart(
        "report", "--log", str(log), "--host", str(host), "--question", "It dies.", "--expected", "It serves.",
        "--command", "vllm serve /home/ada/m --api-key sk-proj-abcdefghijklmnop1234567890", "--tried", "half the context: same",
    )  # fmt: skip
    assert code == 0 and err == ""
    assert headings(out) == [
        "What happens", "What was expected", "Environment", "Command", "Error", "Known fault that fits best",
        "What probes read", "What was tried",
    ]  # fmt: skip
    assert out.startswith("# torch.OutOfMemoryError: CUDA out of memory.")
    for told in ("It dies.", "It serves.", "| vLLM | 0.10.2 |", "2 × NVIDIA L4, 22.5 GiB", "torch==2.8.0", "Debian 12"):
        assert told in out
    assert "- half the context: same" in out and "- **warning** gpu_memory: 98%" in out
    assert "- **unknown** gpu_health, gpu_links: No NVML." in out and "- ok: versions" in out


def test_the_error_is_told_with_its_traceback_and_first_and_last_line(crashcart: Run, log: Path) -> None:
    _, out, _ = crashcart("report", "--log", str(log), "--no-probes")
    assert "    raise torch.OutOfMemoryError(message)" in out
    assert re.search(r"^2× gpu-out-of-memory \(cause\)$", out, re.M)
    assert re.search(r"^first \S+vllm\.log:6: .*2\.00 GiB", out, re.M)
    assert re.search(r"^last  \S+vllm\.log:8: .*4\.00 GiB", out, re.M)
    assert "vllm 0.10.2" in out


def test_secrets_and_names_of_people_are_masked(crashcart: Run, log: Path, host: Path) -> None:
    _, out, _ = crashcart(
        "report", "--log", str(log), "--host", str(host), "--tried", "HF_TOKEN=hf_abcdefghijklmnopqrstuv"
    )
    assert "sk-proj-abc" not in out and "hf_abc" not in out and "ada" not in out
    assert "/home/USER/models/llama" in out and "/home/USER/venv/" in out


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("/home/ada/x and /home/bob", "/home/USER/x and /home/USER"),
        ("/Users/ada.l/x:3", "/Users/USER/x:3"),
        (r"C:\Users\ada\x, C:\\Users\\bob\\y", r"C:\Users\USER\x, C:\\Users\\USER\\y"),
        ("'/home/ada'", "'/home/USER'"),
        ("/home/USER/x", "/home/USER/x"),
        ("/homework/ada /srv/home", "/homework/ada /srv/home"),
    ],
)
def test_home_folders_lose_their_names(text: str, masked: str) -> None:
    assert mask_homes(text) == masked == mask_homes(masked)


def test_what_is_missing_is_asked_for(crashcart: Run) -> None:
    _, out, err = crashcart("report", "--no-probes")
    assert out.count("_Not told._") == 7
    assert [line.rpartition("(")[2] for line in err.splitlines()] == [
        "--question TEXT)", "--log FILE)", "--command TEXT)", "--tried TEXT)", "run it where the server runs)",
    ]  # fmt: skip


def test_the_report_is_chinese_for_a_chinese_question(crashcart: Run, log: Path, host: Path) -> None:
    _, out, err = crashcart("report", "--log", str(log), "--host", str(host), "--question", "启动就退出，显存不足")
    assert headings(out)[:3] == ["问题描述", "预期行为", "环境信息"]
    assert "显存占用 98%。" in out and "Not told" not in out
    assert "--command" in err and "TEXT" not in err


def test_it_can_be_written_to_a_file_and_as_json(crashcart: Run, tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    code, out, err = crashcart("report", "--no-probes", "--question", "Why?", "-o", str(path))
    assert code == 0 and out == "" and "Saved" in err
    _, out, _ = crashcart("report", "--no-probes", "--question", "Why?", "--json")
    assert json.loads(out)["report"] == path.read_text("utf-8") and len(json.loads(out)["missing"]) == 4


def test_bad_paths_are_told(crashcart: Run, tmp_path: Path) -> None:
    for options in (["--log", str(tmp_path / "none.log")], ["-o", str(tmp_path / "none" / "r.md"), "--no-probes"]):
        code, _, err = crashcart("report", *options)
        assert code == 64 and "none" in err


def huge() -> Incident:
    line = "x" * 2_000
    hit = Hit("a.log", 1, None, line, (line,) * 5, (line,) * 5)
    matches = tuple(Match(f"document-{n}", "s", "cause", 9, replace(hit, line=n), hit) for n in range(200))
    traceback = Traceback("a.log", 1, 9_000, "", "engine", (), "\n".join([line] * 500))
    root = RootException("E", "m " * 10_000, "a.log", 5)
    facts = {f"fact_{n}": line for n in range(300)}
    packages = {f"package-{n}": "1.0" for n in range(5_000)}
    results = [ProbeResult(f"probe_{n}", "warning", f"{n} {line}" * 9, facts=facts) for n in range(40)]
    versions = ProbeResult(
        "versions", "ok", "", data={"used": "/e", "environments": [{"path": "/e", "packages": packages}]}
    )
    return Incident(
        "q " * 9_000, "e " * 9_000, "vllm serve " + "y" * 90_000, tuple("t" * 9_000 for _ in range(50)),
        ScanReport((FileRead("a.log", 1, 1),), matches, root, (traceback,)), "s\n" * 90_000, "", (*results, versions), ("T", 0.9),
    )  # fmt: skip


def test_a_report_is_never_longer_than_an_issue_takes() -> None:
    for lang in ("en", "zh"):
        text = write_report(huge(), lang)  # type: ignore[arg-type]
        assert 20_000 < len(text) <= LIMIT < 65_536
        assert len(headings(text)) == 8, "no part is lost to the bound"


def test_fences_in_a_log_do_not_end_the_block() -> None:
    scan = ScanReport((FileRead("a", 1, 1),), root=RootException("E", "```\n## Injected\n````", "a", 1))
    assert "Injected" not in headings(write_report(Incident(scan=scan, start="```\n# x"), "en"))
    assert fence("a```b").startswith("````text\n") and fence("a").startswith("```text\n")


def test_tables_keep_their_form() -> None:
    results = (ProbeResult("versions", "ok", "", data={"os": "a|b\nc"}),)
    assert "| System | a\\|b c |" in write_report(Incident(results=results), "en")


def test_clipping_keeps_both_ends() -> None:
    text = clip("a" * 500 + "b" * 500, 100, "en")
    assert text.startswith("a" * 40) and text.endswith("b" * 60) and "900 characters left out" in text
    assert clip("short", 100, "en") == "short"


def test_every_wanted_part_can_be_told() -> None:
    assert len(missing(Incident(), "en")) == len(missing(Incident(), "zh")) == 5
    told = Incident("q", "e", "c", ("t",), ScanReport((FileRead("a", 1, 1),)), release="vllm 0.11.0")
    assert missing(told, "en") == []
