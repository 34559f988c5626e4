"""A real HTTP server on loopback whose every path answers as it is told, well or badly."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = str | tuple[int, str] | Callable[["Handler"], None]


@dataclass
class Seen:
    """A running server and what it was asked."""

    url: str
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    answers: Mapping[str, Answer]
    seen: Seen

    def do_GET(self) -> None:
        self.seen.asked.append(f"{self.command} {self.path}")
        self.seen.headers.append(dict(self.headers))
        answer = self.answers.get(self.path, (404, '{"detail":"Not Found"}'))
        if callable(answer):
            answer(self)
        else:
            status, text = (200, answer) if isinstance(answer, str) else answer
            self.say(status, text.encode())

    def do_POST(self) -> None:
        self.seen.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.do_GET()

    def say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def dribble(self, first: bytes) -> None:
        """Send `first`, then a byte every 50 ms, each well within any timeout of a single read."""
        self.wfile.write(first)
        while not self.seen.closing.wait(0.05):
            self.wfile.write(b"x")
            self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what these tests are about."""


@contextmanager
def serving(answers: Mapping[str, Answer]) -> Iterator[Seen]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    seen = Seen("")
    handler = type("Bound", (Handler,), {"answers": answers, "seen": seen})
    with Server(("127.0.0.1", 0), handler) as server:
        seen.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield seen
        finally:
            seen.closing.set()
            server.shutdown()
            thread.join()
