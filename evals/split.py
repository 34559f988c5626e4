"""Which fault family a case belongs to, and which part of the set that puts it in: development, or the frozen test part.

Two cases of one family never stand in different parts, so that the wording of one cannot help with the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from evals.cases import Case

Part = Literal["dev", "test"]
FAMILIES = Path(__file__).parent / "families.yaml"
TAG = "family:"
ONE_IN = 3
"""One family in three is in the test part."""


@dataclass(frozen=True, slots=True)
class Families:
    """The family of each document, and of each shipped case that names no document."""

    documents: Mapping[str, str]
    cases: Mapping[str, str]


@cache
def load_families(path: Path = FAMILIES) -> Families:
    """The committed table."""
    import yaml

    table: dict[str, dict[str, list[str]]] = yaml.safe_load(path.read_text("utf-8"))
    documents, cases = (
        {name: family for family, names in table[part].items() for name in names} for part in ("documents", "cases")
    )
    return Families(documents, cases)


def family_of_document(document: str) -> str:
    """The family that holds a document; one that the table does not know is a family of its own."""
    return load_families().documents.get(document, document)


def family_of(case: Case) -> str:
    """The family by the tag `family:NAME`, the expected document, or the table; empty where none of them tells."""
    tagged = [tag.removeprefix(TAG) for tag in case.tags if tag.startswith(TAG)]
    named = [family_of_document(name) for name in (case.expect.cause, *case.expect.cites) if name]
    return next(iter([*tagged, *named]), load_families().cases.get(case.id, ""))


def part_of(case: Case) -> Part:
    """The part of a fault's or how-to's family; of a case without one (no fault in it, or not labelled) that of its id."""
    family = family_of(case) if case.kind in ("diagnose", "howto") else ""
    return part_of_name(family or case.id)


def part_of_name(name: str) -> Part:
    """The part that a name falls into: the first eight hex digits of its SHA-256, modulo three; 0 is the test part."""
    return "dev" if int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % ONE_IN else "test"


def in_part(cases: Iterable[Case], part: Literal["dev", "test", "all"]) -> list[Case]:
    """The cases of a part."""
    return [case for case in cases if part in ("all", part_of(case))]
