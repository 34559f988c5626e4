"""What the server counts of itself, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from assistant.types import Event

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Measures:
    """Answers by status and surface, how long they took, and how many are under way."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        names = ("status", "surface")
        self._answers = Counter("crashcart_answers", "Answers given.", names, registry=self._registry)
        self._failures = Counter(
            "crashcart_failures", "Questions that ended without an answer.", ("surface",), registry=self._registry
        )
        self._seconds = Histogram(
            "crashcart_answer_seconds",
            "Time from question to answer.",
            ("surface",),
            registry=self._registry,
            buckets=SECONDS,
        )
        self._current = Gauge("crashcart_answers_in_progress", "Answers under way.", registry=self._registry)

    def watched(self, events: Iterable[Event], surface: str) -> Iterator[Event]:
        """The same events, counted."""
        started = time.monotonic()
        status = ""
        self._current.inc()
        try:
            for event in events:
                if event.answer:
                    status = event.answer.status
                yield event
        finally:
            self._current.dec()
            self._seconds.labels(surface).observe(time.monotonic() - started)
            counter = self._answers.labels(status, surface) if status else self._failures.labels(surface)
            counter.inc()

    def page(self) -> tuple[bytes, str]:
        """The metrics page and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
