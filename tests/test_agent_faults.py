"""A whole ask against a loopback endpoint that misbehaves: always an answer in time, at worst the offline one with the reason."""

import json
import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from assistant.assistant import Assistant
from assistant.model import endpoint_of
from assistant.settings import Settings
from assistant.types import Answer, Question
from kb.errors import InputError
from tests.model_server import Body, ModelServer, Reply, model_server

LOG = (
    "INFO 11-22 10:00:00 [api_server.py:1896] vLLM API server version 0.11.0\n"
    "(EngineCore_DP0 pid=6880) ValueError: To serve at least one request with the models's max seq len (131072), (4.54 GiB KV "
    "cache is needed, which is larger than the available KV cache memory (1.71 GiB).\n"
)
QUESTION = Question(text="vLLM stops at start-up, why?", logs={"vllm.log": LOG}, use_probes=False)
GOOD = """The context length of 131072 tokens needs 4.54 GiB of KV cache, and only 1.71 GiB is left [L1].

Lower `--max-model-len` to what fits [K2]:

```bash
vllm serve MODEL --max-model-len FITTING
```
"""
PATIENCE = 20.0


class Asked(NamedTuple):
    """An answer, the one that the offline writer gives, and how long it took."""

    answer: Answer
    offline: Answer
    seconds: float

    @property
    def is_offline(self) -> bool:
        """Whether the offline text came, with one warning more."""
        return (
            self.answer.text == self.offline.text
            and self.answer.diagnoses == self.offline.diagnoses
            and len(self.answer.warnings) == len(self.offline.warnings) + 1
        )

    @property
    def is_sound(self) -> bool:
        """Whether the model's text came whole, and nothing else."""
        return self.answer.text == GOOD.strip().replace("FITTING", fitting(self.offline))

    @property
    def why(self) -> str:
        return self.answer.warnings[-1]


def fitting(offline: Answer) -> str:
    """The length that the first fix computes."""
    found = re.search(r"--max-model-len (\d+)", offline.diagnoses[0].fixes[0].commands[0])
    assert found is not None
    return found[1]


class Asker:
    """Asks the same question of the offline writer and of a scripted endpoint."""

    def __init__(self, home: Path) -> None:
        self.home = str(home)
        self.offline = Assistant(Settings(home=self.home))

    def __call__(self, server: ModelServer | str, question: Question = QUESTION, **settings: Any) -> Asked:
        url = server if isinstance(server, str) else server.url
        chosen: dict[str, Any] = {"model": f"scripted@{url}", "model_seconds": PATIENCE, **settings}
        assistant = Assistant(Settings(home=self.home, **chosen))
        offline, start = self.offline.answer(question), time.monotonic()
        return Asked(assistant.answer(question), offline, time.monotonic() - start)


@pytest.fixture
def ask(home: Path) -> Asker:
    asker = Asker(home)
    assert asker.offline.index.chunks  # it is built before a deadline runs
    return asker


def closed_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def test_a_sound_text_is_shown_with_the_diagnoses_of_the_core(ask: Asker) -> None:
    with model_server([Reply(GOOD)]) as server:
        asked = ask(server)
    assert asked.is_sound and asked.answer.diagnoses == asked.offline.diagnoses and not asked.answer.warnings
    assert len(server.requests) == 1 and server.keys == ["Bearer none"]


def test_the_steps_say_what_it_cost(ask: Asker) -> None:
    with model_server([Reply(GOOD)]) as server:
        answer = ask(server, price_in=2.0, price_out=8.0).answer
    cost = answer.steps[-1]
    assert (cost.name, cost.status) == ("model", "ok")
    assert "1 calls, 0 tools" in cost.summary and "1,000 + 50 tokens" in cost.summary
    assert cost.summary.endswith(f", {(1000 * 2 + 50 * 8) / 1e6:.4f}")


@pytest.mark.parametrize(
    ("replies", "requests"),
    [
        ([Reply(status=429, error="slow down"), Reply(GOOD)], 2),
        ([Reply(status=500, error="oops"), Reply(status=503, error="oops"), Reply(GOOD)], 3),
        ([Reply(GOOD, fault="cut"), Reply(GOOD)], 2),
        ([Reply(GOOD, fault="end"), Reply(GOOD)], 2),
        ([Reply(status=429, error="slow down", headers=(("Retry-After", "3600"),)), Reply(GOOD)], 2),
        ([Reply(""), Reply(GOOD)], 2),
        ([Reply("I am sorry, but I cannot help you with this request at all today."), Reply(GOOD)], 2),
        ([Reply("上下文长度太长,显存不足,请降低上下文长度 [L1]。"), Reply(GOOD)], 2),
        ([Reply('{"name": "run_probe", "arguments": {"name": "gpu_memory"}}'), Reply(GOOD)], 2),
        ([Reply("<think>Let me think about --bogus-flag 77 [K99]</think>" + GOOD)], 1),
        ([Reply(GOOD + "<|im_end|>\n<|im_start|>user\nAnd --bogus-flag 77?")], 1),
        ([Reply(f"{GOOD}\n" * 4), Reply(GOOD)], 2),
        ([Reply(calls=(("search_knowledge", '{"query": '),)), Reply(GOOD)], 2),
        ([Reply(calls=(("search_knowledge", '{"question": "kv cache"}'),)), Reply(GOOD)], 2),
        ([Reply(calls=(("search_knowledge", '["kv cache"]'),)), Reply(GOOD)], 2),
        ([Reply(calls=(("rm_rf", '{"path": "/"}'),)), Reply(GOOD)], 2),
        ([Reply(calls=(("scan_log", '{"name": "/etc/passwd"}'),)), Reply(GOOD)], 2),
        ([Reply(calls=(("run_probe", '{"name": "gpu_memory"}'),)), Reply(GOOD)], 2),
    ],
)
def test_what_can_be_mended_is(ask: Asker, replies: list[Reply], requests: int) -> None:
    with model_server(replies) as server:
        asked = ask(server)
    assert asked.is_sound, asked.answer.warnings
    assert len(server.requests) == requests


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(status=429, error="slow down"), "429"),
        (Reply(status=500, error="oops"), "500"),
        (Reply(status=401, error="bad key sk-proj-abcdefghijklmnop1234"), "401"),
        (Reply(GOOD, fault="cut"), "cannot be reached"),
        (Reply(GOOD, fault="end"), "ended before the answer did"),
        (Reply(fault="json"), "no answer"),
        (Reply(fault="empty"), "no"),
        (Reply(""), "no text"),
        (Reply("Bananas are yellow, and the sky is blue because of scattering of light."), "nothing that was read"),
        (
            Reply("The lunar eclipse of bananas grows purple penguins in Antarctica today [K1]."),
            "nothing that was read",
        ),
        (Reply("上下文长度太长,显存不足,请降低上下文长度 [L1]。"), "another language"),
        (Reply("The KV cache needs 4.54 GiB, and only 1.71 GiB is left [L1].\n" * 4), "repeated itself"),
        (Reply("The KV cache is too small [L1].\n\n```bash\nrm -rf /var/lib/docker\n```"), "commands"),
        (Reply("The KV cache is too small [L1]. Run `pip install vllm-fixer` to mend it [L1]."), "commands"),
        (Reply(calls=(("search_knowledge", '{"query": "kv cache"}'),)), "kept calling tools"),
        (Reply(calls=(("no_such_tool", "{}"),)), "kept calling tools"),
    ],
)
def test_what_cannot_be_mended_gives_the_offline_answer_and_says_so(ask: Asker, reply: Reply, why: str) -> None:
    with model_server([reply]) as server:
        asked = ask(server)
    assert asked.is_offline and why in asked.why and asked.seconds < PATIENCE
    assert "sk-proj" not in asked.why
    assert len(server.requests) <= 12


@pytest.mark.parametrize("fault", ["stall", "babble", "delay"])
def test_the_deadline_holds_whatever_the_endpoint_does(ask: Asker, fault: str) -> None:
    reply = Reply(GOOD, delay=600) if fault == "delay" else Reply(GOOD, fault=fault)
    with model_server([reply]) as server:
        asked = ask(server, model_seconds=2.5)
    assert asked.is_offline and "2.5 s" in asked.why
    assert asked.answer.steps[-1].seconds < 4


def test_a_first_draft_that_can_be_shown_is_when_the_second_comes_too_late(ask: Asker) -> None:
    text = GOOD + "\nIt needs 77 GPUs more than that [L1].\n"
    with model_server([Reply(text), Reply(GOOD, delay=600)]) as server:
        asked = ask(server, model_seconds=5)
    assert (
        "~~It needs 77 GPUs more than that [L1].~~" in asked.answer.text and fitting(asked.offline) in asked.answer.text
    )


def test_a_waiting_answer_can_be_cancelled(ask: Asker, home: Path) -> None:
    cancelled = threading.Event()
    with model_server([Reply(GOOD, delay=600)]) as server:
        assistant = Assistant(Settings(home=str(home), model=f"scripted@{server.url}"))
        threading.Timer(1.0, cancelled.set).start()
        start = time.monotonic()
        *_, last = assistant.ask(QUESTION, cancelled)
    assert last.answer is not None and "stopped" in last.answer.warnings[-1] and time.monotonic() - start < 10
    assert last.answer.text == ask.offline.answer(QUESTION).text


def test_an_endpoint_that_does_not_listen_is_not_asked_twice(ask: Asker) -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    asked = ask(url)
    assert asked.is_offline and "cannot be reached" in asked.why and url in asked.why


def test_the_server_under_repair_is_named_as_such(ask: Asker) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    asked = ask(f"{url}/v1", urls=url)
    assert asked.is_offline and "the server that is looked at" in asked.why


def test_an_endpoint_without_tools_is_asked_without(ask: Asker) -> None:
    def script(body: Body, place: int) -> Reply:
        refusal = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        return Reply(status=400, error=refusal) if body.get("tools") else Reply(GOOD)

    with model_server(script) as server:
        assert ask(server).is_sound
    assert len(server.requests) == 2


def test_a_context_that_is_too_short_gets_a_shorter_prompt(ask: Asker) -> None:
    def script(body: Body, place: int) -> Reply:
        size = len(json.dumps(body["messages"]))
        refusal = "This model's maximum context length is 2048 tokens. However, you requested 5000 tokens."
        return Reply(status=400, error=refusal) if size > 8000 or body.get("tools") else Reply(GOOD)

    with model_server(script) as server:
        assert ask(server).is_sound


def test_an_answer_leaves_room_for_its_prompt_as_vllm_demands(ask: Asker) -> None:
    def script(body: Body, place: int) -> Reply:
        needed = len(json.dumps(body["messages"])) // 4 + body["max_tokens"]
        refusal = f"This model's maximum context length is 4096 tokens. However, you requested {needed} tokens."
        return Reply(status=400, error=refusal) if needed > 4096 else Reply(GOOD)

    with model_server(script) as server:
        assert ask(server, model_context=4096).is_sound


def test_an_answer_that_only_repeats_its_instructions_is_none(ask: Asker) -> None:
    def script(body: Body, place: int) -> Reply:
        return Reply(body["messages"][1]["content"])

    with model_server(script) as server:
        asked = ask(server)
    assert asked.is_offline and "repeated its instructions" in asked.why
    assert "<<data" not in asked.answer.text and len(server.requests) == 2


def test_the_budget_of_tokens_ends_it(ask: Asker) -> None:
    with model_server([Reply(calls=(("search_knowledge", '{"query": "kv cache"}'),))]) as server:
        asked = ask(server, model_tokens=2500)
    assert asked.is_offline and "2,500 tokens" in asked.why and len(server.requests) <= 3


def test_tools_are_offered_no_longer_when_they_are_used_up(ask: Asker) -> None:
    def script(body: Body, place: int) -> Reply:
        return Reply(calls=(("search_knowledge", '{"query": "kv cache"}'),)) if body.get("tools") else Reply(GOOD)

    with model_server(script) as server:
        asked = ask(server, model_calls=2)
    answer = asked.answer
    assert asked.is_sound and len(server.requests) == 3
    assert sum(step.name == "search_knowledge" for step in answer.steps) == 2
    assert any(e.source.startswith("kb/docs/") and e.id.startswith("K") for e in answer.evidence)


def test_long_exchanges_are_summed_up(ask: Asker) -> None:
    def script(body: Body, place: int) -> Reply:
        if "Sum up this exchange" in json.dumps(body["messages"]):
            return Reply(
                "[L1] says that the KV cache is too small: `vllm serve MODEL --max-model-len FITTING` fits; the question is why vLLM stops."
            )
        many = len([m for m in body["messages"] if m["role"] == "tool"]) < 3 and body.get("tools") and place < 6
        return Reply(calls=(("search_knowledge", json.dumps({"query": f"kv cache {place}"})),)) if many else Reply(GOOD)

    with model_server(script) as server:
        asked = ask(server, model_context=2048)
    assert "Sum up this exchange" in server.received and asked.is_sound


def test_a_redirect_is_not_followed_and_the_key_stays_here(ask: Asker) -> None:
    with model_server([Reply(GOOD)]) as other:
        away = Reply(status=307, error="moved", headers=(("Location", f"{other.url}/chat/completions"),))
        with model_server([away]) as server:
            asked = ask(server, model_key="sk-secret-0123456789abcdef")
    assert asked.is_offline and not other.requests
    assert server.keys[0] == "Bearer sk-secret-0123456789abcdef" and "sk-secret" not in asked.why


def test_the_openai_key_goes_to_openai_alone() -> None:
    environ = {"OPENAI_API_KEY": "sk-1"}
    assert endpoint_of(Settings(model="gpt-5"), environ).key == "sk-1"
    assert endpoint_of(Settings(model="gpt-5@http://10.0.0.5:8000/v1"), environ).key == ""
    assert endpoint_of(Settings(model="m", model_url="http://h:1/v1", model_key="k"), environ).key == "k"
    assert "sk-1" not in repr(endpoint_of(Settings(model="gpt-5"), environ))


@pytest.mark.parametrize("model", ["m@http://", "m@http://h:99999999/v1", "@http://h/v1", "m@http://a b/v1"])
def test_a_model_that_is_none_is_one_sentence(model: str) -> None:
    with pytest.raises(InputError, match="is no model"):
        endpoint_of(Settings(model=model))


def test_nothing_is_asked_about_what_is_out_of_scope(ask: Asker) -> None:
    with model_server([Reply(GOOD)]) as server:
        asked = ask(server, Question(text="Write me a poem about autumn leaves", use_probes=False))
    assert asked.answer.status == "out_of_scope" and not server.requests


def test_an_answer_in_chinese_says_in_chinese_why_it_is_the_offline_one(ask: Asker) -> None:
    with model_server([Reply(status=500, error="oops")]) as server:
        asked = ask(server, replace(QUESTION, text="vLLM 启动失败,为什么?"))
    assert asked.is_offline and "语言模型返回错误" in asked.why
