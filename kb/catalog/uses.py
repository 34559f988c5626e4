"""What a serving command uses: every variable, flag and value, judged for a release."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kb.catalog.command import Call, Option
from kb.catalog.history import History, load
from kb.catalog.notes import Default, effective_default
from kb.catalog.releases import is_release, place
from kb.catalog.status import FORMS, OWN, Use, resolve


def uses_of(call: Call, release: str) -> Iterator[Use]:
    """Every name that a serving command uses, with its values and the names beside it."""
    history = load(call.engine)
    at = nearest(history, release)
    others = frozenset(resolve(history, at, option.name)[0] for option in call.options)
    if call.form in FORMS[call.engine]:
        yield Use(call.form)
    for variable in call.variables:
        if variable.name.startswith(OWN[call.engine]):
            yield Use(variable.name, (variable.value,), others)
    for option in call.options:
        yield Use(option.name, option_values(history, at, option), others)


def nearest(history: History, release: str) -> int:
    """The index of the recorded release that stands for a release: itself, the one before, the newest when not known."""
    if not is_release(release):
        return len(history.releases) - 1
    spot = place(history.releases, release)
    return spot.before if spot.before is not None else 0


def option_values(history: History, at: int, option: Option) -> tuple[str, ...]:
    """The values that a release reads for an option: what follows `=`, else as many of the words after it as it takes."""
    if option.inline is not None:
        return (option.inline,)
    entry = history.entry(resolve(history, at, option.name)[0])
    takes = entry.takes(at) if entry else "1"
    words = [word.text for word in option.trail]
    if takes == "0" or (takes == "?" and not re.fullmatch(r"(?i)true|false|[01]|hf_\w+", words[0] if words else "")):
        return ()
    return tuple(words if takes == "+" else words[:1])


def default_of(engine: str, release: str, name: str) -> Default | None:
    """The default of a flag in a release, as it takes effect where that is written down; None where there is no such flag."""
    history = load(engine)
    at = nearest(history, release)
    resolved = resolve(history, at, name)[0]
    entry = history.entry(resolved)
    main = history.entry(entry.alias) if entry and entry.alias else entry
    if main is None or not main.is_in(at):
        return None
    found = effective_default(engine, release, main.name) if is_release(release) else None
    parser = main.default(at)
    return (
        Default(main.name, found.value, parser, found.note, found.source)
        if found
        else Default(main.name, parser, parser)
    )
