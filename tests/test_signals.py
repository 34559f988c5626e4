"""What the words, the command and the logs already tell: the engine and its release, and the flags that were refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.assistant import Assistant, log_ends, masked
from assistant.signals import engine_and_release, read_signals
from assistant.types import Question
from probes.scanner import scan_text

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


def test_a_long_log_is_read_by_its_ends_whether_pasted_or_a_file(tmp_path: Path) -> None:
    middle = "INFO 11-22 10:00:00 [loggers.py:118] Avg prompt throughput: 1.0 tokens/s\n" * 20_000
    log = f"INFO vLLM API server version 0.11.0\n{middle}HF_TOKEN=hf_{'a' * 34}\nlast line\n"
    file = tmp_path / "server.log"
    file.write_text(log)
    read = log_ends(Question("", logs={"pasted": log}, log_paths=(str(file),)))
    pasted, named = read["pasted"], read[str(file)]
    assert pasted == named
    assert len(pasted) < len(log) / 2
    assert pasted.startswith("INFO vLLM API server version 0.11.0")
    assert pasted.endswith("last line\n")
    assert "a" * 34 not in pasted


def test_a_wrapper_is_known_again_where_only_the_ends_of_a_log_were_read(assistant: Assistant) -> None:
    wrapper = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_0': 1}"
    log = "INFO 11-22 10:00:00 [loggers.py:118] Avg prompt throughput: 1.0 tokens/s\n" * 20_000 + wrapper + "\n"
    read = log_ends(Question("", logs={"server.log": log}))
    signals = read_signals("", read, [scan_text(log, assistant.library.signatures, name="server.log")])
    assert signals.matches
    assert not signals.names_cause


def test_words_too_long_for_a_person_are_read_as_a_log() -> None:
    log = "INFO vLLM API server version 0.11.0\n" * 4_000
    question = masked(Question(f"why did it die?\n{log}"))
    assert question.text.startswith("why did it die?")
    assert len(question.text) < 10_000
    assert question.logs["question.txt"].endswith(log)
    assert masked(Question("why?")).logs == {}
