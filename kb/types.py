"""The nouns of the knowledge base: a document, its signatures and fixes, and a chunk of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Role = Literal["cause", "consequence", "context"]
Kind = Literal["fault", "howto"]
Risk = Literal["read-only", "restart", "reinstall", "reboot", "destructive"]
Language = Literal["en", "zh"]

ENGINE_NAMES = {"vllm": "vLLM", "sglang": "SGLang"}
"""The engines as people write them, by the names of their packages."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A line that a program prints. `pattern` is searched in single lines; its named groups are the values in it."""

    document: str
    name: str
    role: Role
    pattern: str
    example: str


@dataclass(frozen=True, slots=True)
class Computed:
    """A value worked out from captured groups and facts; `formula` is arithmetic over their names."""

    name: str
    formula: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a probe's facts say about a fault: `when` is an expression over fact names."""

    when: str
    speaks: Literal["for", "against", "rules-out"]


@dataclass(frozen=True, slots=True)
class Command:
    """Lines to run, and the releases they hold for: `releases` is `vllm>=0.8.2,<0.22.0`, or empty for any."""

    text: str
    releases: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Remedy:
    """A fix as a document prescribes it, before it is adapted to a machine. `lines` is its span in the file, from 1."""

    title: str
    text: str
    risk: Risk = "restart"
    when: str = ""
    commands: tuple[Command, ...] = ()
    lines: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Document:
    """One fault or how-to in one language. `sections` maps the part (causes, check, …) to its Markdown text."""

    id: str
    title: str
    language: Language
    kind: Kind = "fault"
    family: str = ""
    section: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    symptoms: tuple[str, ...] = ()
    summary: str = ""
    signatures: tuple[Signature, ...] = ()
    explains: tuple[str, ...] = ()
    computed: tuple[Computed, ...] = ()
    readings: tuple[Reading, ...] = ()
    fixes: tuple[Remedy, ...] = ()
    sections: dict[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    verified: dict[str, str] = field(default_factory=dict)
    path: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document: a stored item, and with `score` a search hit. `lines` counts from 1, both ends included."""

    id: str
    document: str
    title: str
    language: Language
    heading: tuple[str, ...]
    text: str
    path: str
    lines: tuple[int, int]
    origin: Literal["shipped", "user"] = "shipped"
    score: float | None = None
