"""What the words, the command and the logs already tell: the engine and its release, and the flags that were refused."""

from __future__ import annotations

import pytest

from assistant.assistant import Assistant
from assistant.signals import engine_and_release
from assistant.types import Question

SGLANG_FRAMES = """\
  File "/opt/env/lib/python3.12/site-packages/sglang/srt/model_executor/model_runner.py", line 276, in initialize
    self.load_model()
  File "/opt/env/lib/python3.12/site-packages/sglang/srt/model_executor/model_runner.py", line 632, in load_model
    self.model = get_model("""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("vllm 升级到 0.11 之后启动报错", ("vllm", "0.11")),
        ("从 vllm 0.8.5 升到 0.11.0 以后显存不足了", ("vllm", "0.11.0")),
        ("after we upgraded vLLM from 0.8.5 to 0.12.0 it is slower", ("vllm", "0.12.0")),
        ("sglang 0.4.6.post5 -> 0.5.2 and now it hangs", ("sglang", "0.5.2")),
        ("vLLM 0.9.1 hangs", ("vllm", "0.9.1")),
        ("INFO 07-01 10:00:00 api_server.py:219] vLLM API server version 0.6.3", ("vllm", "0.6.3")),
        ("it is slow", ("", "")),
    ],
)
def test_the_release_is_the_one_that_runs_now(text: str, found: tuple[str, str]) -> None:
    assert engine_and_release("", [text]) == found


def test_the_command_says_which_engine_runs() -> None:
    command = "python3 -m sglang.launch_server --model-path /models/GLM-4.5-Air-FP8 --tp 4"
    assert engine_and_release(command, [SGLANG_FRAMES]) == ("sglang", "")
    assert engine_and_release(command, ["vllm==0.6.4.post1\ntorch==2.5.1"]) == ("sglang", "")


def test_frames_of_sglang_are_not_taken_for_those_of_vllm() -> None:
    assert engine_and_release("", [SGLANG_FRAMES])[0] == "sglang"


@pytest.mark.parametrize("colon", [":", ""])
def test_every_flag_that_was_refused_is_told_of(assistant: Assistant, colon: str) -> None:
    text = f"vllm 升级到 0.11 之后报错 unrecognized arguments{colon} --use-v2-block-manager --swap-space-size 4"
    fix = assistant.answer(Question(text, use_probes=False)).diagnoses[0].fixes[0]
    assert fix.flags == ("--use-v2-block-manager", "--swap-space-size")
    assert "0.9.2" in fix.text and not [word for word in ("drop", "needed") if word in fix.text]
