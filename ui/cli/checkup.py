"""`crashcart checkup`: every probe at once, once or again and again, on this machine or as another one recorded it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import typer

from kb.errors import InputError
from kb.types import Language
from probes.types import ProbeResult
from ui.cli.options import EXIT_CODES, JSON, deadline_of, print_json, read_host, settings

Look = Callable[[], list[ProbeResult]]


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.command("checkup")(checkup)


def checkup(
    lang: str = typer.Option(
        None, "--lang", metavar="auto|en|zh", help="Language of the table [auto: of the environment]."
    ),
    seconds: float = typer.Option(
        None, "--seconds", min=0.1, max=120, help="The deadline that all probes share [5; with --active 12]."
    ),
    everything: bool = typer.Option(False, "--all", help="Say what the calm probes read, too."),
    watch: float = typer.Option(
        None, "--watch", metavar="SECONDS", min=0.2, help="Look again and again, and show what changed, until Ctrl-C."
    ),
    active: bool = typer.Option(
        False, "--active", help="Also measure the speed of your servers: sends them a few short requests."
    ),
    host: Path | None = typer.Option(
        None, "--host", metavar="FILE", help="Show a recorded host (checkup --json) in place of this machine."
    ),
    checklist: str = typer.Option(
        "",
        "--checklist",
        metavar="NAME",
        help="Answer a checklist: deploy, performance, hardware, software, host, configuration, requests, asking, all.",
    ),
    command: str = typer.Option(
        "",
        "--command",
        metavar="TEXT",
        help="The serving command that a checklist judges [that of the running server].",
    ),
    as_json: bool = JSON,
) -> int:
    """Run every passive probe and say what is wrong, worst first. Reads only; changes nothing.

    Exit codes: 0 ok, 1 warning, 2 critical, 3 unknown. `--json > host.json` records the host for `ask --host host.json`.
    With --checklist: 0 nothing fails, 1 something does not hold, 3 nothing could be told.
    """
    from probes.registry import worst_status
    from ui.render import language_of

    if host and (watch or active):
        raise InputError("a recorded host does not change: --host goes with neither --watch nor --active.")
    if checklist and watch:
        raise InputError("a checklist is answered once: --checklist does not go with --watch.")
    if command and not checklist:
        raise InputError(
            "--command is judged by a checklist: crashcart checkup --checklist deploy --command 'vllm serve …'."
        )
    chosen = settings(lang=lang, probe_seconds=seconds)
    shown_in = language_of(chosen.lang)
    if checklist:
        return answer_checklist(
            checklist, looker(host, active, seconds, shown_in, quiet=as_json), command, shown_in, as_json
        )
    look = looker(host, active, seconds, shown_in, quiet=as_json or bool(watch))
    if watch:
        return EXIT_CODES[worst_status(keep_watching(look, watch, shown_in, everything, as_json))]
    results = look()
    show(results, shown_in, everything, as_json)
    return EXIT_CODES[worst_status(results)]


def looker(host: Path | None, active: bool, seconds: float | None, lang: Language, quiet: bool) -> Look:
    """A way to look: at a recorded host, or at this machine with progress on a terminal."""
    from assistant.target import target_of
    from probes.registry import checkup as run_checkup
    from probes.registry import checkup_names, replay

    recorded = read_host(host)
    if recorded is not None:
        return lambda: list(replay(recorded).values())
    chosen = settings(probe_seconds=seconds)
    target = target_of(chosen, active)
    deadline = deadline_of(chosen, seconds, target.active)

    def look() -> list[ProbeResult]:
        if quiet or not sys.stderr.isatty():
            return run_checkup(target, deadline)
        from ui.checkup import progress

        with progress(checkup_names(target), lang) as on_result:
            return run_checkup(target, deadline, on_result)

    return look


def answer_checklist(name: str, look: Look, command: str, lang: Language, as_json: bool) -> int:
    """Print a checklist answered from one look; gives the exit code."""
    from assistant.checklists import answer, choose, to_json, values_of

    checklist = choose(name)
    values = values_of(look(), command)
    if as_json:
        print_json(to_json(checklist, values))
    else:
        from ui.checklist import render_checklist

        render_checklist(checklist, values, lang)
    replies = [answered.reply for _, items in answer(checklist, values) for answered in items]
    return 1 if "no" in replies else 0 if "yes" in replies else 3


def show(results: list[ProbeResult], lang: Language, everything: bool, as_json: bool) -> None:
    """Print one round."""
    if as_json:
        from probes.registry import record

        print_json(record(results))
    else:
        from ui.checkup import render_checkup

        render_checkup(results, lang, everything)


def keep_watching(look: Look, every: float, lang: Language, everything: bool, as_json: bool) -> list[ProbeResult]:
    """Look every so many seconds until Ctrl-C; gives the last round. JSON is one line a round, with its time."""
    results: list[ProbeResult] = []
    try:
        begun = time.monotonic()
        results = look()
        told = {result.probe: result for result in results}
        if as_json:
            print_round(results)
        else:
            show(results, lang, everything, as_json)
        while True:
            time.sleep(max(0.0, begun + every - time.monotonic()))
            begun = time.monotonic()
            results = look()
            told = show_round(told, results, lang, as_json)
    except KeyboardInterrupt:
        if sys.stdout.isatty():
            sys.stdout.write("\n")
        return results


def show_round(
    told: dict[str, ProbeResult], results: list[ProbeResult], lang: Language, as_json: bool
) -> dict[str, ProbeResult]:
    """Print what changed since it was last told; gives what is told now. A calm round is one line on a terminal, none in a file."""
    from assistant.changes import compare, remember
    from ui.checkup import render_changes

    changes = compare(told, results)
    if as_json:
        print_round(results)
    elif changes or sys.stdout.isatty():
        render_changes(changes, lang, time.strftime("%H:%M:%S"))
        sys.stdout.flush()
    return remember(told, results, changes)


def print_round(results: list[ProbeResult]) -> None:
    """One round on one line: `{"time": "…", "probes": {…}}`, which `--host` reads too."""
    import msgspec

    from probes.registry import record

    stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    sys.stdout.write(msgspec.json.encode({"time": stamp, "probes": record(results)}).decode() + "\n")
    sys.stdout.flush()
