"""An evaluation's result as text for a terminal and as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evals.gate import Comparison
from evals.metrics import (
    Rate,
    abstention,
    by_group,
    citation_precision,
    expected_calibration_error,
    latency,
    pass_hat,
    rates,
    reliability,
    unverified,
)
from evals.run import Result
from evals.scoring import Score
from evals.split import family_of, part_of


def all_rates(scores: Sequence[Score]) -> dict[str, Rate]:
    """Every rate of a run."""
    return {**rates(scores), **abstention(scores), "citation precision": citation_precision(scores)}


def failures(scores: Iterable[Score]) -> list[Score]:
    """What a person has to look at: wrong, harmful, or an error."""
    return [s for s in scores if not s.right_at_1 or s.harmful or s.error]


def render(result: Result, gate: Comparison | None = None) -> str:
    """The figures, the groups, the baselines, and each failure in a paragraph."""
    scores = result.scores
    lines = [f"{len(scores)} cases, part {result.part}, model {result.model}", ""]
    lines += [f"  {name:21}{shown(rate)}" for name, rate in all_rates(scores).items()]
    lines += [f"  {name:21}{value}" for name, value in plain_figures(result).items()]
    for name, groups in by_group(scores).items():
        lines += ["", f"by {name}", *(rates_line(key, found) for key, found in groups.items())]
    if result.baselines:
        lines += ["", "with parts taken away", rates_line("everything", scores)]
        lines += [rates_line(name, found) for name, found in result.baselines.items()]
    failed = failures(scores)
    lines += ["", f"{len(failed)} to look at", *map(failure, failed)]
    lines += ["", *render_gate(gate)] if gate else []
    return "\n".join(lines) + "\n"


def shown(rate: Rate) -> str:
    """`117/123 = 95 % (90–98 %)`."""
    if not rate.total:
        return "no case says"
    return f"{rate.hits}/{rate.total} = {rate.share:.1%} ({rate.low:.1%} to {rate.high:.1%})"


def plain_figures(result: Result) -> dict[str, str]:
    """The figures that are not rates."""
    scores = result.scores
    flags = unverified(scores)
    error = expected_calibration_error(reliability(scores))
    figures = {
        "unverified flags": f"{len(flags)}"
        + (f": {', '.join(f'{name} ({case})' for case, name in flags)}" * bool(flags)),
        "calibration error": f"{error:.3f}" if error is not None else "no answer says",
        "latency": ", ".join(f"{name} {seconds:.3f} s" for name, seconds in latency(scores).items()),
        "errors": f"{sum(bool(s.error) for run in result.runs for s in run)}",
    }
    if len(result.runs) > 1:
        figures["pass^k"] = ", ".join(f"k={k} {share:.1%}" for k, share in pass_hat(result.runs).items())
    kept = [m.kept for run in result.runs for s in run for m in s.each if m.kept is not None]
    if kept:
        tokens = sum(s.tokens for run in result.runs for s in run)
        figures["model"] = f"{sum(kept)} of {len(kept)} texts shown with nothing struck out"
        figures["tokens"] = f"{tokens:,}, cost {sum(s.cost for run in result.runs for s in run):.4f}"
    return figures


def rates_line(name: str, scores: Sequence[Score]) -> str:
    """One line a group: each measure, right at 1 with its interval."""
    r = rates(scores)
    first = r["right at 1"]
    return (
        f"  {name:23} {first.total:4}  right at 1 {first.share:6.1%} ({first.low:.0%}–{first.high:.0%})"
        f"  at 3 {r['right at 3'].share:6.1%}  status {r['status fits'].share:6.1%}  harmful {r['harmful'].hits}"
    )


def failure(item: Score) -> str:
    """What was wanted, what was answered, and what the answer stood on."""
    kinds = [name for name, held in failure_kinds(item).items() if held]
    lines = [
        f"{item.case.id}  [{', '.join(kinds)}]",
        f"    wanted    {wanted(item)}",
        f"    answered  {answered(item)}",
    ]
    return "\n".join([*lines, *([f"    because   {item.why}"] if item.why else [])])


def failure_kinds(item: Score) -> dict[str, bool]:
    """In what way an answer failed."""
    return {
        "error": bool(item.error),
        "harmful": item.harmful,
        "wrong status": not item.status_fits and not item.error,
        "right at 3": item.right_at_3 and not item.right_at_1,
        "wrong fix": item.status_fits and not item.right_at_3,
        "a follow-up": any(not m.right_at_1 for m in item.messages[1:]),
    }


def wanted(item: Score) -> str:
    """The expectation in a line: of the message that failed."""
    expect = item.telling.case.expect
    return f"{expect.status} {' | '.join(expect.fix_any)}" + (f" [{expect.cause}]" if expect.cause else "")


def answered(item: Score) -> str:
    """The answer in a line."""
    said = ", ".join(f"{name} {sure:.2f}" for name, sure in item.answered) or "-"
    return item.error or f"{item.status}: {said}"


def render_gate(gate: Comparison) -> list[str]:
    """The gate's verdict and the cases that moved."""
    gone = f", {gate.gone} not in this run" if gate.gone else ""
    lines = [f"gate: {'; '.join(gate.reasons) or 'open'} ({gate.compared} cases compared{gone})"]
    moved = {"newly wrong": gate.newly_wrong, "newly right": gate.newly_right, "newly harmful": gate.newly_harmful}
    return lines + [f"  {name}: {', '.join(ids)}" for name, ids in moved.items() if ids]


def as_json(result: Result, gate: Comparison | None = None) -> dict[str, Any]:
    """The same as plain data."""
    scores = result.scores
    bins = reliability(scores)
    return {
        "cases": result.cases,
        "part": result.part,
        "model": result.model,
        "rates": plain_rates(all_rates(scores)),
        "unverified_flags": [{"case": case, "flag": flag} for case, flag in unverified(scores)],
        "calibration": {"ece": expected_calibration_error(bins), "bins": [asdict(b) for b in bins]},
        "latency_seconds": latency(scores),
        "pass_hat": pass_hat(result.runs),
        "kept_texts": sum(bool(m.kept) for run in result.runs for s in run for m in s.each),
        "tokens": sum(s.tokens for run in result.runs for s in run),
        "cost": sum(s.cost for run in result.runs for s in run),
        "groups": {
            name: {key: plain_rates(rates(found)) for key, found in groups.items()}
            for name, groups in by_group(scores).items()
        },
        "baselines": {name: plain_rates(all_rates(found)) for name, found in result.baselines.items()},
        "gate": asdict(gate) if gate else None,
        "scores": [case_row(s) for s in scores],
    }


def plain_rates(found: Mapping[str, Rate]) -> dict[str, Any]:
    """Rates by name, the share null where there are no cases."""
    return {name: {**asdict(r), "share": r.share if r.total else None} for name, r in found.items()}


def case_row(item: Score) -> dict[str, Any]:
    """One case's score."""
    return {
        "id": item.case.id,
        "kind": item.case.kind,
        "family": family_of(item.case),
        "part": part_of(item.case),
        "status": item.status,
        "status_fits": item.status_fits,
        "right_at_1": item.right_at_1,
        "right_at_3": item.right_at_3,
        "harmful": item.harmful,
        "answered": [{"id": name, "confidence": sure} for name, sure in item.answered],
        "cited": list(item.cited),
        "why": item.why,
        "error": item.error,
        "seconds": round(item.seconds, 4),
        "messages": [case_row(m) for m in item.messages],
    }
