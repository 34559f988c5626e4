import pytest

from assistant.grounding import ground

EVIDENCE = {"K1": "Set --max-model-len to what fits; VLLM_USE_V1 exists up to 0.11.0.", "L1": "KV cache (20304)"}


@pytest.mark.parametrize(
    "line",
    [
        "Lower `--max-model-len` to 20304 [K1][L1].",
        "It has 20,304 tokens [L1]",
        "(confidence 93 %) [K1]",
        "VLLM_USE_V1 is gone after 0.11.0",
    ],
)
def test_what_is_accounted_for_stays(line: str) -> None:
    assert ground(line, EVIDENCE, []) == (line, [])


@pytest.mark.parametrize(
    ("line", "struck"),
    [
        ("See [K2].", "[K2]"),
        ("Use --enable-chunked-context [K1]", "--enable-chunked-context"),
        ("Set VLLM_USE_TRACING=1", "VLLM_USE_TRACING"),
        ("Lower it to 8192 [K1]", "8192"),
        ("Watch vllm:made_up_metric", "vllm:made_up_metric"),
    ],
)
def test_what_nothing_accounts_for_is_struck_out(line: str, struck: str) -> None:
    text, what = ground(f"Fine.\n{line}", EVIDENCE, [])
    assert text == "Fine." and struck in what


def test_what_the_user_brought_may_be_quoted() -> None:
    assert ground("You passed --my-flag 77", {}, ["vllm serve x --my-flag 77"]) == ("You passed --my-flag 77", [])
