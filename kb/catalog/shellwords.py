"""Shell text as words that remember where they stand, so that one of them can be changed and all else kept byte for byte."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
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
    """The script inside a quoted word and where it starts; None when quotes inside would move its words, see `decoded`."""
    inner = word.raw[1:-1]
    if len(word.raw) < 2 or word.raw[0] != word.raw[-1] or word.raw[0] not in "'\"" or word.raw[0] in inner:
        return None
    return (inner, word.start + 1) if word.raw[0] == "'" or "\\" not in inner.replace("\\\n", "") else None


def script_of(words: Sequence[Word]) -> Word | None:
    """The word that holds the script of `bash -c '…'`; None for any other command."""
    at = next((i for i, word in enumerate(words[:-1]) if re.fullmatch(r"-\w*c", word.text)), None)
    shell = any(re.search(r"(^|[/=])(ba|z|da|a)?sh$", word.text) for word in words[:at])
    return words[at + 1] if at and shell else None


def scripts_in(text: str) -> Iterator[Word]:
    """The scripts of all `bash -c` in a text."""
    return (word for words in simple_commands(text) if (word := script_of(words)))


SINGLE = re.compile(r"'\\''|'\"'\"'|[^']")
DOUBLE = re.compile(r"\\(?P<kept>[\"\\$`])|\\\n|\\?[^\"\\]|\\", re.S)


def decoded(word: Word) -> tuple[str, list[int], Callable[[str], str]] | None:
    """The text of a word that is one pair of quotes, where each character and the end stand, and what quotes other text alike."""
    quote, inner = word.raw[:1], word.raw[1:-1]
    units = {"'": SINGLE, '"': DOUBLE}.get(quote)
    if units is None or len(word.raw) < 2 or word.raw[-1] != quote:
        return None
    text, places = "", []
    for unit in units.finditer(inner):
        said = "'" if quote == "'" and len(unit[0]) > 1 else unit["kept"] if quote == '"' and unit["kept"] else unit[0]
        said = "" if quote == '"' and unit[0] == "\\\n" else said
        text += said
        places += [word.start + 1 + unit.start() + i for i in range(len(said))]
    whole = sum(len(unit[0]) for unit in units.finditer(inner)) == len(inner)
    return (text, [*places, word.end - 1], lambda new: escaped(new, [quote])) if whole else None


def quotes_around(text: str, at: int, offset: int = 0) -> list[str]:
    """The quotes of the scripts in words that a place stands in, outermost first."""
    for words in simple_commands(text, offset):
        for word in words:
            inner = nested(word) if word.start < at < word.end else None
            if inner:
                return [word.raw[0], *quotes_around(inner[0], at, inner[1])]
    return []


def escaped(text: str, quotes: Sequence[str]) -> str:
    """Text as it has to stand inside quotes."""
    for quote in reversed(quotes):
        text = text.replace("'", "'\\''") if quote == "'" else re.sub(r'([\\"$`])', r"\\\1", text)
    return text
