"""`crashcart patch "COMMAND"`: set and take out options of a serving command, and see what changed."""

from __future__ import annotations

import sys

import typer

from ui.cli.options import JSON, print_json

COLORS = {"-": typer.colors.RED, "+": typer.colors.GREEN}
MARKS = {" ": ("", ""), "-": ("[-", "-]"), "+": ("{+", "+}")}


def register(app: typer.Typer) -> None:
    """Put this command on the command line."""
    app.command("patch")(patch)


def patch(
    command: str = typer.Argument(metavar="COMMAND", help="A serving command in quotes, or - for standard input."),
    wanted: list[str] = typer.Option(
        [], "--set", metavar="NAME=VALUE", help="An option or variable to set; NAME alone is a switch. May be repeated."
    ),
    unwanted: list[str] = typer.Option([], "--unset", metavar="NAME", help="What to take out. May be repeated."),
    release: str = typer.Option(
        "", "--release", metavar="ENGINE==VERSION", help="Also make the command right for this release."
    ),
    as_json: bool = JSON,
) -> int:
    """Change a serving command: only what is named changes, quotes and order stay.

    Exit codes: 0 done, 2 the release does not take something in the result.
    """
    from assistant.editing import difference, set_in_command, words_of

    text = sys.stdin.read() if command == "-" else command
    engine, version = split(release)
    result = set_in_command(text, wanted, unwanted, engine, version)
    if as_json:
        print_json({"command": result, "argv": words_of(result), "diff": difference(text, result)})
    else:
        typer.echo(result)
        if result != text:
            typer.echo("\n" + word_diff(text, result))
    refused = failing(result, engine, version)
    for sentence in refused:
        typer.echo(f"crashcart: {sentence}", err=True)
    return 2 if refused else 0


def split(release: str) -> tuple[str, str]:
    """Engine and version of a release; both empty where none is given."""
    from ui.operations import split_release

    return split_release(release) if release else ("", "")


def failing(command: str, engine: str, version: str) -> list[str]:
    """Sentences about names in the command that the release does not take; none where no release is given."""
    from kb.flags import check_command
    from ui.cli.flags import FAILING

    found = check_command(command, engine, version) if version else []
    return [
        f"{each.name} is {each.status} in {engine} {version}"
        + (f"; use {each.replacement}." if each.replacement else ".")
        for each in found
        if each.status in FAILING
    ]


def word_diff(old: str, new: str) -> str:
    """The change in the text itself: in colour on a terminal, `[-old-]{+new+}` elsewhere."""
    from assistant.editing import word_difference

    if sys.stdout.isatty():
        return "".join(typer.style(text, fg=COLORS.get(sign)) for sign, text in word_difference(old, new))
    return "".join(MARKS[sign][0] + text + MARKS[sign][1] for sign, text in word_difference(old, new))
