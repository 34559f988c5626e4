"""What happened in a server between two scrapes of its page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probes.reading.bottleneck import Load
from probes.reading.limits import Hardware, Limits

if TYPE_CHECKING:
    from probes.reading.metrics import Histogram, Page

TIMES = ("ttft", "tpot", "queue", "e2e")


@dataclass(frozen=True, slots=True)
class Window:
    """Two pages and the seconds between them; the same page twice where there was only one."""

    first: Page
    last: Page
    seconds: float = 0.0

    def finished(self, name: str) -> Histogram | None:
        """What was observed between the pages; None where there is only one, or either lacks the histogram."""
        if self.first is self.last or name not in self.first.histograms or name not in self.last.histograms:
            return None
        return self.last.histograms[name].since(self.first.histograms[name])

    def histogram(self, name: str) -> tuple[Histogram | None, str]:
        """What was observed between the pages (`now`); where nothing was, all since the server's start (`since start`)."""
        recent = self.finished(name)
        if recent and recent.count:
            return recent, "now"
        return self.last.histograms.get(name), "since start"

    def per_second(self, counter: str) -> float | None:
        """How fast a counter grew; None where it is not told, or the server began anew."""
        first, last = self.first.counters.get(counter), self.last.counters.get(counter)
        if first is None or last is None or last < first or self.seconds <= 0:
            return None
        return (last - first) / self.seconds

    @property
    def generated_tokens_per_second(self) -> float | None:
        """SGLang counts tokens when a request ends, so its own gauge is taken; vLLM counts every step."""
        told = self.last.gauges.get("generated_tokens_per_second")
        return told if told is not None else self.per_second("generated_tokens")

    def load(self, limits: Limits, hardware: Hardware) -> Load:
        """Gather what decides which limit binds, of the data-parallel engine that is loaded most."""
        unit = max(self.last.units, key=lambda unit: (unit.waiting or 0, unit.kv_usage_ratio or 0, unit.running or 0))
        before = next((each for each in self.first.units if each.name == unit.name), unit)
        steps = self.finished("step_tokens")
        return Load(
            self.last.engine,
            unit.running,
            None if unit.waiting is None else min(unit.waiting, before.waiting or 0),
            unit.kv_usage_ratio,
            self.per_second("preemptions"),
            limits.max_sequences or _reached(limits, unit.running, before.running),
            steps.mean if steps else None,
            limits.step_tokens,
            hardware.utilization_ratio,
            hardware.slowed,
        )

    def facts(self) -> dict[str, Any]:
        """Gather the facts; what a page does not tell is left out."""
        gauges = self.last.gauges
        facts: dict[str, Any] = {
            "kv_usage_ratio": _rounded(gauges.get("kv_usage_ratio"), 3),
            "requests_running": _rounded(gauges.get("running"), 0),
            "requests_waiting": _rounded(gauges.get("waiting"), 0),
            "preemptions_per_second": _rounded(self.per_second("preemptions"), 2),
            "prefix_hit_ratio": _rounded(self.last.prefix_hit_ratio, 3),
            "generated_tokens_per_second": _rounded(self.generated_tokens_per_second, 1),
        }
        for fact, name, share in (
            ("ttft_p50_seconds", "ttft", 0.5),
            ("ttft_p95_seconds", "ttft", 0.95),
            ("tpot_p50_seconds", "tpot", 0.5),
            ("queue_p95_seconds", "queue", 0.95),
        ):
            histogram, _ = self.histogram(name)
            facts[fact] = _rounded(histogram.quantile(share) if histogram else None, 4)
        return {name: value for name, value in facts.items() if value is not None}

    def times(self) -> dict[str, dict[str, Any]]:
        """Tell median and 95th percentile of every latency, over how many observations, and of when."""
        found = {}
        for name in TIMES:
            histogram, window = self.histogram(name)
            if histogram and histogram.count:
                p50, p95 = histogram.quantile(0.5), histogram.quantile(0.95)
                found[name] = {"p50_seconds": p50, "p95_seconds": p95, "count": histogram.count, "window": window}
        return found


def _reached(limits: Limits, now: float | None, before: float | None) -> int | None:
    """Where the cap is not known, a number of running requests that stays at a usual one, and at no other, is the cap."""
    return next((usual for usual in limits.usual_sequences if now == before == usual), None)


def _rounded(value: float | None, digits: int) -> float | int | None:
    return None if value is None else int(value) if digits == 0 else round(value, digits)
