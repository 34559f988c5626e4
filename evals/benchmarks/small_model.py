"""The evaluation with a tiny base model that babbles: what of it reaches the person, and whether it holds anything up.

    python -m evals.benchmarks.small_model --cases evals/cases --sample 20

Needs the extra `local-model`. Goals: 0 commands shown that no document, fix or question has; every answer within the deadline;
right at 1 not below the offline writer's. `--url` and `--model` measure another endpoint in the same way.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from assistant.assistant import Assistant
from assistant.settings import Settings
from assistant.types import Answer, Question
from evals.benchmarks.local_model import local_model
from evals.cases import Case, load_cases
from evals.metrics import wilson
from evals.run import question_of
from evals.scoring import score

CASES = Path(__file__).parent.parent / "cases"
GRACE_SECONDS = 5.0
CODE = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Row:
    """How one case fared: with the offline writer, and with the model."""

    case: str
    offline_right: bool
    model_right: bool
    worded: bool
    seconds: float
    ungrounded: tuple[str, ...]
    reason: str


def ungrounded_commands(answer: Answer, question: Question, offline: Answer, library: str) -> tuple[str, ...]:
    """The lines of code blocks that stand in no document, no fix and not in the question; an own check, not the writer's."""
    known = squeezed("\n".join([library, offline.text, question.text, question.command, *question.logs.values()]))
    known += squeezed(
        "\n".join(c for d in offline.diagnoses for f in d.fixes for c in (*f.commands, f.patched_command or ""))
    )
    lines = [line for block in CODE.findall(answer.text) for line in block.splitlines()]
    return tuple(line for line in lines if line.strip() and not line.startswith("#") and squeezed(line) not in known)


def squeezed(text: str) -> str:
    return re.sub(r"\s+|\\", "", text)


def measure(cases: Sequence[Case], home: str, model: str, settings: dict[str, float]) -> list[Row]:
    """Every case with both writers."""
    offline = Assistant(Settings(home=home))
    modelled = Assistant(Settings(home=home, model=model, **settings))  # type: ignore[arg-type]
    library = "\n".join(
        "\n".join([*d.sections.values(), *(t for f in d.fixes for t in (f.text, *(c.text for c in f.commands)))])
        for d in offline.library.documents
    )
    rows = []
    for case in cases:
        question = question_of(case)
        plain = offline.answer(question)
        start = time.monotonic()
        answer = modelled.answer(question)
        taken = time.monotonic() - start
        why = next((w.partition(": ")[2] for w in answer.warnings if w not in plain.warnings), "")
        rows.append(
            Row(
                case.id,
                score(case, plain).right_at_1,
                score(case, answer).right_at_1,
                answer.text != plain.text,
                taken,
                ungrounded_commands(answer, question, plain, library),
                why,
            )
        )
        print(f"{case.id:40} {taken:6.1f} s  {'model' if rows[-1].worded else 'offline':8} {why[:90]}", flush=True)
    return rows


def report(rows: Sequence[Row], deadline: float) -> str:
    """The figures that the goals are about."""
    total = len(rows)
    late = sum(row.seconds > deadline + GRACE_SECONDS for row in rows)
    right, plain = sum(r.model_right for r in rows), sum(r.offline_right for r in rows)
    rate = wilson(right, total)
    lines = [
        f"cases: {total}; in the model's words: {sum(r.worded for r in rows)}",
        f"ungrounded commands shown: {sum(len(r.ungrounded) for r in rows)}",
        f"answers past the deadline of {deadline:g} s: {late}; slowest {max(r.seconds for r in rows):.1f} s",
        f"right at 1: {right}/{total} ({rate.low:.2f} to {rate.high:.2f}) with the model, {plain}/{total} offline",
        *(f"  {count:3}  {why}" for why, count in Counter(r.reason for r in rows if r.reason).most_common()),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, default=CASES)
    parser.add_argument("--sample", type=int, default=20, help="so many cases, evenly picked; 0: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="deadline of the model's part")
    parser.add_argument("--context", type=int, default=4096, help="tokens that the model reads at once")
    parser.add_argument("--weights", type=Path, default=Path(tempfile.gettempdir()) / "crashcart-weights")
    parser.add_argument("--url", help="another endpoint in place of the tiny model")
    parser.add_argument("--model", default="gemma-3-270m")
    options = parser.parse_args()
    cases = load_cases(options.cases)
    picked = cases[:: max(1, len(cases) // options.sample)][: options.sample] if options.sample else cases
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory())
        url = options.url or stack.enter_context(local_model(options.weights, options.context))
        settings = {"model_seconds": options.seconds, "model_context": options.context}
        print(report(measure(picked, home, f"{options.model}@{url}", settings), options.seconds))


if __name__ == "__main__":
    main()
