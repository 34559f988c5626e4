"""Which words a line must hold before a pattern can match it: what lets a scan skip patterns, and nearly all lines."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

_TOKEN = re.compile(
    r"\\x[0-9a-fA-F]{2}|\\[0-7]{1,3}|\\u[0-9a-fA-F]{4}|\\."
    r"|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?(?:[a-zA-Z]+\)|[:a-zA-Z]*:|P<\w+>)|\(\?[=!<#].|\(|\)|[|.^$*+?]|\{\d*,?\d*\}"
    r"|[^\\\[\](){}|.^$*+?]+|.",
    re.DOTALL,
)
_WORD = re.compile(rb"[a-z_]{3,}")
_RARE = re.compile(r"[a-z]{2,}|\d{3,}")
_LETTERS = bytes(b | 32 if 65 <= b <= 90 else b if 97 <= b <= 122 or b == 95 else 32 for b in range(256))
_COMMON = (
    "line in file the of to is a and for not on at by with from error info warning debug traceback most recent call last model"
    " enginecore apiserver worker vllmworker engine core pid rank reqs running waiting request tokens token throughput gpu kv"
    " cache usage http post get py self return raise import vllm sglang torch python packages site lib avg generation prompt"
    " prefix hit rate loading weights seconds failed initialization chat completions"
)
_COMMON_WORDS = frozenset(_COMMON.split())
ALTERNATIVES = 24
"""A set of more literals than this is worse than the next best."""


class Needle(NamedTuple):
    """A literal, and the words in it: `inner` stand whole in any text that holds it, `edges` at least as part of a word."""

    literal: bytes
    inner: tuple[bytes, ...]
    edges: tuple[bytes, ...]


class Vocabulary:
    """The distinct words of a text, lower-cased. Building it reads the text once (about 130 MB/s)."""

    def __init__(self, text: bytes) -> None:
        self._words = set(text.translate(_LETTERS).split())
        self._joined = b" ".join(self._words)

    def may_hold(self, needles: Iterable[Needle]) -> bool:
        """False when none of the needles can be in the text."""
        return any(
            self._words.issuperset(needle.inner) and all(word in self._joined for word in needle.edges)
            for needle in needles
        )


@cache
def needles_of(pattern: str) -> tuple[Needle, ...]:
    """The pattern's required literals with their words (20 µs a pattern, so they are kept)."""
    return tuple(map(needle, required_literals(pattern)))


def needle(literal: str) -> Needle:
    """A literal with its words picked out."""
    text = literal.encode()
    words = [(m.group(), m.start() > 0 and m.end() < len(text)) for m in _WORD.finditer(text.lower())]
    return Needle(text, tuple(w for w, whole in words if whole), tuple(w for w, whole in words if not whole))


def required_literals(pattern: str) -> tuple[str, ...]:
    """Texts of which every match holds one (compare without case if the pattern does); () when that cannot be told.

    Of the literals in a row the one with most letters is taken; of a group's alternatives one each.
    """
    tokens = _TOKEN.findall(pattern)
    if any(t.startswith("(?") and t.endswith(")") and "x" in t for t in tokens):
        return ()
    best, _ = _alternatives(tokens, 0)
    return best if all(len(literal) > 1 for literal in best) else ()


def _alternatives(tokens: list[str], at: int) -> tuple[tuple[str, ...], int]:
    """The literals of which one is needed by what stands up to the closing bracket, and where that is."""
    found: list[tuple[str, ...]] = []
    while True:
        best, at = _sequence(tokens, at)
        found.append(best)
        if at >= len(tokens) or tokens[at] == ")":
            break
        at += 1
    needed = tuple(dict.fromkeys(literal for best in found for literal in best))
    return (needed if all(found) and len(needed) <= ALTERNATIVES else ()), at


def _sequence(tokens: list[str], at: int) -> tuple[tuple[str, ...], int]:
    """The best literals of one alternative, and the place of the bar, the bracket or the end behind it."""
    candidates: list[tuple[str, ...]] = []
    run = ""
    while at < len(tokens) and tokens[at] not in ("|", ")"):
        token = tokens[at]
        at += 1
        if _is_text(token):
            run += token[1:] if token[0] == "\\" else token
            continue
        if token in ("*", "?") or (token[0] == "{" and len(token) > 1):
            run = run[:-1]
        candidates.append((run,) if run else ())
        run = ""
        if token[0] == "(" and not token.endswith(")"):
            inner, at = _alternatives(tokens, at)
            at += 1
            optional = at < len(tokens) and (tokens[at] in ("*", "?") or tokens[at].startswith(("{0", "{,")))
            known = not optional and (token in ("(", "(?:") or token.startswith("(?P<"))
            candidates.append(inner if known else ())
    candidates.append((run,) if run else ())
    needed = [candidate for candidate in candidates if candidate]
    return max(needed, key=_worth) if len(needed) > 1 else needed[0] if needed else (), at


def _is_text(token: str) -> bool:
    if token[0] == "\\":
        return len(token) == 2 and not token[1].isalnum()
    return token in ("[", "{") or token[0] not in "([{|.^$*+?"


def _worth(literals: tuple[str, ...]) -> tuple[int, int]:
    """Letters count (and long numbers), but not those of words that every log is full of; of several literals the poorest."""
    return min([(_rare_letters(literal), len(literal)) for literal in literals])


def _rare_letters(literal: str) -> int:
    return sum([len(word) for word in _RARE.findall(literal.lower()) if word not in _COMMON_WORDS])
