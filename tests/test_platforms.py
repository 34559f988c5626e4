"""What documents are about one platform alone, and that they stand behind where nobody names it."""

from __future__ import annotations

import pytest

from assistant.assistant import Assistant
from assistant.platforms import PLATFORMS, is_elsewhere, platforms_in
from assistant.types import Question


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("昇腾 910B3 八卡", {"ascend"}),
        ("RTX PRO 6000 under WSL2", {"consumer", "windows"}),
        ("Qwen2.5-VL answers garbage", {"vision"}),
        ("30-second windows of tokens", set()),
        ("vLLM dies on an H100", set()),
    ],
)
def test_platforms_are_known_by_their_names(text: str, named: set[str]) -> None:
    assert platforms_in([text]) == named


def test_every_platform_has_a_document(assistant: Assistant) -> None:
    titles = [d.title for d in assistant.library.documents]
    assert not [name for name in PLATFORMS if name not in platforms_in(titles)]


def test_examples_in_brackets_do_not_make_a_platform(assistant: Assistant) -> None:
    assert not is_elsewhere(assistant.library.get("nvml-not-supported"), frozenset())
    assert is_elsewhere(assistant.library.get("gaudi-warmup"), frozenset({"amd"}))


def test_a_platform_that_nobody_named_stands_behind(assistant: Assistant) -> None:
    told = "starts fine but runs out of {} memory after a few hours under long prompts"
    first = [assistant.answer(Question(told.format(of), use_probes=False)).diagnoses[0].id for of in ("GPU", "NPU")]
    assert first == ["oom-at-runtime", "ascend-out-of-memory"]
