"""The sentences of the flag record and of the memory arithmetic in Chinese, by the table kb/data/chinese.tsv.

A line is the English sentence and the Chinese one; `{}` stands for what changes, `{1}` for the second of these.
"""

from __future__ import annotations

import re
from functools import cache
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
PARTS = (("; ", ";"), (" − ", " − "), (", ", "、"))
WORDLESS = re.compile(r"(?:[^A-Za-z]|GiB|\b[eEx]\b)*")


@cache
def table() -> tuple[dict[str, str], tuple[tuple[re.Pattern[str], str], ...]]:
    """Sentences without gaps by their English, and patterns of those with gaps."""
    rows = [line.split("\t") for line in TABLE.read_text("utf-8").splitlines() if line]
    gaps = tuple(
        (re.compile("(.+?)".join(map(re.escape, english.split("{}"))), re.S), numbered(chinese))
        for english, chinese in rows
        if "{}" in english
    )
    return {english: chinese for english, chinese in rows if "{}" not in english}, gaps


def numbered(chinese: str) -> str:
    return chinese.replace("{}", "{0}")


def translated(sentence: str) -> str | None:
    """A sentence in Chinese; None where the table does not have it. What has no words in it stays as it is."""
    plain, gaps = table()
    if sentence in plain:
        return plain[sentence]
    for pattern, chinese in gaps:
        found = pattern.fullmatch(sentence)
        if found:
            return chinese.format(*(translated(group) or group for group in found.groups()))
    for english, chinese in PARTS:
        for at in (each.start() for each in re.finditer(re.escape(english), sentence)):
            first, rest = translated(sentence[:at]), translated(sentence[at + len(english) :])
            if first is not None and rest is not None:
                return f"{first}{chinese}{rest}"
    return sentence if WORDLESS.fullmatch(sentence) else None


def in_chinese(sentence: str) -> str:
    """A sentence in Chinese where the table has it, else as it is."""
    return translated(sentence) or sentence
