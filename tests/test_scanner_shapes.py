"""Every line that the knowledge base knows, as loggers, containers, orchestrators and shells hand it on; and damaged or endless logs."""

from __future__ import annotations

import io
import json
import lzma
import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kb.documents import load_documents
from kb.types import Signature
from probes.scanner import ScanReport, scan_files, scan_stream, scan_text
from probes.scanner import scan as scan_module
from probes.scanner.lines import FEW, FastLines, Lines

zstd = pytest.importorskip("backports.zstd")
ROOT = Path(__file__).parents[1]
MIB = 1 << 20


@cache
def shipped() -> tuple[Signature, ...]:
    documents = load_documents(ROOT / "kb" / "docs")
    return tuple(s for document in documents if document.language == "en" for s in document.signatures)


def found(report: ScanReport) -> set[tuple[str, str]]:
    return {(m.document, m.signature) for m in report.matches}


def names() -> set[tuple[str, str]]:
    return {(s.document, s.name) for s in shipped()}


SHAPES: dict[str, Callable[[str], str]] = {
    "engine core": lambda line: f"(EngineCore_DP0 pid=276) ERROR 09-12 09:44:40 [core.py:708] {line}",
    "worker in colours": lambda line: (
        f"\x1b[1;36m(Worker_TP1 pid=3021)\x1b[0;0m ERROR 11-02 08:15:21 [multiproc_executor.py:597] {line}"
    ),
    "sglang": lambda line: f"[2025-06-30 07:11:32 DP3 TP3] {line}",
    "rank": lambda line: f"[rank3]: {line}",
    "compose": lambda line: f"vllm-1  | {line}",
    "kubernetes": lambda line: f"2025-11-02T08:15:21.123456789Z stderr F {line}",
    "journal": lambda line: f"Nov 02 08:15:21 gpu-07 vllm[3021]: {line}",
    "container's json": lambda line: json.dumps(
        {"log": f"{line}\n", "stream": "stderr", "time": "2025-11-02T08:15:21Z"}
    ),
    "windows line end": lambda line: f"{line}\r",
    "after a progress bar": lambda line: f"Loading safetensors checkpoint shards:  50% Completed | 2/4\r{line}",
    "quoted": lambda line: f"> {line}",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_example_is_found_in_every_shape(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "serve.log"
    lines = [line for s in shipped() for line in s.example.splitlines()]
    path.write_text("".join(f"{SHAPES[shape](line)}\n" for line in lines), "utf-8")
    assert names() - found(scan_files([path], shipped())) == set()


def test_every_example_is_found_in_utf16(tmp_path: Path) -> None:
    path = tmp_path / "serve.log"
    path.write_text("\n".join(s.example for s in shipped()), "utf-16")
    assert names() - found(scan_files([path], shipped())) == set()


@pytest.mark.parametrize("pack", [lzma.compress, zstd.compress])
def test_packed_logs_cut_in_the_middle_are_read_as_far_as_they_go(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    noise = "".join(f"{random.Random(i).random()}\n" for i in range(200_000))
    whole = pack(f"Engine core initialization failed\n{noise}".encode())
    path = tmp_path / "serve.log"
    path.write_bytes(whole[: len(whole) // 2])
    report = scan_files([path], [Signature("d", "wrapper", "cause", "Engine core initialization failed", "")])
    assert [m.count for m in report.matches] == [1]
    assert "ends early or is damaged" in str(report.warnings[0])
    assert 10_000 < report.files[0].lines < 190_000


ENDLESS = """
import sys
from kb.types import Signature
from probes.scanner import scan_stream

class Endless:
    left = 500 << 20
    def read(self, size=-1, /):
        size = min(size, self.left)
        self.left -= size
        return b"x" * size
    def close(self): pass

class Then(Endless):
    def read(self, size=-1, /):
        if self.left:
            return super().read(size)
        rest, self.rest = self.rest[:size], self.rest[size:]
        return rest
    rest = b"\\nEngine core initialization failed\\n"

signatures = [Signature("d", "wrapper", "cause", "Engine core initialization failed", "")]
def peak():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
before = peak()
report = scan_stream(Then(), signatures, "log")
print([(m.count, m.first.line) for m in report.matches], peak() - before, report.files[0].bytes)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_line_of_500_megabytes_takes_little_memory_and_hides_nothing_behind_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDLESS],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=True,
        env=os.environ,
    )
    hits, kilobytes, size = done.stdout.replace("[(1, 2)]", "hit").split()
    assert hits == "hit"
    assert int(kilobytes) < 32 * 1024
    assert int(size) == (500 << 20) + len("\nEngine core initialization failed\n")


PIECES = st.one_of(
    st.sampled_from([s.example for s in shipped()]),
    st.sampled_from([s.example for s in shipped()]).map(lambda line: line[len(line) // 3 :]),
    st.sampled_from([s.example for s in shipped()]).map(str.upper),
    st.text(max_size=40),
)
LINES = st.lists(
    st.tuples(st.lists(PIECES, max_size=3).map(" ".join), st.sampled_from(["\n", "\n", "\r\n", "\r", ""])), max_size=30
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(LINES)
def test_both_engines_say_the_same_of_any_text(lines: list[tuple[str, str]]) -> None:
    pytest.importorskip("hyperscan")
    data = "".join(map("".join, lines)).encode("utf-8", "replace").replace(b"\0", b" ")
    reports = []
    with pytest.MonkeyPatch.context() as patch:
        for limit in (1 << 60, -1):
            patch.setattr(scan_module, "SMALL_BYTES", limit)
            reports.append(scan_stream(io.BytesIO(b"log\n" + data), shipped()))
    assert reports[0] == reports[1]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4 * FEW), st.randoms(use_true_random=False))
def test_lines_are_counted_alike_with_and_without_numpy(lengths: list[int], chance: random.Random) -> None:
    data = b"".join(b"x" * length + b"\n" for length in lengths)
    offsets = sorted(chance.choices(range(len(data)), k=3 * FEW))
    for end in (len(data), len(data) - 1):
        within = [offset for offset in offsets if offset < end] or [0]
        assert FastLines().holding(within, data, end) == Lines().holding(within, data, end)
        assert FastLines().count_ends(data, 1, end) == Lines().count_ends(data, 1, end)


def test_a_hit_in_a_text_is_what_it_is_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "question"
    text = "\n".join(s.example for s in shipped()[::7])
    path.write_text(text)
    assert found(scan_text(text, shipped())) == found(scan_files([path], shipped()))
