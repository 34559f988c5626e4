"""What a person sees in a terminal: steps as they happen, the answer, what a scan found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from kb.types import Language

if TYPE_CHECKING:
    from assistant.types import Answer, Event
    from kb.library import Library
    from probes.scanner import ScanReport

STYLES = {"ok": "green", "warning": "yellow", "critical": "bold red", "unknown": "dim"}


def language_of(setting: str) -> Language:
    """The language of a table: the one set, or with auto the environment's."""
    return environment_language() if setting == "auto" else "zh" if setting == "zh" else "en"


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
            render_text(out, event.text)
        elif event.kind == "answer":
            answer = event.answer
    assert answer is not None, "the stream ends with an answer"
    for warning in answer.warnings:
        aside.print(Text(f"! {warning}", style="yellow"), soft_wrap=True)
    return answer


def render_text(console: Console, markdown: str) -> None:
    """Markdown set for a terminal, and as it stands for a file or a pipe, where importing its parser costs 40 ms in vain."""
    if not console.is_terminal:
        console.print(Text(markdown), soft_wrap=True)
        return
    from rich.markdown import Markdown

    console.print(Markdown(markdown))


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
