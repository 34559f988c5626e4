"""The parsers of a model's tool calls and reasoning: a command for one family is not given to another."""

from __future__ import annotations

import pytest

from assistant.assistant import Assistant
from assistant.types import Question
from kb.catalog.history import shipped
from kb.parsers import parsers_of, table, with_own_parsers

QWEN = "python -m sglang.launch_server --model-path M --tool-call-parser qwen25"


@pytest.mark.parametrize(
    ("model", "engine", "tool"),
    [
        ("deepseek-ai/DeepSeek-V3.1", "sglang", "deepseekv31"),
        ("deepseek-ai/DeepSeek-V3-0324", "sglang", "deepseekv3"),
        ("deepseek-ai/DeepSeek-V3.2-Exp", "vllm", "deepseek_v31"),
        ("/models/Qwen3-Coder-30B-A3B-Instruct-FP8/", "vllm", "qwen3_coder"),
        ("Qwen/Qwen3-8B", "vllm", "hermes"),
        ("Qwen/Qwen3.8-27B", "vllm", "qwen3_coder"),
        ("openai/gpt-oss-120b", "sglang", "gpt-oss"),
        ("zai-org/GLM-4.7", "vllm", "glm47"),
        ("/models/mistral/Llama-3.1-8B", "vllm", "llama3_json"),
    ],
)
def test_a_family_has_its_parser(model: str, engine: str, tool: str) -> None:
    assert parsers_of(model, engine)["--tool-call-parser"].parser == tool


def test_the_parser_of_another_family_makes_room() -> None:
    assert with_own_parsers(QWEN, "deepseek-ai/DeepSeek-V3.1", "sglang", "0.5.2")[0].endswith("deepseekv31")


@pytest.mark.parametrize(
    ("model", "release"), [("deepseek-ai/DeepSeek-V3.1", "0.4.6"), ("own/unheard-of", "0.5.2"), ("Qwen/Qwen3-8B", "x")]
)
def test_what_is_not_known_is_left_and_said(model: str, release: str) -> None:
    assert with_own_parsers(QWEN, model, "sglang", release) == (QWEN, False)


def test_a_second_choice_is_left() -> None:
    command = "vllm serve M --tool-call-parser=qwen3_xml"
    assert with_own_parsers(command, "Qwen/Qwen3-Coder-30B", "vllm", "") == (command, True)


def test_every_parser_of_sglang_is_one_of_its_choices() -> None:
    record = shipped("sglang")
    for row in table():
        if row.engine == "sglang":
            entry = record.entry(row.option)
            assert entry is not None
            at = record.releases.index(row.since)
            choices = [names for since, names in entry.choices if since <= at][-1]
            assert choices is not None and row.parser in choices, row


def test_an_answer_changes_the_own_command_to_the_own_parser(assistant: Assistant) -> None:
    command = (
        "python3 -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3.1 --tp 8 --tool-call-parser deepseekv3"
    )
    answer = assistant.answer(Question("Tool calls arrive as plain text.", command=command, use_probes=False))
    patched = [f.patched_command or "" for d in answer.diagnoses for f in d.fixes]
    assert [c for c in patched if "--tool-call-parser deepseekv31" in c]
    assert not [c for c in patched if "qwen" in c or "hermes" in c]
