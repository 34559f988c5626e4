"""The webhook of a running server, as Mattermost, Rocket.Chat, Teams and a script call it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistant.threads import Threads
from tests.serving import serving
from ui.webhook import harmless, read_message

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
TOKEN = base64.b64encode(b"a key of Teams").decode()


@pytest.fixture(scope="module")
def hook(home: Path) -> Iterator[httpx.Client]:
    with serving(home, webhook_token=TOKEN, probe_seconds="2") as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def test_a_form_is_answered_as_mattermost_sends_it(hook: httpx.Client, home: Path) -> None:
    form = {"token": TOKEN, "team_id": "t1", "channel_id": "c1", "root_id": "p1", "trigger_word": "!cc"}
    answer = hook.post("/webhook", data=form | {"text": f"!cc why? {OOM}"})
    assert answer.status_code == 200 and answer.json()["response_type"] == "comment"
    assert "CUDA out of memory" in answer.json()["text"] and "```" in answer.json()["text"]
    hook.post("/webhook", data=form | {"text": "!cc I did that, it still fails"})
    threads = Threads.in_folder(home)
    assert [a.text for a in threads.read("webhook:t1:c1:p1")] == [f"why? {OOM}", "I did that, it still fails"]
    threads.close()


def test_a_script_sends_json_with_a_bearer_token(hook: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert "## " in hook.post("/webhook", json={"text": OOM}, headers=headers).json()["text"]
    assert (
        "诊断"
        in hook.post(
            "/webhook", json={"text": f"启动就退出，日志里是这个报错，应该怎么办： {OOM}"}, headers=headers
        ).json()["text"]
    )


def test_teams_signs_what_it_sends(hook: httpx.Client) -> None:
    said = {
        "type": "message",
        "text": f"<at>Crashcart</at> why?&nbsp;{OOM}",
        "conversation": {"id": "19:a;messageid=1"},
    }
    raw = json.dumps(said).encode()
    signature = base64.b64encode(hmac.new(b"a key of Teams", raw, hashlib.sha256).digest()).decode()
    answer = hook.post("/webhook", content=raw, headers={"Authorization": f"HMAC {signature}"})
    assert answer.status_code == 200 and answer.json()["type"] == "message"
    changed = raw.replace(b"why", b"who")
    assert hook.post("/webhook", content=changed, headers={"Authorization": f"HMAC {signature}"}).status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"text": OOM}, 401),
        ({"text": OOM, "token": "wrong"}, 401),
        ({"text": OOM, "token": ""}, 401),
        ({"text": OOM, "token": {"$ne": 1}}, 401),
        (["text"], 400),
        ({"text": None, "token": TOKEN}, 200),
        ({"token": TOKEN, "text": "x", "thread": "../../" * 99}, 200),
        ({"token": TOKEN, "text": "<script>alert(1)</script> @channel <!here> vLLM?"}, 200),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(hook: httpx.Client, body: Any, status: int) -> None:
    response = hook.post("/webhook", json=body)
    assert response.status_code == status
    assert "<script" not in response.text and "@channel" not in response.text


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[" * 100_000, b"{"])
def test_what_is_no_json_is_refused(hook: httpx.Client, raw: bytes) -> None:
    assert hook.post("/webhook", content=raw).status_code == 400
    assert hook.post("/webhook", content=b"x" * (5 << 20)).status_code == 413


def test_without_a_token_there_is_no_webhook(home: Path) -> None:
    with serving(home) as url:
        assert httpx.post(f"{url}/webhook", json={"text": "x", "token": ""}, timeout=60).status_code in (404, 405)


def test_nobody_is_called_and_code_stays_as_it_is() -> None:
    assert (
        harmless("ask @all <b> `@all <b>` ```\n@here <x>\n```")
        == "ask @\u200ball &lt;b> `@all <b>` ```\n@here <x>\n```"
    )
    assert read_message({"text": "cc why", "trigger_word": "cc", "thread": "a/b"}).thread == "webhook:::a-b"
    assert read_message({"text": "why"}).thread == ""
