"""The user's own command with options and variables set or taken out by name; every other byte stays as it was."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence

from assistant.intention import Intention
from assistant.patching import Draft, edited, joined, leaves_of, put_dotted, replaced, right_for
from assistant.serving import MODEL_KEYS, Setting, key_of, model_of, serving_calls, settings_of
from kb.catalog.command import Call
from kb.catalog.history import History, load
from kb.catalog.patch import Edit, merged, removal, variable_removal
from kb.catalog.shellwords import simple_commands
from kb.catalog.uses import nearest
from kb.errors import InputError

VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
NAME = re.compile(r"-{0,2}[A-Za-z][\w.-]*")
EXAMPLE = "crashcart patch 'vllm serve MODEL' --set max-model-len=8192"


def set_in_command(
    command: str, wanted: Sequence[str], unwanted: Sequence[str], engine: str = "", release: str = ""
) -> str:
    """A serving command with `NAME=VALUE` or `NAME` set and names taken out, flags and variables alike.

    With a release the command is first made right for it. Only the first serving command of the text is changed. Raises
    InputError for a text without one, for quotes that do not close, and for what is no name.
    """
    open_draft(command, engine, release)
    draft = open_draft(right_for(command, engine, release) if release else command, engine, release)
    history = load(draft.call.engine)
    for each in wanted:
        name, equals, value = each.partition("=")
        put(draft, history, checked(name), value if equals else None)
    for name in unwanted:
        take_out(draft, history, checked(name))
    return edited(draft)


def open_draft(text: str, engine: str, release: str) -> Draft:
    """The first serving command of a text, ready to be changed. Raises InputError."""
    if "\n" not in text.replace("\\\n", " ").strip():  # a script's comments may hold a single apostrophe
        try:
            shlex.split(text)
        except ValueError as error:
            raise InputError(f"the quotes of this command do not close: {EXAMPLE}.") from error
    call = next(iter(serving_calls(text, engine)), None)
    if call is None:
        raise InputError(f"no serving command of vLLM or SGLang in this: {EXAMPLE}.")
    history = load(call.engine)
    intention = Intention(history, nearest(history, release))
    return Draft(text, call, settings_of(history, release, call), intention, release)


def checked(name: str) -> str:
    """A name of an option or variable; raises InputError for anything else."""
    if not NAME.fullmatch(name):
        raise InputError(f"{name!r} is no option or variable: write --set max-model-len=8192 or --unset enforce-eager.")
    return name


def flag_of(name: str) -> str:
    """A name as an option: `max_model_len` is `--max-model-len`."""
    if name.startswith("-"):
        return name
    head, dot, keys = name.partition(".")
    return f"--{head.replace('_', '-')}{dot}{keys}"


def put(draft: Draft, history: History, name: str, value: str | None) -> None:
    """Set one option or variable."""
    if VARIABLE.fullmatch(name):
        put_variable(draft, name, value if value is not None else "1")
        return
    start = "vllm serve MODEL" if draft.call.engine == "vllm" else "python -m sglang.launch_server"
    source = f"{start} {flag_of(name)}" + (f" {shlex.quote(value)}" if value is not None else "")
    call = next(iter(serving_calls(source, "")), None)
    found = settings_of(history, draft.release, call) if call else ()
    if call is None or not found:
        raise InputError(f"{name!r} cannot be set: write --set max-model-len=8192.")
    new = found[-1]
    if new.key in MODEL_KEYS and draft.call.leading and model_of(draft.call):
        first = draft.call.leading[0]
        draft.edits.append(Edit(first.start, first.end, shlex.quote(value or "")))
        return
    held = [setting for setting in draft.settings if setting.key == new.key]
    if held:
        change(draft, source, held, new)
    else:
        draft.appended.append(source[new.start : new.end])


def change(draft: Draft, source: str, held: list[Setting], new: Setting) -> None:
    """Give an option that the command has its new value: keys after a dot go into its JSON, all else replaces it."""
    dotted = {setting.path: setting for setting in held if setting.path}
    last = held[-1]
    if new.path and dotted:
        put_dotted(draft, last, dotted, new.object or {}, lambda *_: True)
    elif new.path and last.object is not None:
        keys = joined(last.object, new.object or {}, lambda *_: True)
        if keys != last.object:
            draft.edits.append(merged(last.option, keys))
    elif dotted and new.object is not None:
        put_dotted(draft, last, dotted, dict(leaves_to_object(new)), lambda *_: True)
    elif new.meaning != last.meaning:
        draft.edits.append(replaced(draft, source, last, new))


def leaves_to_object(setting: Setting) -> dict[str, object]:
    """The JSON object of an option, nested as given."""
    found: dict[str, object] = {}
    for path, value in leaves_of(setting.object or {}):
        target = found
        for part in path[:-1]:
            target = target.setdefault(part, {})  # type: ignore[assignment]
        target[path[-1]] = value
    return found


def put_variable(draft: Draft, name: str, value: str) -> None:
    """Set a variable where it is set already, else in front of the command."""
    present = next((each for each in reversed(draft.call.variables) if each.name == name), None)
    if present is None:
        draft.variables.append(f"{name}={shlex.quote(value)}")
    elif present.value != value:
        word = present.words[-1]
        prefix = re.match(r"(?:--env=|-e=?)?", word.text)
        draft.edits.append(Edit(word.start, word.end, f"{prefix[0] if prefix else ''}{name}={shlex.quote(value)}"))


def take_out(draft: Draft, history: History, name: str) -> None:
    """Take every use of an option or variable out of the command."""
    if VARIABLE.fullmatch(name):
        for variable in draft.call.variables:
            if variable.name == name:
                draft.edits.append(variable_removal(draft.text, variable.words))
        return
    head, _, keys = flag_of(name).partition(".")
    key = key_of(history, nearest(history, draft.release), head)[0]
    for setting in draft.settings:
        if setting.key == key and (not keys or ".".join(setting.path) == keys):
            draft.edits.append(removal(draft.text, setting.start, setting.end))


def words_of(command: str) -> list[str]:
    """The words of the first serving command, its variables and wrappers included, as a shell would hand them on."""
    call: Call | None = next(iter(serving_calls(command, "")), None)
    if call is None:
        return []
    for words in simple_commands(command):
        if any(word.start == call.launch[0].start for word in words):
            return [word.text for word in words]
    return [word.text for words in simple_commands(command) for word in words]


def difference(old: str, new: str) -> str:
    """A unified diff, empty where nothing changed."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "command", "patched", lineterm="", n=1)
    return "\n".join(lines)


def word_difference(old: str, new: str) -> list[tuple[str, str]]:
    """What was kept (` `), taken out (`-`) and put in (`+`), in order, word by word with the blanks between."""
    before, after = (re.findall(r"\s+|\S+", text) for text in (old, new))
    found: list[tuple[str, str]] = []
    for what, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if what == "equal":
            found.append((" ", "".join(before[a:b])))
        else:
            found += [(sign, text) for sign, text in (("-", "".join(before[a:b])), ("+", "".join(after[c:d]))) if text]
    return found
