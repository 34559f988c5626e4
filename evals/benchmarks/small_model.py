"""The evaluation with a tiny base model that babbles: what of it reaches the person, and whether it holds anything up.

    python -m evals.benchmarks.small_model --cases 20
    python -m evals.benchmarks.small_model --cases 0 --rows rows.jsonl

Needs the extra `local-model`. Goals: 0 commands shown that no document, fix or question has; every answer within the deadline;
right at 1 not below the offline writer's. `--url` and `--model` measure another endpoint in the same way.

A case takes 10 s on two idle cores. With `--rows` each is written down when it is done, and the same call goes on where the last one
ended: take a new file for other options. Cases come in a mixed order, so that those done so far stand for all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import statistics
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
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
ANSWER_TOKENS = 160
"""A base model never ends by itself, and its 160th token is as much babble as its 4,000th."""
FENCED = re.compile(r"^[ >*-]*(`{3,}|~{3,})[^\n]*\n(.*?)^[ >*-]*\1", re.M | re.S)
INLINE = re.compile(r"`([^`\n]+ [^`\n]+)`")
IN_PROSE = re.compile(
    r"(?m)^\s*\$ .+|\b(?:sudo \S+|(?:pip3?|apt|apt-get|conda|uv|docker|podman|kubectl|systemctl|git|helm|ray|vllm) "
    r"(?:install|uninstall|run|exec|stop|start|restart|rmi?|pull|clone|delete|serve|bench)|(?:rm|kill|killall|chmod|chown|dd|python3?|"
    r"curl|wget|bash|sh|nvidia-smi|export|mkfs\S*) +(?:-|/|~|https?:|[A-Z_]+=)\S*)"
)


@dataclass(frozen=True, slots=True)
class Row:
    """How one case fared: with the offline writer, and with the model; `seconds` are those of its slowest message."""

    case: str
    offline_right: bool
    model_right: bool
    worded: bool
    seconds: float
    ungrounded: tuple[str, ...]
    reason: str


def ungrounded_commands(answer: Answer, question: Question, offline: Answer, library: str) -> tuple[str, ...]:
    """What could be run and stands in no document, no fix and not in the question; an own check, not the writer's.

    `library` is the text of all documents. Code inside a sentence may also come from what was read.
    """
    fixes = [c for d in offline.diagnoses for f in d.fixes for c in (*f.commands, f.patched_command or "")]
    known = squeezed("\n".join([library, offline.text, question.text, question.command, *fixes]))
    read = known + squeezed("\n".join([*question.logs.values(), *(e.text for e in answer.evidence)]))
    lines = [line for block in FENCED.findall(answer.text) for line in block[1].splitlines()]
    prose = FENCED.sub("", answer.text)
    found = [
        line for line in lines if line.strip() and not line.strip().startswith("#") and squeezed(line) not in known
    ]
    found += [m[0] for m in IN_PROSE.finditer(prose) if squeezed(m[0]) not in known]
    found += [code for code in INLINE.findall(prose) if squeezed(code) not in read]
    return tuple(dict.fromkeys(found))


def squeezed(text: str) -> str:
    return re.sub(r"[\s\\`]+", "", text)


def compared(case: Case, offline: Assistant, modelled: Assistant, library: str) -> Row:
    """Every message of a case with both writers, each with a thread of its own."""
    threads = [f"small-{uuid.uuid4().hex}" if case.turns else "" for _ in range(2)]
    rows = []
    for message in (case, *case.turns):
        plain = offline.answer(question_of(message, threads[0]))
        start = time.monotonic()
        question = question_of(message, threads[1])
        answer = modelled.answer(question)
        taken = time.monotonic() - start
        why = next((re.split(r": |:", w, maxsplit=1)[-1] for w in answer.warnings if w not in plain.warnings), "")
        right = score(message, plain).right_at_1, score(message, answer).right_at_1
        ungrounded = ungrounded_commands(answer, question, plain, library)
        rows.append(Row(case.id, *right, answer.text != plain.text, taken, ungrounded, why))
    return replace(
        rows[0],
        offline_right=all(r.offline_right for r in rows),
        model_right=all(r.model_right for r in rows),
        worded=any(r.worded for r in rows),
        seconds=max(r.seconds for r in rows),
        ungrounded=tuple(each for r in rows for each in r.ungrounded),
        reason=next((r.reason for r in rows if r.reason), ""),
    )


def measure(cases: Iterable[Case], home: str, model: str, settings: dict[str, float]) -> Iterator[Row]:
    """Every case with both writers."""
    offline = Assistant(Settings(home=home))
    modelled = Assistant(Settings(home=home, model=model, **settings))  # type: ignore[arg-type]
    library = "\n".join(
        "\n".join([*d.sections.values(), *(t for f in d.fixes for t in (f.text, *(c.text for c in f.commands)))])
        for d in offline.library.documents
    )
    for case in cases:
        yield compared(case, offline, modelled, library)


def report(rows: Sequence[Row], deadline: float) -> str:
    """The figures that the goals are about."""
    total = len(rows)
    late = sum(row.seconds > deadline + GRACE_SECONDS for row in rows)
    right, plain = sum(r.model_right for r in rows), sum(r.offline_right for r in rows)
    rate, seconds = wilson(right, total), [r.seconds for r in rows]
    shown = [f"    {r.case}: {command}" for r in rows for command in r.ungrounded]
    lines = [
        f"cases: {total}; in the model's words: {sum(r.worded for r in rows)}",
        f"ungrounded commands shown: {len(shown)}",
        *shown,
        f"answers past the deadline of {deadline:g} s: {late}",
        f"seconds: median {statistics.median(seconds):.1f}, mean {statistics.fmean(seconds):.1f}, slowest {max(seconds):.1f}",
        f"right at 1: {right}/{total} ({rate.low:.2f} to {rate.high:.2f}) with the model, {plain}/{total} offline",
        *(f"  {count:3}  {why}" for why, count in Counter(r.reason[:70] for r in rows if r.reason).most_common()),
    ]
    return "\n".join(lines)


def mixed(cases: Iterable[Case]) -> list[Case]:
    """The cases in an order that has nothing to do with their names, and is always the same."""
    return sorted(cases, key=lambda case: hashlib.sha256(case.id.encode()).digest())


def load_rows(path: Path | None) -> list[Row]:
    """What an earlier call has written down."""
    lines = path.read_text("utf-8").splitlines() if path and path.exists() else []
    return [Row(**{**row, "ungrounded": tuple(row["ungrounded"])}) for row in map(json.loads, lines)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20, help="so many cases; 0: all")
    parser.add_argument("--folder", type=Path, default=CASES, help="where the cases are, or a .jsonl file of them")
    parser.add_argument("--rows", type=Path, help="a file of JSON lines to go on with")
    parser.add_argument("--seconds", type=float, default=60.0, help="deadline of the model's part")
    parser.add_argument("--context", type=int, default=2048, help="tokens that the model reads at once")
    parser.add_argument(
        "--answer-tokens", type=int, default=ANSWER_TOKENS, help="tokens that the model may write at a time"
    )
    parser.add_argument("--weights", type=Path, default=Path(tempfile.gettempdir()) / "crashcart-weights")
    parser.add_argument("--url", help="another endpoint in place of the tiny model")
    parser.add_argument("--model", default="gemma-3-270m")
    options = parser.parse_args()
    picked = mixed(load_cases(options.folder))[: options.cases or None]
    rows = load_rows(options.rows)
    done = {row.case for row in rows}
    left = [case for case in picked if case.id not in done]
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory())
        url = options.url or stack.enter_context(local_model(options.weights, options.context, options.answer_tokens))
        settings = {"model_seconds": options.seconds, "model_context": options.context}
        for row in measure(left, home, f"{options.model}@{url}", settings):
            rows.append(row)
            writer = "model" if row.worded else "offline"
            print(f"{len(rows):4} {row.case:40} {row.seconds:6.1f} s  {writer:8} {row.reason[:90]}", flush=True)
            if options.rows:
                with options.rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
    print(report(rows, options.seconds))


if __name__ == "__main__":
    main()
