"""Which language to answer in."""

from __future__ import annotations

import re

from kb.types import Language

CHINESE = re.compile(r"[\u3400-\u9fff]")
WORD = re.compile(r"[A-Za-z]{2,}")
_SOLID = r"[^\s\u3000-\u303f\uff00-\uffef]"  # a printed token ends at a space or at a Chinese mark
PRINTED = re.compile(rf"`[^`]*`|\"[^\"]*\"|--{_SOLID}+|{_SOLID}*[_/.=:]{_SOLID}*")


def detect_language(text: str) -> Language:
    """zh where a person's words are Chinese: English terms, flags and pasted error lines among them do not count."""
    lines = [line for line in text.splitlines() if CHINESE.search(line)]
    if not lines:
        return "en"
    spoken = PRINTED.sub(" ", " ".join(lines))
    return "zh" if len(CHINESE.findall(spoken)) >= len(WORD.findall(spoken)) / 3 else "en"
