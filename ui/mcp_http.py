"""/mcp of a running server, behind the API's token. The mcp package takes a second to import: it is loaded by the first request."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.routing import Route

from assistant.assistant import Assistant
from assistant.settings import Settings
from kb.errors import InputError
from ui.measures import Measures
from ui.server import LOOPBACK, App, Receive, Scope, Send, check_port, respond, run_app


class McpEndpoint:
    """Lets pass who shows the token, where one is set; starts the MCP server with the first request that does."""

    def __init__(self, assistant: Assistant, measures: Measures) -> None:
        self._assistant, self._measures = assistant, measures
        self._token = assistant.settings.token
        self._app: asyncio.Future[App] | None = None
        self._life: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shown = next((v for k, v in scope.get("headers", ()) if k == b"authorization"), b"")
        if self._token and not secrets.compare_digest(shown, f"Bearer {self._token}".encode()):
            await respond(send, 401, b'{"detail":"the token is missing or wrong."}')
            return
        if self._app is None:
            self._app = asyncio.get_running_loop().create_future()
            self._life = asyncio.create_task(self._live(self._app))
        app = await asyncio.shield(self._app)
        await app(scope, receive, send)

    async def _live(self, app: asyncio.Future[App]) -> None:
        """Build the server, and keep its sessions until the end."""
        from ui.mcp import build_http_app

        server, built = await asyncio.to_thread(build_http_app, self._assistant, self._measures)
        async with server.session_manager.run():
            app.set_result(built)
            await self._closing.wait()

    @asynccontextmanager
    async def living(self, _: object) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._closing.set()
            if self._life:
                await self._life


def build_router(assistant: Assistant, measures: Measures) -> APIRouter:
    """The route /mcp."""
    endpoint: Any = McpEndpoint(assistant, measures)
    router = APIRouter(lifespan=endpoint.living)
    router.routes.append(Route("/mcp", endpoint, include_in_schema=False))
    return router


def serve_http(settings: Settings) -> int:
    """Serve /mcp alone, without the page. Raises InputError for an address that is taken, or in others' reach without a token."""
    if settings.host not in LOOPBACK and not settings.token:
        raise InputError(
            f"{settings.host} can be reached from other machines: set CRASHCART_TOKEN, or leave --host at 127.0.0.1."
        )
    check_port(settings.host, settings.port)
    app = FastAPI(openapi_url=None)
    app.include_router(build_router(Assistant(settings), Measures()))
    return run_app(lambda: app, settings)
