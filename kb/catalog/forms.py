"""The forms in which files hold commands: shell text inside something else, and lists of words. Both take changes back."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from kb.catalog.shellwords import simple_commands

TOKEN = re.compile(r"\s+|\S+")
ASSIGNED = re.compile(r"([A-Za-z_]\w*)=(.*)", re.S)


class Unchangeable(Exception):
    """A file's form does not take a change; says why."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Text to put in place of a span."""

    start: int
    end: int
    text: str = ""


def applied(text: str, edits: Sequence[Edit]) -> str:
    """A text with edits made in it; none may overlap another."""
    for edit in sorted(dict.fromkeys(edits), key=lambda each: (each.start, each.end), reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


@dataclass(frozen=True, slots=True)
class Setting:
    """A variable that a file sets. `value` is where its value stands, `whole` all that goes when it is taken out."""

    name: str
    text: str
    value: tuple[int, int]
    whole: tuple[int, int]
    write: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables that a file sets for a command, and what sets another one."""

    settings: tuple[Setting, ...] = ()
    add: Callable[[str, str], Edit | None] = lambda name, value: None

    def edits(self, new: dict[str, str]) -> Iterator[Edit]:
        """What makes these variables the new ones. Raises Unchangeable where the file has no place for another one."""
        last = {setting.name: setting for setting in self.settings}
        for setting in self.settings:
            if setting.name not in new:
                yield Edit(*setting.whole)
            elif setting is last[setting.name] and new[setting.name] != setting.text:
                yield Edit(*setting.value, setting.write(new[setting.name]))
        for name in [each for each in new if each not in last]:
            added = self.add(name, new[name])
            if added is None:
                raise Unchangeable(f"no place for the variable {name}")
            yield added


@dataclass(frozen=True, slots=True)
class Lead:
    """Shell text of our own before a script, which stands for what the file says of it elsewhere. `tail` is how it always ends."""

    text: str = ""
    tail: str = ""

    def cut(self, new: str) -> tuple[str, str]:
        """A changed command as its lead and its script. Raises Unchangeable where there is no end of the lead in it."""
        at = new.find(self.tail)
        if at < 0:
            raise Unchangeable("the container or its image is another one")
        at += len(self.tail)
        return new[:at], new[at:]


def exports(environment: Environment, image: str = "") -> Lead:
    """Variables and image before a script that a shell runs."""
    lines = [f"export {each.name}={shlex.quote(each.text)}" for each in environment.settings]
    pulled = [f"docker pull {image}"] if image else []
    return Lead("\n".join([*lines, *pulled, "#"]) + "\n", "#\n") if lines or pulled else Lead()


def container(environment: Environment, image: str, words: Sequence[str] = ()) -> Lead:
    """A container with its variables and the first words of its command."""
    tail = " ".join([image, *map(shlex.quote, words)]) + " "
    set_ = (f"-e {shlex.quote(f'{each.name}={each.text}')}" for each in environment.settings)
    return Lead(" ".join(["docker run", *set_, tail]), tail)


def variables_in(lead: str) -> dict[str, str]:
    """What a lead sets."""
    found: dict[str, str] = {}
    for words in simple_commands(lead):
        for before, word in pairwise(words):
            both = pair(word.text) if before.text in ("export", "-e") else None
            found |= dict([both]) if both else {}
    return found


@dataclass(frozen=True, slots=True)
class Script:
    """Shell text inside a file. `places` says where each character stands, and where the end is; `write` puts other text into
    the file's form."""

    text: str
    places: Sequence[int]
    write: Callable[[str], str]
    environment: Environment = Environment()
    lead: Lead = Lead()
    wholly: Callable[[str], Edit | None] = lambda new: None
    """The edit that writes all of it anew, where a form cannot take a change in its middle."""
    breaks_lines: str = ""
    """What parts options that stand on lines of their own, where a line's end is a blank to the shell."""

    @property
    def command(self) -> str:
        return self.lead.text + self.text

    def edits(self, new: str) -> list[Edit]:
        """The edits to the file that make the command the new one. Raises Unchangeable where that cannot be done."""
        lead, body = self.lead.cut(new)
        return [*self.environment.edits(variables_in(lead)), *self._text_edits(body)]

    def _text_edits(self, body: str) -> list[Edit]:
        if body == self.text:
            return []
        whole = self.wholly(body)
        if whole is not None:
            return [whole]
        before, after = TOKEN.findall(self.text), TOKEN.findall(body)
        starts = [0]
        for token in before:
            starts.append(starts[-1] + len(token))
        found = []
        for what, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
            if what != "equal":
                start, end = self.places[starts[a]], self.places[starts[b]]
                found.append(Edit(start, end, self.write(self._on_lines(after[c:d], after[d : d + 1]))))
        return found

    def _on_lines(self, tokens: list[str], following: list[str]) -> str:
        """New words, each option on a line of its own where the others have one."""
        both = zip(tokens, [*tokens[1:], *(following or [""])], strict=False)
        return "".join(self.breaks_lines or t if t == " " and after.startswith("--") else t for t, after in both)


@dataclass(frozen=True, slots=True)
class Item:
    """One word of a list, and where it stands. `write` gives another text the same form."""

    text: str
    start: int
    end: int
    write: Callable[[str], str]
    whole: tuple[int, int]
    """All that goes when it is taken out."""
    after: Callable[[str], Edit]
    """What puts another item behind it."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A command as a list of words, run in a container with its variables."""

    items: tuple[Item, ...]
    environment: Environment
    image: str

    @property
    def command(self) -> str:
        return container(self.environment, self.image, [item.text for item in self.items]).text.rstrip()

    def edits(self, new: str) -> list[Edit]:
        """The edits to the file that make the command the new one. Raises Unchangeable where that cannot be done."""
        lead, body = container(Environment(), self.image).cut(new + " ")
        words = [word.text for word in next(iter(simple_commands(body)), [])]
        return [*self.environment.edits(variables_in(lead)), *self._item_edits(words)]

    def _item_edits(self, words: list[str]) -> Iterator[Edit]:
        old = [item.text for item in self.items]
        for what, a, b, c, d in SequenceMatcher(None, old, words, autojunk=False).get_opcodes():
            if what == "equal":
                continue
            both = min(b - a, d - c)
            for item, word in zip(self.items[a : a + both], words[c : c + both], strict=True):
                yield Edit(item.start, item.end, item.write(word))
            for item in self.items[a + both : b]:
                yield Edit(*item.whole)
            if c + both < d:
                if a + both == 0:
                    raise Unchangeable("nothing stands before the new words")
                edits = [self.items[a + both - 1].after(word) for word in self._joined(words[c + both : d])]
                yield Edit(edits[0].start, edits[0].end, "".join(edit.text for edit in edits))

    def _joined(self, words: list[str]) -> list[str]:
        """New options as `--name=value` where the list writes its own so."""
        options = [item.text for item in self.items if item.text.startswith("--")]
        if not any("=" in each for each in options) or any(
            flag.text.startswith("--") and "=" not in flag.text and not value.text.startswith("-")
            for flag, value in pairwise(self.items)
        ):
            return words
        found: list[str] = []
        for word in words:
            if found and found[-1].startswith("--") and "=" not in found[-1] and not word.startswith("-"):
                found[-1] += f"={word}"
            else:
                found.append(word)
        return found


def pair(text: str) -> tuple[str, str] | None:
    """`NAME=value` as both; None for anything else."""
    found = ASSIGNED.fullmatch(text)
    return (found[1], found[2]) if found else None
