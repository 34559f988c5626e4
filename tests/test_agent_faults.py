"""A whole ask against a loopback endpoint that misbehaves: always an answer in time, at worst the offline one with the reason."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from assistant.assistant import Assistant
from assistant.settings import Settings
from assistant.types import Answer, Question
from tests.model_server import ModelServer, Reply, model_server

LOG = (
    "INFO 11-22 10:00:00 [api_server.py:1896] vLLM API server version 0.11.0\n"
    "(EngineCore_DP0 pid=6880) ValueError: To serve at least one request with the models's max seq len (131072), (4.54 GiB KV "
    "cache is needed, which is larger than the available KV cache memory (1.71 GiB).\n"
)
QUESTION = Question(text="vLLM stops at start-up, why?", logs={"vllm.log": LOG}, use_probes=False)
GOOD = """The context length of 131072 tokens needs 4.54 GiB of KV cache, and only 1.71 GiB is left [L1].

Lower `--max-model-len` to what fits [K2]:

```bash
vllm serve MODEL --max-model-len 49360
```
"""


@pytest.fixture
def asked(home: Path) -> Iterator[object]:
    offline = Assistant(Settings(home=str(home))).answer(QUESTION)

    def ask(
        server: ModelServer | str, question: Question = QUESTION, **settings: object
    ) -> tuple[Answer, Answer, float]:
        """(answer, offline answer, seconds)"""
        url = server if isinstance(server, str) else server.url
        assistant = Assistant(Settings(home=str(home), model=f"scripted@{url}", **{"model_seconds": 20.0, **settings}))  # type: ignore[arg-type]
        start = time.monotonic()
        return assistant.answer(question), offline, time.monotonic() - start

    yield ask


def is_offline(answer: Answer, offline: Answer) -> bool:
    return (
        answer.text == offline.text
        and answer.diagnoses == offline.diagnoses
        and len(answer.warnings) == len(offline.warnings) + 1
    )


def test_a_sound_text_is_shown_with_the_diagnoses_of_the_core(asked) -> None:
    with model_server([Reply(GOOD)]) as server:
        answer, offline, _ = asked(server)
    assert answer.text == GOOD.strip() and answer.diagnoses == offline.diagnoses and not answer.warnings
    assert len(server.requests) == 1 and server.keys == ["Bearer none"]
    cost = answer.steps[-1]
    assert cost.name == "model" and "1 calls" in cost.summary and f"1,000 + {len(GOOD) // 4}" in cost.summary
