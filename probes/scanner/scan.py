"""Scans logs of any size once, in bounded memory: every signature, every traceback, and the exception that started it."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from kb.types import Signature
from probes.reading.mask import mask
from probes.scanner.blocks import BLOCKS_AHEAD, SEARCHERS, Block, read_blocks
from probes.scanner.failures import MENTION, TRACEBACK, Failures
from probes.scanner.lines import FastLines, Lines
from probes.scanner.matcher import Finder, Places, PythonFinder
from probes.scanner.matches import Matches
from probes.scanner.sources import oldest_first, open_stream
from probes.scanner.streams import ByteStream, DamagedError, unpack
from probes.scanner.types import FileRead, Match, ScanError, ScanReport

if TYPE_CHECKING:
    from probes.scanner.hyper import HyperFinder

SMALL_BYTES = 4 << 20
"""Up to here plain Python is faster than importing Hyperscan (20 ms) and compiling 600 signatures' literals (20 ms)."""
LARGE_BYTES = 128 << 20
PROGRESS_BYTES = 64 << 20

Progress = Callable[[str, int], None]
"""Called with a log's path and the bytes of its text read so far, every 64 MiB."""


def scan_files(
    paths: Iterable[str | os.PathLike[str]],
    signatures: Sequence[Signature],
    *,
    on_progress: Progress | None = None,
) -> ScanReport:
    """Scan log files (plain, .gz, .xz, .bz2, .zst); the rotated parts of one log are read oldest first.

    Raises ScanError, before anything is read, for a path that is not a readable log.
    """
    names = oldest_first(paths)
    for name in names:
        open_stream(name).close()
    scan = Scan(signatures, on_progress)
    for name in names:
        scan.read(open_stream(name), name, _text_bytes(name))
    return scan.report()


def scan_text(text: str, signatures: Sequence[Signature], name: str = "question") -> ScanReport:
    """Scan a text in memory; `name` stands for the path."""
    data = text.encode("utf-8", "replace").replace(b"\0", b" ")
    scan = Scan(signatures)
    scan.read(io.BytesIO(data), name, len(data))
    return scan.report()


def scan_stream(
    stream: ByteStream,
    signatures: Sequence[Signature],
    name: str = "<stdin>",
    *,
    on_progress: Progress | None = None,
) -> ScanReport:
    """Scan a binary stream, packed or not, to its end, and close it. Raises ScanError when it is not text."""
    scan = Scan(signatures, on_progress)
    scan.read(unpack(stream, name), name, 0)
    return scan.report()


def open_log(path: str | os.PathLike[str], head_bytes: int, tail_bytes: int) -> str:
    """The first and the last bytes of a log's text (about, in whole lines), masked, packed or not. Raises ScanError."""
    name = os.fspath(path)
    stream = open_stream(name)
    try:
        return _ends(stream, name, head_bytes, tail_bytes)
    finally:
        stream.close()


def ends_of(text: str, head_bytes: int, tail_bytes: int) -> str:
    """The same of a text in memory."""
    return _ends(io.BytesIO(text.encode("utf-8", "replace").replace(b"\0", b" ")), "text", head_bytes, tail_bytes)


def _ends(stream: ByteStream, name: str, head_bytes: int, tail_bytes: int) -> str:
    head: list[bytes] = []
    tail: deque[bytes] = deque()
    headed = tailed = 0
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
            raise _damaged(name, 0, error) from error
    end = b"".join(tail)
    if len(end) > tail_bytes:
        end = b"\xe2\x80\xa6\n" + end[end.find(b"\n", len(end) - tail_bytes) + 1 :]
    return mask((b"".join(head) + end).decode("utf-8", "replace"))


class Scan:
    """One scan over several logs: what was seen so far, in bounded memory."""

    def __init__(self, signatures: Sequence[Signature], on_progress: Progress | None = None) -> None:
        self._patterns = [*(s.pattern for s in signatures), TRACEBACK, MENTION]
        self._special = range(len(signatures), len(self._patterns))
        self._on_progress = on_progress
        self._python: Finder | None = None
        self._hyper: HyperFinder | None = None
        self._may_have_hyper = True
        self._matches = Matches(signatures)
        self._failures = Failures()
        self._files: list[FileRead] = []
        self._warnings: list[ScanError] = []
        self._path, self._total, self._line = "", 0, 1

    def read(self, stream: ByteStream, path: str, size: int) -> None:
        """Read one log to its end and close it. `size` is about how many bytes of text it has, 0 if unknown."""
        reported = 0
        self.begin(path)
        try:
            for block, places in self._blocks(stream, path, size):
                self._note(block, places)
                if self._on_progress and self._total - reported >= PROGRESS_BYTES:
                    reported = self._total
                    self._on_progress(path, self._total)
        except DamagedError as error:
            if not self._total:
                raise _damaged(path, 0, error) from error
            self._warnings.append(_damaged(path, self._line - 1, error))
        finally:
            stream.close()
        self.end()

    def begin(self, path: str) -> None:
        """What follows is of another log."""
        self._path, self._total, self._line = path, 0, 1
        self._failures.begin(path)

    def step(self, block: Block) -> list[Match]:
        """Read one block at once; what was seen in it, each signature with its count so far."""
        before = self._matches.counts
        finder = self._hyper_finder() if block.end > SMALL_BYTES >> 4 else None
        self._python = self._python or PythonFinder(self._patterns)
        self._note(block, (finder or self._python).find(block.text, block.end))
        after = self._matches.counts
        return [self._matches.match(i) for i, count in enumerate(after) if count != before[i]]

    def end(self) -> None:
        """The log is read."""
        self._files.append(FileRead(self._path, self._total, self._line - 1))
        self._matches.end()
        self._failures.end()

    def _note(self, block: Block, places: Places) -> None:
        self._failures.note(block, self._line, *(places.possible.pop(i, None) for i in self._special))
        self._line = self._matches.note(block, self._path, len(self._files), self._line, places)
        self._total += block.raw
        if self._hyper:
            self._hyper.learn(self._matches.tried, self._matches.enough)
        if self._total > LARGE_BYTES and type(self._matches.lines) is Lines:
            self._matches.lines = FastLines()

    def report(self) -> ScanReport:
        """All that was found."""
        return ScanReport(
            files=tuple(self._files),
            matches=self._matches.matches(),
            root=self._failures.root(),
            tracebacks=self._failures.tracebacks,
            warnings=tuple(self._warnings),
        )

    def _blocks(self, stream: ByteStream, path: str, size: int) -> Iterator[tuple[Block, Places]]:
        """Blocks, and where in each a pattern may match first."""
        total, blocks = 0, read_blocks(stream, path)
        for block in blocks:
            total += block.raw
            if max(total, size) > SMALL_BYTES and (finder := self._hyper_finder()):
                yield from _find_ahead(finder, block, blocks)
                return
            self._python = self._python or PythonFinder(self._patterns)
            yield block, self._python.find(block.text, block.end)

    def _hyper_finder(self) -> HyperFinder | None:
        """Hyperscan's finder, made when first needed; None where Hyperscan has no wheel."""
        if self._hyper is None and self._may_have_hyper:
            try:
                from probes.scanner.hyper import HyperFinder

                self._hyper = HyperFinder(self._patterns)
            except ImportError:
                self._may_have_hyper = False
        return self._hyper


def _find_ahead(finder: Finder, first: Block, blocks: Iterable[Block]) -> Iterator[tuple[Block, Places]]:
    """Search the next blocks in threads (Hyperscan does without the interpreter) while the last one is read."""
    from concurrent.futures import Future, ThreadPoolExecutor

    waiting: deque[tuple[Block, Future[Places]]] = deque()
    damage: DamagedError | None = None
    with ThreadPoolExecutor(min(SEARCHERS, os.cpu_count() or 1)) as pool:
        waiting.append((first, pool.submit(finder.find, first.text, first.end)))
        try:
            for block in blocks:
                waiting.append((block, pool.submit(finder.find, block.text, block.end)))
                if len(waiting) > BLOCKS_AHEAD:
                    ready, places = waiting.popleft()
                    yield ready, places.result()
        except DamagedError as error:
            damage = error
        for ready, places in waiting:
            yield ready, places.result()
    if damage:
        raise damage


def _text_bytes(name: str) -> int:
    """About how many bytes of text a log holds; logs pack to a tenth or so."""
    size = os.path.getsize(name)
    return size * 10 if name.endswith((".gz", ".xz", ".bz2", ".zst")) else size


def _damaged(path: str, line: int, error: DamagedError) -> ScanError:
    if not line:
        return ScanError(
            f"{path} is damaged and cannot be unpacked ({error}): copy it again.",
            f"{path} 已损坏，无法解压（{error}）：请重新复制。",
        )
    return ScanError(
        f"{path} ends early or is damaged: only its first {line} lines could be unpacked.",
        f"{path} 不完整或已损坏：只解压出前 {line} 行。",
    )
