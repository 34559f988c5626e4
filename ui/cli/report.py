"""`crashcart report`: everything that somebody else needs to help, masked, ready to paste into an issue."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kb.errors import InputError
from kb.types import Language
from probes.types import ProbeResult
from ui.cli.options import JSON, open_assistant, print_json, read_host

if TYPE_CHECKING:
    from assistant.assistant import Assistant


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.command("report")(report)


def report(
    log: list[Path] = typer.Option([], "--log", metavar="FILE", help="A log file; may be given several times."),
    command: str = typer.Option(
        "", "--command", metavar="TEXT", help="The serving command [from the log, or of the running server]."
    ),
    question: str = typer.Option("", "--question", metavar="TEXT", help="What happens, in a sentence or two."),
    expected: str = typer.Option("", "--expected", metavar="TEXT", help="What should happen instead."),
    tried: list[str] = typer.Option(
        [], "--tried", metavar="TEXT", help="Something that was tried, and what it changed; may be given several times."
    ),
    host: Path | None = typer.Option(
        None, "--host", metavar="FILE", help="A recorded host (checkup --json) in place of this machine."
    ),
    no_probes: bool = typer.Option(False, "--no-probes", help="Do not look at this machine."),
    output: Path | None = typer.Option(
        None, "--output", "-o", metavar="FILE", help="Write it there [standard output]."
    ),
    lang: str = typer.Option(
        None, "--lang", metavar="auto|en|zh", help="Language of the report [auto: of the question, else English]."
    ),
    as_json: bool = JSON,
) -> int:
    """Write a whole problem report in Markdown: environment, command, error, readings, what was tried.

    Secrets and home folders are masked. At most 60,000 characters, so that an issue takes it whole.

    \b
        crashcart report --log vllm.log --question "dies at start-up" --tried "half the context: same" -o report.md
    """
    from assistant.incident import gather
    from assistant.language import detect_language
    from assistant.report import missing, write_report

    assistant = open_assistant(as_json, lang=lang)
    chosen = assistant.settings.lang
    written: Language = "zh" if chosen == "zh" or (chosen == "auto" and detect_language(question) == "zh") else "en"
    results = look(assistant, host, no_probes)
    told = gather(assistant, [str(path) for path in log], command, question, results, written)
    incident = replace(told, expected=expected, tried=tuple(tried))
    text, wanted = write_report(incident, written), missing(incident, written)
    if as_json:
        print_json({"report": text, "missing": wanted})
        return 0
    if output:
        save(output, text)
    else:
        sys.stdout.write(text)
    for sentence in wanted:
        typer.echo(f"+ {sentence}", err=True)
    return 0


def look(assistant: Assistant, host: Path | None, no_probes: bool) -> list[ProbeResult]:
    """The recorded host's readings, or those of this machine."""
    from probes.registry import checkup, replay

    recorded = read_host(host)
    if recorded is not None:
        return list(replay(recorded).values())
    return [] if no_probes else checkup(assistant.target, assistant.settings.probe_seconds)


def save(path: Path, text: str) -> None:
    """Write the report; raises InputError where that is not possible."""
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise InputError(f"cannot write the report {path}: {error.strerror}.") from error
    typer.echo(f"Saved {path} ({len(text):,} characters).", err=True)
