"""Measures how fast an engine answers: short completions, some at once, each with its times."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

from probes.reading.http import Address, Unanswered, complete

MAX_TOKENS = 64
TEXT = "Describe, in plain sentences and without a list, how rain forms, where it falls, and what people did to collect it."
SAID = {"silent": "the time was up", "broken": "the answer broke off", "refused": "nobody listens"}


@dataclass(frozen=True, slots=True)
class Stream:
    """One completion. Times are seconds after it was asked for; `error` is why it gave nothing or broke off."""

    first_seconds: float | None = None
    last_seconds: float | None = None
    tokens: int = 0
    finished: bool = False
    error: str = ""

    @property
    def tpot_seconds(self) -> float | None:
        """Seconds between output tokens; None for fewer than two."""
        if self.first_seconds is None or self.last_seconds is None or self.tokens < 2:
            return None
        return (self.last_seconds - self.first_seconds) / (self.tokens - 1)


@dataclass(frozen=True, slots=True)
class Level:
    """Completions that ran at once, over `seconds` in all."""

    streams: tuple[Stream, ...]
    seconds: float

    @property
    def finished(self) -> int:
        return sum(stream.finished for stream in self.streams)

    @property
    def tokens_per_second(self) -> float | None:
        tokens = sum(stream.tokens for stream in self.streams)
        return tokens / self.seconds if tokens and self.seconds > 0 else None

    @property
    def ttft_seconds(self) -> float | None:
        return (
            median(found) if (found := [s.first_seconds for s in self.streams if s.first_seconds is not None]) else None
        )

    @property
    def tpot_seconds(self) -> float | None:
        return (
            median(found) if (found := [s.tpot_seconds for s in self.streams if s.tpot_seconds is not None]) else None
        )

    @property
    def error(self) -> str:
        """The first reason why a stream gave no token; empty where any gave one."""
        return "" if self.tokens_per_second else next((s.error for s in self.streams if s.error), "")


def measure_level(address: Address, model: str, streams: int, deadline: float, max_tokens: int = MAX_TOKENS) -> Level:
    """Ask for `streams` completions at once and measure each until it ends, or the `time.monotonic()` deadline."""
    started = time.monotonic()
    with ThreadPoolExecutor(streams) as pool:
        asked = [pool.submit(measure_stream, address, model, deadline, max_tokens) for _ in range(streams)]
        found = tuple(each.result() for each in asked)
    return Level(found, time.monotonic() - started)


def measure_stream(address: Address, model: str, deadline: float, max_tokens: int = MAX_TOKENS) -> Stream:
    """Ask for one completion. Its prompt begins like no other, so that the prefix cache holds nothing of it."""
    started = time.monotonic()
    first = last = None
    tokens = 0
    try:
        for at, event in complete(address, _request(model, max_tokens), deadline):
            if "error" in event:
                return Stream(error=_error(event))
            if _text_of(event):
                first, last = first or at - started, at - started
                tokens += 1
            tokens = _told_tokens(event) or tokens
    except Unanswered as error:
        return Stream(first, last, tokens, error=SAID.get(error.reason, error.reason))
    return Stream(first, last, tokens, finished=tokens > 0, error="" if tokens else "the answer was empty")


def _request(model: str, max_tokens: int) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": f"{uuid.uuid4().hex} {TEXT}",
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _text_of(event: dict[str, Any]) -> str:
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return str(choice.get("text") or "") if isinstance(choice, dict) else ""


def _told_tokens(event: dict[str, Any]) -> int:
    """The tokens that the server counted. It may send several in one piece, so its count goes before ours."""
    usage = event.get("usage")
    told = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return told if isinstance(told, int) else 0


def _error(event: dict[str, Any]) -> str:
    error = event["error"]
    text = str(error.get("message") or error) if isinstance(error, dict) else str(error)
    status = f"HTTP {event['status']}: " if "status" in event else ""
    return (status + " ".join(text.split()))[:300]
