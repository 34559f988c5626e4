"""One process for every surface: health at once, the API as soon as it is imported, the web chat beside it."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack, suppress
from typing import Any

from assistant.assistant import Assistant
from assistant.settings import Settings
from kb.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OURS = ("/api/", "/healthz", "/readyz", "/metrics", "/slack/", "/webhook", "/mcp")  # what is not the page's
BODY_BYTES = 64 * 1024 * 1024
THREADS = 256  # one a running answer; anyio's own limit is 40
DAY_SECONDS = 86_400

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Front:
    """Answers /healthz itself, passes the rest on to the part that serves it, and lets it wait until that part is loaded.

    FastAPI takes 0.3 s to import and Gradio 2.5 s: neither holds up the other, nor the answer that the process lives.
    """

    def __init__(self, assistant: Assistant) -> None:
        self.assistant = assistant
        self.index_is_open = threading.Event()
        self._ours: asyncio.Future[App] = asyncio.Future()
        self._page: asyncio.Future[App] = asyncio.Future()
        self._stack = AsyncExitStack()
        self._loading: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path = scope.get("path", "")
        if path == "/healthz":
            await respond(send, 200, b'{"status":"ok"}')
        elif not self._knows(scope):
            await respond(
                send, 421, b'{"detail":"this server is not reached under that name: CRASHCART_ALLOWED_HOSTS"}'
            )
        elif declared_bytes(scope) > BODY_BYTES:
            await respond(
                send, 413, b'{"detail":"more than 64 MiB: give the log by its path to `crashcart ask --log`."}'
            )
        else:
            part = self._ours if path.startswith(OURS) else self._page
            app = await asyncio.shield(part)
            await app(scope, Bounded(receive), send)

    def _knows(self, scope: Scope) -> bool:
        """Whether the request names this server: a page of another site that points its name here does not."""
        host = next((v.decode("latin-1") for k, v in scope.get("headers", ()) if k == b"host"), "")
        return name_of(host) in known_names(self.assistant.settings)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._loading = asyncio.create_task(self._load())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._loading.cancel()
        await self._stack.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _load(self) -> None:
        """The API, then the page; then the library and the index, while nobody waits for them."""
        import anyio.to_thread

        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        try:
            ours = await asyncio.to_thread(self._build_ours)
            await self._stack.enter_async_context(ours.router.lifespan_context(ours))
            self._ours.set_result(ours)
            page = await asyncio.to_thread(self._build_page)
            await self._stack.enter_async_context(page.router.lifespan_context(page))
            self._page.set_result(page)
        except Exception as error:
            for part in (self._ours, self._page):
                if not part.done():
                    part.set_exception(error)
            raise
        opening = (self.assistant, self.index_is_open)
        threading.Thread(target=open_early, args=opening, name="open the index", daemon=True).start()
        await self._forget_old()

    def _build_ours(self) -> Any:
        from ui.api import build_app
        from ui.measures import Measures

        return build_app(self.assistant, Measures(), self.index_is_open.is_set)

    def _build_page(self) -> Any:
        from ui.chat import build_page_app

        return build_page_app(self.assistant, self.index_is_open)

    async def _forget_old(self) -> None:
        """Conversations past their time, once a day."""
        days = self.assistant.settings.thread_days
        while days > 0:
            await asyncio.to_thread(self.assistant.threads.prune, days)
            await asyncio.sleep(DAY_SECONDS)


class Bounded:
    """A request's body that ends the connection when it grows past the limit without having said so."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._read = receive, 0

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._read += len(message.get("body", b""))
        return {"type": "http.disconnect"} if self._read > BODY_BYTES else message


async def respond(send: Send, status: int, body: bytes) -> None:
    """A short JSON response."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def declared_bytes(scope: Scope) -> int:
    """The size that a request says it has."""
    said = next((v for k, v in scope.get("headers", ()) if k == b"content-length"), b"0")
    return int(said) if said.isdigit() else 0


def name_of(host: str) -> str:
    """`[::1]:7860` as `::1`, `localhost:7860` as `localhost`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def known_names(settings: Settings) -> set[str]:
    """The names and addresses under which this server may be reached."""
    return {
        *LOOPBACK,
        settings.host.lower(),
        *(n.strip().lower() for n in settings.allowed_hosts.split(",") if n.strip()),
    }


def open_early(assistant: Assistant, index_is_open: threading.Event) -> None:
    """Load the library and open the index while nobody waits; a question that comes first waits in its search step."""
    try:
        _ = assistant.index
    except InputError:
        return  # said to whoever asks
    index_is_open.set()


def check_reach(settings: Settings) -> None:
    """Raises InputError for an address that others can reach while anybody could ask."""
    if settings.host in LOOPBACK:
        return
    missing = [n for n, v in (("CRASHCART_TOKEN", settings.token), ("CRASHCART_LOGIN", settings.login)) if not v]
    if missing:
        raise InputError(
            f"{settings.host} can be reached from other machines: set {' and '.join(missing)} "
            "(the API's token; the page's NAME:PASSWORD), or leave --host at 127.0.0.1."
        )


def check_port(host: str, port: int) -> None:
    """Raises InputError where no server can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InputError(f"port {port} is taken: crashcart serve --port {port + 1}.") from error
            raise InputError(f"cannot listen on {host} port {port}: {error.strerror}.") from error


def serve(settings: Settings) -> int:
    """Serve until interrupted; raises InputError for an address that is taken, forbidden, or within others' reach."""
    check_reach(settings)
    if settings.login and not all(settings.login.partition(":")):
        raise InputError("CRASHCART_LOGIN must read NAME:PASSWORD.")
    check_port(settings.host, settings.port)
    return run_app(lambda: Front(Assistant(settings)), settings)


def run_app(build: Callable[[], Any], settings: Settings) -> int:
    """Serve the application that `build` makes, once there is a loop, until interrupted."""
    import uvicorn

    shown = f"[{settings.host}]" if ":" in settings.host else settings.host

    class Server(uvicorn.Server):
        """Says where it listens as soon as it does."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(f"Crashcart listens on http://{shown}:{settings.port}  (Ctrl-C stops it)", flush=True)

    async def run() -> None:
        config = uvicorn.Config(
            build(),
            host=settings.host,
            port=settings.port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=2,
            server_header=False,
        )
        await Server(config).serve()

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises a signal again once it has shut down
    with suppress(KeyboardInterrupt):
        asyncio.run(run())
    return 0
