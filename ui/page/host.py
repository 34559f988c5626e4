"""The panel of this host: what a checkup finds, and GPUs and engines over the last minutes."""

from __future__ import annotations

import html
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kb.types import Language
from probes.judging import GRAVITY
from probes.types import ProbeResult, Target
from ui.checkup import advice_of, summary_of
from ui.page.card import badge
from ui.page.plots import Series, plot
from ui.page.words import say

SAMPLED = ("gpu_memory", "gpu_health", "engine_endpoint")
SAMPLE_SECONDS = 10.0
CHECKUP_SECONDS = 60.0
KEPT_SAMPLES = 90  # a quarter of an hour
PLOTS: dict[str, tuple[str, float | None]] = {
    "gpu_memory": ("{:.0%}", 1.0),
    "gpu_utilization": ("{:.0%}", 1.0),
    "kv": ("{:.0%}", 1.0),
    "queue": ("{:.0f}", None),
    "ttft": ("{:.2f} s", None),
}
"""How each value is written, and the top of its plot."""

CODE = re.compile(r"`([^`]+)`")

Values = Mapping[str, Mapping[str, float]]
"""Readings by plot, then by line."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was read at a moment of the monotonic clock."""

    at: float
    values: Values


@dataclass(frozen=True, slots=True)
class View:
    """What the panel shows; `age_seconds` is that of the checkup."""

    results: tuple[ProbeResult, ...]
    samples: tuple[Sample, ...]
    age_seconds: float


class HostWatch:
    """Looks at this host for every open panel together: however many are open, one reads and the others get what it read."""

    def __init__(self, target: Target, probe_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.target = target
        self.probe_seconds = probe_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._results: dict[str, ProbeResult] = {}
        self._looked = float("-inf")
        self._samples: deque[Sample] = deque(maxlen=KEPT_SAMPLES)

    @property
    def has_looked(self) -> bool:
        """Whether anybody has opened the panel yet."""
        return bool(self._results)

    def view(self, afresh: bool = False) -> View:
        """What is known, read anew where it is too old; `afresh` reads everything."""
        with self._lock:
            now = self._clock()
            if afresh or now - self._looked >= CHECKUP_SECONDS:
                self._look()
            elif not self._samples or now - self._samples[-1].at >= SAMPLE_SECONDS / 2:
                self._sample()
            return View(tuple(self._results.values()), tuple(self._samples), self._clock() - self._looked)

    def _look(self) -> None:
        from probes.registry import checkup

        self._take(checkup(self.target, self.probe_seconds))
        self._looked = self._clock()

    def _sample(self) -> None:
        from probes.registry import run_probes

        self._take(run_probes(SAMPLED, self.target, self.probe_seconds))

    def _take(self, results: Iterable[ProbeResult]) -> None:
        self._results |= {result.probe: result for result in results}
        self._samples.append(Sample(self._clock(), values_of(self._results)))


def values_of(results: Mapping[str, ProbeResult]) -> Values:
    """What is drawn, of what the probes read; a plot without a reading is left out."""
    engine = results["engine_endpoint"].facts if "engine_endpoint" in results else {}
    found: dict[str, dict[str, Any]] = {
        "gpu_memory": {name_of(gpu): used_ratio(gpu) for gpu in gpus_of(results, "gpu_memory")},
        "gpu_utilization": {name_of(gpu): gpu.get("utilization_ratio") for gpu in gpus_of(results, "gpu_health")},
        "kv": {"": engine.get("kv_usage_ratio")},
        "queue": {name: engine.get(f"requests_{name}") for name in ("running", "waiting")},
        "ttft": {name: engine.get(f"ttft_{name}_seconds") for name in ("p50", "p95")},
    }
    told = {key: {name: float(v) for name, v in lines.items() if v is not None} for key, lines in found.items()}
    return {key: lines for key, lines in told.items() if lines}


def gpus_of(results: Mapping[str, ProbeResult], probe: str) -> list[dict[str, Any]]:
    """A probe's reading of every GPU."""
    gpus = results[probe].data.get("gpus") if probe in results else None
    return list(gpus or ())


def name_of(gpu: Mapping[str, Any]) -> str:
    """`GPU 0`."""
    return f"GPU {gpu['gpu']['index']}"


def used_ratio(gpu: Mapping[str, Any]) -> float | None:
    """The share of a GPU's memory that is in use; None where the driver does not tell."""
    memory = gpu["memory"]
    return memory["used_bytes"] / memory["total_bytes"] if memory["total_bytes"] and memory["used_bytes"] else None


def render(view: View, lang: Language) -> str:
    """The panel as HTML; every text of a probe is escaped."""
    looked = say("looked", lang, n=len(view.results), ago=round(view.age_seconds))
    when = f'<p class="when">{looked}</p>'
    return f'<div class="host">{when}{render_plots(view, lang)}{render_findings(view, lang)}</div>'


def render_findings(view: View, lang: Language) -> str:
    """What is wrong, worst first and open; what is in order or could not be read, folded."""
    by_status = {status: [r for r in view.results if r.status == status] for status in GRAVITY}
    wrong = [finding(r, lang) for r in (*by_status["critical"], *by_status["warning"])]
    parts = [f"<h3>{say('findings', lang)}</h3>", *(wrong or [f"<p>{say('calm', lang)}</p>"])]
    for calm, title in ((by_status["ok"], "fine"), (by_status["unknown"], "unread")):
        if calm:
            rows = "".join(f"<dt>{r.probe}</dt><dd>{text(summary_of(r, lang))}</dd>" for r in calm)
            summary = say(title, lang, n=len(calm))
            parts.append(f"<details><summary>{summary}</summary><dl>{rows}</dl></details>")
    return "".join(parts)


def finding(result: ProbeResult, lang: Language) -> str:
    """A probe that found something: its sentence and what to do."""
    advice = "".join(f"<li>{text(line)}</li>" for line in advice_of(result, lang))
    status = badge(say(result.status, lang), result.status)
    return (
        f'<div class="finding">{status} <b>{result.probe}</b><p>{text(summary_of(result, lang))}</p>'
        f"{f'<ul>{advice}</ul>' if advice else ''}</div>"
    )


def render_plots(view: View, lang: Language) -> str:
    """A plot for everything that was ever read; a sentence where there is no GPU, or no engine that tells."""
    drawn = {key: series(view.samples, key, lang) for key in PLOTS}
    parts = [plot(say(key, lang), lines, form, upper) for key, (form, upper) in PLOTS.items() if (lines := drawn[key])]
    results = {result.probe: result for result in view.results}
    for probe, word, keys in (
        ("gpu_memory", "no_gpu", ("gpu_memory", "gpu_utilization")),
        ("engine_endpoint", "no_engine", ("kv", "queue", "ttft")),
    ):
        if probe in results and not any(drawn[key] for key in keys):
            parts.append(f"<p>{text(say(word, lang, why=summary_of(results[probe], lang)))}</p>")
    return f"<h3>{say('last_minutes', lang)}</h3>{''.join(parts)}"


def series(samples: Sequence[Sample], key: str, lang: Language) -> list[Series]:
    """The lines of a plot, each from the samples that have it."""
    names = dict.fromkeys(name for sample in samples for name in sample.values.get(key, ()))
    return [
        Series(
            say(name, lang) if name in ("running", "waiting") else name,
            tuple((s.at, s.values[key][name]) for s in samples if name in s.values.get(key, ())),
        )
        for name in names
    ]


def text(words: str) -> str:
    """A text as it stands, what is between backticks as code."""
    return CODE.sub(r"<code>\1</code>", html.escape(words))
