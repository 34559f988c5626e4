"""A release as it is installed on a machine, put beside the recorded ones: a nightly build, or a release that was changed.

What is kept of it is small: the recorded release that it is nearest to, and the names that it has more or fewer.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from kb.catalog.history import ENGINES, INSTALLED, History, load
from kb.catalog.merge import Snapshot, Table, add_option, fold, forget, ranges, unfold
from kb.catalog.options import Option
from kb.catalog.releases import is_release, place, release_key


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installed release has more and fewer than the recorded release `base`. `choices` holds changed lists of values."""

    engine: str
    release: str
    base: str
    added: tuple[Option, ...] = ()
    removed: tuple[str, ...] = ()
    choices: Mapping[str, tuple[str, ...]] | None = None
    variables: tuple[str, ...] = ()
    """Environment variables that the base does not have."""

    @property
    def is_recorded(self) -> bool:
        """Whether the catalogue holds this very release."""
        return self.release == self.base

    @property
    def differs(self) -> bool:
        """Whether it has anything that its base has not, or the other way round."""
        return bool(self.added or self.removed or self.choices or self.variables)


def compared(snapshot: Snapshot) -> Installed:
    """What was read of an installed release, compared with the recorded one that is nearest."""
    history = load(snapshot.engine)
    base = base_of(history, snapshot.release)
    at = history.index(base)
    known, found = history.names(at), snapshot.names
    added = [option for option in snapshot.options if any(n not in known for n in (*option.names, *option.negations))]
    return Installed(
        snapshot.engine,
        snapshot.release,
        base,
        tuple(added),
        tuple(sorted(known - found)),
        dict(changed_choices(history, at, snapshot.options)) or None,
        tuple(sorted(name for name in snapshot.variables if not history.has(name, at))),
    )


def changed_choices(history: History, at: int, options: Iterable[Option]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The flags whose lists of accepted values differ from the record; `None` in a list stands for no value and is not one."""
    for option in options:
        entry = history.entry(option.names[0])
        main = history.entry(entry.alias) if entry and entry.alias else entry
        accepted = main.accepted(at) if main and main.is_in(at) else None
        if main is None or accepted is None or option.choices is None:
            continue
        if accepted - {"None"} != frozenset(option.choices) - {"None"}:
            yield main.name, option.choices


def base_of(history: History, release: str) -> str:
    """The recorded release to compare with: itself, else the one before, else the newest (a build without its tags is 0.1.dev1)."""
    if not is_release(release):
        return history.releases[-1]
    if release in history.releases:
        return release
    spot = place(history.releases, release)
    return history.releases[spot.before if spot.before is not None else -1]


def extended(history: History, installed: Installed) -> History:
    """The history with the installed release in its place, or in place of the recorded one of its name."""
    release = installed.release
    releases = list(history.releases)
    if release not in releases:
        releases.insert(bisect([release_key(each) for each in releases], release_key(release)), release)
    grown = History(history.engine, tuple(releases), dict(history.flags), dict(history.variables))
    at = grown.index(release)
    added = {name for option in installed.added for name in (*option.names, *option.negations)}
    wanted = (history.names(history.index(installed.base)) - {*installed.removed}) | added
    touched = (grown.names(at) ^ wanted) | added | (installed.choices or {}).keys()
    tables = {name: unfold(grown, entry) for name in touched if (entry := grown.entry(name))}
    for name, table in tables.items():
        forget(table, release) if name not in wanted else table.present.add(release)
    for option in installed.added:
        add_option(tables, option, release)
    for name, values in (installed.choices or {}).items():
        if name in tables:
            tables[name].choices[release] = frozenset(values)
    flags = {**grown.flags, **{name: fold(releases, table) for name, table in tables.items() if table.present}}
    return History(history.engine, tuple(releases), flags, _variables(grown, history, installed))


def _variables(grown: History, history: History, installed: Installed) -> dict[str, str]:
    """The variables' ranges: those of the base and the added ones hold for the installed release."""
    at, base = grown.index(installed.release), history.index(installed.base)
    found = dict(grown.variables)
    for name in {*grown.variables, *installed.variables}:
        wanted = history.has(name, base) or name in installed.variables
        if wanted != grown.has(name, at):
            entry = grown.entry(name)
            table = unfold(grown, entry) if entry else Table()
            table.present = table.present | {installed.release} if wanted else table.present - {installed.release}
            found[name] = ranges(grown.releases, table.present)
    return {name: text for name, text in found.items() if text}


@contextmanager
def with_installed(readings: Iterable[Installed | Mapping[str, Any]]) -> Iterator[None]:
    """Within it, questions about an engine's flags know these installed releases too; a later one of an engine counts.

    Takes readings or their JSON. What is no reading or says nothing new is passed over, and so is a build without a number of
    its own (0.1.dev1, of a clone without tags): rules that hold from a release on could not be applied to it.
    """
    found = [reading if isinstance(reading, Installed) else from_json(reading) for reading in readings]
    histories = {r.engine: extended(load(r.engine), r) for r in found if r and is_news(r)}
    token = INSTALLED.set({**INSTALLED.get({}), **histories})
    try:
        yield
    finally:
        INSTALLED.reset(token)


def is_news(installed: Installed) -> bool:
    """Whether the catalogue does not know this already, and the release's number says where it belongs."""
    first = load(installed.engine).releases[0]
    return (installed.differs or not installed.is_recorded) and release_key(installed.release) >= release_key(first)


def to_json(installed: Installed) -> dict[str, Any]:
    """A reading as JSON values; `from_json` reads it again."""
    options = [
        {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(option).items()}
        for option in installed.added
    ]
    return {
        "engine": installed.engine,
        "release": installed.release,
        "base": installed.base,
        "added": options,
        "removed": list(installed.removed),
        "choices": {name: list(values) for name, values in (installed.choices or {}).items()},
        "variables": list(installed.variables),
    }


def from_json(reading: Mapping[str, Any]) -> Installed | None:
    """A reading from JSON values; None for anything else, such as a recording that was written by hand."""
    try:
        installed = Installed(
            str(reading["engine"]),
            str(reading["release"]),
            str(reading["base"]),
            tuple(_option(each) for each in reading["added"]),
            tuple(map(str, reading["removed"])),
            {str(name): tuple(map(str, values)) for name, values in reading["choices"].items()} or None,
            tuple(map(str, reading["variables"])),
        )
    except (KeyError, TypeError, AttributeError):
        return None
    known = installed.engine in ENGINES and installed.base in load(installed.engine).releases
    return installed if known and is_release(installed.release) else None


def _option(raw: Mapping[str, Any]) -> Option:
    choices = raw.get("choices")
    return Option(
        tuple(map(str, raw["names"])),
        tuple(map(str, raw.get("negations", ()))),
        raw.get("default"),
        None if choices is None else tuple(map(str, choices)),
        str(raw.get("takes", "1")),
        bool(raw.get("deprecated", False)),
    )
