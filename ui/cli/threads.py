"""`crashcart threads`: the conversations that are kept."""

from __future__ import annotations

from datetime import datetime

import typer

from kb.errors import InputError
from ui.cli.options import JSON, Group, open_assistant, print_json

threads_app = typer.Typer(
    cls=Group, help="The conversations that are kept.", no_args_is_help=True, rich_markup_mode=None
)
THREAD = typer.Argument(metavar="ID", help="A name from `crashcart threads list`.")


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.add_typer(threads_app, name="threads")


@threads_app.command("list")
def threads_list(as_json: bool = JSON) -> int:
    """Conversations, newest first."""
    threads = open_assistant().threads.list()
    if as_json:
        print_json(threads)
        return 0
    for thread in threads:
        written = datetime.fromtimestamp(thread.updated).strftime("%Y-%m-%d %H:%M")
        typer.echo(f"{written}  {thread.turns:3}  {thread.id}  {thread.title}")
    return 0


@threads_app.command("show")
def threads_show(thread: str = THREAD, as_json: bool = JSON) -> int:
    """One conversation, questions and answers."""
    from rich.console import Console

    from ui.render import render_text

    asked = open_assistant().threads.read(thread)
    if not asked:
        raise InputError(f"there is no thread {thread!r}: crashcart threads list names them.")
    if as_json:
        print_json(asked)
        return 0
    for each in asked:
        quoted = each.text.replace("\n", "\n> ")
        render_text(Console(), f"> {quoted}\n\n{each.turn.answer.text if each.turn else '…'}\n")
    return 0


@threads_app.command("delete")
def threads_delete(thread: str = THREAD) -> int:
    """Forget a conversation for good."""
    if not open_assistant().threads.delete(thread):
        raise InputError(f"there is no thread {thread!r}: crashcart threads list names them.")
    return 0


@threads_app.command("prune")
def threads_prune(
    days: float = typer.Option(None, "--days", min=0, help="Older than so many days [CRASHCART_THREAD_DAYS]."),
) -> int:
    """Forget conversations to which nothing was written for long."""
    assistant = open_assistant()
    count = assistant.threads.prune(assistant.settings.thread_days if days is None else days)
    typer.echo(f"{count} questions forgotten.")
    return 0
