"""The flags of a runbook that its release does not take, by line: commands in code blocks, in manifests, and inside sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kb.catalog.command import Call
from kb.catalog.history import load
from kb.catalog.status import DEAD, FlagStatus, status_of
from kb.catalog.uses import uses_of
from kb.catalog.written import calls_of, commands_in
from kb.convert import to_markdown

FENCE = re.compile(
    r"(?ms)^(?P<indent>[ \t>]*)(?P<mark>`{3,}|~{3,})[^\n]*\n(?P<text>.*?)(?:^[ \t>]*(?P=mark)[ \t]*$|\Z)"
)
SPAN = re.compile(r"(?<!`)`(?P<text>[^`\n]+)`(?!`)")
BARE = re.compile(
    r"(?m)^[ \t$#>]*(?P<text>(?:[A-Z_]+=\S+[ \t]+)*(?:vllm|sglang|python3?|docker|nohup)[ \t](?:[^\n\\]|\\.)*(?:\\\n[^\n]*)*)"
)


@dataclass(frozen=True, slots=True)
class DeadFlag:
    """A name that a release does not take, and the line of the runbook where it stands. `release` is `vllm==0.20.2`."""

    line: int
    release: str
    status: FlagStatus


def dead_flags(path: Path, engine: str = "", release: str = "") -> list[DeadFlag]:
    """What a runbook's serving commands use that the release does not take.

    Without a release that of a command's image counts, else the newest on record. With one, commands of its engine alone are
    looked at. Raises DocumentError where the file cannot be read.
    """
    text = to_markdown(path)
    found = (each for start, block in blocks(text) for each in in_block(text, start, block, engine, release))
    return sorted(dict.fromkeys(found), key=lambda each: each.line)


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """The parts of a runbook that may hold commands, with the place where each begins."""
    rest = text
    for fence in FENCE.finditer(text):
        yield fence.start("text"), fence["text"]
        rest = rest[: fence.start()] + re.sub(r"[^\n]", " ", fence[0]) + rest[fence.end() :]
    for pattern in (SPAN, BARE):
        for found in pattern.finditer(rest):
            yield found.start("text"), found["text"]
            rest = rest[: found.start()] + re.sub(r"[^\n]", " ", found[0]) + rest[found.end() :]
    if not FENCE.search(text) and any(each.form != "shell" for each in commands_in(text)):
        yield 0, text


def in_block(text: str, start: int, block: str, engine: str, release: str) -> Iterator[DeadFlag]:
    """The dead names of one part."""
    at = start
    tag = next((call.tag for call in calls_of(block) if call.tag), "")
    for call in calls_of(block):
        if call.serving and engine in ("", call.engine):
            wanted = release or call.tag or tag or load(call.engine).releases[-1]
            at = max(at, start + max(0, block.find(call.launch[0].text)))
            for status in judged(call, wanted):
                place = place_of(text, status.name, at)
                yield DeadFlag(text.count("\n", 0, place) + 1, f"{call.engine}=={wanted}", status)


def judged(call: Call, release: str) -> Iterator[FlagStatus]:
    """The verdicts on the names of a call that the release does not take."""
    for use in uses_of(call, release):
        status = status_of(call.engine, release, use)
        if status.status in (*DEAD, "refused"):
            yield status


def place_of(text: str, name: str, start: int) -> int:
    """Where a name stands, from a place on or anywhere."""
    pattern = re.compile(rf"(?<![\w-]){re.escape(name.split()[0])}(?![\w-])")
    found = pattern.search(text, start) or pattern.search(text)
    return found.start() if found else start
