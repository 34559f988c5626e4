"""Keeps what was seen of each signature: how many lines, the first and the last."""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence
from typing import NamedTuple

from kb.types import Signature
from probes.scanner.blocks import Block
from probes.scanner.hits import Seen, hit_of, number_lines, see
from probes.scanner.lines import Lines
from probes.scanner.matcher import Found, LineMatcher, Places
from probes.scanner.types import Match

COUNTED = 10_000
"""Lines counted of a signature that also occurs in healthy runs; more than every third line of a log may be one."""


class _Place(NamedTuple):
    """A block, which log it is from, and the number of its first line."""

    block: Block
    path: str
    file: int
    line: int


class Matches:
    """What was seen of the signatures of one scan. Blocks are given in order; each is valid until the next but one.

    Of a signature counted to the limit only the last line matters. It is looked for when a block comes that has none.
    """

    def __init__(self, signatures: Sequence[Signature]) -> None:
        self._signatures = signatures
        self._matcher = LineMatcher([s.pattern for s in signatures])
        self._counts = [0] * len(signatures)
        self._first: dict[int, Seen] = {}
        self._last: dict[int, Seen] = {}
        self._waiting: dict[int, int] = {}
        self._before: _Place | None = None
        self.lines = Lines()

    @property
    def counts(self) -> tuple[int, ...]:
        """On how many lines each signature was seen."""
        return tuple(self._counts)

    @property
    def tried(self) -> collections.Counter[int]:
        """On how many lines each signature was tried."""
        return self._matcher.tried

    @property
    def enough(self) -> set[int]:
        """The signatures that are counted to the limit."""
        return {i for i in self._first if self._is_counted(i)}

    def note(self, block: Block, path: str, file: int, line: int, places: Places) -> int:
        """Note what is in a block whose first line has the number `line`; returns the number of the line behind it.

        `places` says where signatures match or may match; those that are not in it do not.
        """
        text, end = block.text, block.end
        place = _Place(block, path, file, line)
        enough = {
            i: at for i, at in places.possible.items() if self._is_counted(i) and self._matcher.has(i, text, end, at)
        }
        enough |= {i: offsets[0] for i, offsets in places.certain.items() if self._is_counted(i)}
        self._find_last(set(enough))
        sure = ((i, offsets) for i, offsets in places.certain.items() if not self._is_counted(i))
        found = [Found(i, *self.lines.holding(offsets, text, end)) for i, offsets in sure]
        rest = ((i, at) for i, at in places.possible.items() if not self._is_counted(i))
        found += [f for i, at in rest if (f := self._matcher.match(i, text, end, at))]
        offsets = {offset for f in found for offset in (f.first, f.last)}
        numbers = number_lines(block, sorted(offsets | {block.end}), line, self.lines)
        for f in found:
            self._counts[f.pattern] += f.lines
            if f.pattern not in self._first:
                self._first[f.pattern] = see(block, f.first, path, numbers[f.first], file)
            self._last[f.pattern] = see(block, f.last, path, numbers[f.last], file)
        self._waiting, self._before = enough, place
        return numbers[block.end]

    def end(self) -> None:
        """A log is read."""
        self._find_last(set())
        self._waiting = {}

    def matches(self) -> tuple[Match, ...]:
        """Every signature that was seen, in the order of the first lines."""
        return tuple(self.match(i) for _, i in sorted((seen.order, i) for i, seen in self._first.items()))

    def _is_counted(self, i: int) -> bool:
        return self._counts[i] >= COUNTED and self._signatures[i].role == "context"

    def _find_last(self, again: set[int]) -> None:
        """Find the last line in the block before of each counted signature that does not come again."""
        if not self._before:
            return
        block, path, file, line = self._before
        for i in self._waiting.keys() - again:
            at = self._matcher.last(i, block.text, block.end, self._waiting[i])
            if at is not None:
                self._last[i] = see(block, at, path, number_lines(block, [at], line, self.lines)[at], file)

    def match(self, i: int) -> Match:
        """What was seen of one signature, which was seen."""
        signature = self._signatures[i]
        pattern = re.compile(signature.pattern)
        first, groups = hit_of(self._first[i], pattern)
        last, last_groups = hit_of(self._last[i], pattern)
        count = self._counts[i]
        return Match(signature.document, signature.name, signature.role, count, first, last, groups, last_groups)
