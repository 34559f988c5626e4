"""The serving commands of a text, whatever it is: typed, a shell script, a manifest, a unit, a Dockerfile.

Each is given as shell text, which is all that the catalogue reads and changes; a changed one is put back into the file, and
every byte that the change does not speak of stays as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from kb.catalog.command import Call, Option, calls_in
from kb.catalog.forms import Edit, Listed, Script, Unchangeable, applied
from kb.catalog.shellwords import decoded, scripts_in

LONGEST = 1 << 20
"""A file that starts a server has some kilobytes; a longer text is read as shell, and not parsed as anything else."""
MANIFEST = re.compile(
    r"(?m)^[ \t]*(?:-[ \t]+)?[\"']?(?:command|args|entrypoint|run|script|extraArgs|[\w.-]+\.sh)[\"']?[ \t]*:(?:\s|$)|^\s*[\[{]"
)
UNIT = re.compile(r"(?m)^[ \t]*ExecStart[ \t]*=")
DOCKERFILE = re.compile(r"(?m)^[ \t]*(?:CMD|ENTRYPOINT)[ \t]+\S")
ENGINE = re.compile(r"vllm|sglang", re.I)
FENCE = re.compile(r"(?ms)^[ \t]*(?:```|~~~)[^\n`]*\n(.*?)^[ \t]*(?:```|~~~)[ \t]*$")
# From a line that such files begin with, on over keys, list items, indented lines, sections and instructions.
FILE_LINES = re.compile(
    r"(?m)^(?:(?:apiVersion|kind|metadata|spec|services|version|name|image|containers|command|args|entrypoint|x-[\w-]+):|---"
    r"|\[(?:Unit|Service)\]|FROM |[ \t]+(?:-[ \t]+)?(?:containers|image|command|args|entrypoint):)[^\n]*\n?"
    r"(?:(?:[ \t]+|[\w.\"'/-]+:(?:[ \t]|$)|[A-Z][A-Za-z]+=|\[\w+\]|#|---|-[ \t]|[A-Z]{3,}[ \t]|[ \t]*$|[ \t]*[\]}])[^\n]*(?:\n|\Z))*"
)


@dataclass(frozen=True, slots=True)
class Written:
    """A serving command as a text holds it. `form` is `shell`, `manifest`, `unit` or `dockerfile`; `name` is the service's.

    `edits` makes the edits to the text that change the command into another one; it raises Unchangeable where it cannot.
    """

    command: str
    form: str
    name: str
    start: int
    edits: Callable[[str], Sequence[Edit]]

    @property
    def calls(self) -> tuple[Call, ...]:
        """Its uses of an engine's command; of several in one script the serving ones are all meant."""
        return calls_in(self.command)


@lru_cache(maxsize=64)
def commands_in(text: str) -> tuple[Written, ...]:
    """Every part of a text that starts a server, in order; a shell script is one part, however many it starts."""
    if not ENGINE.search(text):
        return ()
    for pattern, form, read in (
        (UNIT, "unit", _units),
        (DOCKERFILE, "dockerfile", _dockerfile),
        (MANIFEST, "manifest", _manifest),
    ):
        if len(text) <= LONGEST and pattern.search(text):
            found = [
                Written(each.command, form, name, start, each.edits)
                for name, start, each in read(text)
                if serves(each.command)
            ]
            if found:
                return tuple(sorted(found, key=lambda each: each.start))
    if serves(text):
        return (Written(text, "shell", "", 0, lambda new: [Edit(0, len(text), new)]),)
    found_words = ((word, decoded(word)) for word in scripts_in(text))
    scripts = [(word.start, Script(*parts)) for word, parts in found_words if parts]
    return tuple(Written(each.text, "shell", "", at, each.edits) for at, each in scripts if serves(each.text))


def _units(text: str) -> Sequence[tuple[str, int, Script | Listed]]:
    from kb.catalog.units import read_units

    return read_units(text)


def _dockerfile(text: str) -> Sequence[tuple[str, int, Script | Listed]]:
    from kb.catalog.dockerfiles import read_dockerfile

    return read_dockerfile(text)


def _manifest(text: str) -> Sequence[tuple[str, int, Script | Listed]]:
    from kb.catalog.manifests import read_manifests

    return read_manifests(text)


def serves(command: str) -> bool:
    """Whether shell text starts a server."""
    return any(call.serving for call in calls_in(command))


def calls_of(text: str) -> tuple[Call, ...]:
    """Every use of an engine's command in a text of any form. Their places are those in the parts, not in the text."""
    found = tuple(call for each in commands_in(text) for call in each.calls)
    return found or calls_in(text)


def shell_of(text: str) -> str:
    """What a text starts, as shell text: a file's commands one after another; any other text as it is."""
    found = commands_in(text)
    return "\n".join(each.command for each in found) if any(each.form != "shell" for each in found) else text


def file_in(text: str) -> str:
    """The manifest, unit or Dockerfile in a text that starts a server, words around it left out; empty where there is none."""
    if len(text) > LONGEST or not ENGINE.search(text) or not any(p.search(text) for p in (MANIFEST, UNIT, DOCKERFILE)):
        return ""
    fenced = [found[1] for found in FENCE.finditer(text)]
    return next((each for each in (*fenced, *([] if fenced else blocks(text))) if is_file(each)), "")


def is_file(text: str) -> bool:
    """Whether a text is a file that starts a server, and no shell script."""
    return any(each.form != "shell" for each in commands_in(text))


def blocks(text: str) -> Iterator[str]:
    """A text that is YAML as it is; else runs of its lines that look like a file's, each also without its last paragraphs."""
    from kb.catalog.yaml_text import fault_of

    if not UNIT.search(text) and not DOCKERFILE.search(text) and not fault_of(text):
        yield text
    for run in FILE_LINES.finditer(text):
        block = run[0]
        for _ in range(8):
            yield block.strip("\n") + "\n"
            block, blank, _ = block.rstrip().rpartition("\n\n")
            if not blank:
                break


def rewritten(text: str, changes: Sequence[tuple[Written, str]]) -> str:
    """The text with commands of it changed. Raises Unchangeable where the form of a file cannot take a change."""
    changed = [(written, new) for written, new in changes if new != written.command]
    result = applied(text, [edit for written, new in changed for edit in written.edits(new)])
    if any(written.form != "shell" for written, _ in changed):
        wanted = dict(changed)
        meant = [meaning(wanted.get(written, written.command)) for written in commands_in(text)]
        if [meaning(each.command) for each in commands_in(result)] != meant:
            raise Unchangeable("the changed file would not start the same")
    return result


def meaning(command: str) -> list[tuple[list[str], dict[str, str]]]:
    """What a command starts, however it is written: the words from the launcher on, and the variables."""
    return [
        (
            [word.text for word in (*call.launch, *call.leading)]
            + [text for o in call.options for text in words_of(o)],
            {variable.name: variable.value for variable in call.variables},
        )
        for call in calls_in(command)
        if call.serving
    ]


def words_of(option: Option) -> list[str]:
    """An option's name and values, alike for `--name=value` and `--name value`."""
    inline = [option.inline] if option.inline is not None else []
    return [option.name, *inline, *(word.text for word in option.trail)]
