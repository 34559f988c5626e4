"""Checklists answered from what probes read and from the serving command; what no machine can answer stays a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import kb
from assistant.configuration import configuration_facts, serving_command
from kb.errors import InputError
from kb.expressions import evaluate, names_in
from probes.types import ProbeResult

DATA = Path(kb.__file__).parent / "data/checklists.yaml"
Reply = Literal["yes", "no", "ask", "moot"]


@dataclass(frozen=True, slots=True)
class Words:
    """A sentence in both languages."""

    en: str
    zh: str


@dataclass(frozen=True, slots=True)
class Item:
    """A statement that is true of a sound server. `holds` decides it where its names are known; empty: a person decides."""

    id: str
    en: str
    zh: str
    document: str
    holds: str = ""
    reads: tuple[str, ...] = ()
    how: Words | None = None
    moot: Words | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """Items about one thing."""

    id: str
    en: str
    zh: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Checklist:
    """A choice of sections for an occasion, with or without the way to the cause of slowness."""

    id: str
    en: str
    zh: str
    sections: tuple[str, ...]
    tree: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """A fork (`ask`, decided by `when`) or an end (`go`, told by documents) of the way to a cause."""

    ask: Words | None = None
    when: str = ""
    if_yes: Node | None = None
    if_no: Node | None = None
    go: Words | None = None
    documents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """The way to a cause, from its first question."""

    en: str
    zh: str
    root: Node


@dataclass(frozen=True, slots=True)
class Book:
    """All checklists."""

    lists: tuple[Checklist, ...]
    sections: tuple[Section, ...]
    tree: Tree


@dataclass(frozen=True, slots=True)
class Answered:
    """An item with its reply, and the values that it was decided by or that help to decide it."""

    item: Item
    reply: Reply
    readings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """A fork that was come to: `yes` tells the branch, None that nothing read here decides it."""

    node: Node
    yes: bool | None
    readings: dict[str, Any]


@cache
def load_checklists() -> Book:
    """The checklists of kb/data/checklists.yaml."""
    import msgspec
    import yaml

    return msgspec.convert(yaml.safe_load(DATA.read_text("utf-8")), Book)


def choose(name: str) -> Checklist:
    """The checklist of a name; raises InputError with the names that there are."""
    lists = {found.id: found for found in load_checklists().lists}
    if name not in lists:
        raise InputError(f"there is no checklist {name!r}: {', '.join(lists)}.")
    return lists[name]


def values_of(results: Sequence[ProbeResult], command: str = "") -> dict[str, Any]:
    """Every name that an item may use: facts, the command's settings, and the status of each probe that could look."""
    facts = {name: value for r in results for name, value in r.facts.items() if value not in (None, "unknown")}
    statuses = {f"status_{r.probe}": r.status for r in results if r.status != "unknown"}
    return {**configuration_facts(serving_command(command, results), facts), **facts, **statuses}


def answer(checklist: Checklist, values: Mapping[str, Any]) -> list[tuple[Section, list[Answered]]]:
    """The items of a checklist with their replies, section by section."""
    sections = {section.id: section for section in load_checklists().sections}
    chosen = [sections[name] for name in checklist.sections]
    return [(section, [reply_to(item, values) for item in section.items]) for section in chosen]


def reply_to(item: Item, values: Mapping[str, Any]) -> Answered:
    """Decide one item, or leave it to a person."""
    holds = evaluate(item.holds, values) if item.holds else None
    reply: Reply = "moot" if item.moot else "ask" if holds is None else "yes" if holds else "no"
    return Answered(item, reply, _readings((*_names(item.holds), *item.reads), values))


def walk(values: Mapping[str, Any]) -> tuple[list[Turn], Node | None]:
    """Follow the tree as far as what was read decides; gives the turns taken, and the end or None where one is open."""
    node, turns = load_checklists().tree.root, []
    while node.ask:
        holds = evaluate(node.when, values)
        turns.append(Turn(node, None if holds is None else bool(holds), _readings(_names(node.when), values)))
        following = node.if_yes if holds else node.if_no
        if holds is None or following is None:
            return turns, None
        node = following
    return turns, node


def to_json(checklist: Checklist, values: Mapping[str, Any]) -> dict[str, Any]:
    """A checklist answered, as `checkup --checklist NAME --json` prints it."""
    sections = [
        {
            "id": section.id,
            "title": section.en,
            "title_zh": section.zh,
            "items": [_item_json(answered) for answered in items],
        }
        for section, items in answer(checklist, values)
    ]
    found: dict[str, Any] = {"checklist": checklist.id, "sections": sections}
    if checklist.tree:
        turns, end = walk(values)
        steps = [
            {**asdict(turn.node.ask), "yes": turn.yes, "readings": turn.readings} for turn in turns if turn.node.ask
        ]
        found["way"] = {"steps": steps, "end": asdict(end.go) if end and end.go else None}
        found["way"]["documents"] = list(end.documents) if end else []
    return found


def _item_json(answered: Answered) -> dict[str, Any]:
    item = answered.item
    hint = item.moot or item.how
    return {
        "id": item.id,
        "en": item.en,
        "zh": item.zh,
        "reply": answered.reply,
        "readings": answered.readings,
        "how": hint.en if hint else "",
        "how_zh": hint.zh if hint else "",
        "document": item.document,
    }


def _names(expression: str) -> tuple[str, ...]:
    return tuple(sorted(names_in(expression))) if expression else ()


def _readings(names: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in dict.fromkeys(names) if name in values}
