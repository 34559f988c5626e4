"""The recorded history of one engine's flags and environment variables, as kb/data/flags/<engine>.json holds it.

In the file a range is `first..last` with both ends, and `first..` where it still lasts; a change is `[release, value]`, and
for choices `[release, added, removed]` or `[release, null]` where any value is taken from then on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

Engine = Literal["vllm", "sglang"]
ENGINES: tuple[Engine, ...] = ("vllm", "sglang")
DATA = Path(__file__).parent.parent / "data" / "flags"


# Histories that count in place of the shipped ones, by engine; kb/catalog/installed.py sets them.
INSTALLED: ContextVar[Mapping[str, History]] = ContextVar("INSTALLED")


@dataclass(frozen=True, slots=True)
class Entry:
    """One name over the releases, which are given by their index. `alias` is the flag that it stands for, or empty."""

    name: str
    present: tuple[tuple[int, int], ...]
    deprecated: tuple[tuple[int, int], ...] = ()
    alias: str = ""
    values: tuple[tuple[int, str], ...] = ()
    """How many values follow, from which release on."""
    defaults: tuple[tuple[int, str | None], ...] = ()
    choices: tuple[tuple[int, frozenset[str] | None], ...] = ()

    def is_in(self, at: int) -> bool:
        """Whether the release has the name."""
        return any(first <= at <= last for first, last in self.present)

    def is_deprecated(self, at: int) -> bool:
        """Whether the release calls it deprecated."""
        return any(first <= at <= last for first, last in self.deprecated)

    def span(self, at: int) -> tuple[int, int]:
        """First and last release of the range that holds `at`, else of the last range before it, else of the first."""
        past = [each for each in self.present if each[0] <= at]
        return past[-1] if past else self.present[0]

    def takes(self, at: int) -> str:
        """How many values follow: `0`, `1`, `?` (none or one), `+` (one or more). Some releases were not looked at for it."""
        return next(
            (count for start, count in reversed(self.values) if start <= at), self.values[0][1] if self.values else "1"
        )

    def default(self, at: int) -> str | None:
        """The parser's default there, as text; None for none. `expr:…` is one that only the running program knows."""
        return next((value for start, value in reversed(self.defaults) if start <= at), None)

    def accepted(self, at: int) -> frozenset[str] | None:
        """The values that the release accepts; None when any is accepted or the list is not known."""
        return next((value for start, value in reversed(self.choices) if start <= at), None)


@dataclass(slots=True)
class History:
    """All names of one engine."""

    engine: str
    releases: tuple[str, ...]
    flags: Mapping[str, Mapping[str, Any]]
    variables: Mapping[str, str]
    _entries: dict[str, Entry | None] = field(default_factory=dict)
    _names: dict[int, frozenset[str]] = field(default_factory=dict)

    def entry(self, name: str) -> Entry | None:
        """The history of a flag or variable by its exact name; None when no recorded release has it."""
        if name not in self._entries:
            self._entries[name] = self._read(name)
        return self._entries[name]

    def _read(self, name: str) -> Entry | None:
        if name in self.variables:
            return Entry(name, self.ranges(self.variables[name]))
        raw = self.flags.get(name)
        if raw is None:
            return None
        return Entry(
            name=name,
            present=self.ranges(raw["in"]),
            deprecated=self.ranges(raw.get("deprecated", "")),
            alias=raw.get("alias", ""),
            values=self._values(raw.get("takes", "")),
            defaults=tuple((self.index(release), value) for release, value in raw.get("default", ())),
            choices=self._choices(raw.get("choices", ())),
        )

    def _values(self, takes: str | list[list[str]]) -> tuple[tuple[int, str], ...]:
        if isinstance(takes, str):
            return ((0, takes),) if takes else ()
        return tuple((self.index(release), count) for release, count in takes)

    def _choices(self, changes: list[list[Any]]) -> tuple[tuple[int, frozenset[str] | None], ...]:
        found: list[tuple[int, frozenset[str] | None]] = []
        values: frozenset[str] = frozenset()
        for release, added, *removed in changes:
            values = frozenset() if added is None else values.union(added).difference(*removed)
            found.append((self.index(release), None if added is None else values))
        return tuple(found)

    def index(self, release: str) -> int:
        """The place of a recorded release; raises ValueError for any other."""
        return _positions(self.releases)[release]

    def ranges(self, text: str) -> tuple[tuple[int, int], ...]:
        """`a..b c..` as pairs of indexes."""
        spans = (span.partition("..") for span in text.split())
        newest = len(self.releases) - 1
        return tuple((self.index(first), self.index(last) if last else newest) for first, _, last in spans)

    def has(self, name: str, at: int) -> bool:
        """Whether the release has that flag or variable, by its exact name."""
        entry = self.entry(name)
        return entry is not None and entry.is_in(at)

    def names(self, at: int) -> frozenset[str]:
        """Every flag that the release has, aliases included."""
        if at not in self._names:
            spans = ((name, self.ranges(raw["in"])) for name, raw in self.flags.items())
            self._names[at] = frozenset(
                n for n, present in spans if any(first <= at <= last for first, last in present)
            )
        return self._names[at]


@cache
def _positions(releases: tuple[str, ...]) -> dict[str, int]:
    return {release: at for at, release in enumerate(releases)}


def load(engine: str) -> History:
    """The history of `vllm` or `sglang`: the shipped one, or that with an installed release where `with_installed` set one.

    Raises ValueError for any other engine.
    """
    return INSTALLED.get({}).get(engine) or shipped(engine)


@cache
def shipped(engine: str) -> History:
    """The shipped history, read once in a process; see `load`."""
    if engine not in ENGINES:
        raise ValueError(f"no flag catalogue for {engine!r}: it has {' and '.join(ENGINES)}")
    return parse((DATA / f"{engine}.json").read_text("utf-8"))


def parse(text: str) -> History:
    """A history from the text of its file."""
    raw = json.loads(text)
    return History(raw["engine"], tuple(raw["releases"]), raw["flags"], raw["env"])
