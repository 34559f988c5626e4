"""Add what one release has to the recorded history, and write that history so that a diff of it reads."""

from __future__ import annotations

import json
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kb.catalog.history import Entry, History, parse
from kb.catalog.options import Option
from kb.catalog.releases import release_key

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one release has: the options of its server's parser, and its environment variables."""

    engine: str
    release: str
    options: Sequence[Option]
    variables: frozenset[str]

    @property
    def names(self) -> frozenset[str]:
        """Every spelling that the parser accepts."""
        return frozenset(name for option in self.options for name in (*option.names, *option.negations))


@dataclass(slots=True)
class Table:
    """One name release by release, the form in which a release can be added: release → value."""

    alias: str = ""
    present: set[str] = field(default_factory=set)
    deprecated: set[str] = field(default_factory=set)
    takes: Values = field(default_factory=dict)
    default: Values = field(default_factory=dict)
    choices: Values = field(default_factory=dict)


def unfold(history: History, entry: Entry) -> Table:
    """An entry with its ranges and changes written out."""
    table = Table(entry.alias)
    for at, release in enumerate(history.releases):
        if entry.is_in(at):
            table.present.add(release)
            if any(start <= at for start, _ in entry.values):
                table.takes[release] = entry.takes(at)
            if any(start <= at for start, _ in entry.defaults):
                table.default[release] = entry.default(at)
            if any(start <= at for start, _ in entry.choices):
                table.choices[release] = entry.accepted(at)
        if entry.is_deprecated(at):
            table.deprecated.add(release)
    return table


def merge(history: History, snapshot: Snapshot) -> History:
    """The history with one more release, or with a recorded one read anew."""
    release = snapshot.release
    releases = [each for each in history.releases if each != release]
    releases.insert(bisect([release_key(each) for each in releases], release_key(release)), release)
    tables = {name: unfold(history, entry) for name in history.flags if (entry := history.entry(name))}
    variables = {name: unfold(history, entry) for name in history.variables if (entry := history.entry(name))}
    for table in [*tables.values(), *variables.values()]:
        forget(table, release)
    for option in snapshot.options:
        add_option(tables, option, release)
    for name in snapshot.variables:
        variables.setdefault(name, Table()).present.add(release)
    return parse(written(history.engine, releases, tables, variables))


def forget(table: Table, release: str) -> None:
    table.present.discard(release)
    table.deprecated.discard(release)
    for values in (table.takes, table.default, table.choices):
        values.pop(release, None)


def add_option(tables: dict[str, Table], option: Option, release: str) -> None:
    """Record every spelling of an option; the canonical one holds default, choices and number of values."""
    main = canonical(tables, option)
    for name in (*option.names, *option.negations):
        table = tables.setdefault(name, Table(alias="" if name == main else main))
        table.present.add(release)
        table.takes[release] = "0" if name in option.negations else option.takes
        if option.deprecated:
            table.deprecated.add(release)
    tables[main].default[release] = option.default
    # A list that was recorded once is followed; an option that never had one gets no empty entry.
    if option.choices is not None or tables[main].choices:
        tables[main].choices[release] = None if option.choices is None else frozenset(option.choices)


def canonical(tables: Mapping[str, Table], option: Option) -> str:
    """The spelling under which an option is recorded: the known one, else its first long name."""
    known = [name for name in option.names if name in tables and not tables[name].alias]
    longs = [name for name in option.names if name.startswith("--")]
    return (known or longs or list(option.names))[0]


def written(engine: str, releases: Sequence[str], tables: Mapping[str, Table], variables: Mapping[str, Table]) -> str:
    """The text of the file: a name a line, sorted."""
    flags = {name: fold(releases, table) for name, table in sorted(tables.items()) if table.present}
    environment = {name: ranges(releases, table.present) for name, table in sorted(variables.items()) if table.present}
    head = [f'"engine":{_text(engine)}', f'"releases":{_text(list(releases))}']
    return "{" + ",\n".join([*head, f'"flags":{_lines(flags)}', f'"env":{_lines(environment)}']) + "}\n"


def _lines(mapping: Mapping[str, Any]) -> str:
    return "{\n" + ",\n".join(f"{_text(name)}:{_text(value)}" for name, value in mapping.items()) + "}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def fold(releases: Sequence[str], table: Table) -> dict[str, Any]:
    """A table as ranges and changes."""
    found: dict[str, Any] = {"in": ranges(releases, table.present)}
    if table.alias:
        found["alias"] = table.alias
    if table.deprecated:
        found["deprecated"] = ranges(releases, table.deprecated)
    counts = changes(releases, table.takes)
    if len(counts) > 1:
        found["takes"] = [list(each) for each in counts]
    elif counts and counts[0][1] != "1":
        found["takes"] = counts[0][1]
    if table.default and not table.alias:
        found["default"] = [list(each) for each in changes(releases, table.default)]
    if any(value is not None for value in table.choices.values()):
        found["choices"] = list(differences(changes(releases, table.choices)))
    return found


def ranges(releases: Sequence[str], present: Iterable[str]) -> str:
    """`0.4.1..0.8.2 0.33.0..`: runs of consecutive recorded releases; the open end is the newest."""
    found: list[list[str]] = []
    held = set(present)
    for before, release in zip(["", *releases], releases, strict=False):
        if release in held and before in held:
            found[-1][1] = release
        elif release in held:
            found.append([release, release])
    return " ".join(f"{first}..{'' if last == releases[-1] else last}" for first, last in found)


def changes(releases: Sequence[str], values: Values) -> list[tuple[str, Any]]:
    """The releases at which a value differs from the one before."""
    held = [(release, values[release]) for release in releases if release in values]
    return [each for at, each in enumerate(held) if at == 0 or each[1] != held[at - 1][1]]


def differences(lists: Iterable[tuple[str, frozenset[str] | None]]) -> Iterable[list[Any]]:
    """Changing lists as what was added and what was removed."""
    before: frozenset[str] = frozenset()
    for release, values in lists:
        if values is None:
            yield [release, None]
        else:
            gone = sorted(before - values)
            yield [release, sorted(values - before), *([gone] if gone else [])]
        before = values or frozenset()
