"""A running server as Slack meets it: every kind of request, signed as Slack signs, against a Web API on loopback."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.server import ServerConnection, serve

from assistant.assistant import Assistant
from assistant.settings import Settings
from assistant.threads import Threads
from assistant.types import Answer, Evidence
from kb.runbooks import add_runbooks
from tests.serving import serving
from tests.slack_api import BOT, CHANNEL, SECRET, TEAM, TOKEN, Slack, SlackApi, direct, mention, slack_api
from ui.mrkdwn import cut, pack, to_pieces, unescape
from ui.slack_blocks import answer_post, evidence_post
from ui.slack_events import is_configured, question_text
from ui.slack_files import is_slacks

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
MARKER = "RuntimeError: the marker of the long runbook was hit"
LONG = f"""# Long runbook

## Issue 1: The server stops with a long story

### Symptoms

```
{MARKER}
```

### Cause

- One.

### Fix

"""


@pytest.fixture(scope="module")
def api() -> Iterator[SlackApi]:
    with slack_api() as running:
        yield running


@pytest.fixture(scope="module")
def slack_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("slack")
    steps = [f"{i + 1}. Step {i}: look at {'word ' * 40} & go on.\n" for i in range(200)]
    (home / "long.md").write_text(LONG + "".join(steps), "utf-8")
    add_runbooks([home / "long.md"], home / "runbooks", str)
    return home


@pytest.fixture(scope="module")
def slack(slack_home: Path, api: SlackApi) -> Iterator[Slack]:
    settings = {
        "slack_bot_token": TOKEN,
        "slack_signing_secret": SECRET,
        "slack_base_url": f"{api.url}/api",
        "probe_seconds": "2",
    }
    with serving(slack_home, **settings) as url, httpx.Client(timeout=60) as client:
        yield Slack(url, client)


@pytest.fixture(autouse=True)
def _calm(api: SlackApi) -> None:
    api.forget()


def texts(message: dict[str, Any]) -> str:
    """Everything that a message shows."""
    blocks = message["blocks"] if isinstance(message["blocks"], list) else json.loads(message["blocks"])
    shown = [b["text"]["text"] for b in blocks if b["type"] == "section"]
    return "\n".join([*shown, *(e["text"] for b in blocks if b["type"] == "context" for e in b["elements"])])


def button_values(message: dict[str, Any]) -> dict[str, str]:
    (actions,) = [b for b in message["blocks"] if b["type"] == "actions"]
    return {e["action_id"]: e["value"] for e in actions["elements"]}


def test_the_address_is_verified(slack: Slack) -> None:
    body = json.dumps({"type": "url_verification", "token": "x", "challenge": "abc"}).encode()
    response = slack.send(body, "application/json")
    assert response.status_code == 200 and "abc" in response.text


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"secret": "wrong"}, 401),
        ({"at": time.time() - 301}, 401),
        ({"at": time.time() + 1e9}, 401),
        ({"X-Slack-Signature": ""}, 401),
        ({"X-Slack-Request-Timestamp": "soon"}, 401),
    ],
)
def test_what_slack_did_not_sign_now_is_refused(slack: Slack, api: SlackApi, how: dict[str, Any], status: int) -> None:
    assert slack.event(mention(OOM, "1.0001"), **how).status_code == status
    assert not api.calls


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"{", b""])
def test_what_is_no_request_is_refused(slack: Slack, raw: bytes) -> None:
    assert slack.send(raw, "application/json").status_code in (400, 401, 404)


def test_a_mention_is_answered_in_its_thread_and_acknowledged_before(slack: Slack, api: SlackApi) -> None:
    response = slack.event(mention(OOM, "2.0001"))
    assert response.status_code == 200 and response.elapsed.total_seconds() < 3
    (message,) = api.wait("chat.postMessage")
    assert (message["channel"], message["thread_ts"]) == (CHANNEL, "2.0001")
    assert "Diagnosis" in texts(message) and "OutOfMemoryError" in texts(message)
    assert set(button_values(message)) == {f"crashcart_{n}" for n in ("deeper", "evidence", "helped", "not_helped")}
    assert api.calls[-1].token == f"Bearer {TOKEN}"
    assert api.of("assistant.threads.setStatus")[0]["thread_ts"] == "2.0001"


def test_a_conversation_is_remembered_by_its_thread(slack: Slack, api: SlackApi, slack_home: Path) -> None:
    slack.event(direct(OOM, "3.0001"))
    (first,) = api.wait("chat.postMessage")
    slack.event(direct("I did that, it still fails", "3.0002", thread_ts="3.0001"))
    second = api.wait("chat.postMessage", 2)[1]
    assert second["thread_ts"] == "3.0001" and texts(second) != texts(first)
    threads = Threads.in_folder(slack_home)
    assert [a.text for a in threads.read(f"{TEAM}:D0DIRECT:3.0001")] == [OOM, "I did that, it still fails"]
    threads.close()


def test_chinese_is_answered_in_chinese(slack: Slack, api: SlackApi) -> None:
    slack.event(direct(f"启动就退出，日志是 {OOM}", "4.0001"))
    (message,) = api.wait("chat.postMessage")
    assert "诊断" in texts(message) and "有帮助" in json.dumps(message, ensure_ascii=False)


@pytest.mark.parametrize(
    "event",
    [
        direct("x", "5.1", bot_id="B1"),
        direct("x", "5.2", subtype="message_changed"),
        direct("x", "5.3", channel_type="channel"),
        {"type": "reaction_added", "user": "U1", "reaction": "eyes", "item": {}, "event_ts": "5.4"},
        {"type": "assistant_thread_context_changed", "assistant_thread": {"channel_id": "D", "thread_ts": "5.5"}},
    ],
    ids=lambda e: e.get("subtype") or e["type"],
)
def test_what_is_not_said_to_us_is_only_acknowledged(slack: Slack, api: SlackApi, event: dict[str, Any]) -> None:
    assert slack.event(event).status_code == 200
    slack.event(mention("help with vLLM?", f"5.9{time.time_ns()}"))
    assert len(api.wait("chat.postMessage")) == 1


def test_a_storm_of_repeats_is_answered_once(slack: Slack, api: SlackApi, slack_home: Path) -> None:
    event = mention(OOM, "6.0001")
    with ThreadPoolExecutor(16) as pool:
        repeat = [pool.submit(slack.event, event, "EvStorm", **{"X-Slack-Retry-Num": str(i)}) for i in range(100)]
    assert {r.result().status_code for r in repeat} == {200}
    slack.event(direct(OOM, "6.0002"))
    assert len(api.wait("chat.postMessage", 2)) == 2
    time.sleep(0.3)
    assert [m["thread_ts"] for m in api.of("chat.postMessage")].count("6.0001") == 1
    threads = Threads.in_folder(slack_home)  # as another process would ask
    assert not threads.claim("slack:EvStorm") and threads.claim("slack:EvOther")
    threads.close()


def test_a_mention_that_comes_as_a_message_too_is_answered_once(slack: Slack, api: SlackApi) -> None:
    slack.event(mention(OOM, "6.5", channel="D0DIRECT", channel_type="im"))
    slack.event(direct(f"<@{BOT}> {OOM}", "6.5"))
    slack.event(direct(OOM, "6.6"))
    api.wait("chat.postMessage", 2)
    time.sleep(0.3)
    assert sorted(m["thread_ts"] for m in api.of("chat.postMessage")) == ["6.5", "6.6"]


def test_an_assistant_thread_is_greeted_with_prompts(slack: Slack, api: SlackApi) -> None:
    thread = {"user_id": "U1", "channel_id": "D0DIRECT", "thread_ts": "7.1", "context": {}}
    slack.event({"type": "assistant_thread_started", "assistant_thread": thread, "event_ts": "7.1"})
    (prompts,) = api.wait("assistant.threads.setSuggestedPrompts")
    told = prompts["prompts"] if isinstance(prompts["prompts"], list) else json.loads(prompts["prompts"])
    assert len(told) == 4 and all({"title", "message"} == set(p) for p in told)


def test_a_command_is_answered_to_the_one_who_asks(slack: Slack, api: SlackApi) -> None:
    fields = {"command": "/crashcart", "team_id": TEAM, "channel_id": CHANNEL, "user_id": "U1", "trigger_id": "8.1.x"}
    address = f"{api.url}/response/8"
    assert "vLLM" in slack.form(**fields, text="help", response_url=address).text
    assert slack.form(**fields, text=OOM, response_url=address).status_code == 200
    (message,) = api.wait("response/8")
    assert message["response_type"] == "ephemeral" and "OutOfMemoryError" in texts(message)
    value = button_values(message)["crashcart_evidence"]
    slack.click("crashcart_evidence", value, address, message, ephemeral=True)
    assert "[L1]" in texts(api.wait("response/8", 2)[1])
    assert not api.of("chat.postMessage")


def test_buttons_show_evidence_rate_and_look_deeper(slack: Slack, api: SlackApi, slack_home: Path) -> None:
    slack.event(mention(OOM, "9.0001"))
    (message,) = api.wait("chat.postMessage")
    values, shown = button_values(message), message | {"thread_ts": "9.0001", "ts": "9.0002"}
    slack.click("crashcart_evidence", values["crashcart_evidence"], f"{api.url}/response/9", shown)
    evidence = api.wait("chat.postMessage", 2)[1]
    assert evidence["thread_ts"] == "9.0001" and "*[L1]*" in texts(evidence)
    slack.click("crashcart_not_helped", values["crashcart_not_helped"], f"{api.url}/response/9", shown)
    (rated,) = api.wait("response/9")
    assert rated["replace_original"] and "not helpful" in texts(rated)
    assert set(button_values(rated)) == {"crashcart_deeper", "crashcart_evidence"}
    (case,) = (slack_home / "cases").glob("*9.0001-1.yaml")
    assert "did-not-help" in case.read_text("utf-8")
    slack.click("crashcart_deeper", values["crashcart_deeper"], f"{api.url}/response/9", shown)
    *_, checked, again = api.wait("chat.postMessage", 4)
    assert "gpu_memory" in texts(checked) and "Diagnosis" in texts(again)
    slack.click("crashcart_evidence", f"{TEAM}:X:1 7", f"{api.url}/response/9", shown)
    assert "no longer kept" in texts(api.wait("chat.postMessage", 5)[4])


def test_attached_logs_are_read_from_slack_alone(slack: Slack, api: SlackApi) -> None:
    api.files |= {"a.log": f"INFO start\n{OOM}\n".encode(), "b.log.gz": gzip.compress(b"x " * 1000 + OOM.encode())}
    at = f"{api.url}/files/"
    files = [
        {"id": "F1", "name": "vllm.log", "size": 50, "mimetype": "text/plain", "url_private_download": at + "a.log"},
        {"id": "F2", "name": "b.log.gz", "size": 50, "mimetype": "application/gzip", "url_private": at + "b.log.gz"},
        {"id": "F3", "name": "evil.log", "size": 5, "url_private_download": "https://evil.example/x"},
        {"id": "F4", "name": "moved.log", "size": 5, "url_private_download": at + "redirect"},
        {"id": "F5", "name": "huge.log", "size": 1 << 40, "url_private_download": at + "a.log"},
    ]
    slack.event(direct("why?", "10.1", subtype="file_share", files=[*files, {"id": "F6", "name": "six.log"}]))
    (message,) = api.wait("chat.postMessage")
    assert "vllm.log:2" in texts(message) and "OutOfMemoryError" in texts(message)
    for name in ("evil.log", "moved.log", "huge.log", "six.log"):
        assert name in texts(message)
    fetched = [c for c in api.calls if c.method.startswith("GET ")]
    assert [c.method.rpartition("/")[2] for c in fetched] == ["a.log", "b.log.gz", "redirect"]
    assert all(c.token == f"Bearer {TOKEN}" for c in fetched)


def test_a_mention_in_a_thread_reads_what_was_said_before(slack: Slack, api: SlackApi) -> None:
    api.files["a.log"] = OOM.encode()
    file = {"id": "F1", "name": "root.log", "size": 50, "url_private": f"{api.url}/files/a.log"}
    api.replies += [{"ts": "11.1", "user": "U1", "text": "It dies since noon", "files": [file]}]
    slack.event(mention("why?", "11.2", thread_ts="11.1"))
    (message,) = api.wait("chat.postMessage")
    assert message["thread_ts"] == "11.1" and "root.log:1" in texts(message)


def test_a_log_calls_nobody(slack: Slack, api: SlackApi) -> None:
    log = f"<!channel> <@U1> *see* https://evil.example/x &amp; <https://evil.example|ok>\n{OOM} <!here>"
    slack.event(direct(f"why? {log}", "12.1"))
    (message,) = api.wait("chat.postMessage")
    said = json.dumps(message)
    assert "<!" not in said and "<@" not in said and "<https://evil" not in said
    sections = [b for b in message["blocks"] if b["type"] == "section"]
    assert all(b["text"]["verbatim"] for b in sections) and message["unfurl_links"] is False


def test_an_answer_too_long_for_a_message_goes_on_in_a_file(slack: Slack, api: SlackApi) -> None:
    slack.event(mention(f"why? {MARKER}", "12.5"))
    (done,) = api.wait("files.completeUploadExternal")
    (message,) = api.of("chat.postMessage")
    assert len(json.dumps(message)) < 20_000 and "answer.md" in texts(message)
    assert "crashcart_helped" in button_values(message)
    assert len(api.of("upload")[0]["raw"]) > 12_000 and "12.5" in json.dumps(done)


FAILURES = {
    "limited": [(429, {"ok": False, "error": "ratelimited"}, {"Retry_After": "0"})] * 2,
    "broken": [(500, {"ok": False, "error": "internal_error"}, {})] * 2,
    "blocks refused": [(200, {"ok": False, "error": "invalid_blocks"}, {})],
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_web_api_that_fails_is_tried_again(slack: Slack, api: SlackApi, kind: str) -> None:
    api.failures["chat.postMessage"] = list(FAILURES[kind])
    slack.event(mention(OOM, f"13.{len(kind)}"))
    sent = api.wait("chat.postMessage", len(FAILURES[kind]) + 1)
    assert sent[-1]["text"]
    if kind == "blocks refused":
        assert "blocks" not in sent[-1]
        (done,) = api.wait("files.completeUploadExternal")
        assert CHANNEL in json.dumps(done) and OOM.encode() in api.of("upload")[0]["raw"]


def test_a_web_api_that_stays_broken_costs_one_answer_and_no_more(slack: Slack, api: SlackApi) -> None:
    api.failures["chat.postMessage"] = [(200, {"ok": False, "error": "not_in_channel"}, {})]
    slack.event(mention(OOM, "14.1"))
    api.wait("chat.postMessage")
    slack.event(mention(OOM, "14.2"))
    assert api.wait("chat.postMessage", 2)[1]["thread_ts"] == "14.2"


def test_socket_mode_answers_without_an_inbound_address(tmp_path: Path, api: SlackApi) -> None:
    acknowledged: list[str] = []
    envelope = {
        "envelope_id": "e1",
        "type": "events_api",
        "accepts_response_payload": False,
        "payload": Slack("", httpx.Client()).envelope(mention(OOM, "15.1")),
    }

    def talk(connection: ServerConnection) -> None:
        connection.send(json.dumps({"type": "hello", "num_connections": 1}))
        connection.send(json.dumps(envelope))
        for message in connection:
            acknowledged.append(str(message))

    with serve(talk, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api.socket_url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/link"
        settings = {"slack_bot_token": TOKEN, "slack_app_token": "xapp-1", "slack_base_url": f"{api.url}/api/"}
        with serving(tmp_path, **settings) as url:
            (message,) = api.wait("chat.postMessage")
            assert message["thread_ts"] == "15.1"
            assert httpx.post(f"{url}/slack/events", content=b"{}").status_code in (404, 405)
        server.shutdown()
    assert "e1" in acknowledged[0]
    (opened,) = [c for c in api.calls if c.method == "apps.connections.open"]
    assert opened.token == "Bearer xapp-1"


def test_without_its_secrets_there_is_no_slack() -> None:
    assert not is_configured(Settings(slack_signing_secret="s"))
    assert not is_configured(Settings(slack_bot_token="t"))
    assert is_configured(Settings(slack_bot_token="t", slack_app_token="a"))
    assert "xoxb-secret" not in repr(Settings(slack_bot_token="xoxb-secret"))


def test_a_long_answer_fits_and_the_rest_is_said_to_follow(assistant: Assistant) -> None:
    text = "\n\n".join(
        f"## Part {i}\n\n" + "word & <tag> " * 120 + "\n\n```\n" + "line\n" * 900 + "```" for i in range(20)
    )
    post = answer_post(Answer("diagnosed", "en", text=text, warnings=("w" * 9000,) * 20), "t 1", ())
    assert not post.is_whole and len(post.blocks) <= 50
    for block in post.blocks:
        if block["type"] == "section":
            assert len(block["text"]["text"]) <= 3000 and block["text"]["text"].count("```") % 2 == 0
        if block["type"] == "context":
            assert all(len(e["text"]) <= 3000 for e in block["elements"])
    assert "answer.md" in json.dumps(post.blocks)
    evidence = [Evidence(f"L{i}", "log", "a.log", "<!here>" * 400) for i in range(300)]
    assert len(evidence_post(evidence, "en").blocks) <= 50
    assert assistant is not None


def test_every_document_becomes_blocks_that_slack_takes(assistant: Assistant) -> None:
    from ui.operations import as_markdown

    for document in assistant.library.documents:
        for text in pack(to_pieces(as_markdown(document)), 2900):
            assert 0 < len(text) <= 2900, document.id
            assert text.count("```") % 2 == 0, document.id


def test_markdown_becomes_mrkdwn() -> None:
    (first, second, third) = to_pieces(
        "## A **b** `c<d`\n\nIt is **bad** _so_ 很**重**要 [docs](https://a.example/x) https://a.example/x https://b.example\n\n- 1\n  - 2",
        {"https://a.example/x"},
    )
    assert first == "*A b `c&lt;d`*"
    assert second.startswith(
        "It is *bad* _so_ 很\u200b*重*\u200b要 <https://a.example/x|docs> <https://a.example/x> https://b.example"
    )
    assert third == "• 1\n    • 2"
    assert to_pieces("| a | b |\n|---|---|\n| 1 | `22` |") == ["```\na  b\n1  22\n```"]
    assert to_pieces("<b onclick=x>hi</b> &copy; <!channel>")[0].count("<") == 0
    assert all(len(part) <= 100 for part in cut("&amp;" * 200, 100))
    assert "".join(cut("&amp;" * 200, 99)) == "&amp;" * 200


def test_what_slack_sends_is_read_as_typed() -> None:
    assert (
        question_text(f"<@{BOT}> why <https://a.example/x|a> &lt;b&gt; <@U2|bo>?", BOT)
        == "why https://a.example/x <b> @bo?"
    )
    assert unescape("<!channel> <#C1|ops> <!subteam^S1|@sre> <mailto:a@b.example|a@b.example>") == (
        "@channel #ops @sre a@b.example"
    )


def test_the_token_goes_to_slack_alone() -> None:
    base = "https://slack.com/api/"
    assert is_slacks("https://files.slack.com/files-pri/T1-F1/download/a.log", base)
    for url in (
        "http://files.slack.com/x",
        "https://slack.com.evil.example/x",
        "https://evilslack.com/",
        "file:///etc/x",
        "",
    ):
        assert not is_slacks(url, base), url
