"""The web chat as a browser meets it: the real server on a loopback port, asked through Gradio's own protocol."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from filelock import FileLock
from gradio_client import Client, handle_file
from gradio_client.client import Job

from assistant.assistant import Assistant
from assistant.settings import Settings
from assistant.types import Answer, Event, Step
from kb.errors import InputError
from ui.page.messages import streamed
from ui.server import serve

OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. "
    "GPU 0 has a total capacity of 23.70 GiB of which 1.20 GiB is free."
)
COMMAND = [sys.executable, "-c", "import sys; sys.argv[0] = 'crashcart'; from ui.cli import main; main()", "serve"]
Messages = list[dict[str, Any]]


@dataclass
class Chat:
    """A running server whose search waits until the index is let go."""

    client: Client
    url: str
    index: Path
    lock: FileLock

    def let_index_go(self) -> None:
        if self.lock.is_locked:
            (self.index / "held").rename(self.index / "complete")
            self.lock.release()

    def submit(self, text: str, *logs: Path, **here: Any) -> Job:
        return self.client.submit({"text": text, "files": [handle_file(log) for log in logs]}, here, api_name="/ask")

    def ask(self, text: str, *logs: Path, **here: Any) -> list[Messages]:
        """What the page showed after each event, the last one last."""
        self.let_index_go()
        job = self.submit(text, *logs, **here)
        job.result(timeout=60)
        return [talk for _, talk, _ in job.outputs()]


@pytest.fixture(scope="module")
def chat(home: Path) -> Iterator[Chat]:
    index = Assistant(Settings(home=str(home))).index.folder
    lock = FileLock(index.parent / "build.lock")
    lock.acquire()
    (index / "complete").rename(index / "held")
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    environment = {n: v for n, v in os.environ.items() if not n.startswith("CRASHCART_")} | {
        "CRASHCART_HOME": str(home)
    }
    server = subprocess.Popen([*COMMAND, "--port", str(port)], env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    url = f"http://127.0.0.1:{port}"
    assert url in server.stdout.readline()
    httpx.get(url, timeout=60).raise_for_status()
    with pytest.MonkeyPatch.context() as patch:  # this client asks the hub who the user is; the server does not
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        client = Client(url, verbose=False, analytics_enabled=False, download_files=False)
    running = Chat(client, url, index, lock)
    yield running
    running.let_index_go()
    client.close()
    server.send_signal(signal.SIGTERM)
    said, _ = server.communicate(timeout=30)
    assert (server.returncode, said) == (0, "")
    assert not [p for p in (home / "uploads").rglob("*") if p.is_file()]


def text_of(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in message["content"])


def steps_of(talk: Messages) -> list[dict[str, Any]]:
    return [m["metadata"] for m in talk if m["role"] == "assistant" and (m["metadata"] or {}).get("title")]


def test_a_question_that_waits_for_the_index_says_so_and_holds_up_nobody(chat: Chat) -> None:
    waiting = chat.submit("首个 token 要等 8 秒，怎么优化？")
    shown = next(talk for _, talk, _ in waiting if steps_of(talk)[-1:] and steps_of(talk)[-1]["title"] == "检索知识库")
    assert steps_of(shown)[-1]["status"] == "pending"
    assert "索引" in text_of(shown[-1])
    other = chat.submit(OOM)
    assert "## Diagnosis" in text_of(other.result(timeout=60)[1][-1])
    assert not waiting.done()
    chat.let_index_go()
    assert "## 操作指南" in text_of(waiting.result(timeout=60)[1][-1])


def test_steps_come_before_the_answer_and_run_before_they_finish(chat: Chat) -> None:
    shown = chat.ask("Why is the time to first token 8 seconds?")
    last = shown[-1]
    assert [m["role"] for m in last] == ["user", *["assistant"] * (len(last) - 1)]
    line, *steps = steps_of(last)
    assert line["title"] == f"What was looked at: {len(steps)} steps"
    assert {step["parent_id"] for step in steps} == {line["id"]}
    titles = [step["title"] for step in steps]
    assert titles[:2] == ["Read the question and the logs", "Search the documents"]
    assert "Probe versions" in titles
    assert all(step["status"] == "done" and step["duration"] >= 0 for step in steps)
    assert not last[-1]["metadata"] or not last[-1]["metadata"].get("title")
    for title in titles:
        states = [s["status"] for talk in shown for s in steps_of(talk) if s["title"] == title]
        assert states == sorted(states, reverse=True) and set(states) == {"pending", "done"}


def test_a_log_is_read_and_cited_by_the_name_that_the_user_knows(chat: Chat, tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(f"INFO 11-22 10:00:00 [api_server.py:1896] vLLM API server version 0.10.2\n{OOM} <img src=x>\n")
    talk = chat.ask("启动失败，为什么？", log)[-1]
    assert "📎 vllm.log" in text_of(talk[0])
    answer = text_of(talk[-1])
    assert "## 诊断" in answer and " vllm.log:2" in answer and "uploads" not in answer


def test_what_the_user_writes_is_shown_as_it_stands(chat: Chat) -> None:
    talk = chat.ask("Is this <script>alert(1)</script> & *that* about vLLM?")[-1]
    assert (
        text_of(talk[0])
        == '<pre class="said">Is this &lt;script&gt;alert(1)&lt;/script&gt; &amp; *that* about vLLM?</pre>'
    )


def test_bad_input_gets_one_sentence(chat: Chat, tmp_path: Path) -> None:
    assert text_of(chat.ask("  ")[-1][-1]) == "Say what is wrong, or attach a log."
    broken = tmp_path / "vllm.log.gz"
    broken.write_bytes(b"\x1f\x8b\x08\x00 this is no gzip")
    said = text_of(chat.ask("Why?", broken)[-1][-1])
    assert "vllm.log.gz" in said and "\n" not in said and "Traceback" not in said


def test_only_uploads_are_read(chat: Chat, tmp_path: Path) -> None:
    log = tmp_path / "secret.log"
    log.write_text(OOM)
    file = {"path": str(log), "meta": {"_type": "gradio.FileData"}}
    queue = f"{chat.url}/gradio_api/queue"
    asked = {"data": [{"text": "Why?", "files": [file]}, None], "fn_index": 0, "session_hash": "a-browser"}
    httpx.post(f"{queue}/join", json=asked).raise_for_status()
    with httpx.stream("GET", f"{queue}/data", params={"session_hash": "a-browser"}) as events:
        end = next(line for line in events.iter_lines() if "process_completed" in line)
    assert "was not uploaded" in end and '"success":false' in end


def test_the_page_brings_nothing_from_other_machines(chat: Chat) -> None:
    page = httpx.get(chat.url).text
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//[^"']*""", page)
    assert '"analytics_enabled":false' in page and "default-src \\u0027self\\u0027" in page


def test_warnings_stand_above_the_text() -> None:
    answer = Answer("insufficient", "en", text="I cannot tell.", warnings=("gpu_memory: <b>no</b> GPU",))
    events = [
        Event("step_started", Step("scan", "running", 0.0)),
        Event("text", text="I cannot"),
        Event("answer", answer=answer),
    ]
    *_, last = streamed(events, "en", lambda: True, lambda name, _: name)
    assert last[-1]["content"].endswith("> ⚠ gpu\\_memory: \\<b\\>no\\</b\\> GPU\n\nI cannot tell.")


def test_a_taken_port_and_an_open_address_are_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} is taken: crashcart serve --port {port + 1}"):
            serve(Settings(port=port))
    with pytest.raises(InputError, match="set CRASHCART_TOKEN and CRASHCART_LOGIN"):
        serve(Settings(host="0.0.0.0"))
