"""`crashcart patch COMMAND|FILE`: set and take out options of a serving command, and see what changed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from ui.cli.options import JSON, print_json
from ui.cli.serving_commands import COMMAND, LANG, language, masked, read_command, say_masked

if TYPE_CHECKING:
    from kb.flags import FlagStatus
    from kb.types import Language

COLORS = {"-": typer.colors.RED, "+": typer.colors.GREEN}
MARKS = {" ": ("", ""), "-": ("[-", "-]"), "+": ("{+", "+}")}


def register(app: typer.Typer) -> None:
    """Put this command on the command line."""
    app.command("patch")(patch)


def patch(
    command: str = COMMAND,
    wanted: list[str] = typer.Option(
        [], "--set", metavar="NAME=VALUE", help="An option or variable to set; NAME alone is a switch. May be repeated."
    ),
    unwanted: list[str] = typer.Option([], "--unset", metavar="NAME", help="What to take out. May be repeated."),
    release: str = typer.Option(
        "", "--release", metavar="ENGINE==VERSION", help="Also make the command right for this release."
    ),
    at: str = typer.Option("", "--at", metavar="LINE|NAME|all", help="Which of several serving commands to change."),
    lang: str = LANG,
    as_json: bool = JSON,
) -> int:
    """Change a serving command: only what is named changes, quotes and order stay. Of a file, the change is printed as a diff.

    Exit codes: 0 done, 2 the release does not take something in the result.
    """
    from assistant.editing import difference, set_in_command, words_of

    given = read_command(command)
    engine, version = split(release)
    result = masked(set_in_command(given.text, wanted, unwanted, engine, version, at))
    shown_in = language(lang)
    change = difference(given.text, result, given.name)
    if as_json:
        print_json({"command": result, "argv": words_of(result), "diff": change})
    elif given.name:
        typer.echo(change, nl=bool(change))
    else:
        typer.echo(result)
        if result != given.text:
            typer.echo("\n" + word_diff(given.text, result))
    say_masked(result, shown_in)
    refused = failing(result, engine, version)
    for item in refused:
        typer.echo(f"crashcart: {refusal(item, engine, version, shown_in)}", err=True)
    return 2 if refused else 0


def split(release: str) -> tuple[str, str]:
    """Engine and version of a release; both empty where none is given."""
    from ui.operations import split_release

    return split_release(release) if release else ("", "")


def failing(command: str, engine: str, version: str) -> list[FlagStatus]:
    """The names in the command that the release does not take; none where no release is given."""
    from kb.flags import check_command
    from ui.cli.flags import FAILING

    found = check_command(command, engine, version) if version else []
    return [each for each in found if each.status in FAILING]


def refusal(item: FlagStatus, engine: str, version: str, lang: Language) -> str:
    """One sentence about a name that a release does not take."""
    from kb.chinese import STATUSES

    if lang == "zh":
        instead = f",请改用 {item.replacement}" if item.replacement else ""
        return f"{engine} {version} 中 {item.name}:{STATUSES[item.status]}{instead}。"
    return f"{item.name} is {item.status} in {engine} {version}" + (
        f"; use {item.replacement}." if item.replacement else "."
    )


def word_diff(old: str, new: str) -> str:
    """The change in the text itself: in colour on a terminal, `[-old-]{+new+}` elsewhere."""
    from assistant.editing import word_difference

    if sys.stdout.isatty():
        return "".join(typer.style(text, fg=COLORS.get(sign)) for sign, text in word_difference(old, new))
    return "".join(MARKS[sign][0] + text + MARKS[sign][1] for sign, text in word_difference(old, new))
