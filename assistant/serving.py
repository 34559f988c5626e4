"""A serving command read as settings: each option under one name for all its spellings, with its values and its span."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kb.catalog.command import Call, Option
from kb.catalog.history import History
from kb.catalog.patch import json_value, option_span
from kb.catalog.status import Use, main_name, resolve
from kb.catalog.uses import nearest, option_values
from kb.catalog.written import calls_of

MODEL_KEYS = ("--model", "--model-path")
ATTACHED = re.compile(r"-O(\w+)")
SWITCHING = re.compile(r"--(?P<no>no-)?(?:enable-|(?P<disable>disable-))?(?=\w)")
NUMBER = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT]?)")
FACTORS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True, slots=True)
class Setting:
    """One option as a release reads it. `path` are the keys after a dot, `start` and `end` its span, values included."""

    key: str
    negated: bool
    values: tuple[str, ...]
    path: tuple[str, ...]
    option: Option
    start: int
    end: int

    @property
    def value(self) -> str:
        """All values as one text."""
        return " ".join(self.values)

    @property
    def is_inline(self) -> bool:
        """Whether the value stands after `=`."""
        return self.option.inline is not None

    @property
    def is_attached(self) -> bool:
        """Whether the value is part of the name, as in `-O3`."""
        return bool(ATTACHED.fullmatch(self.option.word.text))

    @property
    def meaning(self) -> tuple[bool, tuple[str, ...]]:
        """Alike for spellings that come to the same: `--x`, `--x true` and `--x=True`; `--no-x` and `--x false`."""
        plain = self.value.lower()
        if plain in ("", "true", "false"):
            return self.negated != (plain == "false"), ()
        return self.negated, self.values

    @property
    def object(self) -> dict[str, Any] | None:
        """The JSON object that it gives, also as keys after a dot; None for any other value."""
        value = json_value(self.value) if self.values else True if self.path else None
        for name in reversed(self.path):
            value = {name: value}
        return value if isinstance(value, dict) else None


def serving_calls(text: str, engine: str) -> list[Call]:
    """The calls in a text that start a server of the engine, any for an empty one."""
    return [call for call in calls_of(text) if call.serving and engine in ("", call.engine)]


def model_of(call: Call) -> str:
    """The model that a call names by an option or before the first one; empty where it names none there."""
    for option in call.options:
        if option.name.replace("_", "-") in MODEL_KEYS:
            return option.inline if option.inline is not None else option.trail[0].text if option.trail else ""
    return call.leading[0].text if call.leading else ""


def settings_of(history: History, release: str, call: Call) -> tuple[Setting, ...]:
    """The options of a call as the release reads them; as the newest recorded one does where it is not known."""
    return tuple(setting_of(history, release, call, option) for option in call.options)


def setting_of(history: History, release: str, call: Call, option: Option) -> Setting:
    """One option of a call, see `settings_of`."""
    at = nearest(history, release)
    path = tuple(option.name.split(".")[1:]) if option.name.startswith("--") else ()
    key, negated = key_of(history, at, option.name)
    attached = ATTACHED.fullmatch(option.word.text)
    if attached:
        return Setting(key, negated, (attached[1],), path, option, option.word.start, option.word.end)
    values = option_values(history, at, option)
    return Setting(
        key, negated, values, path, option, *option_span(history, release, call, option, Use(option.name, values))
    )


def key_of(history: History, at: int, written: str) -> tuple[str, bool]:
    """The name under which an option counts, one for all its spellings, and whether this spelling switches it off.

    `-tp` and `--tensor_parallel_size` count as `--tensor-parallel-size`, `--no-enable-x` and `--disable-x` both as `--x`.
    """
    name = resolve(history, at, written.replace("_", "-") if written.startswith("--") else written)[0]
    main = main_name(history, name)
    switching = SWITCHING.match(name if stem(name) == stem(main) else main)
    return stem(main), switching is not None and bool(switching["no"]) != bool(switching["disable"])


def stem(name: str) -> str:
    """A flag without the words that only switch it on or off."""
    return SWITCHING.sub("--", name, count=1)


def number_of(value: object) -> float | None:
    """A value as a number (`8192`, `0.9`, `4G`, `32k` as vLLM reads them); None for anything else, so for -1 and auto."""
    found = NUMBER.fullmatch(str(value))
    return float(found[1]) * FACTORS[found[2]] if found else None
