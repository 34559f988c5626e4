"""`crashcart eval`: the one command that is not made here. The evaluation makes it, and nothing here knows what it takes."""

from __future__ import annotations

from pkgutil import resolve_name

import typer

COMMAND = "evals.command:evaluate"


def register(app: typer.Typer) -> None:
    """Put the evaluation's command on the command line, by its name: surfaces do not stand on the evaluation."""
    app.command("eval")(resolve_name(COMMAND))
