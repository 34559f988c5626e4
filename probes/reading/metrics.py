"""Reads what vLLM and SGLang tell in their Prometheus pages, under the names of every release.

The names are those of the engines' own sources (vLLM 0.3.3 to 0.33.0, SGLang 0.3.6 to 0.5.23). A histogram's buckets
count from the start of the server; the difference of two pages is what happened between them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

# Per engine and value: the names it had, the newest first. The first that a page has is taken.
GAUGES: dict[str, dict[str, tuple[str, ...]]] = {
    "vllm": {
        "running": ("vllm:num_requests_running",),
        "waiting": ("vllm:num_requests_waiting",),
        "swapped": ("vllm:num_requests_swapped",),
        "kv_usage_ratio": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        "prefix_hit_ratio": ("vllm:gpu_prefix_cache_hit_rate",),
    },
    "sglang": {
        "running": ("sglang:num_running_reqs",),
        "waiting": ("sglang:num_queue_reqs",),
        "kv_usage_ratio": ("sglang:token_usage",),
        "used_tokens": ("sglang:num_used_tokens",),
        "kv_tokens": ("sglang:max_total_num_tokens",),
        "prefix_hit_ratio": ("sglang:cache_hit_rate",),
        "generated_tokens_per_second": ("sglang:gen_throughput",),
    },
}
COUNTERS: dict[str, dict[str, tuple[str, ...]]] = {
    "vllm": {
        "preemptions": ("vllm:num_preemptions_total",),
        "prompt_tokens": ("vllm:prompt_tokens_total",),
        "generated_tokens": ("vllm:generation_tokens_total",),
        "finished": ("vllm:request_success_total",),
        "prefix_queries": ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
        "prefix_hits": ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
    },
    "sglang": {
        "preemptions": ("sglang:num_retracted_requests_total",),
        "prompt_tokens": ("sglang:prompt_tokens_total",),
        "generated_tokens": ("sglang:generation_tokens_total",),
        "finished": ("sglang:num_requests_total",),
        "prefix_hits": ("sglang:cached_tokens_total",),
    },
}
HISTOGRAMS: dict[str, dict[str, tuple[str, ...]]] = {
    "vllm": {
        "ttft": ("vllm:time_to_first_token_seconds",),
        "tpot": (
            "vllm:inter_token_latency_seconds",
            "vllm:time_per_output_token_seconds",
            "vllm:request_time_per_output_token_seconds",
        ),
        "queue": ("vllm:request_queue_time_seconds", "vllm:time_in_queue_requests"),
        "e2e": ("vllm:e2e_request_latency_seconds",),
        "step_tokens": ("vllm:iteration_tokens_total",),
    },
    "sglang": {
        "ttft": ("sglang:time_to_first_token_seconds",),
        "tpot": ("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),
        "queue": ("sglang:queue_time_seconds", "sglang:queue_time_s"),
        "e2e": ("sglang:e2e_request_latency_seconds",),
    },
}
CACHE_INFO = "vllm:cache_config_info"
CACHE_LABELS = (
    *("block_size", "num_gpu_blocks", "kv_cache_size_tokens", "cache_dtype", "enable_prefix_caching"),
    "gpu_memory_utilization",
)
RANKS = frozenset({"tp_rank", "pp_rank", "moe_ep_rank", "pid"})
"""Ranks that each tell the same: the largest counts. Data-parallel engines each tell their own: they are summed."""
SUMMED = frozenset({"running", "waiting", "swapped", "used_tokens", "kv_tokens", "generated_tokens_per_second"})

MOST_LINES = 10_000
"""Eight data-parallel engines of vLLM have about 1,200 that are read here. The parser takes 45 µs for each."""

Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts[i]` observations were at most `bounds[i]`; the last bound is infinite."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float = 0.0

    @property
    def count(self) -> float:
        return self.counts[-1] if self.counts else 0.0

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count > 0 else None

    def since(self, earlier: Histogram) -> Histogram:
        """What was observed after `earlier`; an empty one where the server began anew or nothing is comparable."""
        if self.bounds != earlier.bounds or self.count < earlier.count:
            return Histogram((), ())
        counts = tuple(max(0.0, now - then) for now, then in zip(self.counts, earlier.counts, strict=True))
        return Histogram(self.bounds, counts, self.total - earlier.total)

    def quantile(self, share: float) -> float | None:
        """The value that `share` of the observations do not exceed, by a straight line inside its bucket.

        Above the last finite bound that bound is given: the value is at least so large. None without observations.
        """
        wanted, below, lower = share * self.count, 0.0, 0.0
        if wanted <= 0:
            return None
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= wanted:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * (wanted - below) / (count - below)
            below, lower = count, bound
        return None


@dataclass(frozen=True, slots=True)
class Unit:
    """One scheduler: a model served by one (data-parallel) engine. None for what its page does not tell."""

    model: str
    engine: str = ""
    running: float | None = None
    waiting: float | None = None
    kv_usage_ratio: float | None = None

    @property
    def name(self) -> tuple[str, str]:
        return self.model, self.engine


@dataclass(frozen=True, slots=True)
class Page:
    """An engine's page at one moment. `gauges` and `counters` are over all units: counts summed, ratios the largest."""

    engine: str
    units: tuple[Unit, ...]
    gauges: dict[str, float] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    cache: dict[str, str] = field(default_factory=dict)
    """What vLLM tells of its KV cache: block size, number of blocks, data type."""

    @property
    def prefix_hit_ratio(self) -> float | None:
        """The share of queried prompt tokens that the prefix cache held, since the start where counters tell it."""
        queried = "prompt_tokens" if self.engine == "sglang" else "prefix_queries"
        if "prefix_hits" in self.counters and self.counters.get(queried, 0.0) > 0:
            return min(1.0, self.counters["prefix_hits"] / self.counters[queried])
        return self.gauges.get("prefix_hit_ratio")


def parse_page(text: str) -> Page | None:
    """Parse a page; None where it holds no reading of a scheduler of vLLM or SGLang, or is no Prometheus text at all."""
    try:
        samples = parse_samples(text)
    except (ValueError, KeyError, IndexError):  # what the library raises for text that is no Prometheus text
        return None
    for engine in GAUGES:
        page = _page(engine, samples)
        if page.units:
            return page
    return None


def parse_samples(text: str) -> dict[str, list[Sample]]:
    """Parse the samples that are read here, by name. Of a page of 0.4 MB most lines are not: they are left out first."""
    lines = [line.rstrip("\r") for line in text.split("\n") if line.startswith(_PREFIXES)]
    if len(lines) > MOST_LINES:
        raise ValueError("more lines than an engine has")
    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families("\n".join([*lines, ""])):
        for sample in family.samples:
            if math.isfinite(sample.value):
                found.setdefault(sample.name, []).append((sample.labels, float(sample.value)))
    return found


def _names(tables: Iterable[dict[str, dict[str, tuple[str, ...]]]]) -> tuple[str, ...]:
    return tuple(name for table in tables for names in table.values() for group in names.values() for name in group)


_PREFIXES = (*_names((GAUGES, COUNTERS, HISTOGRAMS)), CACHE_INFO)


def _page(engine: str, samples: Mapping[str, list[Sample]]) -> Page:
    gauges = {
        value: _over_all(value, each)
        for value, names in GAUGES[engine].items()
        if (each := [(labels, number) for labels, number in _first(samples, names) if number >= 0])
    }
    counters = {
        value: _over_all("running", each)
        for value, names in COUNTERS[engine].items()
        if (each := _first(samples, names))
    }
    histograms = {
        value: found for value, names in HISTOGRAMS[engine].items() if (found := _histogram(samples, names)) is not None
    }
    cache = {name: labels[name] for labels, _ in samples.get(CACHE_INFO, []) for name in CACHE_LABELS if name in labels}
    return Page(engine, _units(engine, samples), gauges, counters, histograms, cache)


def _first(samples: Mapping[str, list[Sample]], names: Iterable[str]) -> list[Sample]:
    return next((samples[name] for name in names if name in samples), [])


def _units(engine: str, samples: Mapping[str, list[Sample]]) -> tuple[Unit, ...]:
    values: dict[tuple[str, str], dict[str, float]] = {}
    for value in ("running", "waiting", "kv_usage_ratio"):
        for labels, number in _first(samples, GAUGES[engine][value]):
            found = values.setdefault(unit_of(labels), {})
            found[value] = max(number, found.get(value, number))
    return tuple(
        Unit(*name, found.get("running"), found.get("waiting"), found.get("kv_usage_ratio"))
        for name, found in sorted(values.items())
    )


def unit_of(labels: Mapping[str, str]) -> tuple[str, str]:
    """Name the model and the data-parallel engine of a sample; a router of several servers names the server."""
    return labels.get("model_name", ""), labels.get("engine") or labels.get("dp_rank") or labels.get("server") or ""


def _over_all(value: str, samples: Iterable[Sample]) -> float:
    ranks: dict[tuple[tuple[str, str], ...], float] = {}
    for labels, number in samples:
        key = tuple(sorted((name, text) for name, text in labels.items() if name not in RANKS))
        ranks[key] = max(number, ranks.get(key, number))
    return sum(ranks.values()) if value in SUMMED else max(ranks.values())


def _histogram(samples: Mapping[str, list[Sample]], names: Iterable[str]) -> Histogram | None:
    name = next((name for name in names if f"{name}_bucket" in samples), None)
    if name is None:
        return None
    counts: dict[float, float] = {}
    for labels, number in samples[f"{name}_bucket"]:
        try:
            bound = float(labels.get("le", ""))
        except ValueError:
            continue
        counts[bound] = counts.get(bound, 0.0) + number
    bounds = tuple(sorted(counts))
    if not bounds or not math.isinf(bounds[-1]):
        return None
    total = sum(number for _, number in samples.get(f"{name}_sum", []))
    return Histogram(bounds, tuple(counts[bound] for bound in bounds), total)
