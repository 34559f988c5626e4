"""`crashcart flags …`: does this flag exist in this release, and what replaces it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from kb.errors import InputError
from ui.cli.options import JSON, print_json
from ui.operations import check_flags

if TYPE_CHECKING:
    from kb.flags import FlagStatus

flags_app = typer.Typer(
    help="Flags, choices and variables of vLLM and SGLang, release by release.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
FAILING = ("removed", "renamed", "never", "not-yet", "refused")
COMMAND = typer.Argument(metavar="COMMAND", help="A serving command in quotes, e.g. 'vllm serve m --swap-space 4'.")


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.add_typer(flags_app, name="flags")


@flags_app.command("check")
def check(
    command: str = COMMAND,
    release: str = typer.Option(
        "", "--release", metavar="ENGINE==VERSION", help="e.g. vllm==0.11.0 [the image tag in the command]."
    ),
    as_json: bool = JSON,
) -> int:
    """Check every flag, choice and variable of a command.

    Exit codes: 0 all work there, 1 something deprecated or without effect, 2 something the release does not take, 3 unknown release.
    """
    checked = check_flags(command, release)
    if as_json:
        print_json(checked)
    else:
        for item in checked.items:
            typer.echo(describe(item))
        if checked.patched_command != command:
            typer.echo(f"\n{checked.patched_command}")
    return exit_code([item.status for item in checked.items])


@flags_app.command("diff")
def diff(
    command: str = COMMAND,
    old: str = typer.Option(..., "--from", metavar="VERSION", help="The release that runs now, e.g. 0.8.5."),
    new: str = typer.Option(..., "--to", metavar="VERSION", help="The release to go to, e.g. 0.20.2."),
    as_json: bool = JSON,
) -> int:
    """What an upgrade changes for a command: flags that go, their replacements, defaults that change.

    Exit codes: 0 nothing breaks, 2 the new release refuses something.
    """
    from kb.flags import diff as compare
    from kb.flags import engine_of

    engine = engine_of(command)
    if engine is None:
        raise InputError(
            "no serving command of vLLM or SGLang in this: crashcart flags diff 'vllm serve MODEL' --from 0.8.5 --to 0.20.2."
        )
    found = compare(command, engine, old, new)
    if as_json:
        print_json(found)
    else:
        for _, after in found.items:
            typer.echo(describe(after))
        for change in found.defaults:
            typer.echo(
                f"{'default':15} {change.name}: {change.old} → {change.new}"
                + (f" ({change.note})" if change.note else "")
            )
        if not found.items and not found.defaults:
            typer.echo(f"Nothing in this command changes from {old} to {new}.")
        if found.patched_command != command:
            typer.echo(f"\n{found.patched_command}")
    return 2 if any(after.status in FAILING for _, after in found.items) else 0


def describe(item: FlagStatus) -> str:
    """One line: status, name, since when and until when, what to write instead."""
    span = ", ".join(
        part
        for part in (f"since {item.since}" if item.since else "", f"until {item.until}" if item.until else "")
        if part
    )
    instead = f" → {item.replacement}" if item.replacement else ""
    return f"{item.status:15} {item.name}{f' ({span})' if span else ''}{instead}" + (
        f"\n{'':16}{item.note}" if item.note else ""
    )


def exit_code(statuses: list[str]) -> int:
    """The monitoring convention over the statuses of all names."""
    if any(s in FAILING for s in statuses):
        return 2
    if any(s in ("deprecated", "no-op") for s in statuses):
        return 1
    return 3 if "unknown-release" in statuses else 0
