"""Scanning logs: what is found, in which files, in which lines; that both engines agree; what cannot be scanned."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kb.documents import load_documents
from kb.types import Signature
from probes.scanner import (
    ScanError,
    ScanReport,
    open_log,
    rotated_set,
    scan_files,
    scan_stream,
    scan_text,
    to_json,
)
from probes.scanner import scan as scan_module
from probes.scanner.blocks import BLOCK_BYTES, LINE_BYTES, read_blocks
from probes.scanner.expressions import UnsupportedError, expression
from probes.scanner.literals import Vocabulary, needle, required_literals
from probes.scanner.matcher import LINES_TRIED, LineMatcher, PythonFinder
from probes.scanner.sources import oldest_first

zstd = pytest.importorskip("backports.zstd")
LOGS = Path(__file__).parent / "fixtures" / "logs"
DOCS = Path(__file__).parents[1] / "kb" / "docs"

KV = Signature(
    "kv-cache-too-small",
    "seq-len",
    "cause",
    r"max seq len \((?P<max_model_len>\d+)\) is larger than .* KV cache \((?P<kv_tokens>\d+)\)",
    "",
)
WRAPPER = Signature("engine-core-failed", "wrapper", "consequence", r"Engine core initialization failed", "")
XID = Signature("xid", "xid", "cause", r"(?i)xid \(pci:(?P<pci>[0-9a-f:.]+)\): (?P<xid>\d+)", "")
SIGNATURES = [KV, WRAPPER, XID]

LOG = """\
INFO 11-22 20:33:00 [api_server.py:1] vLLM API server version 0.11.0
ERROR 11-22 20:33:01 [engine.py:448] ValueError: The model's max seq len (8192) is larger than the maximum number of tokens that can be stored in KV cache (2400). Try again
ERROR 11-22 20:33:02 [engine.py:448] ValueError: The model's max seq len (4096) is larger than the maximum number of tokens that can be stored in KV cache (1200). Try again
RuntimeError: Engine core initialization failed. See root cause above.
"""


def shipped() -> list[Signature]:
    return [s for document in load_documents(DOCS) if document.language == "en" for s in document.signatures]


def hits(report: ScanReport) -> list[tuple[str, int, int, int]]:
    return [(m.signature, m.count, m.first.line, m.last.line) for m in report.matches]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# What is found


def test_counts_first_and_last_groups_and_neighbours() -> None:
    report = scan_text(LOG, SIGNATURES, name="log")
    match = report.matches[0]
    assert hits(report) == [("seq-len", 2, 2, 3), ("wrapper", 1, 4, 4)]
    assert match.groups == {"max_model_len": "8192", "kv_tokens": "2400"}
    assert match.last_groups == {"max_model_len": "4096", "kv_tokens": "1200"}
    assert match.first.time == "11-22 20:33:01"
    assert match.first.before == ("INFO 11-22 20:33:00 [api_server.py:1] vLLM API server version 0.11.0",)
    assert match.first.after[-1].startswith("RuntimeError: Engine core")
    assert report.files[0].lines == 4
    assert report.files[0].bytes == len(LOG)


def test_matches_come_in_the_order_of_their_first_lines() -> None:
    report = scan_text("Engine core initialization failed\nNVRM: Xid (PCI:0000:17:00): 79, gone\n", SIGNATURES)
    assert [m.document for m in report.matches] == ["engine-core-failed", "xid"]
    assert report.matches[1].groups == {"pci": "0000:17:00", "xid": "79"}


def test_json_is_the_contract() -> None:
    found = to_json(scan_text(LOG, SIGNATURES, name="log"))
    assert list(found) == ["files", "matches", "root"]
    assert found["files"] == [{"path": "log", "bytes": len(LOG), "lines": 4}]
    assert list(found["matches"][0]) == ["document", "signature", "role", "count", "first", "last"]
    assert list(found["matches"][0]["first"]) == ["path", "line", "time", "text"]
    assert list(found["root"]) == ["exception", "message", "path", "line"]
    assert found["root"]["line"] == 2
    json.dumps(found)
    assert to_json(scan_text("all is well\n", SIGNATURES))["root"] is None


def test_repeated_neighbours_are_folded() -> None:
    text = "step 1\nstep 2\nstep 3\nEngine core initialization failed\n"
    assert scan_text(text, SIGNATURES).matches[0].first.before == ("step 1 (3 times)",)


def test_secrets_are_masked_in_text_groups_and_neighbours() -> None:
    signature = Signature("d", "s", "context", r"--api-key (?P<key>\S+) --port (?P<port>\d+)", "")
    text = "HF_TOKEN=hf_abcdefghijklmnopqrstuvwxyz12\nvllm serve m --api-key abc123xyz789 --port 8000\n"
    match = scan_text(text, [signature]).matches[0]
    shown = f"{match.first.text} {match.groups} {match.first.before}"
    assert "abc123xyz789" not in shown
    assert "hf_abc" not in shown
    assert match.groups["port"] == "8000"


def test_a_long_line_is_shown_around_its_match() -> None:
    line = "args: " + "x" * 5000 + " Engine core initialization failed " + "y" * 5000
    text = scan_text(line, SIGNATURES).matches[0].first.text
    assert len(text) <= 2000
    assert "Engine core initialization failed" in text


# How lines come


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\x1b[31mEngine\x1b[0m core \x1b[1;36minitialization failed\x1b[0;0m\n", 1),
        ("Loading:  0%|  | 0/4\rLoading: 50%|# | 2/4\rEngine core initialization failed\nnext\n", 1),
        ("one\r\nEngine core initialization failed\r\n", 2),
        ("one\nEngine core initialization failed", 2),
        ("caf\udce9 Engine core initialization failed\n", 1),
        ('{"log":"a\\n","time":"t"}\n{"log":"Engine core initialization failed \\"x\\"\\n","stream":"stderr"}\n', 2),
    ],
)
def test_colours_progress_bars_line_ends_and_records(text: str, line: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", text.encode("utf-8", "surrogateescape"))
    report = scan_files([path], SIGNATURES)
    assert hits(report) == [("wrapper", 1, line, line)]


def test_a_progress_bar_is_shown_in_its_last_state_alone() -> None:
    text = "Loading:  0%\rLoading: 50%\rEngine core initialization failed\n"
    assert scan_text(text, SIGNATURES).matches[0].first.text == "Engine core initialization failed"


def test_long_lines_are_cut_and_the_rest_is_read() -> None:
    inside = "x" * (LINE_BYTES - 100) + "Engine core initialization failed"
    outside = "x" * (3 * BLOCK_BYTES) + "Engine core initialization failed"
    report = scan_text(f"{inside}\n{outside}\n{'y' * 70_000}\nEngine core initialization failed\n", SIGNATURES)
    assert hits(report) == [("wrapper", 2, 1, 4)]
    assert report.files[0].lines == 4


def test_progress_bars_longer_than_a_block() -> None:
    text = "\r".join(f"Loading {i}" for i in range(200_000)) + "\nEngine core initialization failed\n"
    assert hits(scan_text(text, SIGNATURES)) == [("wrapper", 1, 2, 2)]


def test_lines_are_numbered_across_blocks() -> None:
    text = "a line of an ordinary length, neither short nor long\n" * 40_000 + "Engine core initialization failed\n"
    assert hits(scan_text(text, SIGNATURES)) == [("wrapper", 1, 40_001, 40_001)]


def test_utf16_as_powershell_writes_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", "one\r\nEngine core initialization failed\r\n".encode("utf-16"))
    assert hits(scan_files([path], SIGNATURES)) == [("wrapper", 1, 2, 2)]


def test_a_log_that_was_emptied_under_its_writer(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", b"\0" * (BLOCK_BYTES * 2) + b"\nEngine core initialization failed\n")
    assert scan_files([path], SIGNATURES).matches[0].count == 1


def test_an_empty_log(tmp_path: Path) -> None:
    report = scan_files([write(tmp_path / "a.log", "")], SIGNATURES)
    assert (report.files[0].bytes, report.files[0].lines, report.matches, report.root) == (0, 0, (), None)


# Where logs come from


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        (".gz", gzip.compress),
        (".gz", lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:])),
        (".xz", lzma.compress),
        (".bz2", bz2.compress),
        (".zst", zstd.compress),
        ("", gzip.compress),
    ],
)
def test_packed_logs_are_told_by_their_content(suffix: str, pack: object, tmp_path: Path) -> None:
    path = write(tmp_path / f"a.log{suffix}", pack(LOG.encode()))  # type: ignore[operator]
    report = scan_files([path], SIGNATURES)
    assert hits(report) == hits(scan_text(LOG, SIGNATURES))
    assert report.files[0].bytes == len(LOG)


def test_gzip_without_isal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)
    path = write(tmp_path / "a.log.gz", gzip.compress(LOG.encode()))
    assert hits(scan_files([path], SIGNATURES)) == hits(scan_text(LOG, SIGNATURES))


def test_streams_packed_or_not() -> None:
    assert hits(scan_stream(io.BytesIO(LOG.encode()), SIGNATURES)) == hits(scan_text(LOG, SIGNATURES))
    report = scan_stream(io.BytesIO(gzip.compress(LOG.encode())), SIGNATURES)
    assert report.files[0].path == "<stdin>"
    assert hits(report) == hits(scan_text(LOG, SIGNATURES))


def test_a_pipe_as_a_stream() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as writer:
        writer.write(LOG.encode())
    with os.fdopen(read_end, "rb", buffering=0) as reader:
        assert hits(scan_stream(reader, SIGNATURES)) == hits(scan_text(LOG, SIGNATURES))


def test_rotated_logs_are_read_oldest_first(tmp_path: Path) -> None:
    for number, name in enumerate(["vllm.log.2.gz", "vllm.log.1", "vllm.log"]):
        text = f"NVRM: Xid (PCI:0000:17:00): {number}, x\n".encode()
        write(tmp_path / name, gzip.compress(text) if name.endswith(".gz") else text)
    write(tmp_path / "vllm.log.bak", "x\n")
    write(tmp_path / "vllm.logger", "x\n")
    paths = [str(tmp_path / name) for name in ("vllm.log", "vllm.log.1", "vllm.log.2.gz")]
    match = scan_files(paths, SIGNATURES).matches[0]
    assert (match.groups["xid"], match.last_groups["xid"], match.count) == ("0", "2", 3)
    assert Path(match.first.path).name == "vllm.log.2.gz"
    assert rotated_set(tmp_path / "vllm.log") == list(reversed(paths))


def test_dates_and_other_logs_keep_their_places() -> None:
    given = [
        "b.log",
        "a.log",
        "b.log-20251122.gz",
        "b.log-20251101.gz",
        "b.log.10",
        "b.log.9",
        "a.log",
        "rank-1",
        "rank-2",
    ]
    assert oldest_first(given) == [
        *("b.log-20251101.gz", "b.log-20251122.gz", "b.log.10", "b.log.9", "b.log"),
        *("a.log", "rank-1", "rank-2"),
    ]
    dated = ["c.log", "c.log.2025-11-22", "c.log.2025-11-02_23", "c.log-1763846400.gz"]
    assert oldest_first(dated)[-1] == "c.log"
    assert oldest_first(dated[:3])[0] == "c.log.2025-11-02_23"


def test_the_ends_of_a_log(tmp_path: Path) -> None:
    text = "".join(f"line {i}\n" for i in range(200_000)) + "HF_TOKEN=hf_abcdefghijklmnopqrstuvwxyz12\n"
    path = write(tmp_path / "a.log.gz", gzip.compress(text.encode()))
    ends = open_log(path, 20, 50)
    assert ends.startswith("line 0\nline 1\nline 2\n…\n")
    assert ends.endswith("HF_TOKEN=MASKED-hf_token-1\n") or "HF_TOKEN=MASKED-hf_token-" in ends
    assert len(ends) < 150
    assert open_log(write(tmp_path / "b.log", LOG), 1 << 20, 1 << 20) == LOG


# What cannot be scanned


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("binary", b"\x7fELF\x02\x01\x01\0\0\0\0\0", "looks binary: not a log"),
        ("a.zip", b"PK\x03\x04aaaa", "is a zip archive: unpack it"),
        ("a.tar.gz", gzip.compress(b"a.log" + b"\0" * 252 + b"ustar\x0000" + b"\0" * 300), "is a tar archive"),
        ("a.log.gz", b"\x1f\x8b\x08\x00garbage-that-is-no-deflate-stream", "is damaged and cannot be unpacked"),
    ],
)
def test_what_is_not_a_log_is_one_sentence(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(ScanError, match=re.escape(f"{path} {said}")):
        scan_files([path], SIGNATURES)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, said in [
        (tmp_path, "is a folder"),
        (tmp_path / "none.log", f"does not exist: see what is there with `ls {tmp_path}`"),
        (tmp_path / "no" / "none.log", f"does not exist: see what is there with `ls {tmp_path}`"),
        (fifo, "is a pipe, not a file"),
        ("/dev/null", "is a device, not a log"),
        ("/proc/self/status", "is made by the kernel"),
    ]:
        with pytest.raises(ScanError, match=re.escape(said)) as raised:
            scan_files([path], SIGNATURES)
        assert "\n" not in str(raised.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_of_another_user(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", LOG)
    path.chmod(0)
    with pytest.raises(ScanError, match="is not readable for this user"):
        scan_files([path], SIGNATURES)


def test_a_packed_log_that_ends_early_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    lines = "".join(f"{random.Random(i).random()}\n" for i in range(50_000))
    whole = gzip.compress(("Engine core initialization failed\n" + lines).encode())
    report = scan_files([write(tmp_path / "a.log.gz", whole[: len(whole) // 2])], SIGNATURES)
    assert hits(report) == [("wrapper", 1, 1, 1)]
    assert "ends early or is damaged" in str(report.warnings[0])
    assert 10_000 < report.files[0].lines < 40_000


# Both engines


AWKWARD = [
    r"foo\s+bar",
    r"a[^x]b",
    r"\bcat\b",
    r"^start of line",
    r"end of line$",
    r"\Athe very start",
    r"len=(?P<n>\d+)",
    r"(?i)MiXeD [^q] case",
    r"x{2,4}y",
    r"one|two(?:three)?",
    r"(?:alpha|beta) (?P<g>\w+)\s*$",
    r"tab\there",
    r"\W{3}odd",
    r"lazy.*?end",
    r"naïve caf[eé]",
    r"内存不足.*(?P<n>\d+)",
    r"(?i:Inner) case",
    r"dot.dot",
    r"\x41\102C",
    r"[\]\-^]bracket",
    r"ab*c+d?",
    r"nul{}braces \{\}",
    r"(?P<quote>['\"])q",
    r"z(?!oo)",
    r"(\w)\1repeat",
]
PIECES = [
    *("foo bar", "foo\tbar", "foo", "bar", "a?b", "aéb", "axb", "cat", "concat", "start of line", "the very start"),
    *("end of line", "len=123", "MIXED p CASE", "xxy", "xy", "one", "twothree", "alpha beta", "beta g ", "tab\there"),
    *("--=odd", "lazy x end end", "naïve café", "naïve cafe", "内存不足 12", "inner case", "dotédot", "dot.dot", "ABC"),
    *(
        "]bracket",
        "-bracket",
        "acc",
        "abbbcd",
        "nul{}braces {}",
        "'q",
        "zoo",
        "za",
        "aarepeat",
        "\\xff",
        " ",
        "  ",
        "\t",
    ),
]


def random_log(seed: int, lines: int) -> bytes:
    chance = random.Random(seed)
    out = []
    for _ in range(lines):
        line = "".join(chance.choice(PIECES) + chance.choice(["", " ", ","]) for _ in range(chance.randint(0, 6)))
        out.append(line.encode().replace(b"\\xff", b"\xff") + chance.choice([b"\n", b"\n", b"\n", b"\r\n", b"\n\n"]))
    return b"".join(out)


def both(path: Path, signatures: list[Signature], monkeypatch: pytest.MonkeyPatch) -> ScanReport:
    """The report, after making sure that Hyperscan and plain Python give the same."""
    pytest.importorskip("hyperscan")
    monkeypatch.setattr(scan_module, "SMALL_BYTES", 1 << 60)
    python = scan_files([path], signatures)
    monkeypatch.setattr(scan_module, "SMALL_BYTES", -1)
    hyper = scan_files([path], signatures)
    assert hyper == python
    return python


@pytest.mark.parametrize("seed", range(12))
def test_both_engines_agree_on_awkward_patterns(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signatures = [Signature("d", str(i), "context", pattern, "") for i, pattern in enumerate(AWKWARD)]
    path = write(tmp_path / "a.log", random_log(seed, 400 if seed else 60_000))
    report = both(path, signatures, monkeypatch)
    assert len(report.matches) > 15


def test_both_engines_agree_on_real_signatures_and_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signatures = shipped()
    examples = [s.example for s in signatures]
    logs = [log.read_text() for log in sorted(LOGS.glob("*.log"))]
    path = write(tmp_path / "a.log", "\n".join([*examples, *logs, *(f"{e} {e}" for e in examples)]) + "\n")
    report = both(path, signatures, monkeypatch)
    assert {(m.document, m.signature) for m in report.matches} == {(s.document, s.name) for s in signatures}


def test_without_hyperscan_large_logs_are_scanned_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hyperscan", None)
    path = write(tmp_path / "a.log", "nothing here\n" * 100_000 + LOG)
    assert hits(scan_files([path], SIGNATURES)) == [("seq-len", 2, 100_002, 100_003), ("wrapper", 1, 100_004, 100_004)]


# What lets it be fast


def test_small_scans_import_no_hyperscan_and_compile_only_what_may_match() -> None:
    script = (
        "import sys, re; from kb.types import Signature; from probes.scanner import scan_text;"
        "sig = [Signature('d', str(i), 'cause', f'word{chr(97 + i % 26)} unusual{i} thing (?P<n>[0-9]+)', '') for i in range(600)];"
        "scan_text('an ordinary line\\n' * 1000, sig); print('hyperscan' in sys.modules, 'json' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.split()[0] == "False"
    finder = PythonFinder([r"some (?P<thing>\w+) words", "present", r"(?i)Also HERE"])
    assert finder.find(b"words\nx present\nalso here\n", 26).possible == {1: 8, 2: 16}


@pytest.mark.parametrize(
    ("pattern", "literals"),
    [
        (r"max seq len \((?P<n>\d+)\) is larger", ("max seq len (",)),
        (r"foo+ bar", (" bar",)),
        (r"colou?r scheme", ("r scheme",)),
        (r"(?:CUDA )?out of memory", ("out of memory",)),
        (r"first thing|second (?P<x>.)", ("first thing", "second ")),
        (r"first thing|\d+", ()),
        (r"[abc]{3}", ()),
        (r"\x41BC", ("BC",)),
        (r"(?x) a b c", ()),
        (r"(?i)Xid \d", ("Xid ",)),
        (r"(?i:Inner) case", (" case",)),
        (r"(a|b(c|d)) literal", (" literal",)),
        (r"line \d+, in (?:capture_model|load_weights)\b", ("capture_model", "load_weights")),
        (r"(?:EngineCore\S*|proc\(s\)) died\b", (" died",)),
        (r"(?:sunk|lost){0,2} at sea", (" at sea",)),
        (r"(?!never)(?<!before)here", ("here",)),
        (r"Failed core proc\(s\): \{\}", ("Failed core proc(s): {}",)),
    ],
)
def test_required_literals(pattern: str, literals: tuple[str, ...]) -> None:
    assert required_literals(pattern) == literals


def test_many_hits_of_one_pattern_are_counted_in_one_go_and_exactly() -> None:
    chance = random.Random(3)
    lines = [
        chance.choice(["len is 12 long", "len is x", "len is 1, len is 2", "nothing", "  len is 7"])
        for _ in range(3000)
    ]
    text = "\n".join(lines).encode() + b"\n"
    matching = [line for line in lines if re.search(r"len is (?P<n>\d+)", line)]
    found = LineMatcher([r"len is (?P<n>\d+)"]).match(0, text, len(text), 0)
    assert found is not None
    assert found.lines == len(matching) > LINES_TRIED
    assert text[found.last :].split(b"\n")[0].decode() == matching[-1]
    assert LineMatcher([r"len is (?P<n>[a-w]+)"]).match(0, text, len(text), 0) is None
    late = b"len is x\n" * 1000 + b"len is 5\nlen is y\n"
    found = LineMatcher([r"len is (?P<n>\d+)"]).match(0, late, len(late), 0)
    assert found is not None
    assert (found.lines, found.first, found.last) == (1, 9000, 9000)


def test_lines_of_healthy_runs_are_counted_to_a_limit_and_the_last_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.scanner.matches.COUNTED", 10)
    text = "".join(f"{'x' * 60} Running: {i} reqs\n" for i in range(20_000)) + "the end\n" * 20_000
    for role, count in (("context", range(10, 20_000)), ("cause", range(20_000, 20_001))):
        for pattern in (r"Running: (?P<n>\d+) reqs", r"\bRunning: (?P<n>[1-9]\d*) reqs"):
            match = scan_text(text, [Signature("d", "s", role, pattern, "")]).matches[0]  # type: ignore[arg-type]
            assert match.count in count or match.count == len(count) + 19_998
            assert match.last_groups == {"n": "19999"}
            assert match.last.line == 20_000


def test_every_example_passes_its_own_prefilter() -> None:
    for signature in shipped():
        text = f"xx{signature.example}yy".encode()
        needles = [needle(literal) for literal in required_literals(signature.pattern)]
        assert not needles or Vocabulary(text).may_hold(needles), signature


def test_expressions_for_hyperscan() -> None:
    assert expression(r"len=(?P<n>\d+)") == (rb"len\x3d(?:(?:[0-9]){1,1})", False)
    assert expression(r"(?i).*a\s") == (rb"a[\x09\x0b-\x0d ]", True)
    for pattern in [r"a(?=b)", r"(a)\1", r".*", r"(?:x|)"]:
        with pytest.raises(UnsupportedError):
            expression(pattern)


def test_blocks_hold_whole_lines_and_all_of_the_text() -> None:
    text = b"".join(b"line %d %s\n" % (i, b"x" * (i % 300)) for i in range(20_000))
    blocks = [(bytes(b.text[: b.end]), b.raw) for b in read_blocks(io.BytesIO(text), "log")]
    assert b"".join(data for data, _ in blocks) == text
    assert all(data.endswith(b"\n") for data, _ in blocks)
    assert sum(raw for _, raw in blocks) == len(text)


def test_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "PROGRESS_BYTES", BLOCK_BYTES)
    told: list[tuple[str, int]] = []
    path = write(tmp_path / "a.log", "a line\n" * 300_000)
    scan_files([path], SIGNATURES, on_progress=lambda name, size: told.append((name, size)))
    assert [name for name, _ in told] == [str(path)] * len(told)
    assert len(told) >= 3
