"""`crashcart serve`: the web chat."""

from __future__ import annotations

import typer

from ui.cli.options import settings


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.command("serve")(serve)


def serve(
    host: str = typer.Option(None, "--host", help="Address to listen on [127.0.0.1]."),
    port: int = typer.Option(None, "--port", min=1, max=65535, help="Port [7860]."),
) -> int:
    """Open the web chat in this process, on this machine only."""
    from ui.chat import serve_chat

    return serve_chat(settings(host=host, port=port))
