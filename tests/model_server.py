"""A loopback endpoint that speaks OpenAI's chat completions: scripted answers, tool calls, and every fault of a real one."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """One answer. `fault`: cut (the connection ends mid-stream), stall (nothing more comes), json (not JSON), empty (no choices)."""

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    status: int = 200
    error: str = ""
    fault: str = ""
    delay: float = 0.0
    headers: tuple[tuple[str, str], ...] = ()


Script = Callable[[Body, int], Reply]


@dataclass
class ModelServer:
    """A running endpoint. `requests` are the bodies received, `keys` the Authorization headers."""

    url: str
    requests: list[Body] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    @property
    def received(self) -> str:
        """All that was ever sent to it."""
        return json.dumps(self.requests, ensure_ascii=False)


@contextmanager
def model_server(script: Script | list[Reply]) -> Iterator[ModelServer]:
    """Serve a script: a function of the body and the number of the request from 0, or replies of which the last repeats."""
    over = threading.Event()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                place = len(server.requests)
                server.requests.append(body)
                server.keys.append(self.headers.get("Authorization", ""))
            reply = script(body, place) if callable(script) else script[min(place, len(script) - 1)]
            over.wait(reply.delay)
            try:
                self.send_reply(body, reply)
            except OSError:
                self.close_connection = True

        def send_reply(self, body: Body, reply: Reply) -> None:
            if reply.status != 200:
                self.send_whole(json.dumps({"error": {"message": reply.error, "type": "error"}}), reply)
            elif reply.fault == "json":
                self.send_whole("<html>busy</html>", reply)
            elif reply.fault == "empty":
                self.send_whole(json.dumps({"id": "x", "object": "chat.completion", "choices": []}), reply)
            elif body.get("stream"):
                self.send_stream(reply)
            else:
                self.send_whole(json.dumps(whole(reply)), reply)

        def send_whole(self, text: str, reply: Reply) -> None:
            data = text.encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in reply.headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def send_stream(self, reply: Reply) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            chunks = list(streamed(reply))
            if reply.fault == "stall":
                chunks = chunks[: len(chunks) // 2]
            for i, chunk in enumerate(chunks):
                if reply.fault == "cut" and i == len(chunks) // 2:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.flush()
            if reply.fault == "stall":
                over.wait(60)
                return
            self.wfile.write(b"data: [DONE]\n\n")

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server = ModelServer(f"http://127.0.0.1:{httpd.server_port}/v1")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        over.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def tool_calls(reply: Reply) -> list[Body]:
    return [
        {
            "index": i,
            "id": f"call_{time.monotonic_ns()}_{i}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for i, (name, arguments) in enumerate(reply.calls)
    ]


def whole(reply: Reply) -> Body:
    message = {"role": "assistant", "content": reply.text, "tool_calls": tool_calls(reply) or None}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if reply.calls else "stop"}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [choice],
        "usage": usage(reply),
    }


def usage(reply: Reply) -> Body:
    return {
        "prompt_tokens": 1000,
        "completion_tokens": len(reply.text) // 4,
        "total_tokens": 1000 + len(reply.text) // 4,
    }


def streamed(reply: Reply) -> Iterator[Body]:
    base = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
    text = reply.text
    for i in range(0, len(text), 40):
        yield base | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": text[i : i + 40]}}]}
    if reply.calls:
        yield base | {"choices": [{"index": 0, "delta": {"role": "assistant", "tool_calls": tool_calls(reply)}}]}
    yield base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls" if reply.calls else "stop"}]}
    yield base | {"choices": [], "usage": usage(reply)}
