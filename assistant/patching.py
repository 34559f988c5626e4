"""The user's own serving command with a fix put in; every byte that the fix does not speak of stays as it was."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from assistant.intention import EXAMPLE, Intention, stays
from assistant.serving import MODEL_KEYS, Setting, model_of, serving_calls, settings_of
from kb.catalog.command import ASSIGNMENT, Call, Variable
from kb.catalog.forms import Edit, Unchangeable, applied
from kb.catalog.history import load
from kb.catalog.patch import GAP, json_value, merged, patched_shell, place_variables, removal
from kb.catalog.patch import Draft as Placement
from kb.catalog.releases import is_release
from kb.catalog.shellwords import escaped, quotes_around, simple_commands, unquote
from kb.catalog.status import ALWAYS
from kb.catalog.uses import default_of, nearest
from kb.catalog.written import commands_in, rewritten
from kb.flags import patched_command

Takes = Callable[[str, Any, Any], bool]

# Where one of these differs, two JSON objects speak of different things, and their keys do not mix.
KINDS = ("method", "kv_connector")
# Wrappers that hand no variables of the shell on to what they start.
WALLS = ("sudo", "doas", "su", "docker", "podman", "nerdctl", "kubectl", "oc", "ssh")


@dataclass(slots=True)
class Draft:
    """The changes to the user's command: edits in place, options for its end, variables for its front."""

    text: str
    call: Call
    settings: tuple[Setting, ...]
    intention: Intention
    release: str
    edits: list[Edit] = field(default_factory=list)
    appended: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)


def apply_fix(
    command: str, fix_command: str, engine: str = "", release: str = "", title: str = "", text: str = ""
) -> str | None:
    """The user's command with the options and variables of a fix's command, right for the release where that is known.

    `command` may be a file that holds it, of which the first command of the engine is changed; an empty engine is that of the
    command. `title` and `text` are the fix's words: a fix that lowers a number never raises it, and what its command holds only
    to be complete is left out. None where the fix starts no server of the engine, starts several or another model, where
    nothing would change, and where the file's form does not take the change.
    """
    written = next((each for each in commands_in(command) if serving_calls(each.command, engine)), None)
    new = fixed(written.command, fix_command, engine, release, title, text) if written else None
    if written is None or new is None:
        return None
    try:
        return rewritten(command, [(written, new)])
    except Unchangeable:
        return None


def fixed(command: str, fix_command: str, engine: str, release: str, title: str, text: str) -> str | None:
    """Shell text with a fix put into its first serving call of the engine, see `apply_fix`."""
    served, source = right_for(command, engine, release), patched_command(fix_command, engine, release)
    mine = next(iter(serving_calls(served, engine)), None)
    theirs = serving_calls(source, mine.engine) if mine else []
    if mine is None or len(theirs) != 1 or not fits(theirs[0], mine, source):
        return None
    history = load(mine.engine)
    intention = Intention(history, nearest(history, release), title, text)
    if intention.subject and intention.subject.isdisjoint(keys_of(command, engine, release)):
        return None
    draft = Draft(served, mine, settings_of(history, release, mine), intention, release)
    put_options(draft, source, theirs[0], settings_of(history, release, theirs[0]))
    for variable in {each.name: each for each in theirs[0].variables}.values():
        put_variable(draft, variable)
    result = edited(draft)
    return None if result == command else result


def right_for(command: str, engine: str, release: str) -> str:
    """The user's command right for the release, or as it is where it would not start the same server any more."""
    right = patched_shell(command, engine, release) if is_release(release) else command
    models = [[model_of(call) for call in serving_calls(text, engine)] for text in (command, right)]
    return right if models[0] == models[1] else command


def keys_of(command: str, engine: str, release: str) -> set[str]:
    """The options of the first serving call of a text, before anything is done to it."""
    call = serving_calls(command, engine)[0]
    return {setting.key for setting in settings_of(load(call.engine), release, call)}


def fits(theirs: Call, mine: Call, source: str) -> bool:
    """Whether a fix's call, out of `source`, serves the user's model the way the user does: not in a container, nor traced."""
    asks = any(option.name in (*ALWAYS, "--version") for option in theirs.options)
    first, launch = (theirs.first or theirs.launch[0]).start, theirs.launch[0].start
    before = [word.text for words in simple_commands(source) for word in words if first <= word.start < launch]
    wrappers = [text for text in before if not ASSIGNMENT.match(text)]
    elsewhere = mine.container is None if theirs.container else bool(wrappers)
    return not asks and not elsewhere and model_of(theirs) in ("", "MODEL", model_of(mine))


def put_options(draft: Draft, source: str, call: Call, wanted: tuple[Setting, ...]) -> None:
    """Put the settings of a fix's call, which stands in `source`, among the user's; take out what its title takes out."""
    intention = draft.intention
    beside = {setting.key for setting in wanted} | {variable.name for variable in call.variables}
    groups: dict[str, list[Setting]] = {}
    for setting in wanted:
        if setting.key not in MODEL_KEYS and intention.concerns(setting.key):
            groups.setdefault(setting.key, []).append(setting)
    for key, group in groups.items():
        held = [setting for setting in draft.settings if setting.key == key]
        if held:
            change(draft, source, held, group, beside)
        elif not is_default_enough(draft, group[-1]):
            draft.appended += [source[setting.start : setting.end] for setting in group]
    for setting in draft.settings:
        if setting.key in intention.removed - groups.keys() - set(MODEL_KEYS):
            draft.edits.append(removal(draft.text, setting.start, setting.end))


def is_default_enough(draft: Draft, setting: Setting) -> bool:
    """Whether the number that holds without the option is already where the fix would move it.

    A default that depends on the GPU counts with its largest value, which stands first, against raising, and not against
    lowering: neither can then move the wrong way.
    """
    direction = draft.intention.direction(setting.key)
    if not direction or not is_release(draft.release):
        return False
    default = default_of(draft.call.engine, draft.release, setting.option.name)
    number = (default.value if default else None) or ""
    return stays(direction, number.split(" on ")[0] if direction == "raise" else number, setting.value)


def change(draft: Draft, source: str, held: list[Setting], group: list[Setting], beside: Collection[str]) -> None:
    """Give an option that the user has its new value, in place."""
    last, new = held[-1], group[-1]
    wish: dict[str, Any] = {}
    for setting in group:
        wish = joined(wish, setting.object or {}, lambda *_: True)
    dotted = {setting.path: setting for setting in held if setting.path}
    if wish and (dotted or last.object is not None):
        put_object(draft, last, dotted, wish)
    elif new.meaning == last.meaning or draft.intention.leaves(new.key, beside, new.value):
        return
    elif not stays(draft.intention.direction(new.key), last.value, new.value):
        draft.edits.append(replaced(draft, source, last, new))


def replaced(draft: Draft, source: str, old: Setting, new: Setting) -> Edit:
    """The new value in the old one's place, under the name that the user wrote; the whole option where they differ in form."""
    whole = source[new.start : new.end]
    odd_name = "_" in old.option.name and draft.call.engine == "sglang"
    if old.negated != new.negated or not old.values or not new.values or new.path or odd_name or old.is_attached:
        return Edit(old.start, old.end, whole)
    inline = new.is_inline
    value = shlex.join(new.values) if inline else source[new.option.trail[0].start : new.end]
    if not old.is_inline:
        return Edit(old.option.trail[0].start, old.end, value)
    if len(new.values) > 1:
        return Edit(old.start, old.end, whole)
    return Edit(old.start, old.end, f"{old.option.name}={value}")


def put_object(draft: Draft, last: Setting, dotted: dict[tuple[str, ...], Setting], wish: dict[str, Any]) -> None:
    """Bring the keys of a JSON object into the user's, or into the keys that the user gives after a dot."""
    words = f"{draft.intention.title}\n{draft.intention.text}"
    wish = {name: value for name, value in wish.items() if "_" in name and name in words} or wish

    def takes(name: str, old: Any, new: Any) -> bool:
        is_example = isinstance(new, str) and bool(EXAMPLE.search(new))
        return not is_example and not stays(draft.intention.direction(name), old, new)

    if dotted:
        put_dotted(draft, last, dotted, wish, takes)
        return
    held = last.object or {}
    is_other = any(name in wish and held.get(name) != wish[name] for name in KINDS)
    keys = wish if is_other else joined(held, wish, takes)
    if keys != held:
        draft.edits.append(merged(last.option, keys))


def put_dotted(
    draft: Draft, last: Setting, dotted: dict[tuple[str, ...], Setting], wish: dict[str, Any], takes: Takes
) -> None:
    """Set the keys of a JSON object as `--option.key value`, where the user does."""
    for path, value in leaves_of(wish):
        text = shlex.quote(value if isinstance(value, str) else json.dumps(value))
        present = dotted.get(path)
        if present is None:
            draft.appended.append(f"{last.option.name.partition('.')[0]}.{'.'.join(path)} {text}")
        elif json_value(present.value) != value and takes(path[-1], present.value, value):
            glue = "=" if present.is_inline else " "
            draft.edits.append(Edit(present.start, present.end, f"{present.option.name}{glue}{text}"))


def joined(held: dict[str, Any], wish: dict[str, Any], takes: Takes) -> dict[str, Any]:
    """The keys of both, at every depth; `takes(name, old, new)` decides on those that both have."""
    found = dict(held)
    for name, value in wish.items():
        old = held.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            found[name] = joined(old, value, takes)
        elif name not in held or takes(name, old, value):
            found[name] = value
    return found


def leaves_of(keys: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value of an object that is no object, with the keys that lead to it."""
    for name, value in keys.items():
        if isinstance(value, dict):
            yield from leaves_of(value, (*path, name))
        else:
            yield (*path, name), value


def put_variable(draft: Draft, variable: Variable) -> None:
    """Set a variable where the user sets it already, else in front of the command."""
    assigned = shell_assignment(variable)
    present = next((each for each in reversed(draft.call.variables) if each.name == variable.name), None)
    if present is None:
        draft.variables.append(assigned)
        return
    is_kept = EXAMPLE.search(variable.value) and not variable.value.startswith("/")
    if is_kept or present.value == variable.value:
        return
    if stays(draft.intention.direction(variable.name), present.value, variable.value):
        return
    word = present.words[-1]
    prefix = re.match(r"(?:--env=|-e=?)?", word.text)
    assert prefix is not None
    draft.edits.append(Edit(word.start, word.end, prefix[0] + assigned))


def shell_assignment(variable: Variable) -> str:
    """`NAME=value` as the document wrote it, or quoted anew where the quotes stood around both."""
    written = re.search(rf"(?:^|[^\w]){variable.name}=(.*)", variable.words[-1].raw, re.S)
    if written and unquote(written[1]) == variable.value:
        return f"{variable.name}={written[1]}"
    return f"{variable.name}={shlex.quote(variable.value)}"


def edited(draft: Draft) -> str:
    """The text with all changes made, quoted once more where the command stands inside quotes (`bash -c '…'`)."""
    edits = list(draft.edits)
    if draft.appended:
        gap = gap_of(draft)
        edits.append(Edit(draft.call.end, draft.call.end, "".join(gap + each for each in draft.appended)))
    if draft.variables:
        edits.append(front_of(draft))
    quotes = quotes_around(draft.text, draft.call.launch[0].start)
    return applied(draft.text, [Edit(each.start, each.end, escaped(each.text, quotes)) for each in edits])


def gap_of(draft: Draft) -> str:
    """What goes between the command and a further option: a line of its own where each option has one."""
    last = draft.call.options[-1].word.start if draft.call.options else draft.call.end
    gap = GAP.search(draft.text, 0, last)
    return gap[0] if gap and "\n" in gap[0] else " "


def front_of(draft: Draft) -> Edit:
    """Set variables before the command, with `-e` before a container's image, with `env` behind a wrapper that drops them."""
    call = draft.call
    first = call.first or call.launch[0]
    before = draft.text[first.start : call.launch[0].start].split()
    if call.container is None and any(word.rpartition("/")[2] in WALLS for word in before):
        return Edit(call.launch[0].start, call.launch[0].start, f"env {' '.join(draft.variables)} ")
    return place_variables(Placement(draft.text, call, variables=draft.variables))
