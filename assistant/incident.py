"""All that is known of one incident, gathered for a report: what was said, what a scan found, what probes read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kb.types import Language
from probes.scanner import ScanReport
from probes.types import ProbeResult

if TYPE_CHECKING:
    from assistant.assistant import Assistant

START_LINES = 25
START_WIDTH = 300


@dataclass(frozen=True, slots=True)
class Incident:
    """What a report tells. `guess` is the title and the confidence of the leading diagnosis; `start` how the log begins.

    `release` is what log or command say, `vllm 0.11.0`.
    """

    question: str = ""
    expected: str = ""
    command: str = ""
    tried: tuple[str, ...] = ()
    scan: ScanReport = field(default_factory=ScanReport)
    start: str = ""
    release: str = ""
    results: tuple[ProbeResult, ...] = ()
    guess: tuple[str, float] | None = None


def gather(
    assistant: Assistant,
    logs: Sequence[str],
    command: str,
    question: str,
    results: Sequence[ProbeResult],
    lang: Language,
) -> Incident:
    """Scan the logs, find the command in them or of a running server, and ask the assistant for the fault that fits best.

    Raises ScanError for a path that is no readable log.
    """
    from assistant.assistant import log_ends
    from assistant.configuration import serving_command
    from assistant.signals import engine_and_release, find_command
    from assistant.types import Question
    from probes.scanner import scan_files

    scan = scan_files(logs, assistant.library.signatures) if logs else ScanReport()
    ends = list(log_ends(Question("", log_paths=tuple(logs))).values())
    said = command or next((found for text in ends if (found := find_command(text))), "")
    engine, release = engine_and_release(said, [*ends, question])
    return Incident(
        question=question,
        release=f"{engine} {release}" if release else "",
        command=serving_command(said, results),
        scan=scan,
        start=first_lines(ends[0].splitlines()) if ends else "",
        results=tuple(results),
        guess=guess(assistant, logs, said, question, results, lang),
    )


def guess(
    assistant: Assistant,
    logs: Sequence[str],
    command: str,
    question: str,
    results: Sequence[ProbeResult],
    lang: Language,
) -> tuple[str, float] | None:
    """The title and confidence of the leading diagnosis; None where nothing was asked or nothing found."""
    from assistant.types import Question
    from probes.registry import record

    if not logs and not question.strip():
        return None
    asked = Question(text=question, log_paths=tuple(logs), command=command, host=record(results), lang=lang)
    answer = assistant.answer(asked)
    if answer.status != "diagnosed" or not answer.diagnoses:
        return None
    return answer.diagnoses[0].title, answer.diagnoses[0].confidence


def first_lines(lines: Iterable[str]) -> str:
    """The first lines of a log that are not empty, each cut: banner, release and arguments stand there."""
    shown = [line for line in lines if line.strip()][:START_LINES]
    return "\n".join(line[:START_WIDTH] for line in shown)
