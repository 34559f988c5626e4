"""One option of a parser, made from what `add_argument` is given."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kb.catalog.values import Class, Function, Member, Unknown

SAYS_DEPRECATED = re.compile(
    r"(?:^|\n)\W*deprecated\b|\(deprecated\b|\bthis (?:argument|flag|option|parameter) is deprecated|^\S+(?: \(\S+\))? is deprecated|"
    r"^note: \S+ is deprecated",
    re.I,
)
SWITCHES = ("store_true", "store_false", "store_const", "BooleanOptionalAction", "count", "DeprecatedAction")
PAIRS = (("--enable-", "--disable-"), ("--disable-", "--enable-"))


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a parser. `default` and `choices` are texts; `takes` is `0`, `1`, `?`, `+` values."""

    names: tuple[str, ...]
    negations: tuple[str, ...] = ()
    default: str | None = None
    choices: tuple[str, ...] | None = None
    takes: str = "1"
    deprecated: bool = False


def make_option(names: Sequence[str], given: dict[str, Any], boolean_pairs: bool = False) -> Option | None:
    """The option that `add_argument(*names, **given)` registers; None for a positional argument.

    `boolean_pairs`: a switch `--enable-x` also gets `--disable-x`, and the reverse (vLLM 0.33).
    """
    names = [each for each in names if each.startswith("-")]
    if not names:
        return None
    action = str(given.get("action", "")).rpartition(".")[2]
    longs = [each for each in names if each.startswith("--")]
    negations = [f"--no-{each[2:]}" for each in longs] if action == "BooleanOptionalAction" else []
    if negations and boolean_pairs:
        negations += [new + each.removeprefix(old) for each in longs for old, new in PAIRS if each.startswith(old)]
    return Option(
        names=tuple(names),
        negations=tuple(negations),
        default=default_of(action, given),
        choices=choices_of(given.get("choices")),
        takes=takes_of(action, given),
        deprecated=given.get("deprecated") is True or "Deprecated" in action or says_deprecated(given.get("help")),
    )


def shown(value: Any) -> str | None:
    """A default or a choice as text: JSON for what JSON has, `expr:…` for what only a running program knows."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Unknown):
        return f"expr:{value.text}"
    if isinstance(value, Member):
        return shown(value.value) if value.plain or isinstance(value.value, str) else f"{value.owner}.{value.name}"
    if isinstance(value, (Class, Function)):
        return f"expr:{value.node.name}"
    return json.dumps(value, default=str)


def says_deprecated(text: Any) -> bool:
    """Whether a help text calls its own option deprecated."""
    return isinstance(text, str) and bool(SAYS_DEPRECATED.search(text))


def default_of(action: str, given: dict[str, Any]) -> str | None:
    if "default" in given:
        return shown(given["default"])
    if action.endswith("StoreTrueAction"):
        return "false"
    return {"store_true": "false", "store_false": "true"}.get(action)


def choices_of(value: Any) -> tuple[str, ...] | None:
    """The accepted values, sorted; None where any value is accepted or they are not known."""
    if not isinstance(value, (list, dict)) or not value or any(isinstance(each, Unknown) for each in value):
        return None
    return tuple(sorted({"None" if each is None else str(shown(each)) for each in value}))


def takes_of(action: str, given: dict[str, Any]) -> str:
    """How many values follow: none for switches, `+` for one or more."""
    if action in SWITCHES or action.endswith("StoreTrueAction"):
        return "0"
    if action == "DeprecatedStoreConstAction" and "nargs" not in given:
        return "0"
    if action == "StoreBoolean":
        return "?"
    nargs = given.get("nargs")
    return "+" if nargs in ("+", "*") or (isinstance(nargs, int) and nargs > 1) else "?" if nargs == "?" else "1"
