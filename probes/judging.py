"""From what was found to a result: the worst finding speaks, the rest follows, and calm is said with its figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from probes.types import ProbeResult, Status

GIB = 1 << 30
GRAVITY: tuple[Status, ...] = ("critical", "warning", "unknown", "ok")


class Finding(NamedTuple):
    """Something that is wrong, and what to do about it, each a sentence in both languages."""

    status: Status
    what: str
    what_zh: str
    advice: str
    advice_zh: str


def conclude(
    probe: str,
    calm: tuple[str, str],
    findings: Iterable[Finding | None],
    facts: dict[str, Any],
    data: dict[str, Any],
    source: str,
) -> ProbeResult:
    """Give a result: `calm` is said when nothing was found. Findings are sorted worst first, else in the order given."""
    found = sorted(filter(None, findings), key=lambda finding: GRAVITY.index(finding.status))
    if not found:
        return ProbeResult(probe, "ok", *calm, facts, data, source)
    more, more_zh = _more(len(found) - 1)
    return ProbeResult(
        probe,
        found[0].status,
        found[0].what.removesuffix(".") + more + ".",
        found[0].what_zh.removesuffix("。") + more_zh + "。",
        facts,
        {
            **data,
            "findings": [finding.what for finding in found],
            "findings_zh": [finding.what_zh for finding in found],
        },
        source,
        advice=tuple(dict.fromkeys(finding.advice for finding in found)),
        advice_zh=tuple(dict.fromkeys(finding.advice_zh for finding in found)),
    )


def gib(size_bytes: int) -> float:
    """Convert bytes to GiB, to a hundredth."""
    return round(size_bytes / GIB, 2)


def _more(count: int) -> tuple[str, str]:
    return (f" (and {count} more)", f"（另有 {count} 项）") if count else ("", "")
