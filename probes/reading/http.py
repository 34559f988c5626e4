"""Asks engines over HTTP: GET of known paths, and for an operator who allows it, completions of bounded length.

Nothing is followed: no redirect, no proxy, no compression. One deadline spans connecting, headers and body, because a
timeout for each read lets a server that sends a byte a second hold its caller for as long as it likes.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Literal
from urllib.parse import urlsplit

import httpcore

from probes.reading.servers import Server

Path = Literal[
    "/v1/models",
    "/version",
    "/health",
    "/server_info",
    "/get_server_info",
    "/metrics",
    "/metrics/",
]
CAP_BYTES = 4 << 20
"""A vLLM page with eight engines is about 0.4 MB."""
LINE_CAP_BYTES = 64 << 10
KEY_MARK = "MASKED-engine_api_key"
HERE = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})

Reason = Literal["refused", "unreachable", "silent", "broken", "too-large", "encoded", "tls", "bad-key"]


class Unanswered(Exception):
    """No usable answer came. `reason` says why; `connected` whether anybody took the connection."""

    def __init__(self, reason: Reason, connected: bool = True) -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        self.connected = connected


class BadAddress(Exception):
    """A given URL is none that can be asked; the message is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an engine may be asked: `http://host:port`, with a path in front of its own where a gateway adds one."""

    url: str
    key: str = field(default="", repr=False)
    server: Server | None = None
    """The process that listens there, where it was found on this machine."""

    @property
    def is_local(self) -> bool:
        host = urlsplit(self.url).hostname or ""
        return host in HERE or _is_loopback(host)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in full, with the operator's key taken out of the text."""

    status: int
    text: str

    def json(self) -> Any:
        """The answer as JSON; None where it is something else."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None


def addresses(urls: Iterable[str], servers: Iterable[Server], key: str = "") -> tuple[Address, ...]:
    """List where engines may be asked: the operator's URLs, then servers found here that listen on loopback.

    The key goes to the operator's URLs alone: any user of this machine can start a program that looks like an engine.
    Raises BadAddress for a URL that cannot be asked.
    """
    found: dict[str, Address] = {}
    by_port = {server.port: server for server in servers if server.port}
    for url in urls:
        base = parse_base(url)
        address = Address(base, key)
        if address.is_local:
            address = Address(base, key, by_port.get(urlsplit(base).port or 0))
        found.setdefault(base, address)
    taken = {urlsplit(base).port for base, address in found.items() if address.is_local}
    for server in servers:
        if server.port not in taken and server.url.startswith("http://127.0.0.1:"):
            found.setdefault(server.url, Address(server.url, server=server))
    return tuple(found.values())


def parse_base(url: str) -> str:
    """Bring a URL to `http://host:port`, without `/v1` and a slash at its end. Raises BadAddress."""
    text = url.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError as error:
        raise BadAddress(f"`{text}` is not a URL; write it as `http://HOST:PORT`.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise BadAddress(f"`{text}` is not the URL of a server; write it as `http://HOST:PORT`.")
    if parts.username or parts.password:
        raise BadAddress("A URL in `CRASHCART_URLS` holds a user name; put the key into `CRASHCART_ENGINE_API_KEY`.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/").removesuffix("/v1")
    if not (host + path).isascii() or not (host + path).isprintable() or " " in path:
        raise BadAddress(f"`{text}` is not a URL; write it as `http://HOST:PORT`.")
    return f"{parts.scheme}://{host}:{port or (443 if parts.scheme == 'https' else 80)}{path}"


def get(address: Address, path: Path, deadline: float) -> Reply:
    """Ask for one path, until `deadline` (a `time.monotonic()` value) at the latest. Raises Unanswered."""
    with _exchange("GET", address, path, deadline) as response:
        body = bytearray()
        for piece in response.iter_stream():
            body += piece
            if len(body) > CAP_BYTES:
                raise Unanswered("too-large")
        return Reply(response.status, _text(bytes(body), address.key))


def complete(address: Address, request: Mapping[str, Any], deadline: float) -> Iterator[tuple[float, dict[str, Any]]]:
    """Stream a completion: what the server sends, each with the `time.monotonic()` at which it came.

    This puts load on the engine and is for probes that an operator allows. The first item of a refusal is
    `{"error": text, "status": number}`. Raises Unanswered, also in the middle of a stream.
    """
    with _exchange("POST", address, "/v1/completions", deadline, json.dumps(dict(request)).encode()) as response:
        if response.status != 200:
            first = b"".join(piece for _, piece in zip(range(4), response.iter_stream(), strict=False))
            yield time.monotonic(), {"error": _text(first[:2000], address.key), "status": response.status}
            return
        for line in _lines(response.iter_stream()):
            if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
                try:
                    event = json.loads(line[5:])
                except ValueError as error:
                    raise Unanswered("broken") from error
                if isinstance(event, dict):
                    yield time.monotonic(), event


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest, total = b"", 0
    for piece in pieces:
        total += len(piece)
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > LINE_CAP_BYTES or total > CAP_BYTES:
            raise Unanswered("too-large")
        yield from whole
    yield rest


@contextmanager
def _exchange(
    method: Literal["GET", "POST"], address: Address, path: str, deadline: float, body: bytes = b""
) -> Iterator[httpcore.Response]:
    """Send one request on a connection of its own and give the answer with its body unread."""
    backend = _Backend(deadline)
    headers: dict[bytes | str, bytes | str] = {
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "User-Agent": "crashcart",
        "Connection": "close",
    }
    if body:
        headers["Content-Type"] = "application/json"
    if address.key:
        if not (address.key.isascii() and address.key.isprintable() and " " not in address.key):
            raise Unanswered("bad-key", connected=False)
        headers["Authorization"] = f"Bearer {address.key}"
    try:
        with (
            httpcore.ConnectionPool(network_backend=backend) as pool,
            pool.stream(method, address.url + path, headers=headers, content=body) as response,
        ):
            encoding = next((value for name, value in response.headers if name.lower() == b"content-encoding"), b"")
            if encoding.lower() not in (b"", b"identity"):
                raise Unanswered("encoded")
            yield response
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
        raise Unanswered(_reason(error, backend.connected), backend.connected) from error


def _reason(error: Exception, connected: bool) -> Reason:
    if not connected:
        refused = any(isinstance(each, ConnectionRefusedError) for each in _causes(error))
        return "refused" if refused else "unreachable"
    if any(isinstance(each, ssl.SSLError) for each in _causes(error)):
        return "tls"
    return "silent" if isinstance(error, httpcore.TimeoutException) else "broken"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _text(body: bytes, key: str) -> str:
    text = body.decode("utf-8", "replace")
    return text.replace(key, KEY_MARK) if key else text


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Backend(httpcore.NetworkBackend):
    """Connects, and gives streams whose every read and write ends at the one deadline."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.connected = False

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failed: httpcore.ConnectError | None = None
        for found in _resolve(host, port, self.deadline):
            try:
                stream = httpcore.SyncBackend().connect_tcp(found, port, timeout=left(self.deadline))
            except httpcore.ConnectError as error:
                failed = error
                continue
            self.connected = True
            return _Stream(stream, self.deadline)
        raise failed or httpcore.ConnectError("no such host")


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, deadline: float) -> None:
        self.inner, self.deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.inner.read(max_bytes, left(self.deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.inner.write(buffer, left(self.deadline))

    def close(self) -> None:
        self.inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self.inner.start_tls(ssl_context, server_hostname, left(self.deadline)), self.deadline)

    def get_extra_info(self, info: str) -> Any:
        return self.inner.get_extra_info(info)


def left(deadline: float) -> float:
    """Tell the seconds that are left. Raises httpcore.ReadTimeout when there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise httpcore.ReadTimeout("the deadline has passed")
    return seconds


def _resolve(host: str, port: int, deadline: float) -> list[str]:
    """Look a name up in a thread of its own: the system's resolver takes no deadline."""
    answers: SimpleQueue[list[str]] = SimpleQueue()

    def look_up() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            rows = []
        answers.put(list(dict.fromkeys(str(row[4][0]) for row in rows)))

    threading.Thread(target=look_up, name="name look-up", daemon=True).start()
    try:
        return answers.get(timeout=left(deadline))
    except Empty as error:
        raise httpcore.ConnectTimeout("the name was not resolved in time") from error
