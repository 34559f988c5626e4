"""Finds which patterns match which lines of a block of text, in plain Python.

Fast for small texts: a pattern is compiled only when its words, and then its literal, are in the text. The Hyperscan
matcher in `hyper` gives the same answers for large ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from probes.scanner.literals import Needle, Vocabulary, needles_of

NEWLINE = b"\n"


class Found(NamedTuple):
    """Lines of a block that a pattern matches: how many, and an offset within the first and within the last of them."""

    pattern: int
    lines: int
    first: int
    last: int


class Matcher(Protocol):
    """Whatever finds patterns in the lines of `data[:end]`; a last line may lack its newline."""

    def match(self, data: bytes | bytearray, end: int) -> list[Found]: ...


class PythonMatcher:
    """Patterns are searched as UTF-8 bytes, line by line. `numbers` are their names in what is found (default 0, 1, …)."""

    def __init__(self, patterns: Sequence[str], numbers: Sequence[int] | None = None) -> None:
        self._patterns = patterns
        self._numbers = numbers or range(len(patterns))
        self._needles = [needles_of(pattern) for pattern in patterns]
        self._compiled: dict[int, re.Pattern[bytes]] = {}

    def match(self, data: bytes | bytearray, end: int) -> list[Found]:
        text = bytes(data[:end])
        words = Vocabulary(text)
        found = []
        for i, needles in enumerate(self._needles):
            if needles and not words.may_hold(needles):
                continue
            starts = [start for start, line in self._candidates(i, text, needles) if self._pattern(i).search(line)]
            if starts:
                found.append(Found(self._numbers[i], len(starts), starts[0], starts[-1]))
        return found

    def _candidates(self, i: int, text: bytes, needles: tuple[Needle, ...]) -> Iterator[tuple[int, bytes]]:
        """Lines that hold one of the literals, in order."""
        if not needles:
            return _lines(text)
        if ignores_case(self._patterns[i]):
            text, needles = text.lower(), tuple(n._replace(literal=n.literal.lower()) for n in needles)
        if len(needles) == 1:
            return _lines_with(text, needles[0].literal)
        return iter(sorted({start: line for n in needles for start, line in _lines_with(text, n.literal)}.items()))

    def _pattern(self, i: int) -> re.Pattern[bytes]:
        compiled = self._compiled.get(i)
        if compiled is None:
            compiled = self._compiled[i] = re.compile(self._patterns[i].encode())
        return compiled


def ignores_case(pattern: str) -> bool:
    """Whether the pattern begins with a flag group that says so: (?i)."""
    return re.match(r"\(\?[a-z]*i[a-z]*\)", pattern) is not None


def _lines(text: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    for line in text.split(NEWLINE):
        yield start, line
        start += len(line) + 1


def _lines_with(text: bytes, literal: bytes) -> Iterator[tuple[int, bytes]]:
    at = text.find(literal)
    while at >= 0:
        start = text.rfind(NEWLINE, 0, at) + 1
        stop = text.find(NEWLINE, at)
        stop = stop if stop >= 0 else len(text)
        yield start, text[start:stop]
        at = text.find(literal, stop)
