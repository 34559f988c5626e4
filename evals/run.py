"""Runs every case through the assistant and prints how many it got right: `python -m evals.run [--cases PATH] [--json]`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assistant.assistant import Assistant
from assistant.settings import load_settings
from assistant.types import Question
from evals.cases import Case, load_cases
from evals.scoring import Score, grouped, rates, score
from kb.errors import InputError

CASES = Path(__file__).parent / "cases"


def question_of(case: Case) -> Question:
    """A case as a person would ask it; this machine is never probed, a recorded host is replayed."""
    host = dict(case.host) if case.host is not None else None
    return Question(case.question, dict(case.logs), command=case.command, host=host, use_probes=False)


def run_case(assistant: Assistant, case: Case) -> Score:
    """Ask, and score the answer."""
    start = time.perf_counter()
    answer = assistant.answer(question_of(case))
    return score(case, answer, time.perf_counter() - start)


def run_cases(assistant: Assistant, cases: Sequence[Case]) -> list[Score]:
    """Every case in turn, with a progress line on standard error where a person looks at it."""
    scores = []
    for place, case in enumerate(cases, 1):
        scores.append(run_case(assistant, case))
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{place}/{len(cases)} {case.id}")
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    return scores


def render(scores: Sequence[Score]) -> str:
    """The rates, by kind and by language, and each failure in a paragraph."""
    parts = [rates_table("all", scores)]
    parts += [rates_table(name, group) for name, group in grouped(scores, lambda s: s.case.kind).items()]
    parts += [rates_table(name, group) for name, group in grouped(scores, lambda s: s.case.lang).items()]
    failures = [s for s in scores if not s.right_at_1 or s.harmful]
    return "\n".join([*parts, "", f"{len(failures)} failures", "", *map(failure, failures)]) + "\n"


def rates_table(name: str, scores: Sequence[Score]) -> str:
    """One line a group: each measure with its interval."""
    cells = [f"{n} {r.hits}/{r.total} = {r.share:.0%} ({r.low:.0%}-{r.high:.0%})" for n, r in rates(scores).items()]
    return f"{name:13}" + "  ".join(cells)


def failure(item: Score) -> str:
    """What was wanted and what was answered."""
    expect = item.case.expect
    wanted = f"{expect.status} {' | '.join(expect.fix_any)}" + (f" [{expect.cause}]" if expect.cause else "")
    said = ", ".join(f"{name} {sure:.2f}" for name, sure in item.answered) or "-"
    flags = (" HARMFUL" if item.harmful else "") + (" (right at 3)" if item.right_at_3 and not item.right_at_1 else "")
    return f"{item.case.id}{flags}\n    wanted   {wanted}\n    answered {item.status}: {said}"


def as_json(scores: Sequence[Score]) -> dict[str, Any]:
    """The same as plain data."""

    def table(found: Sequence[Score]) -> dict[str, Any]:
        return {n: {"hits": r.hits, "total": r.total, "low": r.low, "high": r.high} for n, r in rates(found).items()}

    return {
        "rates": table(scores),
        "by_kind": {name: table(group) for name, group in grouped(scores, lambda s: s.case.kind).items()},
        "by_lang": {name: table(group) for name, group in grouped(scores, lambda s: s.case.lang).items()},
        "cases": [
            {
                "id": s.case.id,
                "status": s.status,
                "status_fits": s.status_fits,
                "right_at_1": s.right_at_1,
                "right_at_3": s.right_at_3,
                "harmful": s.harmful,
                "answered": [{"id": name, "confidence": sure} for name, sure in s.answered],
                "seconds": round(s.seconds, 4),
            }
            for s in scores
        ],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the cases; 64 for cases that cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m evals.run", description=__doc__)
    parser.add_argument("--cases", type=Path, default=CASES, help="a folder of .yaml files or a .jsonl file")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    options = parser.parse_args(arguments)
    try:
        cases = load_cases(options.cases)
        scores = run_cases(Assistant(load_settings()), cases)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 64
    sys.stdout.write(
        json.dumps(as_json(scores), ensure_ascii=False, indent=1) + "\n" if options.json else render(scores)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
