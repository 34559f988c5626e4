"""What a server may take at once: from what it tells, from its command line, else from its release's defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_SEQUENCES = {"vllm": "--max-num-seqs", "sglang": "--max-running-requests"}
STEP_TOKENS = {"vllm": "--max-num-batched-tokens", "sglang": "--chunked-prefill-size"}
CLAUSE = re.compile(r"(?P<value>\d+)(?: on GPUs)?(?: of (?P<gib>\d+) GiB or more)?(?P<a100> except A100)?")


@dataclass(frozen=True, slots=True)
class Hardware:
    """The smallest GPU of a host, as far as it is known; `utilization_ratio` is the share of time with a kernel running."""

    name: str = ""
    total_gib: float | None = None
    utilization_ratio: float | None = None
    slowed: bool | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Per data-parallel engine: sequences that run at once, and tokens of one step; None for what is not known."""

    max_sequences: int | None = None
    step_tokens: int | None = None
    origins: tuple[str, ...] = ()
    """Where each that is known comes from: `server`, `command` or `default`."""
    usual_sequences: tuple[int, ...] = ()
    """What `max_sequences` is by default, where the GPU decides and is not known."""


def find_limits(
    engine: str, release: str, command: str = "", told: Mapping[str, Any] | None = None, gpu: Hardware | None = None
) -> Limits:
    """Find both limits. `told` is what the server says of itself, by names without dashes in front."""
    gpu = gpu or Hardware()
    sequences, first = _find(engine, release, MAX_SEQUENCES.get(engine, ""), command, told or {}, gpu)
    tokens, second = _find(engine, release, STEP_TOKENS.get(engine, ""), command, told or {}, gpu)
    usual = () if sequences else parse_usual(_default(engine, release, MAX_SEQUENCES.get(engine, "")))
    return Limits(sequences, tokens, tuple(origin for origin in (first, second) if origin), usual)


def parse_flag(command: str, flag: str) -> int | None:
    """The number that a command line gives a flag, written with dashes or underscores; the last one counts."""
    spelled = "[-_]".join(flag.removeprefix("--").split("-"))
    given = re.findall(rf"(?:^|\s)--{spelled}[= ](\d+)(?!\S)", command)
    return int(given[-1]) if given else None


def parse_default(text: str, gpu: Hardware) -> int | None:
    """Read `1024 on GPUs of 70 GiB or more except A100, else 256` for a GPU; None where its size decides and is not known."""
    if re.fullmatch(r"\d+", text):
        return int(text)
    if gpu.total_gib is None or not re.match(r"\d+ on GPUs of \d+ GiB", text):
        return None
    for found in CLAUSE.finditer(text.replace("else ", "")):
        at_least = float(found["gib"] or 0)
        if gpu.total_gib >= at_least and not (found["a100"] and "A100" in gpu.name):
            return int(found["value"])
    return None


def parse_usual(text: str) -> tuple[int, ...]:
    """The values of `1024 on GPUs of 70 GiB or more except A100, else 256`, whatever the GPU: 1024 and 256."""
    if not re.match(r"\d+ on GPUs of \d+ GiB", text):
        return ()
    return tuple(int(found["value"]) for found in CLAUSE.finditer(text.replace("else ", "")))


def _default(engine: str, release: str, flag: str) -> str:
    from kb.flags import default_of

    found = default_of(engine, release, flag) if flag and release else None
    return found.value or "" if found else ""


def _find(
    engine: str, release: str, flag: str, command: str, told: Mapping[str, Any], gpu: Hardware
) -> tuple[int | None, str]:
    said = told.get(flag.removeprefix("--").replace("-", "_"))
    if isinstance(said, int) and said > 0:
        return said, "server"
    given = parse_flag(command, flag) if flag else None
    if given:
        return given, "command"
    value = parse_default(_default(engine, release, flag), gpu)
    return value, "default" if value else ""
