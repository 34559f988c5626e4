"""The command line's contract: JSON forms, exit codes, and one clear sentence for bad input."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. "
    "GPU 0 has a total capacity of 23.70 GiB of which 1.20 GiB is free."
)
COMMANDS = ["ask", "chat", "checkup", "scan", "mask", "probe", "kb", "flags", "serve"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "vllm.log"
    path.write_text(f"INFO 11-22 10:00:00 [api_server.py:1896] vLLM API server version 0.10.2\n{OOM}\n")
    return path


def test_help_names_every_command(crashcart: Run) -> None:
    code, out, _ = crashcart("--help")
    assert code == 0 and all(f" {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(crashcart: Run, name: str) -> None:
    code, out, _ = crashcart(name, "--help")
    assert code == 0 and len(out.splitlines()) > 4


def test_ask_gives_the_answer_as_json(crashcart: Run, log: Path) -> None:
    code, out, _ = crashcart(
        "ask", "vLLM on my 24 GB card dies at start-up, why?", "--log", str(log), "--no-probes", "--json"
    )
    answer = json.loads(out)
    assert code == 2
    assert {"schema", "status", "lang", "diagnoses", "evidence", "warnings", "steps", "text", "thread"} <= answer.keys()
    assert (answer["schema"], answer["status"], answer["lang"]) == (1, "diagnosed", "en")
    first = answer["diagnoses"][0]
    assert {"id", "title", "confidence", "supporting", "contradicting", "ruled_out", "fixes"} <= first.keys()
    assert first["id"] == "gpu-out-of-memory"
    fix = first["fixes"][0]
    assert {"title", "text", "commands", "patched_command", "computed", "risk", "cites", "checks"} <= fix.keys()
    known = {e["id"] for e in answer["evidence"]}
    assert {*first["supporting"], *first["contradicting"], *fix["cites"]} <= known
    assert all(e.keys() >= {"id", "kind", "source", "text"} for e in answer["evidence"])
    assert any(e["kind"] == "log" and e["source"].endswith("vllm.log:2") for e in answer["evidence"])
    assert all(s.keys() >= {"name", "status", "seconds"} for s in answer["steps"])


def test_the_answer_is_in_the_language_of_the_question_unless_told(crashcart: Run, log: Path) -> None:
    for words, option, lang in (
        ("启动失败,为什么?", "auto", "zh"),
        ("启动失败,为什么?", "en", "en"),
        ("why?", "zh", "zh"),
    ):
        _, out, _ = crashcart("ask", words, "--log", str(log), "--no-probes", "--json", "--lang", option)
        assert json.loads(out)["lang"] == lang


def test_a_log_can_be_piped_in(log: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from ui.cli import main; main()", "ask", "-", "--no-probes"],
        input=log.read_bytes(),
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.returncode == 2 and b"CUDA out of memory" in done.stdout and not done.stderr


def test_scan_has_the_contracts_form(crashcart: Run, log: Path) -> None:
    code, out, _ = crashcart("scan", str(log), "--json")
    report = json.loads(out)
    assert code == 2
    assert report["files"] == [{"path": str(log), "bytes": log.stat().st_size, "lines": 2}]
    match = next(m for m in report["matches"] if m["document"] == "gpu-out-of-memory")
    assert match.keys() >= {"document", "signature", "role", "count", "first", "last"}
    assert match["first"].keys() >= {"path", "line", "time", "text"} and match["first"]["line"] == 2
    assert report["root"]["exception"] == "torch.OutOfMemoryError" and report["root"]["line"] == 2


def test_a_recorded_host_replays(crashcart: Run, log: Path, tmp_path: Path) -> None:
    code, out, _ = crashcart("checkup", "--json")
    host = json.loads(out)
    assert code in (0, 1, 2, 3) and host["gpu_memory"]["status"]
    recorded = tmp_path / "host.json"
    recorded.write_text(out)
    answers = [
        json.loads(crashcart("ask", "why?", "--log", str(log), "--host", str(recorded), "--json")[1]) for _ in range(2)
    ]
    for answer in answers:
        for step in answer["steps"]:
            step["seconds"] = 0
    assert answers[0] == answers[1]


def test_probes_can_be_listed_and_run(crashcart: Run) -> None:
    _, out, _ = crashcart("probe", "list", "--json")
    assert {"gpu_memory", "versions", "host_memory", "disk"} <= json.loads(out).keys()
    code, out, _ = crashcart("probe", "run", "host_memory", "--json")
    assert code in (0, 1, 2) and json.loads(out)["host_memory"]["facts"]["host_total_gib"] > 0


def test_kb_can_be_listed_searched_and_grown(crashcart: Run, tmp_path: Path) -> None:
    _, out, _ = crashcart("kb", "list", "--json")
    assert "kv-cache-too-small" in {row["id"] for row in json.loads(out)}
    _, out, _ = crashcart("kb", "search", "max seq len larger than KV cache", "--json")
    assert json.loads(out)[0]["document"] == "kv-cache-too-small"
    note = tmp_path / "frobnicator.md"
    note.write_text(
        "# Frobnicator runbook\n\n## Error: frobnicator lost\n\n```\nFrobnicatorError: flux 42 lost\n```\n\n```bash\nfrobctl reset\n```\n"
    )
    assert crashcart("kb", "add", str(note))[0] == 0
    assert "unchanged" in crashcart("kb", "add", str(note))[1]
    code, out, _ = crashcart("ask", "FrobnicatorError: flux 77 lost", "--no-probes", "--json")
    assert code == 2 and "frobctl reset" in json.loads(out)["diagnoses"][0]["fixes"][0]["commands"][0]
    assert crashcart("kb", "remove", "frobnicator")[0] == 0


def test_a_document_that_an_answer_names_can_be_read(crashcart: Run) -> None:
    code, out, _ = crashcart("kb", "show", "heads-not-divisible", "--lang", "zh")
    assert code == 0 and "## 原因" in out and "--tensor-parallel-size 4" in out and "https://" in out
    code, out, _ = crashcart("kb", "show", "heads-not-divisible", "--json")
    assert json.loads(out)["lang"] == "en" and "## Similar faults" in json.loads(out)["text"]
    code, _, err = crashcart("kb", "show", "no-such-document")
    assert code == 64 and "crashcart kb list" in err


def test_no_help_is_cut(crashcart: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for group in ((), ("kb",), ("probe",), ("threads",)):
        code, out, _ = crashcart(*group, "--help")
        assert code == 0 and "..." not in out.partition("\n")[2], group
    _, out, _ = crashcart("serve", "--help")
    assert "      crashcart serve --port 7861\n" in out


def test_flags_are_checked_against_a_release(crashcart: Run) -> None:
    command = "vllm serve m --enable-chunked-context --max-model-len 4096"
    code, out, _ = crashcart("flags", "check", command, "--release", "vllm==0.11.0", "--json")
    checked = json.loads(out)
    items = {i["name"]: i for i in checked["items"]}
    assert code == 2 and checked["release"] == "vllm==0.11.0"
    assert items["--enable-chunked-context"]["status"] == "never" and items["--max-model-len"]["status"] == "ok"
    assert items["--max-model-len"].keys() >= {"name", "kind", "status", "since", "until", "replacement", "note"}
    assert "--enable-chunked-context" not in checked["patched_command"]


def test_secrets_are_masked(crashcart: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("HF_TOKEN=hf_abcdefghijklmnopqrstuvwxyz012345AB and done\n")
    _, out, _ = crashcart("mask", str(path))
    assert "hf_abc" not in out and "and done" in out


def test_a_question_can_be_kept_as_a_case(crashcart: Run, log: Path, tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "case.yaml"
    crashcart("ask", "why?", "--log", str(log), "--no-probes", "--json", "--save", str(path))
    case = yaml.safe_load(path.read_text())
    assert (
        case["kind"] == "diagnose"
        and case["expect"]["cause"] == "gpu-out-of-memory"
        and OOM in case["logs"]["vllm.log"]
    )


def bad_inputs(folder: Path) -> dict[str, list[str]]:
    binary = folder / "core.bin"
    binary.write_bytes(bytes(range(256)) * 100)
    (folder / "empty").mkdir()
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    not_json = folder / "host.json"
    not_json.write_text("{")
    return {
        "missing log": ["ask", "why", "--log", str(folder / "nowhere.log")],
        "binary log": ["ask", "why", "--log", str(binary)],
        "folder as log": ["ask", "why", "--log", str(folder / "empty")],
        "fifo as log": ["scan", str(fifo)],
        "device as log": ["scan", "/dev/zero"],
        "empty question": ["ask", "  "],
        "no question": ["ask"],
        "unknown language": ["ask", "why", "--lang", "fr"],
        "unknown option": ["ask", "why", "--frobnicate"],
        "unknown command": ["frobnicate"],
        "unknown probe": ["probe", "run", "frobnicate"],
        "host is not JSON": ["ask", "why", "--host", str(not_json)],
        "host is missing": ["ask", "why", "--host", str(folder / "none.json")],
        "empty search": ["kb", "search", " "],
        "unknown mode": ["kb", "search", "x", "--mode", "magic"],
        "missing runbook": ["kb", "add", str(folder / "none.md")],
        "unknown runbook": ["kb", "remove", "nothing"],
        "unknown engine": ["flags", "check", "vllm serve m", "--release", "tgi==1.0"],
        "missing scan file": ["scan", str(folder / "nowhere.log")],
        "missing mask file": ["mask", str(folder / "nowhere.log")],
    }


BAD = [
    "missing log", "binary log", "folder as log", "fifo as log", "device as log", "empty question", "no question",
    "unknown language", "unknown option", "unknown command", "unknown probe", "host is not JSON", "host is missing",
    "empty search", "unknown mode", "missing runbook", "unknown runbook", "unknown engine", "missing scan file", "missing mask file",
]  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_gets_one_sentence_and_a_usage_code(crashcart: Run, tmp_path: Path, what: str) -> None:
    code, out, err = crashcart(*bad_inputs(tmp_path)[what])
    assert code >= 64, (out, err)
    assert "Traceback" not in err and (err.strip() or out.strip())


def test_an_unreadable_log_is_named(crashcart: Run, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can read every file")
    path = tmp_path / "secret.log"
    path.write_text("x")
    path.chmod(0)
    code, _, err = crashcart("ask", "why", "--log", str(path))
    assert code >= 64 and "secret.log" in err


def test_invalid_utf8_and_gzip_are_read(crashcart: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.log"
    path.write_bytes(b"caf\xe9 \xff line\n" + OOM.encode() + b"\n")
    packed = tmp_path / "bad.log.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for log in (path, packed):
        code, out, _ = crashcart("ask", "why", "--log", str(log), "--no-probes", "--json")
        assert code == 2 and json.loads(out)["diagnoses"][0]["id"] == "gpu-out-of-memory"
