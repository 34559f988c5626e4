"""The offline writer's Markdown."""

from __future__ import annotations

from assistant.types import Fix
from assistant.writer import write_fix

USUAL, OWN = "vllm serve MODEL --max-model-len 20304", "vllm serve M --max-model-len 20304 --port 8000"


def test_the_own_command_stands_for_anybodys() -> None:
    text = "\n".join(write_fix(1, Fix("Lower it", "…", commands=(USUAL,), patched_command=OWN), "en"))
    assert OWN in text and USUAL not in text


def test_more_commands_than_the_own_one_are_all_shown() -> None:
    fix = Fix("Lower it", "…", commands=(USUAL, "nvidia-smi"), patched_command=OWN)
    text = "\n".join(write_fix(1, fix, "en"))
    assert OWN in text and USUAL in text and "nvidia-smi" in text


def test_without_an_own_command_the_usual_one_is_shown() -> None:
    assert USUAL in write_fix(1, Fix("Lower it", "…", commands=(USUAL,)), "en")
