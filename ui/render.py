"""What a person sees in a terminal: steps as they happen, the answer, the checkup's table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from assistant.types import Answer, Event
from kb.types import Language
from probes.types import ProbeResult

if TYPE_CHECKING:
    from kb.library import Library
    from probes.scanner import ScanReport

STYLES = {"ok": "green", "warning": "yellow", "critical": "bold red", "unknown": "dim"}
WORDS: dict[str, dict[Language, str]] = {
    "ok": {"en": "ok", "zh": "正常"},
    "warning": {"en": "warning", "zh": "警告"},
    "critical": {"en": "critical", "zh": "严重"},
    "unknown": {"en": "unknown", "zh": "未知"},
}
ORDER = ("critical", "warning", "unknown", "ok")


def environment_language() -> Language:
    """zh where the environment's locale is Chinese."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if locale.lower().startswith("zh") else "en"


def render_stream(events: Iterator[Event]) -> Answer:
    """Print steps to standard error and the answer to standard output as they come; gives the answer back."""
    out, aside = Console(), Console(stderr=True)
    answer: Answer | None = None
    for event in events:
        if event.kind == "step_finished" and event.step and aside.is_terminal:
            step = event.step
            mark = {"ok": "✓", "unknown": "?"}.get(step.status, "!")
            aside.print(
                Text(f"{mark} {step.name} ({step.seconds:.2f} s) {step.summary}", style=STYLES.get(step.status, "dim")),
                soft_wrap=True,
            )
        elif event.kind == "text":
            out.print(Markdown(event.text) if out.is_terminal else Text(event.text), soft_wrap=not out.is_terminal)
        elif event.kind == "answer":
            answer = event.answer
    assert answer is not None, "the stream ends with an answer"
    for warning in answer.warnings:
        aside.print(Text(f"! {warning}", style="yellow"), soft_wrap=True)
    return answer


def by_severity(results: Sequence[ProbeResult]) -> list[ProbeResult]:
    """Worst first."""
    return sorted(results, key=lambda r: (ORDER.index(r.status), r.probe))


def render_checkup(results: Sequence[ProbeResult], lang: Language) -> None:
    """A table to read in ten seconds: worst first, each with what to do."""
    console = Console()
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for result in by_severity(results):
        table.add_row(Text(WORDS[result.status][lang], style=STYLES[result.status]), result.probe, said(result, lang))
    console.print(table)


def said(result: ProbeResult, lang: Language) -> Text:
    """A probe's sentence, and under it what to do."""
    chinese = lang == "zh"
    summary = result.summary_zh if chinese and result.summary_zh else result.summary
    advice = result.advice_zh if chinese and result.advice_zh else result.advice
    text = Text(summary)
    for line in advice:
        text.append(f"\n→ {line}", style="cyan")
    return text


def render_probe(result: ProbeResult) -> None:
    """One probe in full."""
    console = Console()
    console.print(Text(f"{result.status}  {result.probe}  ({result.seconds:.3f} s)", style=STYLES[result.status]))
    console.print(said(result, environment_language()))
    for name, value in result.facts.items():
        console.print(Text(f"  {name} = {value}"))


def render_scan(report: ScanReport, library: Library) -> None:
    """What was found in logs, in the order of its first line."""
    console = Console()
    for file in report.files:
        console.print(Text(f"{file.path}: {file.lines:,} lines, {file.bytes:,} bytes"), soft_wrap=True)
    if report.root:
        console.print(
            Text(
                f"root: {report.root.exception}: {report.root.message}  ({report.root.path}:{report.root.line})",
                style="bold",
            ),
            soft_wrap=True,
        )
    for match in report.matches:
        title = library.get(match.document, environment_language()).title
        console.print(
            Text(
                f"{match.role:11} {match.count:>6,}×  {title}  [{match.document}]",
                style="red" if match.role == "cause" else "dim",
            ),
            soft_wrap=True,
        )
        console.print(
            Text(f"                     {match.first.path}:{match.first.line}: {match.first.text.strip()[:200]}"),
            soft_wrap=True,
        )
    if not report.matches:
        console.print("No known error line found.")
