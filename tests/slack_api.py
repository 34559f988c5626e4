"""Slack on loopback: a Web API that records what it is sent, files to fetch, response addresses; and requests as Slack signs them."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
TOKEN = "xoxb-loopback"
TEAM, CHANNEL, BOT, PERSON = "T0TEAM", "C0CHANNEL", "U0BOT", "U0PERSON"


@dataclass(frozen=True)
class Call:
    """A request to the Web API: the method (`chat.postMessage`), what was sent, and the token that was shown."""

    method: str
    body: dict[str, Any]
    token: str


@dataclass
class SlackApi:
    """A running Web API. `failures` are answers (status, body, headers) given before it works again, by method."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    failures: dict[str, list[tuple[int, dict[str, Any], dict[str, str]]]] = field(default_factory=dict)
    replies: list[dict[str, Any]] = field(default_factory=list)
    socket_url: str = ""

    def of(self, method: str) -> list[dict[str, Any]]:
        return [call.body for call in self.calls if call.method == method]

    def wait(self, method: str, count: int = 1, seconds: float = 60) -> list[dict[str, Any]]:
        """What was sent to a method, once there is so much of it."""
        end = time.monotonic() + seconds
        while len(found := self.of(method)) < count:
            assert time.monotonic() < end, f"{method} was called {len(found)} times; {[c.method for c in self.calls]}"
            time.sleep(0.02)
        return found

    def forget(self) -> None:
        self.calls.clear()
        self.failures.clear()
        self.replies.clear()


class Handler(BaseHTTPRequestHandler):
    api: SlackApi

    def do_GET(self) -> None:
        name = urlsplit(self.path).path.removeprefix("/files/")
        self.api.calls.append(Call("GET " + self.path, {}, self.headers.get("Authorization", "")))
        if name == "redirect":
            self.say(302, b"", Location="https://evil.example/")
        elif name in self.api.files:
            self.say(200, self.api.files[name])
        else:
            self.say(404, b"")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        method = urlsplit(self.path).path.removeprefix("/api/").strip("/")
        kind = self.headers.get("Content-Type", "")
        if "json" in kind:
            body = json.loads(raw or b"{}")
        elif "form" in kind and method != "upload":  # urllib calls anything a form
            body = {k: v[0] for k, v in parse_qs(raw.decode()).items()}
        else:
            body = {"raw": raw}
        self.api.calls.append(Call(method, body, self.headers.get("Authorization", "")))
        if self.api.failures.get(method):
            status, answer, headers = self.api.failures[method].pop(0)
            self.say(status, json.dumps(answer).encode(), **headers)
            return
        self.say(200, json.dumps({"ok": True} | self.answer(method)).encode())

    def answer(self, method: str) -> dict[str, Any]:
        return {
            "chat.postMessage": {"ts": "1700000000.000100", "channel": CHANNEL},
            "conversations.replies": {"messages": self.api.replies},
            "files.getUploadURLExternal": {"upload_url": f"{self.api.url}/upload", "file_id": "F1"},
            "files.completeUploadExternal": {"files": [{"id": "F1"}]},
            "apps.connections.open": {"url": self.api.socket_url},
        }.get(method, {})

    def say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def slack_api() -> Iterator[SlackApi]:
    """A Web API on a free port of 127.0.0.1."""
    api = SlackApi()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"api": api})) as server:
        server.daemon_threads = True
        api.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Slack:
    """Slack as it calls the server at `url`."""

    url: str
    client: httpx.Client
    events: int = 0

    def send(
        self, raw: bytes, kind: str, at: float | None = None, secret: str = SECRET, **headers: str
    ) -> httpx.Response:
        stamp = str(int(time.time() if at is None else at))
        signature = "v0=" + hmac.new(secret.encode(), f"v0:{stamp}:".encode() + raw, hashlib.sha256).hexdigest()
        signed = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": signature, "Content-Type": kind}
        return self.client.post(f"{self.url}/slack/events", content=raw, headers=signed | headers)

    def event(self, event: dict[str, Any], event_id: str = "", **how: Any) -> httpx.Response:
        return self.send(json.dumps(self.envelope(event, event_id)).encode(), "application/json", **how)

    def envelope(self, event: dict[str, Any], event_id: str = "") -> dict[str, Any]:
        """An event in what Slack sends around it."""
        self.events += 1
        return {
            "token": "old",
            "team_id": TEAM,
            "api_app_id": "A0",
            "type": "event_callback",
            "event_id": event_id or f"Ev{time.time_ns()}{self.events}",
            "event_time": int(time.time()),
            "authorizations": [{"team_id": TEAM, "user_id": BOT, "is_bot": True}],
            "event": event,
        }

    def form(self, **fields: str) -> httpx.Response:
        return self.send(urlencode(fields).encode(), "application/x-www-form-urlencoded")

    def click(
        self, name: str, value: str, response_url: str, message: dict[str, Any], ephemeral: bool = False
    ) -> httpx.Response:
        container = {"type": "message", "message_ts": "1.2", "channel_id": CHANNEL, "is_ephemeral": ephemeral}
        payload = {
            "type": "block_actions",
            "team": {"id": TEAM},
            "user": {"id": PERSON},
            "channel": {"id": CHANNEL},
            "container": container,
            "message": message,
            "response_url": response_url,
            "trigger_id": "1.2.x",
            "actions": [{"type": "button", "action_id": name, "block_id": "b", "value": value}],
        }
        return self.form(payload=json.dumps(payload))


def mention(text: str, ts: str, **more: Any) -> dict[str, Any]:
    """Somebody calls us in a channel."""
    said = {"type": "app_mention", "user": PERSON, "text": f"<@{BOT}> {text}", "ts": ts, "channel": CHANNEL}
    return said | {"event_ts": ts, "team": TEAM} | more


def direct(text: str, ts: str, **more: Any) -> dict[str, Any]:
    """Somebody writes to us alone."""
    said = {"type": "message", "channel_type": "im", "user": PERSON, "text": text, "ts": ts, "channel": "D0DIRECT"}
    return said | {"event_ts": ts} | more
