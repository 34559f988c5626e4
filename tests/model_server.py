"""A loopback endpoint that speaks OpenAI's chat completions: scripted answers, tool calls, and every fault of a real one."""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """One answer. `fault`: cut and end (the connection breaks, or ends as if all were said), stall (nothing more comes), babble (the text
    again and again without end), json (not JSON), empty (no choices)."""

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

    script: Script
    url: str = ""
    requests: list[Body] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def received(self) -> str:
        """All that was ever sent to it."""
        return json.dumps(self.requests, ensure_ascii=False)

    def reply_to(self, body: Body, key: str) -> Reply:
        with self.lock:
            self.requests.append(body)
            self.keys.append(key)
            place = len(self.requests) - 1
        reply = self.script(body, place)
        return replace(reply, text=reply.text.replace("FITTING", fitting(body)))


def fitting(body: Body) -> str:
    """The context length that the prompt's first fix names; a reply has it in place of FITTING, as a model would copy it."""
    found = re.search(r"vllm serve MODEL --max-model-len (\d+)", json.dumps(body["messages"]))
    return found[1] if found else "FITTING"


class Listener(ThreadingHTTPServer):
    """Listens on a free loopback port."""

    daemon_threads = True

    def __init__(self, model: ModelServer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model = model
        model.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    """Sends what the script says, and breaks off where it says so."""

    protocol_version = "HTTP/1.1"
    server: Listener

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = self.server.model.reply_to(body, self.headers.get("Authorization", ""))
        self.server.model.over.wait(reply.delay)
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
        framed = reply.fault != "end"
        self.send_header(*("Transfer-Encoding", "chunked") if framed else ("Connection", "close"))
        self.end_headers()
        self.close_connection = True
        chunks = list(streamed(reply))
        half = len(chunks) // 2 if reply.fault in ("cut", "end", "stall") else len(chunks)
        for chunk in itertools.cycle(chunks[:1]) if reply.fault == "babble" else chunks[:half]:
            if self.server.model.over.is_set():
                return
            self.send_chunk(f"data: {json.dumps(chunk)}\n\n".encode(), framed)
        if reply.fault == "stall":
            self.server.model.over.wait(60)
        elif reply.fault in ("cut", "end"):
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self.send_chunk(b"data: [DONE]\n\n", framed)
            self.send_chunk(b"", framed)

    def send_chunk(self, data: bytes, framed: bool) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n" if framed else data)
        self.wfile.flush()


@contextmanager
def model_server(script: Script | list[Reply]) -> Iterator[ModelServer]:
    """Serve a script: a function of the body and the number of the request from 0, or replies of which the last repeats."""
    said = script if callable(script) else lambda _, place: script[min(place, len(script) - 1)]
    model = ModelServer(said)
    listener = Listener(model)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield model
    finally:
        model.over.set()
        listener.shutdown()
        listener.server_close()
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
        "completion_tokens": 50,
        "total_tokens": 1050,
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
