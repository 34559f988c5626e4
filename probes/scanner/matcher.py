"""Finds which patterns match which lines of a block.

Two steps. A finder says which patterns may match and from where on, by the literals that a match must hold: in plain
Python (here, for small texts) or with Hyperscan (`hyper`, for large ones). Then `LineMatcher` tries the pattern on the
lines that hold a literal; so both finders end in the same answer, and only patterns that may match are compiled.
Where a log is full of a pattern's literal, Hyperscan learns the whole pattern and says itself which lines match.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple, Protocol

from probes.scanner.expressions import UnsupportedError, expression
from probes.scanner.literals import Vocabulary, needles_of

NEWLINE = b"\n"
LINES_TRIED = 32
"""Lines of a block tried one by one; where there are more, blocks are counted in one go if the pattern allows it."""


class Found(NamedTuple):
    """Lines of a block that a pattern matches: how many, and an offset within the first and within the last of them."""

    pattern: int
    lines: int
    first: int
    last: int


class Places(NamedTuple):
    """Where patterns may match in a block: an offset before or in the first line that can; and where they do match: an
    offset in each such line, some lines more than once. No pattern is in both."""

    possible: dict[int, int]
    certain: dict[int, list[int]]


class Finder(Protocol):
    """Says which patterns match in `data[:end]`, or may."""

    def find(self, data: bytes | bytearray, end: int) -> Places: ...


class PythonFinder:
    """By the text's vocabulary and a search for the literals: about 100 MB/s for 600 patterns."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._needles = [needles_of(pattern) for pattern in patterns]
        self._caseless = [ignores_case(pattern) for pattern in patterns]

    def find(self, data: bytes | bytearray, end: int) -> Places:
        text = bytes(data[:end])
        words = Vocabulary(text)
        lowered: bytes | None = None
        found = {}
        for i, needles in enumerate(self._needles):
            if not needles:
                found[i] = 0
            elif words.may_hold(needles):
                lowered = text.lower() if self._caseless[i] and lowered is None else lowered
                places = [
                    lowered.find(n.literal.lower()) if self._caseless[i] and lowered else text.find(n.literal)
                    for n in needles
                ]
                if any(place >= 0 for place in places):
                    found[i] = min(place for place in places if place >= 0)
        return Places(found, {})


class LineMatcher:
    """Tries patterns on lines, as UTF-8 bytes. Patterns are compiled when they are first tried, and kept.

    `tried` counts the lines that each pattern was tried on.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self.tried: Counter[int] = Counter()
        self._patterns = patterns
        self._compiled: dict[int, re.Pattern[bytes]] = {}
        self._counters: dict[int, re.Pattern[bytes] | None] = {}
        self._frequent: set[int] = set()

    def match(self, i: int, data: bytes | bytearray, end: int, offset: int) -> Found | None:
        """The lines of `data[:end]` from the one at `offset` on that pattern `i` matches; None when there are none."""
        start = data.rfind(NEWLINE, 0, offset) + 1
        if i in self._frequent:
            return self._count(i, data, end, start)
        search = self._pattern(i).search
        tried, lines, first, last = 0, 0, -1, -1
        for at, stop in LinesWith(self._patterns[i], data, end).from_line(start):
            if tried == LINES_TRIED and self._counter(i):
                self._frequent.add(i)
                return self._count(i, data, end, start)
            tried += 1
            if search(data[at:stop]):
                first = at if not lines else first
                last, lines = at, lines + 1
        self.tried[i] += tried
        return Found(i, lines, first, last) if lines else None

    def has(self, i: int, data: bytes | bytearray, end: int, offset: int) -> bool:
        """Whether pattern `i` matches the line at `offset` or one behind it."""
        start = data.rfind(NEWLINE, 0, offset) + 1
        if counter := self._counter(i):
            return counter.search(data, start, end) is not None
        search = self._pattern(i).search
        return any(search(data[at:to]) for at, to in LinesWith(self._patterns[i], data, end).from_line(start))

    def last(self, i: int, data: bytes | bytearray, end: int, offset: int) -> int | None:
        """The beginning of the last line, from the one at `offset` on, that pattern `i` matches."""
        search = self._pattern(i).search
        start = data.rfind(NEWLINE, 0, offset) + 1
        lines = LinesWith(self._patterns[i], data, end).backwards(start)
        return next((at for at, to in lines if search(data[at:to])), None)

    def _count(self, i: int, data: bytes | bytearray, end: int, start: int) -> Found | None:
        counter = self._counter(i)
        assert counter is not None  # only patterns with a counter are counted
        first = counter.search(data, start, end)
        last = self.last(i, data, end, first.start()) if first else None
        if first is None or last is None:
            return None
        lines = len(counter.findall(data, first.start(), end))
        return Found(i, lines, data.rfind(NEWLINE, 0, first.start()) + 1, last)

    def _pattern(self, i: int) -> re.Pattern[bytes]:
        compiled = self._compiled.get(i)
        if compiled is None:
            compiled = self._compiled[i] = re.compile(self._patterns[i].encode())
        return compiled

    def _counter(self, i: int) -> re.Pattern[bytes] | None:
        """A pattern that takes each line that matches once, where it begins with text, so that it is quickly found."""
        if i not in self._counters:
            self._counters[i] = _line_pattern(self._patterns[i])
        return self._counters[i]


class LinesWith:
    """The lines of a block that hold one of a pattern's literals; all lines for a pattern without."""

    def __init__(self, pattern: str, data: bytes | bytearray, end: int) -> None:
        self._end = end
        self._literals = [needle.literal for needle in needles_of(pattern)]
        self._text = data
        if ignores_case(pattern):
            self._text = data[:end].lower()
            self._literals = [literal.lower() for literal in self._literals]

    def from_line(self, start: int) -> Iterator[tuple[int, int]]:
        """Beginnings and ends of lines in order, the one at `start` and those behind it."""
        text, end, literals = self._text, self._end, self._literals or [b""]
        places = [text.find(literal, start, end) for literal in literals]
        while True:
            ahead = [place for place in places if place >= 0]
            if not ahead:
                return
            at = min(ahead)
            stop = text.find(NEWLINE, at, end)
            stop = stop if stop >= 0 else end
            yield text.rfind(NEWLINE, 0, at) + 1, stop
            start = stop + 1
            if start >= end:
                return
            for k, place in enumerate(places):
                if 0 <= place < start:
                    places[k] = text.find(literals[k], start, end)

    def backwards(self, start: int) -> Iterator[tuple[int, int]]:
        """The same lines from the last one back to the one at `start`."""
        text, stop = self._text, self._end
        first, *others = self._literals or [b""]
        while stop > start:
            at = text.rfind(first, start, stop)
            for literal in others:
                at = max(at, text.rfind(literal, start, stop))
            if at < 0:
                return
            begin = text.rfind(NEWLINE, 0, at) + 1
            to = text.find(NEWLINE, at, self._end)
            yield begin, to if to >= 0 else self._end
            stop = begin - 1


@cache
def ignores_case(pattern: str) -> bool:
    """Whether the pattern begins with a flag group that says so: (?i)."""
    return re.match(r"\(\?[a-z]*i[a-z]*\)", pattern) is not None


def _line_pattern(pattern: str) -> re.Pattern[bytes] | None:
    if len(needles_of(pattern)) != 1:
        return None
    try:
        text, caseless = expression(pattern)
    except UnsupportedError:
        return None
    begins_with_text = re.match(rb"[A-Za-z0-9 _]{4}(?![*?{])", text)
    # findall gives the empty group: 190 ns a line, where it would copy the line or make a match object 280 ns
    return re.compile(text + rb"()[^\n]*", re.MULTILINE) if begins_with_text and not caseless else None
