"""Follow-ups: what is meant, what was tried, what is remembered, what changed."""

from pathlib import Path

import pytest

from assistant.assistant import Assistant
from assistant.conversation import Memory, Turn, kind_of, remember, tried_of
from assistant.settings import Settings
from assistant.types import Answer, Diagnosis, Fix, Question

FIXES = tuple(
    Fix(title, "…", (command,), place=place)
    for place, (title, command) in enumerate(
        [
            ("Lower the context", "vllm serve M --max-model-len 8192"),
            ("Use more GPUs", "vllm serve M -tp 2"),
            ("fp8", "--kv-cache-dtype fp8"),
        ]
    )
)
LAST = Turn("it dies", Answer("diagnosed", "en", (Diagnosis("kv-cache-too-small", "…", 0.9, fixes=FIXES),)))
LOG = (
    "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in KV cache (20304). "
    "Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("I did that, it still fails", "failed"),
        ("same error", "failed"),
        ("that didn't help", "failed"),
        ("还是不行", "failed"),
        ("试过了，没用", "failed"),
        ("it works now, thanks", "solved"),
        ("好了，谢谢", "solved"),
        ("did it work? check again", "again"),
        ("修好了吗？再检查一遍", "again"),
        ("what about in docker", "more"),
    ],
)
def test_what_a_follow_up_means(text: str, kind: str) -> None:
    assert kind_of(Question(text), LAST) == kind


def test_a_first_question_has_no_memory() -> None:
    assert remember((), Question("still fails")) == Memory()


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("still fails", [0]),
        ("I tried fix 2, no luck", [1]),
        ("试了第三个，还是一样", [2]),
        ("I set --kv-cache-dtype, still the same", [2]),
        ("tried all of them, nothing changed", [0, 1, 2]),
    ],
)
def test_which_fixes_were_tried(text: str, places: list[int]) -> None:
    assert tried_of(text, LAST.answer) == tuple(("kv-cache-too-small", place) for place in places)


@pytest.fixture
def assistant(home: Path, tmp_path: Path) -> Assistant:
    return Assistant(Settings(home=str(home), threads_url=f"sqlite:///{tmp_path / 'threads.sqlite3'}"))


def ask(assistant: Assistant, text: str, **parts: object) -> Answer:
    return assistant.answer(Question(text, thread="t", use_probes=False, **parts))  # type: ignore[arg-type]


def test_the_next_fix_follows_and_the_log_need_not_be_sent_again(assistant: Assistant) -> None:
    first = ask(assistant, "vLLM dies", logs={"vllm.log": LOG}, command="vllm serve M --max-model-len 131072")
    second = ask(assistant, "I did that, it still fails")
    assert second.diagnoses[0].id == first.diagnoses[0].id
    assert second.diagnoses[0].fixes[0].title == first.diagnoses[0].fixes[1].title
    assert first.diagnoses[0].fixes[0].title in second.text.splitlines()[0]
    assert "20304" in second.text


def test_it_survives_a_restart(assistant: Assistant) -> None:
    first = ask(assistant, "vLLM dies", logs={"vllm.log": LOG})
    assistant.threads.close()
    again = Assistant(assistant.settings)
    assert ask(again, "还是不行").diagnoses[0].fixes[0].place != first.diagnoses[0].fixes[0].place


def test_when_every_fix_was_tried_it_says_so(assistant: Assistant) -> None:
    ask(assistant, "vLLM dies", logs={"vllm.log": LOG})
    answer = ask(assistant, "tried all of them, still the same")
    assert answer.status != "diagnosed" or answer.diagnoses[0].id != "kv-cache-too-small"


def test_another_log_counts_in_place_of_the_first(assistant: Assistant) -> None:
    ask(assistant, "vLLM dies", logs={"vllm.log": LOG})
    answer = ask(
        assistant,
        "now this",
        logs={
            "new.log": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 896.00 MiB. GPU 0 has a total capacity of 23.64 GiB of which 120.00 MiB is free."
        },
    )
    assert answer.diagnoses[0].id != "kv-cache-too-small"
    assert "no longer in the log" in answer.text


def test_a_new_question_is_not_answered_with_the_old_cause(assistant: Assistant) -> None:
    ask(assistant, "vLLM dies", logs={"vllm.log": LOG})
    answer = ask(assistant, "How do I serve a LoRA adapter with vLLM?")
    assert not answer.diagnoses or answer.diagnoses[0].id != "kv-cache-too-small"


def test_solved_is_taken_as_said(assistant: Assistant) -> None:
    ask(assistant, "vLLM dies", logs={"vllm.log": LOG})
    answer = ask(assistant, "it works now, thanks")
    assert (answer.status, answer.diagnoses) == ("healthy", ())


def test_readings_are_compared_with_those_before(assistant: Assistant) -> None:
    def host(free: float, status: str) -> dict[str, object]:
        return {"gpu_memory": {"status": status, "summary": "…", "facts": {"gpu_free_gib": free}}}

    ask(assistant, "vLLM dies", logs={"vllm.log": LOG}, host=host(0.5, "critical"))
    answer = ask(assistant, "did it work? check again", host=host(22.1, "ok"))
    assert "gpu_memory: critical → ok" in answer.text
    assert "gpu_free_gib: 0.5 → 22.1" in answer.text


def test_an_answer_is_given_where_threads_cannot_be_kept(home: Path, tmp_path: Path) -> None:
    broken = Assistant(Settings(home=str(home), threads_url=f"sqlite:///{tmp_path}/none/x.sqlite3"))
    answer = ask(broken, "vLLM dies", logs={"vllm.log": LOG})
    assert answer.status == "diagnosed"
    assert any("could not be kept" in warning for warning in answer.warnings)
