"""Options and input that several commands share."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import typer
from typer.core import TyperGroup

from kb.errors import InputError

if TYPE_CHECKING:
    from assistant.assistant import Assistant
    from assistant.settings import Settings
    from kb.types import Language

LONGEST_HELP = 200


class Group(TyperGroup):
    """Commands whose sentences are wrapped in the help, not cut."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Every command with its first sentence."""
        known = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(LONGEST_HELP)) for name, each in known if each])


JSON = typer.Option(False, "--json", help="Print JSON instead of text.")
ACTIVE_SECONDS = 12.0
"""engine_speed takes up to 9 s, after the passive probes."""
EXIT_CODES = {"ok": 0, "warning": 1, "critical": 2, "unknown": 3}


def print_json(value: object) -> None:
    """JSON on standard output; characters stay as they are, so that Chinese can be read."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def settings(**flags: Any) -> Settings:
    """The settings, flags over environment."""
    from assistant.settings import load_settings

    return load_settings(**flags)


def language_of_words(argv: Sequence[str]) -> Language:
    """The language to answer a command line in that cannot be used: the one it asks for, else that of its words, else the
    environment's."""
    from assistant.language import detect_language
    from ui.render import environment_language

    joined = " ".join(argv).replace("--lang=", "--lang ")
    asked = joined.partition("--lang ")[2][:2] or os.environ.get("CRASHCART_LANG", "")
    if asked in ("en", "zh"):
        return "zh" if asked == "zh" else "en"
    return "zh" if detect_language(joined) == "zh" else environment_language()


def deadline_of(chosen: Settings, given: float | None, active: bool) -> float:
    """The seconds that probes share: as given, else as set, with active probes at least as many as those take."""
    return chosen.probe_seconds if given or not active else max(chosen.probe_seconds, ACTIVE_SECONDS)


def open_assistant(quiet: bool = False, **flags: Any) -> Assistant:
    """The assistant, with a line on standard error while its index is built."""
    from assistant.assistant import Assistant

    return Assistant(settings(**flags), None if quiet or not sys.stderr.isatty() else show_progress)


def show_progress(what: str, done: int, total: int) -> None:
    """`embedding 32/480` on one line."""
    sys.stderr.write(f"\rcrashcart: {what} {done}/{total}" + ("\n" if done == total else ""))
    sys.stderr.flush()


def read_host(path: Path | None) -> dict[str, Any] | None:
    """A recorded host (`crashcart checkup --json > host.json`)."""
    if path is None:
        return None
    try:
        host = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read the recorded host {path}: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: record a host with `crashcart checkup --json > host.json`.") from error
    if not isinstance(host, dict):
        raise InputError(f"{path} is not a recorded host: record one with `crashcart checkup --json > host.json`.")
    return host
