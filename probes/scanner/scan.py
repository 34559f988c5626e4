"""Scans logs of any size once, in bounded memory: every signature, every traceback, and the exception that started it."""

from __future__ import annotations

import io
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from kb.types import Signature
from probes.reading.mask import mask
from probes.scanner.blocks import Block, read_blocks
from probes.scanner.hits import CONTEXT_BYTES, TEXT_CHARACTERS, Seen, hit_of, line_around, number_lines, see
from probes.scanner.matcher import Matcher, PythonMatcher
from probes.scanner.prefixes import parse_line
from probes.scanner.roots import MENTION, Candidate, chain_of, choose, exception_on, goes_on, origin_of, stream_of
from probes.scanner.sources import oldest_first, open_stream
from probes.scanner.streams import ByteStream, DamagedError, unpack
from probes.scanner.tracebacks import HEADER, LINES_READ, MESSAGE_LINES, RawTraceback, TracebackReader
from probes.scanner.types import FileRead, Link, Match, RootException, ScanError, ScanReport, Traceback

SMALL_BYTES = 1 << 20
"""Up to here Python's `re` is faster than importing Hyperscan (20 ms)."""
WORTH_COMPILING_BYTES = 24 << 20
"""From here compiling the patterns (0.8 s for 600) pays even when the cache does not have them."""
TRACEBACKS_KEPT = 64
MENTIONS_KEPT, MENTIONS_READ = 50, 5_000
"""Exceptions kept from lines without a traceback, and lines looked at for them."""
TAIL_BLOCKS = 8
"""Blocks at the end of a log that are read again for tracebacks when it has too many to read them all: 4 MB."""
PROGRESS_BYTES = 64 << 20

Progress = Callable[[str, int], None]
"""Called with a log's path and the bytes of its text read so far, every 64 MiB."""
_SPECIAL = (re.escape(HEADER), MENTION)


def scan_files(
    paths: Iterable[str | os.PathLike[str]],
    signatures: Sequence[Signature],
    *,
    on_progress: Progress | None = None,
    cache: Path | None = None,
) -> ScanReport:
    """Scan log files (plain, .gz, .xz, .bz2, .zst); the rotated parts of one log are read oldest first.

    `cache` is where compiled signatures are kept (default: the user's cache folder). Raises ScanError, before anything
    is read, for a path that is not a readable log.
    """
    names = oldest_first(paths)
    for name in names:
        open_stream(name).close()
    scan = _Scan(signatures, cache, on_progress)
    for name in names:
        scan.read(open_stream(name), name, _text_bytes(name))
    return scan.report()


def scan_text(text: str, signatures: Sequence[Signature], name: str = "question") -> ScanReport:
    """Scan a text in memory; `name` stands for the path."""
    data = text.encode("utf-8", "replace").replace(b"\0", b" ")
    scan = _Scan(signatures, None, None)
    scan.read(io.BytesIO(data), name, len(data))
    return scan.report()


def scan_stream(
    stream: ByteStream,
    signatures: Sequence[Signature],
    name: str = "<stdin>",
    *,
    on_progress: Progress | None = None,
    cache: Path | None = None,
) -> ScanReport:
    """Scan a binary stream, packed or not, to its end. Raises ScanError when it is not text."""
    scan = _Scan(signatures, cache, on_progress)
    scan.read(unpack(stream, name), name, None)
    return scan.report()


def open_log(path: str | os.PathLike[str], head_bytes: int, tail_bytes: int) -> str:
    """The first and the last bytes of a log's text (about, in whole lines), masked, packed or not. Raises ScanError."""
    name = os.fspath(path)
    head: list[bytes] = []
    tail: deque[bytes] = deque()
    headed = tailed = 0
    stream = open_stream(name)
    try:
        for block in read_blocks(stream, name):
            data = bytes(block.text[: block.end])
            if headed < head_bytes:
                cut = data.find(b"\n", head_bytes - headed) + 1 or len(data)
                head.append(data[:cut])
                headed, data = headed + cut, data[cut:]
            tail.append(data)
            tailed += len(data)
            while tail and tailed - len(tail[0]) >= tail_bytes:
                tailed -= len(tail.popleft())
    except DamagedError as error:
        if not headed:
            raise ScanError(_damaged(name, 0, error)) from error
    finally:
        stream.close()
    end = b"".join(tail)
    if len(end) > tail_bytes:
        end = b"\xe2\x80\xa6\n" + end[end.find(b"\n", len(end) - tail_bytes) + 1 :]
    return mask((b"".join(head) + end).decode("utf-8", "replace"))


def prepare(signatures: Sequence[Signature], cache: Path | None = None) -> bool:
    """Compile the signatures into the cache folder, so that the first large scan starts at once; False without Hyperscan."""
    from probes.scanner.hyper import load

    return load([s.pattern for s in signatures] + list(_SPECIAL), cache) is not None


class _Scan:
    """One scan over several logs: what was seen so far, in bounded memory."""

    def __init__(self, signatures: Sequence[Signature], cache: Path | None, on_progress: Progress | None) -> None:
        self._signatures = signatures
        self._patterns = [s.pattern for s in signatures] + list(_SPECIAL)
        self._cache = cache
        self._on_progress = on_progress
        self._counts = [0] * len(self._patterns)
        self._first: dict[int, Seen] = {}
        self._last: dict[int, Seen] = {}
        self._files: list[FileRead] = []
        self._warnings: list[str] = []
        self._tracebacks: dict[tuple[object, ...], Traceback] = {}
        self._candidates: list[Candidate] = []
        self._mentions: list[Candidate] = []
        self._mentions_read = 0
        self._spans: list[tuple[int, int, int]] = []
        self._python: Matcher | None = None
        self._hyper: Matcher | None = None

    def read(self, stream: ByteStream, path: str, size: int | None) -> None:
        """Read one log to its end and close it. `size` is about how many bytes of text it has, None if unknown."""
        order, total, line, last_byte = len(self._files), 0, 1, b"\n"
        reader, tail = TracebackReader(LINES_READ), deque[tuple[Block, int]](maxlen=TAIL_BLOCKS)
        reported = 0
        try:
            for block in read_blocks(stream, path):
                self._search(block, path, order, line, reader, self._matcher(size, total))
                if reader.exhausted:
                    tail.append((block.copy(), line))
                total += block.raw
                line += block.numbered.count(b"\n", 0, block.end)
                last_byte = bytes(block.numbered[block.end - 1 : block.end])
                if self._on_progress and total - reported >= PROGRESS_BYTES:
                    reported = total
                    self._on_progress(path, total)
        except DamagedError as error:
            if not total:
                raise ScanError(_damaged(path, 0, error)) from error
            self._warnings.append(_damaged(path, line - 1, error))
        finally:
            stream.close()
        self._files.append(FileRead(path, total, line - 1 + (last_byte != b"\n")))
        reader.close()
        self._take_tracebacks(reader.found, order)
        if tail:
            self._take_tracebacks(_tracebacks_in(tail, path, reader.last_line), order)

    def report(self) -> ScanReport:
        """All that was found."""
        seen = sorted((s.order, i) for i, s in self._first.items())
        alone = [c for c in self._mentions if not self._in_traceback(c)]
        root = choose([*self._candidates, *alone])
        return ScanReport(
            files=tuple(self._files),
            matches=tuple(self._match(i) for _, i in seen),
            root=root and RootException(root.link.exception, root.link.message, root.path, root.link.line),
            tracebacks=tuple(self._tracebacks.values()),
            warnings=tuple(self._warnings),
        )

    def _matcher(self, size: int | None, read: int) -> Matcher:
        """Python for small logs, Hyperscan for large ones: at once when it is compiled, later when it must be."""
        expected = max(size or 0, read)
        if self._hyper is None and expected > SMALL_BYTES:
            from probes.scanner.hyper import load

            self._hyper = load(self._patterns, self._cache, compile_new=expected > WORTH_COMPILING_BYTES)
        if self._hyper:
            return self._hyper
        self._python = self._python or PythonMatcher(self._patterns)
        return self._python

    def _search(
        self, block: Block, path: str, order: int, line: int, reader: TracebackReader, matcher: Matcher
    ) -> None:
        found = matcher.match(block.text, block.end)
        special = {f.pattern: f for f in found if f.pattern >= len(self._signatures)}
        header, mention = (special.get(len(self._signatures) + i) for i in range(len(_SPECIAL)))
        offsets = sorted({offset for f in found for offset in (f.first, f.last)})
        lines = number_lines(block, offsets, line)
        for f in found:
            self._counts[f.pattern] += f.lines
            if f.pattern >= len(self._signatures):
                continue
            if f.pattern not in self._first:
                self._first[f.pattern] = see(block, f.first, path, lines[f.first], order)
            self._last[f.pattern] = see(block, f.last, path, lines[f.last], order)
        if header or reader.reading:
            reader.feed_block(path, block, line)
        if mention:
            self._read_mentions(block, path, order, mention.first, lines[mention.first])

    def _read_mentions(self, block: Block, path: str, order: int, offset: int, line: int) -> None:
        """Collect exceptions that lines name, from the first line on that was found to name one."""
        start = counted = block.text.rfind(b"\n", 0, offset) + 1
        pattern = re.compile(MENTION.encode())
        while len(self._mentions) < MENTIONS_KEPT and self._mentions_read < MENTIONS_READ:
            found = pattern.search(block.text, start, block.end)
            if not found:
                return
            self._mentions_read += 1
            begin, stop = line_around(block, found.start())
            line += block.numbered.count(b"\n", counted, begin)
            start, counted = stop, begin
            text = bytes(block.text[begin:stop]).decode("utf-8", "replace")
            if exception := exception_on(text):
                origin, name, message = exception
                message = "\n".join([message, *_continuation(block, text, stop)])
                link = Link(name, mask(message)[:TEXT_CHARACTERS], line)
                self._mentions.append(Candidate(origin, order, link, path))

    def _in_traceback(self, mention: Candidate) -> bool:
        return any(order == mention.order and start <= mention.link.line <= end for order, start, end in self._spans)

    def _take_tracebacks(self, found: Iterable[RawTraceback], order: int) -> None:
        """Judge what was read; the same failure seen again is counted, not kept."""
        for raw in sorted(found, key=lambda r: r.line):
            chain = chain_of(raw)
            origin = origin_of(raw, chain)
            self._spans.append((order, raw.line, raw.end_line))
            key = (origin, *((raised.name, re.sub(r"\d+", "", raised.message[0])) for raised in chain))
            if known := self._tracebacks.get(key):
                self._tracebacks[key] = replace(known, count=known.count + 1)
                continue
            links = tuple(replace(link, message=mask(link.message)) for link in (raised.link() for raised in chain))
            self._candidates.append(Candidate(origin, order, links[0], raw.path))
            if len(self._tracebacks) < TRACEBACKS_KEPT:
                self._tracebacks[key] = Traceback(
                    raw.path, raw.line, raw.end_line, stream_of(raw.key), origin, links, mask(raw.text)
                )

    def _match(self, i: int) -> Match:
        signature = self._signatures[i]
        pattern = re.compile(signature.pattern)
        first, groups = hit_of(self._first[i], pattern)
        last, last_groups = hit_of(self._last[i], pattern)
        count = self._counts[i]
        return Match(signature.document, signature.name, signature.role, count, first, last, groups, last_groups)


def _tracebacks_in(blocks: Iterable[tuple[Block, int]], path: str, after: int) -> list[RawTraceback]:
    """The tracebacks at the end of a log that has more of them than are read one by one, behind the line `after`."""
    reader = TracebackReader(sys.maxsize)
    for block, line in blocks:
        reader.feed_block(path, block, line)
    reader.close()
    return [raw for raw in reader.found if raw.line > after]


def _continuation(block: Block, first: str, stop: int) -> Iterator[str]:
    """The lines behind one that names an exception which still belong to its message."""
    following = bytes(block.text[stop + 1 : min(block.end, stop + CONTEXT_BYTES)]).decode("utf-8", "replace")
    for text in following.splitlines()[: MESSAGE_LINES - 1]:
        if not goes_on(first, text):
            return
        yield parse_line(text).text.rstrip()


def _text_bytes(name: str) -> int:
    """About how many bytes of text a log holds; logs pack to a tenth or so."""
    size = os.path.getsize(name)
    return size * 10 if name.endswith((".gz", ".xz", ".bz2", ".zst")) else size


def _damaged(path: str, line: int, error: DamagedError) -> str:
    if not line:
        return f"{path} is damaged and cannot be unpacked ({error}): copy it again."
    return f"{path} ends early or is damaged: only its first {line} lines could be unpacked."
