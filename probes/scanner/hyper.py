"""Finds which of hundreds of patterns may match in a large text, with Hyperscan: 700 MB/s for 975 patterns on one core.

Hyperscan is given the literals that the patterns need, not the patterns: 1,600 literals compile in 50 ms (975 patterns in
1.6 s, which would ask for a cache on disk) and are found at 700 MB/s (patterns at 190). It reports each pattern once a
block; the lines are then tried in Python. Where a log is full of a pattern's literal that costs too much (1 µs a line):
then a second database is made of such patterns as a whole, which reports nothing but their matches, at 0.4 µs each.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from probes.scanner.expressions import UnsupportedError, expression
from probes.scanner.literals import needles_of
from probes.scanner.matcher import Places, ignores_case

TRIES = 3_000
"""To learn a whole pattern takes 3 ms (the median is below 1): so many lines tried in Python cost about as much."""
Row = tuple[int, bytes, int]


class HyperFinder:
    """Says the same as PythonFinder. Raises ImportError where Hyperscan is not installed (it has no wheel)."""

    def __init__(self, patterns: Sequence[str]) -> None:
        import hyperscan

        self._hyperscan: Any = hyperscan
        self._patterns = patterns
        rows = [row for i in range(len(patterns)) for row in self._literal_rows(i)]
        self._literals = self._database(rows)
        self._always = frozenset(range(len(patterns))) - {i for i, _, _ in rows}
        self._learned: dict[int, Row] = {}
        self._refused: set[int] = set()
        self._whole: tuple[Any, frozenset[int]] = (None, frozenset())
        self._scratches = threading.local()
        self.learn(Counter(dict.fromkeys(self._always, TRIES)), ())

    def find(self, data: bytes | bytearray, end: int) -> Places:
        text = memoryview(data)[:end]
        database, learned = self._whole
        possible = dict.fromkeys(self._always - learned, 0)
        certain: dict[int, list[int]] = defaultdict(list)

        def on_literal(i: int, _start: int, stop: int, _flags: int, _context: object) -> None:
            if i not in learned:
                possible[i] = min(stop - 1, possible.get(i, stop))

        def on_match(i: int, _start: int, stop: int, _flags: int, _context: object) -> None:
            certain[i].append(stop - 1)

        self._literals.scan(text, on_literal, scratch=self._scratch("literals", self._literals))
        if database:
            database.scan(text, on_match, scratch=self._scratch("whole", database))
        return Places(possible, certain)

    def _scratch(self, place: str, database: Any) -> Any:
        """Scratch space for a database: one of the calling thread's own, since two threads must not use one at once."""
        held = self._scratches.__dict__
        if held.get(place, (None,))[0] is not database:
            held[place] = database, self._hyperscan.Scratch(database)
        return held[place][1]

    def learn(self, tried: Counter[int], enough: Collection[int]) -> None:
        """Learn whole patterns where that pays: `tried` says on how many lines each was tried; those that are learned are
        taken out. Of the patterns in `enough` one match a block will do."""
        known = self._refused | self._learned.keys()
        costly = [i for i, lines in tried.items() if lines > TRIES // 10 and i not in known]
        if not costly or sum(tried[i] for i in costly) < TRIES * (len(self._learned) + len(costly)):
            return
        for i in costly:
            del tried[i]
            if row := self._whole_row(i):
                self._learned[i] = row
            else:
                self._refused.add(i)
        if self._learned:
            once = self._hyperscan.HS_FLAG_SINGLEMATCH
            rows = [(i, text, flags | (once if i in enough else 0)) for i, text, flags in self._learned.values()]
            self._whole = (self._database(rows), frozenset(self._learned))

    def _literal_rows(self, i: int) -> list[Row]:
        """The literals of which a match of a pattern holds one: number, expression, flags."""
        flags = self._hyperscan.HS_FLAG_SINGLEMATCH
        flags |= self._hyperscan.HS_FLAG_CASELESS if ignores_case(self._patterns[i]) else 0
        return [(i, _escaped(needle.literal), flags) for needle in needles_of(self._patterns[i])]

    def _whole_row(self, i: int) -> Row | None:
        """A pattern as a whole; None when Hyperscan cannot have it."""
        try:
            text, caseless = expression(self._patterns[i])
            flags = self._hyperscan.HS_FLAG_MULTILINE | (self._hyperscan.HS_FLAG_CASELESS if caseless else 0)
            self._database([(i, text, flags)])
        except (UnsupportedError, self._hyperscan.error):
            return None
        return i, text, flags

    def _database(self, rows: Iterable[Row]) -> Any:
        numbers, expressions, flags = zip(*rows, strict=True)
        database = self._hyperscan.Database(mode=self._hyperscan.HS_MODE_BLOCK)
        database.compile(expressions=list(expressions), ids=list(numbers), elements=len(numbers), flags=list(flags))
        return database


def _escaped(literal: bytes) -> bytes:
    return b"".join(b"\\x%02x" % byte for byte in literal)
