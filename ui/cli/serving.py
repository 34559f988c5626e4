"""`crashcart serve`: the web chat and the API in one process."""

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
    """Serve the web chat at /, the API at /api/v1, health at /healthz and metrics at /metrics, on this machine.

    Any other address needs CRASHCART_TOKEN and CRASHCART_LOGIN.

    \b
        crashcart serve --port 7861
        curl -s localhost:7860/api/v1/ask -H 'Content-Type: application/json' -d '{"question": "…"}'
    """
    from ui.server import serve as run

    return run(settings(host=host, port=port))
