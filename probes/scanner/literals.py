"""Which words a line must hold before a pattern can match it: what lets a scan skip most patterns without compiling them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

_TOKEN = re.compile(
    r"\\x[0-9a-fA-F]{2}|\\[0-7]{1,3}|\\u[0-9a-fA-F]{4}|\\."
    r"|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?[a-zA-Z]+\)|\(|\)|[|.^$*+?]|\{\d*,?\d*\}|[^\\\[\](){}|.^$*+?]+|.",
    re.DOTALL,
)
_WORD = re.compile(rb"[a-z_]{3,}")
_LETTERS = bytes(b | 32 if 65 <= b <= 90 else b if 97 <= b <= 122 or b == 95 else 32 for b in range(256))


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


def required_literals(pattern: str) -> tuple[str, ...]:
    """Texts of which every match holds one (compare without case if the pattern does); () when that cannot be told.

    Reads only the outermost level: groups, classes and whatever a quantifier makes optional end a literal.
    """
    best: list[str] = []
    runs, run, depth = [""], "", 0
    for token in _TOKEN.findall(pattern):
        kind = token[0]
        if token.startswith("(?") and depth == 0 and "x" in token:
            return ()
        if kind == "(":
            depth += token == "("
        elif kind == ")":
            depth -= 1
        elif depth:
            continue
        elif kind == "|":
            best.append(max([*runs, run], key=_worth))
            runs, run = [""], ""
            continue
        elif kind == "\\" and len(token) == 2 and not token[1].isalnum():
            run += token[1]
            continue
        elif kind in "*?{" and token != "{":
            run = run[:-1]
        elif kind not in "\\[.^$+" or token == "[":
            run += token
            continue
        runs.append(run)
        run = ""
    best.append(max([*runs, run], key=_worth))
    return tuple(best) if all(len(literal) > 1 for literal in best) else ()


@cache
def needles_of(pattern: str) -> tuple[Needle, ...]:
    """The pattern's required literals with their words (12 µs a pattern, so they are kept)."""
    return tuple(map(needle, required_literals(pattern)))


def needle(literal: str) -> Needle:
    """A literal with its words picked out."""
    text = literal.encode()
    words = [(m.group(), m.start() > 0 and m.end() < len(text)) for m in _WORD.finditer(text.lower())]
    return Needle(text, tuple(w for w, whole in words if whole), tuple(w for w, whole in words if not whole))


def _worth(literal: str) -> tuple[int, int]:
    return sum(map(str.isalpha, literal)), len(literal)
