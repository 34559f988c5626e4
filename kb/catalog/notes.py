"""What people wrote down about flags beyond their presence: replacements, no-ops, refusals, effective defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from kb.catalog.history import DATA
from kb.catalog.releases import inside, release_key


@dataclass(frozen=True, slots=True)
class Note:
    """One line of kb/data/flags/notes.json, about one name; that file says what the fields mean."""

    name: str
    releases: str = ""
    status: str = ""
    value: str = ""
    partners: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    becomes: str = ""
    into: tuple[str, str] | None = None
    instead: dict[str, tuple[str, str]] = field(default_factory=dict)
    replacement: str = ""
    since: str = ""
    fatal: bool = False
    text: str = ""
    source: str = ""

    def holds(self, release: str, value: str | None, others: Collection[str] | None) -> bool:
        """Whether it speaks about this use; `others` are the names beside it, None when they are not known."""
        if not inside(release, self.releases):
            return False
        if self.value and (value is None or not re.search(self.value, value)):
            return False
        if self.partners and not set(self.partners) & set(others or ()):
            return False
        return not self.absent or (others is not None and not set(self.absent) & set(others))

    def form(self, value: str | None) -> str:
        """`becomes` with the named groups that `value` finds; `{value}` is left to who writes it."""
        found = re.search(self.value, value or "") if self.value else None
        text = self.becomes
        for name, part in (found.groupdict() if found else {}).items():
            text = text.replace(f"{{{name}}}", part)
        return text

    @property
    def shown(self) -> str:
        """The replacement as people read it."""
        if self.replacement:
            return self.replacement
        if self.into:
            flag, key = self.into
            return f"{flag} '{{\"{key}\": …}}'"
        return self.becomes.replace(" {value}", "").replace("{value}", "…")


@cache
def _raw() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / "notes.json").read_text("utf-8"))
    return found


@cache
def _lines(engine: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for line in _raw()[engine]:
        for name in line["name"] if isinstance(line["name"], list) else [line["name"]]:
            found.setdefault(name, []).append(line)
    return found


@cache
def notes_on(engine: str, name: str) -> tuple[Note, ...]:
    """The notes on one name, in the order of the file."""
    return tuple(read_note(name, line) for line in _lines(engine).get(name, ()))


def read_note(name: str, line: dict[str, Any]) -> Note:
    """A note from its line."""
    into = line.get("into")
    return Note(
        name=name,
        releases=line.get("in", ""),
        status=line.get("status", ""),
        value=line.get("value", ""),
        partners=tuple(line.get("with", ())),
        absent=tuple(line.get("without", ())),
        becomes=line.get("becomes", ""),
        into=(into[0], into[1]) if into else None,
        instead={old: (new[0], new[1]) for old, new in line.get("instead", {}).items()},
        replacement=line.get("replacement", ""),
        since=line.get("since", ""),
        fatal=line.get("fatal", False),
        text=line.get("note", ""),
        source=line.get("source", ""),
    )


def all_notes(engine: str) -> tuple[Note, ...]:
    """Every note about an engine."""
    return tuple(note for name in _lines(engine) for note in notes_on(engine, name))


def note_for(
    engine: str, release: str, name: str, value: str | None = None, others: Collection[str] | None = None
) -> Note | None:
    """The first note that speaks about this use of a name."""
    return next((note for note in notes_on(engine, name) if note.holds(release, value, others)), None)


def takes_any_case(engine: str, name: str) -> bool:
    """Whether a flag's values may be written in capitals or small letters, and with `-` for `_`."""
    return name in _raw()["any-case"][engine]


def takes_class(engine: str, release: str, name: str) -> bool:
    """Whether a flag takes, beside its listed values, the dotted name of a class."""
    releases = _raw()["class"][engine].get(name)
    return releases is not None and inside(release, releases)


@dataclass(frozen=True, slots=True)
class Default:
    """A default as it takes effect. `parser` is what the parser says, None for nothing."""

    name: str
    value: str | None
    parser: str | None = None
    note: str = ""
    source: str = ""


def effective_default(engine: str, release: str, name: str) -> Default | None:
    """The default that takes effect where the parser leaves it open; None where nobody wrote it down."""
    for line in _raw()["defaults"][engine]:
        past = [value for first, value in line["changes"] if release_key(first) <= release_key(release)]
        if line["name"] == name and past:
            return Default(name, past[-1], note=line.get("note", ""), source=line["source"])
    return None


def default_names(engine: str) -> tuple[str, ...]:
    """The flags whose effective defaults are written down."""
    return tuple(line["name"] for line in _raw()["defaults"][engine])
