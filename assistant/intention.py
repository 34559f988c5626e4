"""What the words of a fix say about the options of its command: which are meant, which way a number goes, which must go.

A command in a document is a whole one. `NCCL_P2P_DISABLE=1 vllm serve MODEL --tensor-parallel-size 2` is about the variable;
the two GPUs only make it complete, and nobody with eight wants them in place of theirs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from assistant.serving import key_of, number_of, stem
from kb.catalog.history import History

Direction = Literal["lower", "raise", ""]

FLAG = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
SNAKE = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")
VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b")
LOWER = r"(?:lower|reduce|decrease|shorten|shorter|fewer|less|smaller|limit|bound|save)(?![\w-])|调低|降低|减小|调小"
RAISE = r"(?:raise|increase|higher|larger|bigger|more(?! free| room| often))(?![\w-])|调高|提高|调大|加大"
WAY = re.compile(rf"(?<![A-Za-z-])(?:(?P<lower>{LOWER})|(?P<raise>{RAISE}))", re.I)
# Words for using more GPUs, which move nothing but the sizes of groups of GPUs.
SPREAD = re.compile(r"\b(?:spread|split|add GPUs|more GPUs|room|faster)\b", re.I)
REMOVING = re.compile(r"\bremove\b|\bdrop\b|^(?:take|leave)\b.*\b(?:out|off|away)\b|去掉", re.I)
# `--task, --other: use --runner`: a title about a flag that the user has or has not.
SUBJECT = re.compile(r"((?:`?--[\w-]+`?(?:, |、)?)+)(?: does not exist)?[::]")
# `--x` in `Lower --y and run replicas with --x` takes the place of `--y`.
INSTEAD = re.compile(r"(?:\b(?:with|use)|用)[\s`]*$", re.I)
LAYOUT = re.compile(
    r"--(?:(?:tensor|pipeline|data|expert)-parallel-\S+|(?:tp|pp|dp|ep)-size|nnodes|node-rank|dist-init-addr|master-\w+)"
)
PERSONAL = re.compile(r"--(?:host|port|served-model-name|lora-modules|lora-paths|trust-remote-code|api-key)")
# Stand-ins that a document writes where only the user knows the value.
EXAMPLE = re.compile(
    r"\b(?:NAME|KEY|ADAPTER|BRANCH|OWNER|[A-Z]+_MODEL|\w+_HEAD)\b|^\.{0,2}/|=/|^10\.0\.0\.\d|^https?://|^my-|^eth0$|^\$"
)


def stays(direction: Direction, current: object, wanted: object) -> bool:
    """Whether a number is already where the fix would move it, or further; never for what is no number."""
    is_now, shall_be = number_of(current), number_of(wanted)
    if is_now is None or shall_be is None:
        return False
    return (direction == "lower" and is_now <= shall_be) or (direction == "raise" and is_now >= shall_be)


@dataclass(frozen=True)
class Intention:
    """The title and text of a fix, read for one engine's flags at one release. Without words every option is meant."""

    history: History
    at: int
    title: str = ""
    text: str = ""

    def mentions(self, words: str) -> Iterator[tuple[str, int, int]]:
        """The options and variables that words speak of, with their spans; `max_model_len` is the option."""
        for found in (*FLAG.finditer(words), *SNAKE.finditer(words)):
            flag = found[0] if found[0].startswith("-") else f"--{found[0]}"
            yield key_of(self.history, self.at, flag)[0], *found.span()
        for found in VARIABLE.finditer(words):
            yield found[0], *found.span()

    @cached_property
    def named(self) -> frozenset[str]:
        """Every option and variable that title or text speak of."""
        return frozenset(name for name, *_ in self.mentions(f"{self.title}\n{self.text}"))

    @cached_property
    def subject(self) -> frozenset[str]:
        """The options that the fix is for, where its title begins with them; it is for nobody else."""
        found = SUBJECT.match(self.title)
        return frozenset(name for name, *_ in self.mentions(found[1])) if found else frozenset()

    @cached_property
    def removed(self) -> frozenset[str]:
        """The options that the title tells to take out."""
        if not REMOVING.search(self.title):
            return self.subject
        places = self.mentions(self.title)
        return self.subject | {name for name, start, _ in places if not INSTEAD.search(self.title[:start])}

    def concerns(self, key: str) -> bool:
        """Whether an option of the command is part of the fix, and not there to make the command complete."""
        if not (self.title or self.text) or key in self.named:
            return True
        if LAYOUT.fullmatch(key):
            return any(LAYOUT.fullmatch(each) for each in self.named)
        return not PERSONAL.fullmatch(key)

    def leaves(self, key: str, beside: Collection[str], value: str) -> bool:
        """Whether the user's own value stays: the fix gives an example, or a number beside what it speaks of.

        `beside` are all options and variables of the fix's command.
        """
        if EXAMPLE.search(value):
            return True
        aside = key not in self.named and not self.named.isdisjoint({*beside, *self.removed})
        return aside and not LAYOUT.fullmatch(key) and number_of(value) is not None

    def direction(self, name: str) -> Direction:
        """Which way the title moves an option, variable or JSON key: by the verb before it, right after it, or by any."""
        spellings = (name, stem(f"--{name.replace('_', '-')}"))
        place = next((span for key, *span in self.mentions(self.title) if key in spellings), None)
        verb = next(WAY.finditer(self.title), None)
        if place:
            before = [each for each in WAY.finditer(self.title) if each.start() < place[0]]
            verb = WAY.match(self.title[place[1] :].lstrip("` ")) or (before[-1] if before else None)
            verb = None if INSTEAD.search(self.title[: place[0]]) else verb
        if verb is None and LAYOUT.fullmatch(name) and SPREAD.search(self.title):
            return "raise"
        return "" if verb is None else "lower" if verb["lower"] else "raise"
