"""Which parser of tool calls and of reasoning a model's answers need, by the table kb/data/parsers.tsv.

A row: a family as a pattern of the model's name (the first that fits counts), the engine, the option, its value, and the first
release that is known to have it (vLLM 0.6.3 to 0.33.0: tool_parsers and reasoning in its sources; SGLang: the option's choices).
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).parent / "data" / "parsers.tsv"
OPTION = re.compile(r"(?P<option>--(?:tool-call|reasoning)-parser)(?P<between>[ =])(?P<value>[\w.-]+)")


class Row(NamedTuple):
    """One parser of one family."""

    model: str
    engine: str
    option: str
    parser: str
    since: str


@cache
def table() -> tuple[Row, ...]:
    """The rows in their order."""
    return tuple(Row(*line.split("\t")) for line in TABLE.read_text("utf-8").splitlines()[1:])


@cache
def known_values(engine: str) -> frozenset[tuple[str, str]]:
    """Every option of an engine with every parser that some family has there."""
    return frozenset((row.option, row.parser) for row in table() if row.engine == engine)


@lru_cache(maxsize=256)
def parsers_of(model: str, engine: str) -> dict[str, Row]:
    """The rows of a model's family for an engine, by option; empty where the family is not known."""
    name = model.rstrip("/").rpartition("/")[2]
    family = next((row.model for row in table() if re.search(row.model, name, re.I)), None)
    return {row.option: row for row in table() if row.model == family and row.engine == engine}


def with_own_parsers(command: str, model: str, engine: str, release: str) -> tuple[str, bool]:
    """A command with the parsers of its model, and whether none that is left is another family's.

    A parser that the release does not have yet, or of a model that is not in the table, is left as it stands; so is one that
    no family has as its first choice (qwen3_xml).
    """
    if not OPTION.search(command):
        return command, True
    known = parsers_of(model, engine)
    sure = True

    def put(found: re.Match[str]) -> str:
        nonlocal sure
        row = known.get(found["option"])
        if (found["option"], found["value"]) not in known_values(engine):
            return found[0]
        if row is None or not is_since(release, row.since):
            sure = False
            return found[0]
        return f"{found['option']}{found['between']}{row.parser}"

    return OPTION.sub(put, command), sure


def fits(command: str, model: str, engine: str) -> dict[str, bool]:
    """Whether each parser in a command is not another family's, by the option (`tool_call_parser`)."""
    known = parsers_of(model, engine)
    return {
        found["option"].strip("-").replace("-", "_"): row.parser == found["value"]
        for found in OPTION.finditer(command)
        if (row := known.get(found["option"])) and (found["option"], found["value"]) in known_values(engine)
    }


def is_since(release: str, first: str) -> bool:
    """Whether a release is the first one or a later one; an unknown release may be."""
    from packaging.version import InvalidVersion, Version

    try:
        return not release or Version(release) >= Version(first)
    except InvalidVersion:
        return False
