"""What an upgrade does to a command line: which of its names change, and which defaults move under it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kb.catalog.history import load
from kb.catalog.notes import default_names
from kb.catalog.patch import patched
from kb.catalog.status import FlagStatus, resolve, status_of
from kb.catalog.uses import default_of, nearest, uses_of
from kb.catalog.written import calls_of


@dataclass(frozen=True, slots=True)
class DefaultChange:
    """A default that differs between two releases; the texts are those of `default_of`, None for no default."""

    name: str
    old: str | None
    new: str | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A command line under two releases of an engine."""

    engine: str
    old: str
    new: str
    items: tuple[tuple[FlagStatus, FlagStatus], ...]
    """Names whose status or replacement differs: the old verdict and the new one."""
    defaults: tuple[DefaultChange, ...]
    """Defaults that change for flags which the command does not set."""
    patched_command: str


def compare(command: str, engine: str, old: str, new: str) -> Comparison:
    """Compare a text's serving commands of one engine (empty: that of the first command) under two releases.

    Raises ValueError where no engine is given and none can be told from the command.
    """
    calls = [call for call in calls_of(command) if call.serving and engine in ("", call.engine)]
    engine = engine or (calls[0].engine if calls else "")
    if not engine:
        raise ValueError("no command of vLLM or SGLang that starts a server: say which engine is meant")
    items: dict[str, tuple[FlagStatus, FlagStatus]] = {}
    for call in calls:
        for use, other in zip(uses_of(call, old), uses_of(call, new), strict=True):
            before, after = status_of(engine, old, use), status_of(engine, new, other)
            if (before.status, before.replacement) != (after.status, after.replacement):
                items.setdefault(after.name, (before, after))
    history, at = load(engine), nearest(load(engine), new)
    given = {resolve(history, at, option.name)[0] for call in calls for option in call.options}
    changes = tuple(each for each in changed_defaults(engine, old, new) if each.name not in given)
    return Comparison(engine, old, new, tuple(items.values()), changes, patched(command, engine, new))


def changed_defaults(engine: str, old: str, new: str) -> Iterator[DefaultChange]:
    """Defaults that are known in both releases and differ; effective ones where they are written down."""
    written = set(default_names(engine))
    for name, raw in sorted(load(engine).flags.items()):
        if "default" not in raw:
            continue
        before, after = default_of(engine, old, name), default_of(engine, new, name)
        if before is None or after is None or before.value == after.value:
            continue
        # A parser's silence is no default: only the written ones tell what happens then.
        if name in written or not (is_silent(before.value) or is_silent(after.value)):
            yield DefaultChange(name, before.value, after.value, after.note)


def is_silent(value: str | None) -> bool:
    return value is None or value == "" or value.startswith("expr:")
