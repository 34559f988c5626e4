"""`crashcart mcp`: the assistant for other agents."""

from __future__ import annotations

import typer

from ui.cli.options import settings


def register(app: typer.Typer) -> None:
    """Put this command on the command line."""
    app.command("mcp")(mcp)


def mcp(
    http: bool = typer.Option(
        False, "--http", help="Serve at http://127.0.0.1:PORT/mcp instead of standard input and output."
    ),
    host: str = typer.Option(None, "--host", help="With --http: the address to listen on [127.0.0.1]."),
    port: int = typer.Option(None, "--port", min=1, max=65535, help="With --http: the port [7860]."),
) -> int:
    """Offer the assistant to other agents over MCP: tools that only read, documents and playbooks.

    An agent on this machine starts `crashcart mcp` itself. `crashcart serve` offers the same at /mcp beside the web chat;
    an address that others can reach needs CRASHCART_TOKEN.

    \b
        claude mcp add crashcart -- crashcart mcp
        crashcart mcp --http --port 7862
    """
    chosen = settings(host=host, port=port)
    if http:
        from ui.mcp_http import serve_http

        return serve_http(chosen)
    from ui.mcp import serve_stdio

    return serve_stdio(chosen)
