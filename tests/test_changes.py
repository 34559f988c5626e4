"""What a watched checkup tells: statuses, new advice, figures that moved; not what merely wavers."""

from dataclasses import replace

import pytest

from assistant.changes import compare, has_moved, remember
from probes.types import ProbeResult

CALM = ProbeResult("gpu_memory", "ok", "20.0 GiB free.", facts={"gpu_free_gib": 20.0, "gpu_count": 2})


def by_name(*results: ProbeResult) -> dict[str, ProbeResult]:
    return {result.probe: result for result in results}


def test_a_status_that_changed_is_told_with_what_to_do() -> None:
    worse = replace(CALM, status="critical", summary="GPU 1 does not answer.", advice=("Reboot.",))
    (change,) = compare(by_name(CALM), [worse])
    assert (change.kind, change.before, change.after) == ("status", "ok", "critical")
    assert change.result is worse


def test_advice_is_told_once() -> None:
    first = replace(CALM, status="warning", advice=("End leftovers.",))
    second = replace(first, advice=("Reset GPU 1.", "End leftovers."))
    (change,) = compare(by_name(first), [second])
    assert change.kind == "advice"
    assert compare(by_name(second), [second]) == []
    assert compare(by_name(second), [first]) == []


@pytest.mark.parametrize(
    ("name", "before", "after", "moved"),
    [
        ("gpu_free_gib", 20.0, 19.95, False),
        ("gpu_free_gib", 20.0, 18.9, True),
        ("gpu_free_gib", 0.0, 0.2, True),
        ("gpu_temperature_c", 30, 31, False),
        ("gpu_temperature_c", 60, 64, True),
        ("kv_usage_ratio", 0.10, 0.13, False),
        ("kv_usage_ratio", 0.10, 0.16, True),
        ("gpu_count", 8, 7, True),
        ("host_oom_kills", 0, 1, True),
        ("gpu_throttled", False, True, True),
        ("gpu_throttled", True, True, False),
        ("binding_limit", "none", "kv", True),
    ],
)
def test_figures_are_told_when_they_move_by_more_than_they_waver(
    name: str, before: object, after: object, moved: bool
) -> None:
    assert has_moved(name, before, after) is moved


def test_a_slow_drift_is_seen_because_rounds_are_compared_with_what_was_told() -> None:
    told = by_name(CALM)
    seen = []
    for free in (19.6, 19.2, 18.8, 18.4):
        round_ = [replace(CALM, facts={"gpu_free_gib": free, "gpu_count": 2})]
        changes = compare(told, round_)
        told = remember(told, round_, changes)
        seen += [(change.before, change.after) for change in changes]
    assert seen == [(20.0, 18.8)]


def test_facts_that_come_or_go_are_told_by_the_status() -> None:
    blind = ProbeResult("gpu_memory", "unknown", "No GPU was read.")
    assert [change.kind for change in compare(by_name(CALM), [blind])] == ["status"]
    told = remember(by_name(CALM), [blind], [])
    assert told["gpu_memory"].facts == CALM.facts
    assert [change.kind for change in compare(by_name(blind), [CALM])] == ["status"]
