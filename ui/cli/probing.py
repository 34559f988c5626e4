"""`crashcart scan`, `probe`, `mask`: one look at this machine, and at logs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import typer

from kb.errors import InputError
from ui.cli.options import EXIT_CODES, JSON, Group, deadline_of, print_json, settings

if TYPE_CHECKING:
    from kb.library import Library
    from kb.types import Language
    from probes.scanner import ScanReport

BLOCK_BYTES = 4 * 1024 * 1024

probe_app = typer.Typer(cls=Group, help="The probes one by one.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.command("scan")(scan)
    app.command("mask")(mask)
    app.add_typer(probe_app, name="probe")


@probe_app.command("list")
def probe_list(as_json: bool = JSON) -> int:
    """Every probe and what it reads."""
    from probes.registry import load_probes

    described = {probe.name: probe.title for probe in load_probes()}
    if as_json:
        print_json(described)
    else:
        for name, sentence in described.items():
            typer.echo(f"{name:16} {sentence}")
    return 0


def names_of_probes(incomplete: str) -> list[str]:
    """The probes' names that begin so, for a shell that completes one."""
    from probes.registry import probe_names

    return [name for name in probe_names() if name.startswith(incomplete)]


@probe_app.command("run")
def probe_run(
    name: str = typer.Argument(help="A name from `crashcart probe list`.", autocompletion=names_of_probes),
    lang: str = typer.Option(
        None, "--lang", metavar="auto|en|zh", help="Language of the reading [auto: of the environment]."
    ),
    seconds: float = typer.Option(None, "--seconds", min=0.1, max=120, help="The deadline [5]."),
    active: bool = typer.Option(False, "--active", help="Allow a probe that puts load on a server."),
    as_json: bool = JSON,
) -> int:
    """Run one probe.

    Exit codes: 0 ok, 1 warning, 2 critical, 3 unknown.
    """
    from assistant.target import target_of
    from probes.registry import record, run_probe

    chosen = settings(lang=lang, probe_seconds=seconds)
    target = target_of(chosen, active)
    result = run_probe(name, target, deadline_of(chosen, seconds, target.active))
    if as_json:
        print_json(record([result]))
    else:
        from ui.checkup import render_probe
        from ui.render import language_of

        render_probe(result, language_of(chosen.lang))
    return EXIT_CODES[result.status]


def scan(
    files: list[Path] = typer.Argument(metavar="FILE…", help="Logs, plain or .gz/.xz/.zst; '-' is standard input."),
    lang: str = typer.Option(
        None, "--lang", metavar="auto|en|zh", help="Language of the report [auto: of the environment]."
    ),
    follow: bool = typer.Option(
        False, "--follow", help="Go on as the log grows, through rotation; Ctrl-C ends with the summary."
    ),
    as_json: bool = JSON,
) -> int:
    """Find every known error line in logs of any size, and the exception that started it.

    Exit codes: 0 nothing known found, 2 a known fault found.
    """
    from kb.library import load_library
    from probes.scanner import scan_files, scan_stream, to_json
    from ui.render import language_of, render_scan

    chosen = settings(lang=lang)
    home = chosen.home_folder
    library = load_library(home / "cache", home / "runbooks")
    if follow:
        report = _follow(files, library, language_of(chosen.lang), as_json)
    elif [str(f) for f in files] == ["-"]:
        report = scan_stream(sys.stdin.buffer, library.signatures)
    elif Path("-") in files:
        raise InputError("standard input is scanned alone: crashcart scan - or crashcart scan FILE….")
    else:
        report = scan_files([str(f) for f in files], library.signatures)
    if as_json:
        print_json(to_json(report))
    else:
        render_scan(report, library, language_of(chosen.lang))
    return 2 if any(m.role == "cause" for m in report.matches) else 0


def _follow(files: list[Path], library: Library, lang: Language, as_json: bool) -> ScanReport:
    """Show what is known as it is written, until the stream ends or the person ends it."""
    from probes.scanner import Follower, match_json
    from ui.render import render_sighting

    if len(files) != 1:
        raise InputError("one log is followed at a time: crashcart scan --follow FILE, or - for standard input.")
    follower = Follower(library.signatures)
    is_stream = str(files[0]) == "-"
    with open(sys.stdin.fileno(), "rb", closefd=False) as stream, suppress(KeyboardInterrupt):
        seen = follower.stream(stream) if is_stream else follower.file(files[0])
        for match in seen:
            if as_json:
                print_json(match_json(match))
            else:
                render_sighting(match, library, lang)
    return follower.report()


def mask(file: Path = typer.Argument(Path("-"), metavar="[FILE|-]", help="A log; standard input when absent.")) -> int:
    """Print a text with its secrets masked, to share a log safely."""
    from probes.reading.mask import Masker

    try:
        source = sys.stdin.buffer if str(file) == "-" else file.open("rb")
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}.") from error
    masker = Masker()
    with source:
        for block in blocks(source):
            sys.stdout.write(masker.mask(block.decode("utf-8", "replace")))
    return 0


def blocks(source: IO[bytes]) -> Iterator[bytes]:
    """A stream in pieces of whole lines, about 4 MB each; a private key is never cut."""
    held = b""
    while lines := source.readlines(BLOCK_BYTES):
        held += b"".join(lines)
        if held.count(b"-----BEGIN ") <= held.count(b"-----END ") or len(held) > 2 * BLOCK_BYTES:
            yield held
            held = b""
    if held:
        yield held
