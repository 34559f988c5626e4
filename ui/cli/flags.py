"""`crashcart flags …`: does this flag exist in this release, and what replaces it."""

from __future__ import annotations

import typer

from ui.cli.options import JSON, print_json

flags_app = typer.Typer(help="Flags, choices and variables of vLLM and SGLang, release by release.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.add_typer(flags_app, name="flags")
