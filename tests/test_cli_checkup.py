"""`crashcart checkup` as a person sees it: the verdict, the table, other machines, and rounds until Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from probes.registry import load_probe, record
from probes.types import ProbeResult, Target
from ui.checkup import render_changes, render_checkup

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent
BLIND = ProbeResult(
    "",
    "unknown",
    "No GPU was read.",
    "没有读到 GPU。",
    advice=("Run on the GPU host.",),
    advice_zh=("请在 GPU 主机上运行。",),
)
RESULTS = [
    ProbeResult("disk", "ok", "62 GiB free.", "空闲 62 GiB。", facts={"disk_free_gib": 62.0}),
    ProbeResult("host_memory", "ok", "23 GiB available.", "可用 23 GiB。"),
    replace(BLIND, probe="gpu_memory"),
    replace(BLIND, probe="gpu_health"),
    ProbeResult("versions", "warning", "torch is built for CPU.", "torch 是 CPU 版。", advice=("Install the CUDA build.",), advice_zh=("安装 CUDA 版。",)),
    ProbeResult("kernel_log", "critical", "GPU 3 fell off the bus (Xid 79).", "GPU 3 掉线（Xid 79）。", advice=("Reboot the host.",), advice_zh=("重启主机。",)),
]  # fmt: skip


@pytest.fixture
def host(tmp_path: Path) -> Path:
    path = tmp_path / "host.json"
    path.write_text(json.dumps(record(RESULTS), ensure_ascii=False))
    return path


def test_the_verdict_comes_first_and_the_worst_after_it(crashcart: Run, host: Path) -> None:
    code, out, _ = crashcart("checkup", "--host", str(host), "--lang", "en")
    lines = [line.rstrip() for line in out.splitlines() if line.strip()]
    assert code == 2
    assert lines == [
        "critical: 1 critical, 1 warning, 2 could not look, 2 ok",
        "critical  kernel_log  GPU 3 fell off the bus (Xid 79).",
        "                      → Reboot the host.",
        "warning   versions    torch is built for CPU.",
        "                      → Install the CUDA build.",
        "unknown   gpu_health  No GPU was read.",
        "          gpu_memory  → Run on the GPU host.",
        "ok        2 probes    disk, host_memory",
    ]


def test_everything_is_said_in_chinese(crashcart: Run, host: Path) -> None:
    _, out, _ = crashcart("checkup", "--host", str(host), "--lang", "zh")
    assert out.startswith("严重：1 项严重，1 项警告，2 项未能读取，2 项正常\n")
    assert "→ 重启主机。" in out and "2 个探针" in out
    assert not any(word in out for word in ("critical", "warning", "unknown", "Reboot"))


def test_calm_probes_speak_when_asked(crashcart: Run, host: Path) -> None:
    assert "62 GiB free." not in crashcart("checkup", "--host", str(host), "--lang", "en")[1]
    assert "62 GiB free." in crashcart("checkup", "--host", str(host), "--lang", "en", "--all")[1]


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_table_fits_the_terminal_without_losing_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    long = replace(RESULTS[-1], summary="word " * 60 + "end.", advice=("--option=" + "x" * 90,))
    render_checkup([long], "en")
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= int(columns)
    assert out.count("word") == 60 and "end." in out and out.count("x") == 90


def test_a_pipe_gets_no_colours(host: Path) -> None:
    done = checkup("--host", str(host), FORCE_COLOR="", NO_COLOR="")
    out, _ = done.communicate(timeout=60)
    assert done.returncode == 2 and "Xid 79" in out and "\x1b" not in out


def test_a_recorded_host_prints_itself(crashcart: Run, host: Path) -> None:
    _, out, _ = crashcart("checkup", "--host", str(host), "--json")
    assert json.loads(out) == json.loads(host.read_text())


@pytest.mark.parametrize("other", [["--watch", "1"], ["--active"]])
def test_a_recorded_host_does_not_change(crashcart: Run, host: Path, other: list[str]) -> None:
    code, _, err = crashcart("checkup", "--host", str(host), *other)
    assert code == 64 and "a recorded host does not change" in err


def test_active_probes_run_only_when_asked(crashcart: Run) -> None:
    names = set(json.loads(crashcart("checkup", "--json")[1]))
    assert names and all(load_probe(name).passive for name in names)
    assert load_probe("host_memory")(Target(active=False)).status != "unknown"


def test_one_probe_is_shown_in_either_language(crashcart: Run) -> None:
    _, english, _ = crashcart("probe", "run", "host_memory", "--lang", "en")
    _, chinese, _ = crashcart("probe", "run", "host_memory", "--lang", "zh")
    assert "host_total_gib = " in english and "host_total_gib = " in chinese
    assert english.splitlines()[1] != chinese.splitlines()[1]


def checkup(*options: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", "from ui.cli import main; main()", "checkup", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def test_watching_goes_on_until_it_is_stopped_and_gives_the_last_status() -> None:
    watching = checkup("--watch", "0.2", "--json")
    assert watching.stdout is not None
    rounds = [json.loads(watching.stdout.readline()) for _ in range(3)]
    watching.send_signal(signal.SIGINT)
    rest, errors = watching.communicate(timeout=60)
    assert errors == "" and watching.returncode in (0, 1, 2, 3)
    assert all({"time", "probes"} == round_.keys() and round_["probes"]["host_memory"] for round_ in rounds)
    assert all(json.loads(line)["probes"] for line in rest.splitlines())


def test_a_watched_round_is_a_host_too(crashcart: Run, tmp_path: Path) -> None:
    path = tmp_path / "round.json"
    path.write_text(json.dumps({"time": "2026-11-23T03:00:00+0000", "probes": record(RESULTS)}))
    assert crashcart("checkup", "--host", str(path), "--lang", "en")[1].startswith("critical: 1 critical")


def test_changes_are_shown_under_their_time(capsys: pytest.CaptureFixture[str]) -> None:
    from assistant.changes import compare

    before = {result.probe: result for result in RESULTS}
    worse = replace(RESULTS[0], status="critical", summary="The disk is full.", advice=("Delete old models.",))
    moved = replace(RESULTS[0], facts={"disk_free_gib": 12.5})
    render_changes(compare(before, [worse]), "en", "03:04:05")
    render_changes(compare(before, [moved]), "en", "03:04:10")
    render_changes([], "zh", "03:04:15")
    out = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert out == [
        "03:04:05  disk  ok → critical",
        "                The disk is full.",
        "                → Delete old models.",
        "03:04:10  disk  disk_free_gib: 62 → 12.5",
        "03:04:15  没有变化",
    ]


def test_active_probes_run_after_the_others_under_the_same_deadline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A probe that measures must not be seen as load by one that looks."""
    import probes
    from probes.registry import checkup as run

    code = (
        "import time\nfrom pathlib import Path\nfrom probes.registry import probe\nfrom probes.types import ProbeResult\n\n\n"
        "@probe(passive={passive})\ndef {name}(target):\n    'Note when it ran.'\n    time.sleep({wait})\n"
        "    return ProbeResult('{name}', 'ok', '', data={{'at': time.monotonic()}})\n"
    )
    (tmp_path / "looks_long.py").write_text(code.format(passive=True, name="looks_long", wait=0.3))
    (tmp_path / "acts.py").write_text(code.format(passive=False, name="acts", wait=0))
    monkeypatch.setattr(probes, "__path__", [str(tmp_path)])
    assert [r.probe for r in run(Target())] == ["looks_long"]
    looked, acted = run(Target(active=True))
    assert (looked.probe, acted.probe) == ("looks_long", "acts") and looked.data["at"] < acted.data["at"]
    assert [r.status for r in run(Target(active=True), 0.1)] == ["unknown", "unknown"]
    for name in ("looks_long", "acts"):
        sys.modules.pop(f"probes.{name}")
