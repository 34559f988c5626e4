"""A command line made right for a release: renamed flags in the new form, dead ones left out, every other byte as it was."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kb.catalog.command import Call, Option, Variable, calls_in
from kb.catalog.forms import Edit, Unchangeable, applied
from kb.catalog.history import History, load
from kb.catalog.notes import Note, note_for
from kb.catalog.releases import is_release
from kb.catalog.shellwords import Word, escaped, quotes_around
from kb.catalog.status import DEAD, OWN, FlagStatus, Use, main_name, resolve, status_of
from kb.catalog.uses import nearest, option_values
from kb.catalog.written import commands_in, rewritten

GAP = re.compile(r"(?:[^\S\n]|\\[^\S\n]*\n(?:[^\S\n]*>(?=\s))?)+$")
VARIABLE_FORM = re.compile(r"([A-Z][A-Z0-9_]*)=\{value\}")


@dataclass(slots=True)
class Draft:
    """The changes to one serving command: edits in place, keys gathered for JSON options, and what is put at the ends."""

    text: str
    call: Call
    edits: list[Edit] = field(default_factory=list)
    gathered: dict[str, dict[str, Any]] = field(default_factory=dict)
    homes: dict[str, Edit] = field(default_factory=dict)
    appended: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)


def patched(text: str, engine: str, release: str) -> str:
    """See kb.flags.patched_command."""
    if not is_release(release):
        return text
    try:
        return rewritten(text, [(each, patched_shell(each.command, engine, release)) for each in commands_in(text)])
    except Unchangeable:
        return text


def patched_shell(command: str, engine: str, release: str) -> str:
    """Shell text with every serving command of the engine (empty: any) made right for the release."""
    edits: list[Edit] = []
    for call in calls_in(command):
        if call.serving and engine in ("", call.engine):
            quotes = quotes_around(command, call.launch[0].start)
            found = edits_of(Draft(command, call), load(call.engine), release)
            edits += [Edit(each.start, each.end, escaped(each.text, quotes)) for each in found]
    return applied(command, edits)


def edits_of(draft: Draft, history: History, release: str) -> Iterator[Edit]:
    """All edits of one serving command."""
    at = nearest(history, release)
    others = frozenset(resolve(history, at, option.name)[0] for option in draft.call.options)
    patch_form(draft, history, release)
    for variable in draft.call.variables:
        patch_variable(draft, history, release, variable)
    for option in draft.call.options:
        use = Use(option.name, option_values(history, at, option), others)
        patch_option(draft, history, release, option, use)
    for flag, keys in draft.gathered.items():
        draft.edits.append(place_json(draft, flag, keys))
    yield from draft.edits
    if draft.appended:
        yield Edit(draft.call.end, draft.call.end, "".join(f" {each}" for each in draft.appended))
    if draft.variables:
        yield place_variables(draft)


def note_of(history: History, release: str, use: Use) -> Note | None:
    """The note that says what to write instead of a name."""
    name = resolve(history, nearest(history, release), use.name)[0]
    found = note_for(history.engine, release, name, use.value, use.others)
    return found or note_for(history.engine, release, main_name(history, name), use.value, use.others)


def needs_patch(status: FlagStatus, note: Note | None) -> bool:
    """Whether a use cannot stay: its name is dead, or it is refused and has a direct equivalent or stops the server."""
    direct = note is not None and bool(note.becomes or note.into)
    if status.kind == "choice":
        return direct
    return status.status in DEAD or (status.status == "refused" and note is not None and (direct or note.fatal))


def patch_form(draft: Draft, history: History, release: str) -> None:
    """Start the server by its module where the release has no `serve` command yet."""
    call = draft.call
    if not call.form.endswith(" serve") or status_of(history.engine, release, Use(call.form)).status != "not-yet":
        return
    module = {"vllm": "vllm.entrypoints.openai.api_server", "sglang": "sglang.launch_server"}[call.engine]
    draft.edits.append(Edit(call.launch[0].start, call.launch[-1].end, f"python -m {module}"))
    if call.leading and call.engine == "vllm":
        draft.edits.append(Edit(call.leading[0].start, call.leading[0].start, "--model "))


def patch_option(draft: Draft, history: History, release: str, option: Option, use: Use) -> None:
    """Rename, gather or drop one option where it cannot stay."""
    status = status_of(history.engine, release, use)
    note = note_of(history, release, use)
    if not needs_patch(status, note):
        return
    span = option_span(history, release, draft.call, option, use)
    if "." in option.name and status.since == "0.9.0":
        note = Note(option.name, into=(option.name.partition(".")[0], option.name.partition(".")[2]))
    if note is not None and note.into:
        gather(draft, note, use.value, span)
    elif note is not None and note.becomes:
        rewrite(draft, option, note.form(use.value), use, span)
    elif status.status == "never" and status.replacement and status.replacement.startswith("-") and note is None:
        rewrite(draft, option, status.replacement + " {value}", use, span)
    else:
        draft.edits.append(removal(draft.text, *span))


def option_span(history: History, release: str, call: Call, option: Option, use: Use) -> tuple[int, int]:
    """Start and end of an option with the values that belong to it."""
    known = history.entry(resolve(history, nearest(history, release), use.name)[0])
    words = [option.word, *option.trail[: 0 if option.inline is not None else len(use.values)]]
    if known is None and call.form == "vllm serve" and not call.leading and len(words) > 1 and not has_model(call):
        # An unknown flag in front of the only word that can be the model.
        words = words[:1]
    return words[0].start, words[-1].end


def has_model(call: Call) -> bool:
    return any(option.name == "--model" for option in call.options)


def rewrite(draft: Draft, option: Option, template: str, use: Use, span: tuple[int, int]) -> None:
    """Put another form in an option's place; only the name changes where the value is taken over as it is."""
    variable = VARIABLE_FORM.fullmatch(template)
    if variable:
        draft.variables.append(f"{variable[1]}={shlex.quote(use.value or '1')}")
        draft.edits.append(removal(draft.text, *span))
        return
    name, _, rest = template.partition(" ")
    if rest == "{value}" and draft.text[option.word.start : option.word.start + len(option.name)] == option.name:
        draft.edits.append(Edit(option.word.start, option.word.start + len(option.name), name))
        return
    if name == option.name and option.inline is not None:
        rest = rest.replace("{value}", shlex.quote(option.inline))
        draft.edits.append(Edit(option.word.start, option.word.end, f"{name}={rest}"))
        return
    value = " ".join(shlex.quote(each) for each in use.values)
    draft.edits.append(Edit(*span, template.replace("{value}", value).strip()))


def gather(draft: Draft, note: Note, value: str | None, span: tuple[int, int]) -> None:
    """Collect an option's value as a key of a JSON option, which takes the place of the first one collected."""
    assert note.into is not None
    flag, key = note.into
    if value in note.instead:
        key, value = note.instead[value]
    keys = draft.gathered.setdefault(flag, {})
    target = keys
    *path, last = key.split(".")
    for part in path:
        target = target.setdefault(part, {})
    target[last] = json_value(value)
    if flag not in draft.homes:
        draft.homes[flag] = Edit(*span)
    else:
        draft.edits.append(removal(draft.text, *span))


def json_value(value: str | None) -> Any:
    """A command line's value as JSON has it: a number, a truth value, an object, else a text; true for a switch."""
    if value is None:
        return True
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(value, value)


def place_json(draft: Draft, flag: str, keys: dict[str, Any]) -> Edit:
    """Write gathered keys: into the JSON option that the command already has, else in the first one's place."""
    home = draft.homes[flag]
    present = next((option for option in draft.call.options if option.name == flag), None)
    held = json_value(option_text(present)) if present else None
    if present is not None and isinstance(held, dict):
        if home.end > home.start:
            draft.edits.append(removal(draft.text, home.start, home.end))
        return merged(present, {**held, **{key: value for key, value in keys.items() if key not in held}})
    words = f"{flag} {shlex.quote(json.dumps(keys))}"
    return Edit(home.start, home.end, words if home.end > home.start else f" {words}")


def option_text(option: Option) -> str:
    return option.inline if option.inline is not None else option.trail[0].text if option.trail else ""


def merged(option: Option, keys: dict[str, Any]) -> Edit:
    """The JSON of an option that is there, with more keys in it."""
    text = shlex.quote(json.dumps(keys))
    if option.inline is not None:
        return Edit(option.word.start, option.word.end, f"{option.name}={text}")
    return Edit(option.trail[0].start, option.trail[0].end, text)


def removal(text: str, start: int, end: int) -> Edit:
    """Take a span out together with the blanks and line continuations before it."""
    gap = GAP.search(text, 0, start)
    return Edit(gap.start() if gap else start, end)


def patch_variable(draft: Draft, history: History, release: str, variable: Variable) -> None:
    """Turn a dead variable into its flag, or take it out."""
    if not variable.name.startswith(OWN[history.engine]):
        return
    use = Use(variable.name, (variable.value,))
    status = status_of(history.engine, release, use)
    note = note_for(history.engine, release, variable.name, variable.value)
    if not needs_patch(status, note):
        return
    if note is not None and note.becomes:
        draft.appended.append(note.becomes.replace("{value}", shlex.quote(variable.value)))
    elif note is not None and note.into:
        gather(draft, note, variable.value, (draft.call.end, draft.call.end))
    draft.edits.append(variable_removal(draft.text, variable.words))


def variable_removal(text: str, words: Sequence[Word]) -> Edit:
    """Take a variable's words out, and the blanks after them; for `export A=b` the rest of its line."""
    start, end = words[0].start, words[-1].end
    after = re.compile(
        r"[^\S\n]*(?:[\n;]|&&)?[^\S\n]*" if words[0].text == "export" else r"(?:[^\S\n]|\\[^\S\n]*\n)*"
    ).match(text, end)
    return Edit(start, after.end() if after else end)


def place_variables(draft: Draft) -> Edit:
    """Set variables in front of the command, or with `-e` in front of a container's image."""
    container = draft.call.container
    if container is not None:
        form = "--env={} " if container.text == "--" else "-e {} "
        return Edit(container.start, container.start, "".join(map(form.format, draft.variables)))
    first = draft.call.first or draft.call.launch[0]
    return Edit(first.start, first.start, "".join(f"{each} " for each in draft.variables))
