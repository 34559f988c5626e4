"""Keeps the first and the last line that matched as bytes while a scan runs, and words them when it is done."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from probes.reading.mask import mask
from probes.scanner.blocks import Block
from probes.scanner.lines import Lines
from probes.scanner.prefixes import time_in
from probes.scanner.types import Hit

TEXT_CHARACTERS = 2_000
CONTEXT_LINES = 3
CONTEXT_BYTES = 8_192


class Seen(NamedTuple):
    """A line that matched, with what stands before and after it in its block, and its place for sorting."""

    path: str
    line: int
    text: bytes
    before: bytes
    after: bytes
    order: tuple[int, int]


def line_around(block: Block, offset: int) -> tuple[int, int]:
    """Where the line begins and ends in which an offset lies."""
    start = block.text.rfind(b"\n", 0, offset) + 1
    stop = block.text.find(b"\n", offset, block.end)
    return start, stop if stop >= 0 else block.end


def number_lines(block: Block, offsets: Iterable[int], line: int, lines: Lines) -> dict[int, int]:
    """The line number at each offset (ascending) in a block whose first line has the number `line`."""
    numbers, counted = {}, 0
    for offset in offsets:
        start = block.text.rfind(b"\n", 0, offset) + 1
        line += lines.count_ends(block.numbered, counted, start)
        counted = start
        numbers[offset] = line
    return numbers


def see(block: Block, offset: int, path: str, line: int, file: int) -> Seen:
    """Copy a line and its neighbours out of a block."""
    text = block.text
    start, stop = line_around(block, offset)
    above, below = start, stop
    for _ in range(CONTEXT_LINES):
        above = text.rfind(b"\n", max(0, start - CONTEXT_BYTES), above - 1) + 1 if above > 0 else 0
        following = text.find(b"\n", below + 1, min(block.end, stop + CONTEXT_BYTES))
        below = following if following >= 0 else min(block.end, stop + CONTEXT_BYTES)
    above = max(above, start - CONTEXT_BYTES, 0)
    return Seen(
        path, line, bytes(text[start:stop]), bytes(text[above:start]), bytes(text[stop + 1 : below]), (file, line)
    )


def hit_of(seen: Seen, pattern: re.Pattern[str]) -> tuple[Hit, dict[str, str]]:
    """The line as a hit, masked, and the values of the pattern's named groups in it."""
    plain = seen.text.decode("utf-8", "replace")
    text = mask(plain)
    found = pattern.search(text)
    values = found or pattern.search(plain)
    groups = {k: mask(v) for k, v in values.groupdict().items() if v is not None} if values else {}
    end = found.end() if found else 0
    hit = Hit(
        seen.path,
        seen.line,
        time_in(text),
        _window(text, found.start() if found else 0, end),
        _neighbours(seen.before),
        _neighbours(seen.after),
    )
    return hit, groups


def fold(lines: Iterable[str]) -> list[str]:
    """Lines that differ only in their numbers from the one before them, folded into it: "… (3 times)"."""
    folded: list[tuple[str, str, int]] = []
    for line in lines:
        shape = re.sub(r"\d+", "0", line)
        if folded and folded[-1][1] == shape:
            folded[-1] = (folded[-1][0], shape, folded[-1][2] + 1)
        else:
            folded.append((line, shape, 1))
    return [f"{line} ({count} times)" if count > 1 else line for line, _, count in folded]


def _neighbours(data: bytes) -> tuple[str, ...]:
    lines = (_window(mask(line), 0, 0) for line in data.decode("utf-8", "replace").splitlines() if line.strip())
    return tuple(fold(lines))


def _window(text: str, start: int, end: int) -> str:
    """At most 2,000 characters of a line, with the match in them."""
    if len(text) <= TEXT_CHARACTERS:
        return text
    first = 0 if end < TEXT_CHARACTERS else max(0, min(start - 200, len(text) - TEXT_CHARACTERS + 1))
    room = TEXT_CHARACTERS - 1 - (first > 0)
    piece = text[first : first + room]
    return ("…" if first else "") + piece + ("…" if first + room < len(text) else "")
