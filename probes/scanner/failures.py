"""Collects the tracebacks and exceptions of a scan, in bounded memory, and names the one that everything followed from."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from probes.reading.mask import mask
from probes.scanner.blocks import Block
from probes.scanner.hits import CONTEXT_BYTES, TEXT_CHARACTERS
from probes.scanner.matcher import LinesWith
from probes.scanner.prefixes import parse_line
from probes.scanner.roots import Candidate, chain_of, choose, exception_on, goes_on, origin_of, stream_of
from probes.scanner.tracebacks import HEADER, LINES_READ, MESSAGE_LINES, RawTraceback, TracebackReader
from probes.scanner.types import Link, RootException, Traceback

TRACEBACKS_KEPT = 64
MENTIONS_KEPT, MENTIONS_READ = 50, 5_000
"""Exceptions kept from lines without a traceback, and lines looked at for them."""
TAIL_BLOCKS = 8
"""Blocks at the end of a log that are read again for tracebacks when it has too many to read them all: 4 MB."""
TRACEBACK = re.escape(HEADER)
MENTION = r"Error|Exception|Interrupt: |Exit: |OutOfResources: |: error: |what\(\): "
"""What every line holds from which an exception may be read; and every block in which a traceback begins."""


class Failures:
    """The failures of one scan. Blocks are given in order, log after log."""

    def __init__(self) -> None:
        self._path, self._order = "", -1
        self._reader = TracebackReader()
        self._tail: deque[tuple[Block, int]] = deque(maxlen=TAIL_BLOCKS)
        self._tracebacks: dict[tuple[object, ...], Traceback] = {}
        self._candidates: list[Candidate] = []
        self._mentions: list[Candidate] = []
        self._mentions_read = 0
        self._spans: list[tuple[int, int, int]] = []

    def begin(self, path: str) -> None:
        """The blocks that follow are those of another log."""
        self._path, self._order = path, self._order + 1
        self._reader = TracebackReader(LINES_READ)
        self._tail.clear()

    def note(self, block: Block, line: int, traceback: int | None, mention: int | None) -> None:
        """Read a block whose first line has the number `line`. Offsets say where a traceback or exception may begin."""
        if traceback is not None or self._reader.reading:
            self._reader.feed_block(self._path, block, line)
        if mention is not None and len(self._mentions) < MENTIONS_KEPT and self._mentions_read < MENTIONS_READ:
            self._read_mentions(block, line, mention)
        if self._reader.exhausted:
            self._tail.append((block.copy(), line))

    def end(self) -> None:
        """The log is read."""
        self._reader.close()
        self._take(self._reader.found)
        if self._tail:
            self._take(_tracebacks_in(self._tail, self._path, self._reader.last_line))

    @property
    def tracebacks(self) -> tuple[Traceback, ...]:
        return tuple(self._tracebacks.values())

    def root(self) -> RootException | None:
        """The exception that started it, among the tracebacks and the lines that are in none."""
        alone = [mention for mention in self._mentions if not self._in_traceback(mention)]
        root = choose([*self._candidates, *alone])
        return root and RootException(root.link.exception, root.link.message, root.path, root.link.line)

    def _read_mentions(self, block: Block, line: int, offset: int) -> None:
        """Collect exceptions that lines name, from the line at `offset` on."""
        counted = 0
        start = block.text.rfind(b"\n", 0, offset) + 1
        for begin, stop in LinesWith(MENTION, block.text, block.end).from_line(start):
            if len(self._mentions) >= MENTIONS_KEPT or self._mentions_read >= MENTIONS_READ:
                return
            self._mentions_read += 1
            text = bytes(block.text[begin:stop]).decode("utf-8", "replace")
            if exception := exception_on(text):
                line += block.numbered.count(b"\n", counted, begin)
                counted = begin
                origin, name, message = exception
                message = "\n".join([message, *_continuation(block, text, stop)])
                link = Link(name, mask(message)[:TEXT_CHARACTERS], line)
                self._mentions.append(Candidate(origin, self._order, link, self._path))

    def _in_traceback(self, mention: Candidate) -> bool:
        return any(order == mention.order and start <= mention.link.line <= end for order, start, end in self._spans)

    def _take(self, found: Iterable[RawTraceback]) -> None:
        """Judge what was read; the same failure seen again is counted, not kept."""
        for raw in sorted(found, key=lambda r: r.line):
            chain = chain_of(raw)
            origin = origin_of(raw, chain)
            self._spans.append((self._order, raw.line, raw.end_line))
            key = (origin, *((raised.name, re.sub(r"\d+", "", raised.message[0])) for raised in chain))
            if known := self._tracebacks.get(key):
                self._tracebacks[key] = replace(known, count=known.count + 1)
                continue
            links = tuple(replace(link, message=mask(link.message)) for link in (raised.link() for raised in chain))
            self._candidates.append(Candidate(origin, self._order, links[0], raw.path))
            if len(self._tracebacks) < TRACEBACKS_KEPT:
                process = stream_of(raw.key)
                text = mask(raw.text)
                self._tracebacks[key] = Traceback(raw.path, raw.line, raw.end_line, process, origin, links, text)


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
