"""The user's own command with options and variables set or taken out by name; every other byte stays as it was."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.intention import Intention
from assistant.patching import Draft, edited, joined, leaves_of, put_dotted, replaced, right_for
from assistant.serving import MODEL_KEYS, Setting, key_of, model_of, serving_calls, settings_of
from kb.catalog.forms import Edit, Unchangeable
from kb.catalog.history import History, load
from kb.catalog.patch import merged, removal, variable_removal
from kb.catalog.shellwords import simple_commands
from kb.catalog.uses import nearest
from kb.catalog.written import Written, commands_in, rewritten, shell_of
from kb.errors import InputError

VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
NAME = re.compile(r"-{0,2}[A-Za-z][\w.-]*")
EXAMPLE = "crashcart patch 'vllm serve MODEL' --set max-model-len=8192"


@dataclass(frozen=True, slots=True)
class Server:
    """One serving command of a text: where it is written, which of the calls there it is, its name and its line."""

    written: Written
    index: int
    name: str
    line: int


def set_in_command(
    command: str, wanted: Sequence[str], unwanted: Sequence[str], engine: str = "", release: str = "", at: str = ""
) -> str:
    """A serving command, or a file that holds it, with `NAME=VALUE` or `NAME` set and names taken out.

    With a release every command is first made right for it. `at` says which of several is changed, by name or line; `all`
    are with that word. Raises InputError for a text without a serving command, for several without `at`, for quotes that do
    not close, for what is no name, and for a file whose form does not take the change.
    """
    servers = servers_in(command, engine)
    chosen = chosen_of(servers, at) if wanted or unwanted else []
    changes: dict[Written, str] = {}
    for server in servers:
        changes.setdefault(server.written, right_for(server.written.command, engine, release))
    for server in reversed(chosen):
        text = changes[server.written]
        changes[server.written] = changed(text, server.index, wanted, unwanted, engine, release)
    try:
        return rewritten(command, list(changes.items()))
    except Unchangeable as error:
        raise InputError(f"this file cannot be changed so, because {error}: change it by hand.") from error


def servers_in(text: str, engine: str = "") -> list[Server]:
    """Every serving command of a text. Raises InputError for none, and for quotes that do not close."""
    found = []
    for written in commands_in(text):
        for index, call in enumerate(serving_calls(written.command, engine)):
            start = written.start if written.form != "shell" else (call.first or call.launch[0]).start
            found.append(Server(written, index, written.name, text.count("\n", 0, start) + 1))
    if is_open(text) or any(is_open(each.written.command) for each in found):
        raise InputError(f"the quotes of this command do not close: {EXAMPLE}.")
    if not found:
        raise InputError(f"no serving command of vLLM or SGLang in this: {EXAMPLE}.")
    return found


def is_open(text: str) -> bool:
    """Whether a quote of a command on one line, or of one that starts a server, does not close."""
    if "\n" not in text.replace("\\\n", " ").strip():  # a script's comments may hold a single apostrophe
        words = [text]
    else:
        starts = {call.launch[0].start for call in serving_calls(text, "")}
        groups = [group for group in simple_commands(text) if any(word.start in starts for word in group)]
        words = [word.raw for group in groups for word in group]
    try:
        return any(shlex.split(word) is None for word in words)
    except ValueError:
        return True


def chosen_of(servers: Sequence[Server], at: str) -> list[Server]:
    """The commands that are meant. Raises InputError where several could be, and where none is."""
    if at == "all" or (not at and len(servers) == 1):
        return list(servers)
    found = [server for server in servers if at and at in (server.name, str(server.line))]
    if found:
        return found
    listed = ", ".join(f"{server.name or 'line'} {server.line}" for server in servers)
    raise InputError(f"{len(servers)} serving commands are in this ({listed}): say --at LINE, --at NAME or --at all.")


def changed(command: str, index: int, wanted: Sequence[str], unwanted: Sequence[str], engine: str, release: str) -> str:
    """Shell text with options and variables of one of its serving calls set and taken out."""
    call = serving_calls(command, engine)[index]
    history = load(call.engine)
    intention = Intention(history, nearest(history, release))
    draft = Draft(command, call, settings_of(history, release, call), intention, release)
    for each in wanted:
        name, equals, value = each.partition("=")
        put(draft, history, checked(name), value if equals else None)
    for name in unwanted:
        take_out(draft, history, checked(name))
    return edited(draft)


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
    source = f"{start} {flag_of(name)}" + (
        "" if value is None else f"={shlex.quote(value)}" if value.startswith("-") else f" {shlex.quote(value)}"
    )
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
    command = shell_of(command)
    call = next(iter(serving_calls(command, "")), None)
    if call is None:
        return []
    groups = simple_commands(command)
    holding = [group for group in groups if any(word.start == call.launch[0].start for word in group)]
    return [word.text for group in (holding or groups) for word in group]


def difference(old: str, new: str, name: str = "") -> str:
    """A unified diff, empty where nothing changed; of a named file with as many lines around as `patch` wants."""
    names = (name, name) if name else ("command", "patched")
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), *names, lineterm="", n=3 if name else 1)
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
