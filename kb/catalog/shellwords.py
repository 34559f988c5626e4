"""Shell text as words that remember where they stand, so that one of them can be changed and all else kept byte for byte."""

from __future__ import annotations

import re
from dataclasses import dataclass

QUOTED = r"'[^']*(?:'|$)|\"(?:[^\"\\]|\\.)*(?:\"|$)"
# `{{name|default}}` and `<model>` are placeholders of documents and of people; `$(…)` and `${…}` are kept whole.
PART = rf"(?:{QUOTED}|\\.|\{{\{{[^{{}}]*\}}\}}|\$\([^()]*\)|\$\{{[^{{}}]*\}}|<[A-Za-z][^<>\s]*>|[^\s'\"\\;&|<>()])"
TOKEN = re.compile(
    rf"(?P<space>(?:[^\S\n]|\\[^\S\n]*\n)+)|(?P<comment>(?<![^\s;&|()])#[^\n]*)"
    rf"|(?P<redirect>(?:\d+|&)?(?:>>|>\||<<<|<<|<>|[<>])(?![A-Za-z][^<>\s]*>)(?:&\d+|&-)?)"
    rf"|(?P<word>{PART}+)|(?P<end>[\n;&|()]+)|(?P<other>.)",
    re.S,
)
# The shell's prompt for a continued line, pasted along with it.
PROMPT = re.compile(r"(\\[^\S\n]*\n[^\S\n]*)>(?=\s+(\S))")
UNQUOTE = re.compile(r"'([^']*)'?|\"((?:[^\"\\]|\\.)*)\"?|\\\n|\\(.)", re.S)


@dataclass(frozen=True, slots=True)
class Word:
    """A word without its quotes, and its span in the text that it was read from."""

    text: str
    start: int
    end: int
    raw: str = ""


def unquote(raw: str) -> str:
    """A word as the shell hands it on; expansions are left as they are."""

    def plain(found: re.Match[str]) -> str:
        if found[2] is not None:
            return re.sub(r"\\(\n|[\"\\$`])", lambda each: each[1].strip("\n"), found[2])
        return found[1] if found[1] is not None else found[3] or ""

    return UNQUOTE.sub(plain, raw)


def without_prompts(text: str) -> str:
    """The text with a blank for each `>` that the shell printed at the start of a continued line; of the same length.

    One that stands alone may be a redirection, unless an option follows it.
    """
    found = list(PROMPT.finditer(text))
    if len(found) > 1 or any(each[2] == "-" for each in found):
        return PROMPT.sub(r"\1 ", text)
    return text


def simple_commands(text: str, offset: int = 0) -> list[list[Word]]:
    """The simple commands of a script, in order; comments and redirections are left out. Never raises."""
    found: list[list[Word]] = [[]]
    skip = False
    for token in TOKEN.finditer(text):
        if token.lastgroup == "redirect":
            skip = token[0][-1] in "<>|"
        elif token.lastgroup == "word":
            if not skip:
                found[-1].append(Word(unquote(token[0]), offset + token.start(), offset + token.end(), token[0]))
            skip = False
        elif token.lastgroup in ("end", "other"):
            found.append([])
            skip = False
    return [words for words in found if words]


def nested(word: Word) -> tuple[str, int] | None:
    """The script inside a quoted word (`bash -c '…'`) and where it starts; None when quotes inside would move its words."""
    inner = word.raw[1:-1]
    if len(word.raw) < 2 or word.raw[0] != word.raw[-1] or word.raw[0] not in "'\"" or word.raw[0] in inner:
        return None
    return (inner, word.start + 1) if word.raw[0] == "'" or "\\" not in inner.replace("\\\n", "") else None
