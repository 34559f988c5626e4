"""What the assistant says: evidence, fixes adapted to a machine, diagnoses, an answer, and the events on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from kb.types import Language, Risk

AnswerStatus = Literal["diagnosed", "howto", "healthy", "insufficient", "out_of_scope"]
EvidenceKind = Literal["document", "probe", "log", "command"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """The only thing that an answer can cite: K1 a document, P1 a probe, L1 a log line, C1 the user's command."""

    id: str
    kind: EvidenceKind
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class ComputedValue:
    """A number with its arithmetic: `how` reads `floor(20304 / 16) * 16 = 20304`."""

    name: str
    value: float | int | str
    unit: str
    how: str


@dataclass(frozen=True, slots=True)
class Fix:
    """A document's fix for this machine: the `place`th of the document, from 0. `flags` are the flags and variables checked."""

    title: str
    text: str
    commands: tuple[str, ...] = ()
    patched_command: str | None = None
    computed: tuple[ComputedValue, ...] = ()
    risk: Risk = "restart"
    when: str = ""
    cites: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    place: int = 0


@dataclass(frozen=True, slots=True)
class RuledOut:
    """A document that was considered, and why it is not the cause."""

    id: str
    why: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A cause. `confidence` is 0…1; supporting and contradicting hold evidence ids."""

    id: str
    title: str
    confidence: float
    supporting: tuple[str, ...] = ()
    contradicting: tuple[str, ...] = ()
    ruled_out: tuple[RuledOut, ...] = ()
    fixes: tuple[Fix, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was done for an answer: a probe, a search, a scan. `summary_zh` is empty where nothing is to be told."""

    name: str
    status: str
    seconds: float
    summary: str = ""
    summary_zh: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person gets, in words (`text`, Markdown) and in parts."""

    status: AnswerStatus
    lang: Language
    diagnoses: tuple[Diagnosis, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    warnings: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    text: str = ""
    thread: str = ""
    schema: int = 1


@dataclass(frozen=True, slots=True)
class Spent:
    """What one call of a language model took."""

    model: str
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class Event:
    """What a stream yields. `step` for started and finished, `text` for a piece of the answer, `answer` at the end.

    `spent` goes with the finished step of a model's call.
    """

    kind: Literal["step_started", "step_finished", "text", "answer"]
    step: Step | None = None
    text: str = ""
    answer: Answer | None = None
    spent: Spent | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What the user brings: words, logs (by name), a serving command, a recorded host."""

    text: str = ""
    logs: dict[str, str] = field(default_factory=dict)
    log_paths: tuple[str, ...] = ()
    command: str = ""
    host: dict[str, Any] | None = None
    lang: Language | Literal["auto"] = "auto"
    use_probes: bool = True
    thread: str = ""
