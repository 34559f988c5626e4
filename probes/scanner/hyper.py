"""Finds which of hundreds of patterns may match in a large text, with Hyperscan: 1.4 GB/s for 600 patterns on one core.

Hyperscan is given the literals that the patterns need, not the patterns: 700 literals compile in 20 ms (600 patterns in
600 ms, which would ask for a cache on disk) and are found twice as fast. It reports each pattern once a block; the lines
are then tried in Python. Only a pattern without a literal is given as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from probes.scanner.expressions import UnsupportedError, expression
from probes.scanner.literals import needles_of
from probes.scanner.matcher import ignores_case


class HyperFinder:
    """Says the same as PythonFinder. Raises ImportError where Hyperscan is not installed (it has no wheel)."""

    def __init__(self, patterns: Sequence[str]) -> None:
        import hyperscan

        self._always: list[int] = []
        rows = [row for i, pattern in enumerate(patterns) for row in self._rows(i, pattern, hyperscan)]
        numbers, expressions, flags = zip(*rows, strict=True)
        self._database: Any = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        self._database.compile(
            expressions=list(expressions), ids=list(numbers), elements=len(numbers), flags=list(flags)
        )

    def find(self, data: bytes | bytearray, end: int) -> list[tuple[int, int]]:
        found = [(i, 0) for i in self._always]

        def on_match(i: int, _start: int, stop: int, _flags: int, _context: object) -> None:
            found.append((i, stop - 1))

        self._database.scan(memoryview(data)[:end], on_match)
        return found

    def _rows(self, i: int, pattern: str, hyperscan: Any) -> list[tuple[int, bytes, int]]:
        """What Hyperscan looks for to find a pattern: number, expression, flags."""
        flags = hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_MULTILINE
        caseless = hyperscan.HS_FLAG_CASELESS if ignores_case(pattern) else 0
        if needles := needles_of(pattern):
            return [(i, _escaped(needle.literal), flags | caseless) for needle in needles]
        try:
            text, ignores = expression(pattern)
            flags |= hyperscan.HS_FLAG_CASELESS if ignores else 0
            hyperscan.Database().compile(expressions=[text], ids=[0], elements=1, flags=[flags])
        except (UnsupportedError, hyperscan.error):
            self._always.append(i)
            return []
        return [(i, text, flags)]


def _escaped(literal: bytes) -> bytes:
    return b"".join(b"\\x%02x" % byte for byte in literal)
