"""A document's fixes for this machine: computed values put in, commands of other releases left out, flags checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assistant.patching import apply_fix
from assistant.types import ComputedValue, Fix
from assistant.wording import say
from kb.expressions import arithmetic, evaluate, shown
from kb.parsers import with_own_parsers
from kb.types import ENGINE_NAMES, Command, Document, Language, Remedy

NOTHING_GIVEN: Mapping[str, ComputedValue] = {}
PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*(?:\|([^}]*))?\}\}")


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine that serves, as far as it is known: name and release may be empty."""

    name: str = ""
    release: str = ""


def applies(command: Command, engine: Engine) -> bool | None:
    """Whether a command holds for the engine's release: True, False, or None where the release is not known."""
    if not command.releases:
        return not is_of_other_engine(command.text, engine)
    name, specifier = split_releases(command.releases)
    if engine.name and name != engine.name:
        return False
    if not engine.release:
        return None
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(specifier).contains(engine.release, prereleases=True)


def is_of_other_engine(text: str, engine: Engine) -> bool:
    """Whether a command starts or installs another engine than the one that serves."""
    from kb.flags import engine_of

    other = {"vllm": "sglang", "sglang": "vllm"}.get(engine.name)
    return other is not None and (engine_of(text) == other or bool(re.search(rf"\binstall\b.*\b{other}\b", text)))


def split_releases(releases: str) -> tuple[str, str]:
    """`vllm>=0.8.2,<0.22` as `vllm` and `>=0.8.2,<0.22`."""
    found = re.match(r"([a-z_-]+)(.*)", releases)
    return (found[1], found[2].strip()) if found else ("", releases)


def computed_values(document: Document, values: Mapping[str, Any]) -> dict[str, ComputedValue]:
    """The document's formulas whose values are all known."""
    known = dict(values)
    found = {}
    for item in document.computed:
        value = evaluate(item.formula, known)
        if value is not None:
            found[item.name] = ComputedValue(item.name, value, item.unit, arithmetic(item.formula, known, value))
            known[item.name] = value
    return found


def fill(text: str, values: Mapping[str, Any], model: str) -> tuple[str, set[str]]:
    """The command with its values put in, and the names of those that were known."""
    used: set[str] = set()

    def put(match: re.Match[str]) -> str:
        if match[1] in values:
            used.add(match[1])
            return shown(values[match[1]])
        return (match[2] or "").strip()

    filled = PLACEHOLDER.sub(put, text)
    return (re.sub(r"\bMODEL\b", model, filled) if model else filled), used


def adapt(
    document: Document,
    remedy: Remedy,
    engine: Engine,
    facts: Mapping[str, Any],
    model: str,
    lang: Language,
    cites: tuple[str, ...],
    user_command: str = "",
    words: Remedy | None = None,
    given: Mapping[str, ComputedValue] = NOTHING_GIVEN,
) -> Fix | None:
    """The fix for this machine; None where its condition is known to be false, or no command holds for the release.

    `words` is the same fix in English, by which the user's command is changed alike in every language. `given` are values
    worked out for this model and these GPUs; what the document reads from the log's own message goes before them.
    """
    if remedy.when and evaluate(remedy.when, facts) is False:
        return None
    computed = {**given, **computed_values(document, facts)}
    values = {**facts, **{name: c.value for name, c in computed.items()}}
    commands, flags, used = [], [], set[str]()
    patched: str | None = None
    fitting = [(c, applies(c, engine)) for c in remedy.commands]
    for command, holds in fitting:
        if holds is False:
            continue
        text, names = fill(command.text, values, model)
        text = in_form_of(text, engine)
        text, own = with_own_parsers(text, model, engine.name, engine.release) if model else (text, True)
        checked = checked_names(text, engine)
        if checked is None:
            continue
        used |= names
        flags += checked
        label = release_label(command.releases, lang) if holds is None else ""
        commands.append(f"# {label}\n{text}" if label else text)
        if patched is None and user_command and remedy.risk == "restart" and own:
            new = apply_fix(
                user_command, text, engine.name, engine.release, (words or remedy).title, (words or remedy).text
            )
            patched = f"# {label}\n{new}" if new and label else new
    if remedy.commands and not commands:
        return None
    check = document.sections.get("check", "")
    return Fix(
        title=fill(remedy.title, values, model)[0],
        text=fill(remedy.text, values, model)[0],
        commands=tuple(commands),
        patched_command=patched,
        computed=tuple(computed[name] for name in computed if name in used),
        risk=remedy.risk,
        when=remedy.when,
        cites=cites,
        flags=tuple(dict.fromkeys(flags)),
        checks=(check,) if check else (),
    )


def release_label(releases: str, lang: Language) -> str:
    """`vllm>=0.8.2,<0.22.0` for people: `vLLM >= 0.8.2, < 0.22.0`."""
    name, specifier = split_releases(releases)
    shown_name = ENGINE_NAMES.get(name, name)
    spaced = re.sub(r"([<>=!~]+)", r"\1 ", specifier).replace(",", ", ")
    return f"{shown_name} {spaced}".strip()


def in_form_of(text: str, engine: Engine) -> str:
    """The command in the form that starts a server in that release: `vllm serve` is `python -m …` before 0.5.2."""
    if not engine.release:
        return text
    from kb.flags import check_command, patched_command

    statuses = check_command(text, engine.name, engine.release)
    return patched_command(text, engine.name, engine.release) if any(s.kind == "command" for s in statuses) else text


def checked_names(text: str, engine: Engine) -> list[str] | None:
    """The flags and variables of a command, checked against the release; None where one of them does not work there."""
    from kb.flags import check_command

    found: list[str] = []
    for status in check_command(text, engine.name, engine.release):
        if status.status in ("never", "removed", "renamed", "not-yet", "refused"):
            return None
        found.append(status.name)
    return found


def fixes_for(
    document: Document,
    engine: Engine,
    facts: Mapping[str, Any],
    model: str,
    lang: Language,
    cite: dict[int, str],
    user_command: str = "",
    words: Sequence[Remedy] = (),
    given: Mapping[str, ComputedValue] = NOTHING_GIVEN,
) -> tuple[Fix, ...]:
    """Every fix of a document that holds here, in the document's order; `cite` maps a fix's place to its evidence id.

    `words` are the same fixes in English, see `adapt`.
    """
    adapted = (
        adapt(
            document,
            remedy,
            engine,
            facts,
            model,
            lang,
            (cite[i],) if i in cite else (),
            user_command,
            words[i] if i < len(words) else None,
            given,
        )
        for i, remedy in enumerate(document.fixes)
    )
    return tuple(replace(fix, place=place) for place, fix in enumerate(adapted) if fix is not None)


def release_sentence(engine: Engine, lang: Language) -> str:
    """Which release the commands were checked against, or that it is not known."""
    if engine.release:
        return say(
            "release_known",
            lang,
            engine=ENGINE_NAMES.get(engine.name, engine.name),
            release=engine.release,
        )
    return say("release_unknown", lang)
