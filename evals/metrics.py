"""From scores to figures: rates with their intervals, abstention, calibration, latency, repeats. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from evals.scoring import Score, expected_documents
from evals.split import family_of, part_of

QUIET = ("healthy", "insufficient", "out_of_scope")
"""Statuses, and kinds of cases, without a diagnosis or a how-to."""
BINS = 10
UNLABELLED = "(no family)"


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of cases with its 95 % Wilson interval; low and high are 0 and 1 where there are none."""

    hits: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """0…1; 0 where there are no cases."""
        return self.hits / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about the same confidence: how many, their mean confidence, and the share that was right."""

    count: int
    confidence: float
    right: float


MEASURES: dict[str, Callable[[Score], bool]] = {
    "status fits": lambda s: s.status_fits,
    "right at 1": lambda s: s.right_at_1,
    "right at 3": lambda s: s.right_at_3,
    "harmful": lambda s: s.harmful,
}
GROUPS: dict[str, Callable[[Score], str]] = {
    "kind": lambda s: s.case.kind,
    "language": lambda s: s.case.lang,
    "engine": lambda s: s.case.engine or "(none)",
    "part": lambda s: part_of(s.case),
    "family": lambda s: family_of(s.case) or UNLABELLED,
}
"""What the rates are given by. `family` is of faults and how-tos only."""


def wilson(hits: int, total: int, z: float = 1.96) -> Rate:
    """A rate with its Wilson score interval (Wilson 1927), z = 1.96 for 95 %."""
    if not total:
        return Rate(0, 0, 0.0, 1.0)
    share, square = hits / total, z * z
    centre = (share + square / (2 * total)) / (1 + square / total)
    half = z / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    return Rate(hits, total, max(0.0, centre - half), min(1.0, centre + half))


def rates(scores: Iterable[Score]) -> dict[str, Rate]:
    """The rate of every measure."""
    found = list(scores)
    return {name: wilson(sum(map(measure, found)), len(found)) for name, measure in MEASURES.items()}


def grouped(scores: Iterable[Score], key: Callable[[Score], str]) -> dict[str, list[Score]]:
    """The scores by a name, names in order."""
    groups: dict[str, list[Score]] = {}
    for item in scores:
        groups.setdefault(key(item), []).append(item)
    return dict(sorted(groups.items()))


def by_group(scores: Sequence[Score]) -> dict[str, dict[str, list[Score]]]:
    """The scores by each of GROUPS."""
    faults = [s for s in scores if s.case.kind not in QUIET]
    return {name: grouped(faults if name == "family" else scores, key) for name, key in GROUPS.items()}


def abstention(scores: Iterable[Score]) -> dict[str, Rate]:
    """Precision: of the messages answered without a diagnosis, those that asked for none. Recall: of those that asked for none,
    those answered so. An answer with an error counts as neither."""
    messages = [m for s in scores for m in s.each]
    wanted = [m for m in messages if m.case.expect.status in QUIET]
    given = [m for m in messages if m.status in QUIET]
    both = sum(m.status in QUIET for m in wanted)
    return {"abstention precision": wilson(both, len(given)), "abstention recall": wilson(both, len(wanted))}


def citation_precision(scores: Iterable[Score]) -> Rate:
    """Of the documents that first diagnoses cite, those expected; over the messages that say what may be cited."""
    told = [(m, expected_documents(m.case)) for s in scores for m in s.each if expected_documents(m.case)]
    cited = [(name, expected) for m, expected in told for name in m.cited]
    return wilson(sum(name in expected for name, expected in cited), len(cited))


def unverified(scores: Iterable[Score]) -> list[tuple[str, str]]:
    """(case, flag) of each flag or variable shown that no release of its engine has."""
    return [(m.case.id, name) for s in scores for m in s.each for name in m.unverified]


def reliability(scores: Iterable[Score]) -> list[Bin]:
    """The answers that diagnose or explain, in ten bins of confidence; bins without answers are left out."""
    messages = [m for s in scores for m in s.each if m.answered and m.status not in QUIET]
    bins: dict[int, list[Score]] = {}
    for message in messages:
        bins.setdefault(min(int(message.answered[0][1] * BINS), BINS - 1), []).append(message)
    return [
        Bin(
            len(found),
            statistics.fmean(m.answered[0][1] for m in found),
            statistics.fmean(m.right_at_1 for m in found),
        )
        for _, found in sorted(bins.items())
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float | None:
    """ECE: the distance of confidence and share right, averaged over the answers (Naeini 2015); None without answers."""
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.right - b.confidence) for b in bins) / total if total else None


def latency(scores: Iterable[Score]) -> dict[str, float]:
    """Seconds an answer took, p50 and p95, by message; the nearest-rank percentiles."""
    seconds = sorted(m.seconds for s in scores for m in s.each)
    return {f"p{p}": seconds[max(0, math.ceil(len(seconds) * p / 100) - 1)] for p in (50, 95)} if seconds else {}


def pass_hat(runs: Sequence[Sequence[Score]]) -> dict[int, float]:
    """pass^k for k = 1 … the number of runs: the chance that k tries of a case are all right, averaged over the cases.

    C(right, k) / C(runs, k), the unbiased estimate of tau-bench (Yao 2024). Every run holds the same cases.
    """
    n = len(runs)
    right: dict[str, int] = {}
    for run in runs:
        for item in run:
            right[item.case.id] = right.get(item.case.id, 0) + item.right_at_1
    if not right:
        return {}
    return {k: statistics.fmean(math.comb(c, k) / math.comb(n, k) for c in right.values()) for k in range(1, n + 1)}


def confusion(scores: Iterable[Score], family: Callable[[str], str]) -> Mapping[tuple[str, str], int]:
    """How often a fault of one family was answered with another: (expected, answered) → messages. `—` where nothing was named.

    `family` maps a document to its family. Cases without a family are left out.
    """
    found: dict[tuple[str, str], int] = {}
    for s in scores:
        wanted = family_of(s.case)
        if wanted and s.case.kind not in QUIET:
            named = family(s.answered[0][0]) if s.answered and s.status not in QUIET else "—"
            found[wanted, named] = found.get((wanted, named), 0) + 1
    return found
