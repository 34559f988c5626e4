"""What the parts of the assistant give, as types that a tool's schema can be made of; the JSON is that of the command line."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from kb.catalog.status import FlagStatus
from kb.sizing.plan import Figure
from kb.types import Role
from probes.types import Status


class FoundDocument(TypedDict):
    """A passage that a search found. `lines` are its first and last line in the file, `score` compares within one search."""

    document: str
    title: str
    text: str
    path: str
    lines: list[int]
    score: float


class Reading(TypedDict):
    """One look at the machine; `unknown` where it could not look. `facts` have the names of kb/data/facts.yaml."""

    probe: str
    status: Status
    summary: str
    summary_zh: str
    facts: dict[str, Any]
    data: dict[str, Any]
    source: str
    seconds: float
    advice: list[str]
    advice_zh: list[str]


class FlagCheck(TypedDict):
    """Each flag, choice and variable of a command in a release, and the command with what the record would write instead."""

    release: str | None
    items: list[FlagStatus]
    patched_command: str


class ScannedFile(TypedDict):
    """A log that was read."""

    path: str
    bytes: int
    lines: int


class Line(TypedDict):
    """A line of a log."""

    path: str
    line: int
    time: str | None
    text: str


class FoundLine(TypedDict):
    """A known line: the document that knows it, and where it was seen first and last."""

    document: str
    signature: str
    role: Role
    count: int
    first: Line
    last: Line


class Root(TypedDict):
    """The exception that came first."""

    exception: str
    message: str
    path: str
    line: int


class LogScan(TypedDict):
    """What the scanner found in logs."""

    files: list[ScannedFile]
    matches: list[FoundLine]
    root: Root | None


class ModelSize(TypedDict):
    """What a model takes and what fits; a figure that is not known is null, with the reason under `reasons`."""

    weights_bytes_per_gpu: int | float | None
    kv_bytes_per_token_per_gpu: int | float | None
    kv_available_bytes_per_gpu: int | float | None
    kv_tokens: int | float | None
    max_model_len_that_fits: int | float | None
    max_concurrency: int | float | None
    reasons: dict[str, str]
    assumptions: list[str]
    formula: str
    figures: list[Figure]
    source: str
    engine: Literal["vllm", "sglang"]
    tensor_parallel_size: int
    pipeline_parallel_size: int
    smallest_tensor_parallel_size: int | None
    freed_bytes_per_gpu: dict[str, int | float | None]
