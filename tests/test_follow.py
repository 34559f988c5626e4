"""Following a log: what is told while it is written, through rotation and truncation, and from a stream."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kb.types import Signature
from probes.scanner import Follower, Match, ScanError, scan_text
from probes.scanner.follow import follow

WRAPPER = Signature("engine-core-failed", "wrapper", "consequence", r"Engine core initialization failed", "")
XID = Signature("xid", "xid", "cause", r"Xid \(PCI:\S+\): (?P<xid>\d+)", "")
SIGNATURES = [WRAPPER, XID]
XID_79 = "NVRM: Xid (PCI:0000:17:00): 79, gone\n"


def told(matches: Iterator[Match]) -> list[tuple[str, int, str, int]]:
    return [(m.signature, m.count, Path(m.last.path).name, m.last.line) for m in matches]


class Steps:
    """Called where a log has nothing new: does the next of some steps to it, and ends the following after the last."""

    def __init__(self, *steps: object) -> None:
        self._steps = list(steps)

    def __call__(self) -> bool:
        if not self._steps:
            return True
        self._steps.pop(0)()  # type: ignore[operator]
        return False


def append(path: Path, text: str) -> None:
    with path.open("a") as log:
        log.write(text)


def test_what_is_written_later_is_told_and_half_a_line_waits(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text("started\nEngine core initialization failed\n")
    steps = Steps(lambda: append(log, "NVRM: Xid (PCI:0000"), lambda: append(log, ":17:00): 79, gone\n"))
    follower = Follower(SIGNATURES)
    assert told(follower.file(log, steps)) == [("wrapper", 1, "vllm.log", 2), ("xid", 1, "vllm.log", 3)]
    report = follower.report()
    assert [m.document for m in report.matches] == ["engine-core-failed", "xid"]
    assert report.files[0].lines == 3


def test_a_rotated_an_emptied_and_a_recreated_log(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text("one\ntwo\n" + XID_79)

    def rotate() -> None:
        log.rename(tmp_path / "vllm.log.1")
        log.write_text("Engine core initialization failed\n")

    steps = Steps(
        rotate,
        lambda: log.write_text(""),
        lambda: append(log, "x\n" + XID_79 * 9),
        log.unlink,
        lambda: log.write_text("Engine core initialization failed\n" * 9),
        lambda: None,
    )
    follower = Follower(SIGNATURES)
    assert told(follower.file(log, steps)) == [
        ("xid", 1, "vllm.log", 3),
        ("wrapper", 1, "vllm.log", 1),
        ("xid", 10, "vllm.log", 10),
        ("wrapper", 10, "vllm.log", 9),
    ]
    assert [f.lines for f in follower.report().files] == [3, 1, 10, 9]


def test_what_repeats_is_folded() -> None:
    class Lines(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            return self.readline()

    follower = Follower(SIGNATURES)
    assert [m.count for m in follower.stream(Lines(XID_79.encode() * 1234))] == [1, 10, 100, 1000]
    assert follower.report().matches[0].count == 1234


def test_a_stream_ends_with_the_report_that_a_scan_gives(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "fixtures" / "logs" / "vllm_v1_kv_cache.log").read_text() * 3 + XID_79
    follower = Follower(SIGNATURES)
    list(follower.stream(io.BytesIO(text.encode()), "log"))
    report, whole = follower.report(), scan_text(text, SIGNATURES, name="log")
    assert (report.root, report.matches, report.files[0].lines) == (whole.root, whole.matches, whole.files[0].lines)


def test_a_packed_log_is_not_followed(tmp_path: Path) -> None:
    log = tmp_path / "a.log.gz"
    log.write_bytes(gzip.compress(b"x\n"))
    with pytest.raises(ScanError, match="does not grow: read it with `crashcart scan"):
        follow(log, SIGNATURES)
    with pytest.raises(ScanError, match="does not exist"):
        follow(tmp_path / "none.log", SIGNATURES)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_the_command_tells_at_once_and_ends_with_the_summary(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text("")
    environment = {**os.environ, "CRASHCART_HOME": str(tmp_path), "LANG": "C.UTF-8"}
    command = [sys.executable, "-c", "from ui.cli import main; main()", "scan", "--follow", str(log), "--lang", "en"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, cwd=Path(__file__).parents[1]
    ) as process:
        killer = threading.Timer(60, process.kill)
        killer.start()
        append(log, "RuntimeError: CUDA error: no kernel image is available for execution on the device\n")
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        killer.cancel()
    assert "[no-kernel-image]" in first
    assert "1 known fault in" in rest
    assert "came first" in rest
    assert process.returncode == 2
