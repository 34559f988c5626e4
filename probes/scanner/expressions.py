"""Rewrites a signature's pattern for Hyperscan, so that it says of every line what Python's `re` says of it.

Python sees one line at a time, Hyperscan a block of many. So everything that could step over a line end ("\\s",
"[^x]", "\\W") is spelled out without it. What repeats at either end is cut to its least number, because Hyperscan
reports each end of a match: `len=\\d+` would be called three times for "len=123".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from re import _constants as c  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

_NEWLINE = 10
_MEMBERS = {
    c.CATEGORY_DIGIT: frozenset(range(48, 58)),
    c.CATEGORY_SPACE: frozenset(b" \t\n\r\f\v"),
    c.CATEGORY_WORD: frozenset(b for b in range(128) if chr(b).isalnum() or b == 95),
}
_ALL = frozenset(range(256))
_MEMBERS |= {
    c.CATEGORY_NOT_DIGIT: _ALL - _MEMBERS[c.CATEGORY_DIGIT],
    c.CATEGORY_NOT_SPACE: _ALL - _MEMBERS[c.CATEGORY_SPACE],
    c.CATEGORY_NOT_WORD: _ALL - _MEMBERS[c.CATEGORY_WORD],
}
_ANCHORS = {
    c.AT_BEGINNING: "^",
    c.AT_BEGINNING_STRING: "^",
    c.AT_END: "$",
    c.AT_END_STRING: "$",
    c.AT_BOUNDARY: r"\b",
    c.AT_NON_BOUNDARY: r"\B",
}


class UnsupportedError(ValueError):
    """The pattern uses what Hyperscan has not: look-around, back-references, possessive repeats; or it matches anything."""


def expression(pattern: str) -> tuple[bytes, bool]:
    """The pattern for Hyperscan with its MULTILINE flag, and whether it ignores case. Raises UnsupportedError."""
    tree = parser.parse(pattern.encode())
    caseless = bool(tree.state.flags & re.IGNORECASE)
    body = _trim(_trim(list(tree), last=True), last=False)
    if not body:
        raise UnsupportedError(f"{pattern!r} matches every line")
    return _sequence(body, caseless).encode("latin-1"), caseless


def _trim(items: Sequence[Any], last: bool) -> list[Any]:
    """Without what a match need not have at one of its ends."""
    items = list(items)
    at = -1 if last else 0
    while items:
        op, value = items[at]
        if op in (c.MAX_REPEAT, c.MIN_REPEAT):
            least, _most, body = value
            if least == 0:
                items.pop(at)
                continue
            items[at] = (op, (least, least, body))
        elif op is c.SUBPATTERN:
            group, add, remove, body = value
            body = _trim(body, last)
            if not body:
                items.pop(at)
                continue
            items[at] = (op, (group, add, remove, body))
        elif op is c.BRANCH:
            branches = [_trim(branch, last) for branch in value[1]]
            if not all(branches):
                items.pop(at)
                continue
            items[at] = (op, (None, branches))
        break
    return items


def _sequence(items: Iterable[Any], caseless: bool) -> str:
    return "".join(_item(op, value, caseless) for op, value in items)


def _item(op: Any, value: Any, caseless: bool) -> str:
    if op is c.LITERAL:
        return _byte(value)
    if op is c.NOT_LITERAL:
        return _class([(c.NEGATE, None), (c.LITERAL, value)], caseless)
    if op is c.ANY:
        return r"[^\n]"
    if op is c.IN:
        return _class(value, caseless)
    if op is c.AT and value in _ANCHORS:
        return _ANCHORS[value]
    if op is c.BRANCH:
        return "(?:" + "|".join(_sequence(branch, caseless) for branch in value[1]) + ")"
    if op is c.SUBPATTERN:
        _group, add, _remove, body = value
        return ("(?i:" if add & re.IGNORECASE else "(?:") + _sequence(body, caseless or bool(add & re.IGNORECASE)) + ")"
    if op in (c.MAX_REPEAT, c.MIN_REPEAT):
        least, most, body = value
        return f"(?:{_sequence(body, caseless)}){{{least},{'' if most is c.MAXREPEAT else most}}}"
    raise UnsupportedError(f"Hyperscan has no {str(op).lower()}")


def _class(members: Sequence[Any], caseless: bool) -> str:
    found: set[int] = set()
    negate = False
    for op, value in members:
        if op is c.NEGATE:
            negate = True
        elif op is c.LITERAL:
            found.add(value)
        elif op is c.RANGE:
            found.update(range(value[0], value[1] + 1))
        else:
            found |= _MEMBERS[value]
    if caseless:
        found |= {ord(other) for b in found if b < 128 for other in (chr(b).lower(), chr(b).upper())}
    if negate:
        found = set(_ALL) - found
    found.discard(_NEWLINE)
    if not found:
        raise UnsupportedError("a class that only a line end is in")
    return f"[{_ranges(found)}]"


def _ranges(found: set[int]) -> str:
    text, ordered = "", sorted(found)
    start = previous = ordered[0]
    for b in [*ordered[1:], 999]:
        if b != previous + 1:
            text += _byte(start) if start == previous else f"{_byte(start)}-{_byte(previous)}"
            start = b
        previous = b
    return text


def _byte(value: int) -> str:
    char = chr(value)
    return char if value < 128 and (char.isalnum() or char in " _") else f"\\x{value:02x}"
