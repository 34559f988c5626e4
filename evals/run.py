"""Puts cases to an assistant: each message of a case in the case's own thread, each answer timed and scored."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from assistant.assistant import Assistant
from assistant.types import Question
from evals.cases import Case
from evals.scoring import Score, joined, score

CASES = Path(__file__).parent / "cases"
Done = Callable[[], None]
"""Called after each case."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an evaluation. `runs` has one list of scores a repeat, all over the same cases; `baselines` one a baseline."""

    runs: tuple[tuple[Score, ...], ...]
    baselines: dict[str, tuple[Score, ...]] = field(default_factory=dict)
    cases: str = ""
    part: str = "all"
    model: str = "none"

    @property
    def scores(self) -> tuple[Score, ...]:
        """The first run, over which rates are given: repeats of a case are not independent."""
        return self.runs[0]


def question_of(case: Case, thread: str = "", with_host: bool = True) -> Question:
    """A message as a person would send it; this machine is never probed, a recorded host is replayed."""
    host = dict(case.host) if with_host and case.host is not None else None
    return Question(case.question, dict(case.logs), command=case.command, host=host, use_probes=False, thread=thread)


def ask(assistant: Assistant, case: Case, thread: str = "", with_host: bool = True) -> Score:
    """One message and the score of its answer."""
    start = time.perf_counter()
    try:
        answer = assistant.answer(question_of(case, thread, with_host))
    except Exception as error:  # noqa: BLE001 - whatever an answer raises is a wrong answer, listed with its name
        return Score(case, error=f"{type(error).__name__}: {error}", seconds=time.perf_counter() - start)
    return score(case, answer, time.perf_counter() - start)


def run_case(assistant: Assistant, case: Case, with_host: bool = True) -> Score:
    """Every message of a case, in a thread of its own where there are several."""
    thread = f"eval-{uuid.uuid4().hex}" if case.turns else ""
    return joined([ask(assistant, message, thread, with_host) for message in (case, *case.turns)])


def run_cases(
    assistant: Assistant, cases: Sequence[Case], with_host: bool = True, done: Done = lambda: None
) -> tuple[Score, ...]:
    """Every case in turn."""
    scores = []
    for case in cases:
        scores.append(run_case(assistant, case, with_host))
        done()
    return tuple(scores)


if __name__ == "__main__":
    from evals.command import main

    main()
