"""The sentences of the flag record and of the memory arithmetic in Chinese, by the table kb/data/chinese.tsv.

A line is the English sentence and the Chinese one; `{}` stands for what changes, in Chinese `{0}` for the first of these.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from pathlib import Path

TABLE = Path(__file__).parent / "data" / "chinese.tsv"
STATUSES = {
    "ok": "可用",
    "deprecated": "已弃用",
    "no-op": "不起作用",
    "refused": "会被拒绝",
    "removed": "已删除",
    "renamed": "已改名",
    "not-yet": "尚未加入",
    "never": "从未有过",
    "unknown-release": "版本未知",
}
PARTS = (("; ", "；"), (" − ", " − "), (", ", "、"))
WORDLESS = re.compile(r"(?:GiB|[^A-Za-z])*")


@cache
def table() -> tuple[dict[str, str], tuple[tuple[re.Pattern[str], str], ...]]:
    """Sentences without gaps by their English, and patterns of those with gaps."""
    rows = [line.split("\t") for line in TABLE.read_text("utf-8").splitlines() if line]
    gaps = tuple(
        (re.compile("(.+?)".join(map(re.escape, english.split("{}"))), re.S), chinese)
        for english, chinese in rows
        if "{}" in english
    )
    return {english: chinese for english, chinese in rows if "{}" not in english}, gaps


@lru_cache(maxsize=4096)
def translated(sentence: str) -> str | None:
    """A sentence in Chinese; None where the table does not have it. What has no words in it stays as it is."""
    whole = by_table(sentence)
    if whole is not None:
        return whole
    for english, chinese in PARTS:
        for at in (each.start() for each in re.finditer(re.escape(english), sentence)):
            first = by_table(sentence[:at])
            rest = translated(sentence[at + len(english) :]) if first is not None else None
            if rest is not None:
                return f"{first}{chinese}{rest}"
    return None


@lru_cache(maxsize=4096)
def by_table(sentence: str) -> str | None:
    """A sentence that the table has as one, or that has no words in it; None for any other."""
    plain, gaps = table()
    if sentence in plain:
        return plain[sentence]
    if WORDLESS.fullmatch(sentence):
        return sentence
    for pattern, chinese in gaps:
        found = pattern.fullmatch(sentence)
        if found:
            return chinese.format(*(translated(group) or group for group in found.groups()))
    return None


def in_chinese(sentence: str) -> str:
    """A sentence in Chinese where the table has it, else as it is."""
    return translated(sentence) or sentence
