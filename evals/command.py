"""`crashcart eval`: cases in, figures out; 1 where the gate is shut or an answer raised an error."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from kb.errors import InputError

if TYPE_CHECKING:
    from evals.gate import Comparison
    from evals.run import Done, Result

Part = Literal["dev", "test", "all"]
USAGE = 64
REPEATS = 20


def evaluate(
    cases: Path | None = typer.Option(
        None,
        "--cases",
        metavar="PATH",
        help="A folder of .yaml cases, one of them, or a .jsonl file [the shipped cases].",
    ),
    part: Part = typer.Option("all", "--part", help="The part of the set; look at test only to report."),
    model: str = typer.Option(
        None, "--model", metavar="NAME|none", help="A language model that words the answers [none]."
    ),
    repeat: int = typer.Option(1, "--repeat", metavar="K", min=1, max=REPEATS, help="Ask every case K times: pass^k."),
    baseline: bool = typer.Option(
        False, "--baseline", help="Also run with parts taken away, to show what each is worth."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of text."),
    report: Path | None = typer.Option(
        None, "--report", metavar="FILE.html", help="Write a report with plots, one file."
    ),
    gate: Path | None = typer.Option(
        None, "--gate", metavar="FILE", help="Compare with an accepted run; exit code 1 where it got worse."
    ),
    accept: bool = typer.Option(False, "--accept", help="Write this run to the gate's file as the accepted one."),
) -> int:
    """Measure how good the answers are, on cases with what a right answer must say.

    Exit codes: 0 done, 1 the gate is shut or an answer raised an error, 64 wrong usage or cases that cannot be read.

    \b
        crashcart eval --part dev
        crashcart eval --cases incidents.jsonl --baseline --report report.html
    """
    from evals.gate import compare, load_accepted, save_accepted
    from evals.results import as_json as result_json
    from evals.results import render

    if accept and gate is None:
        raise InputError("--accept writes the file that --gate names: give both.")
    accepted = load_accepted(gate) if gate and not accept else None
    result = measure(cases, part, model, repeat, baseline)
    if gate and accept:
        save_accepted(gate, result.scores)
    comparison = compare(result.scores, accepted) if accepted else None
    if report:
        from evals.report import write_report

        write_report(report, result, comparison)
    if as_json:
        sys.stdout.write(json.dumps(result_json(result, comparison), ensure_ascii=False, indent=1) + "\n")
    else:
        sys.stdout.write(render(result, comparison))
    return exit_code(result, comparison)


def exit_code(result: Result, gate: Comparison | None) -> int:
    """1 where the gate is shut or something raised an error."""
    return int(bool(gate and gate.reasons) or any(s.error for run in result.runs for s in run))


def measure(path: Path | None, part: Part, model: str | None, repeat: int, baseline: bool) -> Result:
    """Run the cases of a part, and the baselines over the same; raises InputError where there are none."""
    from assistant.assistant import Assistant
    from assistant.settings import load_settings
    from evals.baselines import BASELINES, run_baselines
    from evals.cases import load_cases
    from evals.run import CASES, Result, run_cases
    from evals.split import in_part

    found = in_part(load_cases(path or CASES), part)
    if not found:
        raise InputError(f"no cases of the part {part!r} in {path or CASES}.")
    total = len(found) * (repeat + (len(BASELINES) if baseline else 0))
    with tempfile.TemporaryDirectory() as folder, progress(total) as done:
        threads = f"sqlite:///{folder}/threads.sqlite3"  # conversations of the evaluation are not the user's
        settings = load_settings(model=model, threads_url=threads)
        assistant = Assistant(settings)
        runs = tuple(run_cases(assistant, found, done=done) for _ in range(repeat))
        others = run_baselines(load_settings(model="none", threads_url=threads), found, done) if baseline else {}
    return Result(runs, others, str(path or "the shipped cases"), part, settings.model)


@contextmanager
def progress(total: int) -> Iterator[Done]:
    """A bar on standard error where a person looks at it; gives what to call after each case."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("cases", total=total)
        yield lambda: bar.advance(task)


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m evals`: ends the process with the exit code."""
    import click

    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(evaluate)
    try:
        code = typer.main.get_command(app)(arguments, prog_name="python -m evals", standalone_mode=False)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(USAGE)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE)
    sys.exit(code if isinstance(code, int) else 0)
