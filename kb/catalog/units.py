"""Serving commands in systemd units: `ExecStart=` with its continued lines, and the variables of `Environment=`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from kb.catalog.forms import ASSIGNED, Edit, Environment, Listed, Script, Setting, Unchangeable, exports, variables_in
from kb.catalog.shellwords import Word, simple_commands

LINE = re.compile(r"(?m)^[ \t]*(?P<key>ExecStart|Environment)[ \t]*=[ \t]*(?P<value>(?:[^\n\\]|\\[^\n]|\\\n)*)")
PREFIX = re.compile(r"[-@:+!|]*")
ASSIGNMENTS = re.compile(r"(?:[A-Za-z_]\w*=(?:'[^']*'|\"[^\"]*\"|\S)*[ \t]+)+")


def read_units(text: str) -> list[tuple[str, int, Script | Listed]]:
    """Every start command of a unit, with the unit's variables."""
    lines = [found for found in LINE.finditer(text) if found["value"].strip()]
    settings = [each for line in lines if line["key"] == "Environment" for each in settings_of(line)]
    return [unit(text, line, tuple(settings)) for line in lines if line["key"] == "ExecStart"]


def unit(text: str, line: re.Match[str], settings: tuple[Setting, ...]) -> tuple[str, int, Script]:
    """One `ExecStart=`. Variables that a change puts before the command become a line of their own: systemd knows no others."""
    start, end = line.span("value")
    start += len(PREFIX.match(line["value"])[0])  # type: ignore[index]
    said = text[start:end].rstrip()
    environment = Environment(settings, lambda name, value: Edit(line.start(), line.start(), assigned(name, value)))
    given = UnitScript(said, range(start, start + len(said) + 1), str, environment, exports(environment))
    return "ExecStart", line.start(), given


def assigned(name: str, value: str) -> str:
    """A line that sets a variable."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'Environment="{name}={escaped}"\n' if re.search(r"\s|\\|\"", value) else f"Environment={name}={escaped}\n"


class UnitScript(Script):
    """A start command, before which no variables can stand."""

    __slots__ = ()

    def edits(self, new: str) -> list[Edit]:
        lead, body = self.lead.cut(new)
        if body.count("%") > self.text.count("%"):
            raise Unchangeable("a % has a meaning of its own in a unit")
        put = ASSIGNMENTS.match(body)
        if put is None or self.text.startswith(put[0]):
            return super().edits(new)
        for word in shlex.split(put[0]):
            lead = f"export {shlex.quote(word)}\n{lead or '#'}"
        return [*self.environment.edits(variables_in(lead)), *self._text_edits(body[put.end() :])]


def settings_of(line: re.Match[str]) -> Iterator[Setting]:
    """The variables of an `Environment=`, one a word."""
    words: list[Word] = next(iter(simple_commands(line["value"], line.start("value"))), [])
    for word in words:
        found = ASSIGNED.fullmatch(word.text)
        if found:
            name = found[1]
            alone = len(words) == 1
            first = (word.start, words[1].start) if not alone else (line.start(), line.end() + 1)
            whole = first if word is words[0] else (word.start - 1, word.end)
            yield Setting(name, found[2], (word.start, word.end), whole, writer(name))


def writer(name: str):  # type: ignore[no-untyped-def]
    return lambda new: assigned(name, new).removeprefix("Environment=").rstrip("\n")
