"""What changed between two rounds of a checkup: statuses, new advice, and figures that moved by more than they waver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from probes.types import ProbeResult

WAVERING_RATIO = 0.05
WAVERING = {"_gib": 0.1, "_ratio": 0.05, "_c": 2.0, "_seconds": 0.02, "_per_second": 0.1}
"""The least movement that is told, by the unit that a fact's name ends with. Counts have none: each one is told."""
UNTOLD = frozenset({"engine_uptime_seconds", "cpu_load_ratio"})
"""Facts that move by themselves."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was. `name` is a fact's; `result` the newer result, whose sentences a person is shown."""

    kind: Literal["status", "advice", "fact"]
    result: ProbeResult
    before: Any
    after: Any
    name: str = ""


def compare(before: Mapping[str, ProbeResult], after: Iterable[ProbeResult]) -> list[Change]:
    """Tell what changed, statuses first, then advice, then facts. A probe that was not run before has nothing to compare with."""
    pairs = [(before[result.probe], result) for result in after if result.probe in before]
    statuses = [Change("status", new, old.status, new.status) for old, new in pairs if old.status != new.status]
    advice = [Change("advice", new, "", new.advice) for old, new in pairs if _new_advice(old, new)]
    facts = [
        Change("fact", new, old.facts[name], value, name)
        for old, new in pairs
        for name, value in new.facts.items()
        if name in old.facts and name not in UNTOLD and has_moved(name, old.facts[name], value)
    ]
    return [*statuses, *advice, *facts]


def remember(
    before: Mapping[str, ProbeResult], after: Iterable[ProbeResult], changes: Iterable[Change]
) -> dict[str, ProbeResult]:
    """What the next round is compared with: the newer results, but with the figures last told, so that a slow drift is seen."""
    told = {change.name for change in changes if change.kind == "fact"}
    return {result.probe: _keeping(before.get(result.probe), result, told) for result in after}


def has_moved(name: str, before: Any, after: Any) -> bool:
    """Whether a fact differs by more than it wavers by itself: by a twentieth, and by the least step of its unit."""
    if isinstance(before, bool) or not isinstance(before, int | float) or not isinstance(after, int | float):
        return bool(before != after)
    least = next((step for suffix, step in WAVERING.items() if name.endswith(suffix)), None)
    if least is None:
        return before != after
    return abs(after - before) >= max(least, WAVERING_RATIO * abs(before))


def _new_advice(old: ProbeResult, new: ProbeResult) -> bool:
    """Whether there is something new to do; where the status changed too, that is told with its advice."""
    return old.status == new.status and not set(new.advice) <= set(old.advice)


def _keeping(old: ProbeResult | None, new: ProbeResult, told: set[str]) -> ProbeResult:
    kept = {name: value for name, value in (old.facts if old else {}).items() if name not in told}
    return replace(new, facts={**new.facts, **kept})
