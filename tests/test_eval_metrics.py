"""Figures from scores agree with hand-made and published values."""

from __future__ import annotations

from typing import Any

import pytest

from assistant.types import Answer, Diagnosis, Evidence, Fix, Step
from evals.cases import parse_case
from evals.metrics import (
    Bin,
    abstention,
    by_group,
    citation_precision,
    confusion,
    expected_calibration_error,
    latency,
    pass_hat,
    reliability,
    unverified,
)
from evals.scoring import Score, joined, score, unknown_names
from evals.split import family_of_document


def scored(name: str = "a", kind: str = "diagnose", cause: str = "", **values: Any) -> Score:
    return Score(parse_case({"id": name, "kind": kind, "expect": {"cause": cause}}, "here"), **values)


def answer(document: str, *commands: str, text: str = "", steps: tuple[Step, ...] = ()) -> Answer:
    fix = Fix("Lower it", "", commands, cites=("K2",))
    evidence = (
        Evidence("K1", "document", f"kb/docs/{document}.zh.md", ""),
        Evidence("K2", "document", f"kb/docs/{document}.md:3-9", ""),
        Evidence("K3", "document", "kb/docs/of-another-diagnosis.md", ""),
        Evidence("L1", "log", "log:4", "ValueError: too long"),
    )
    found = Diagnosis(document, "t", 0.9, supporting=("K1", "L1"), fixes=(fix,))
    return Answer("diagnosed", "en", (found,), evidence, text=text, steps=steps)


def test_abstention_is_measured_both_ways() -> None:
    scores = [
        scored("a", "healthy", status="healthy"),
        scored("b", "insufficient", status="out_of_scope"),
        scored("c", "insufficient", status="diagnosed"),
        scored("d", "diagnose", status="insufficient"),
        scored("e", "diagnose", status="diagnosed"),
        scored("f", "healthy", error="KeyError"),
    ]
    found = abstention(scores)
    assert (found["abstention precision"].hits, found["abstention precision"].total) == (2, 3)
    assert (found["abstention recall"].hits, found["abstention recall"].total) == (2, 4)


def test_citations_count_where_the_case_says_what_may_be_cited() -> None:
    told = parse_case({"id": "a", "kind": "diagnose", "expect": {"cause": "kv-cache-too-small"}}, "here")
    listed = parse_case({"id": "b", "kind": "diagnose", "expect": {"cites": ["ttft-high", "requests-queue"]}}, "here")
    silent = parse_case({"id": "c", "kind": "diagnose"}, "here")
    scores = [score(told, answer("kv-cache-too-small")), score(listed, answer("gpu-throttled"))]
    assert scores[0].cited == ("kv-cache-too-small",)
    assert scores[0].why == "log:4: ValueError: too long"
    found = citation_precision([*scores, score(silent, answer("gpu-throttled"))])
    assert (found.hits, found.total) == (1, 2)


@pytest.mark.parametrize(
    ("command", "unknown"),
    [
        ("vllm serve m --max-model-len 8192 --kv-cache-dtype fp8", []),
        ("vllm serve m --make-it-fast --max-model-len 8192", ["--make-it-fast"]),
        ("vllm serve m --swap-space 4", []),  # gone by now, and there in older releases
        ("VLLM_MAKE_IT_FAST=1 vllm serve m", ["VLLM_MAKE_IT_FAST"]),
        ("python -m sglang.launch_server --model-path m --gpu-memory-utilization 0.9", ["--gpu-memory-utilization"]),
        ("nvidia-smi --made-up", []),
    ],
)
def test_a_flag_that_no_release_has_is_counted(command: str, unknown: list[str]) -> None:
    assert unknown_names(command) == unknown
    shown = score(scored().case, answer("d", command))
    assert [name for _, name in unverified([shown])] == unknown
    written = score(scored().case, answer("d", text=f"Try:\n\n```bash\n{command}\n```\n"))
    assert list(written.unverified) == unknown


def test_what_a_language_model_cost_and_wrote_counts() -> None:
    case = parse_case({"id": "a", "kind": "diagnose", "expect": {"fix_none": ["rm -rf"]}}, "here")
    text = "```bash\nrm -rf /models\n```\n"
    assert not score(case, answer("d", text=text)).harmful
    for said in (
        "m: 3 calls, 2 tools, 1,200 + 34 tokens, 0.0021",
        "m：3 次调用，2 次工具，约 1,200 + 34 token, 0.0021",
    ):
        by_model = score(case, answer("d", text=text, steps=(Step("model", "ok", 1.0, said),)))
        assert (by_model.tokens, by_model.cost, by_model.harmful, by_model.kept) == (1234, 0.0021, True, True)


def test_calibration_error_is_the_mean_distance() -> None:
    # 3 of 4 right at 0.95 (distance 0.20), 1 of 2 at 0.5 (0): (4 * 0.20 + 2 * 0) / 6.
    sure = [scored(status="diagnosed", right_at_1=i > 0, answered=(("d", 0.95),)) for i in range(4)]
    unsure = [scored(status="howto", right_at_1=i > 0, answered=(("d", 0.5),)) for i in range(2)]
    quiet = scored(status="insufficient", answered=(("d", 0.1),))
    bins = reliability([*sure, *unsure, quiet])
    assert bins == [Bin(2, 0.5, 0.5), Bin(4, pytest.approx(0.95), 0.75)]
    assert expected_calibration_error(bins) == pytest.approx(0.8 / 6)
    assert expected_calibration_error([]) is None
    assert reliability([scored(status="diagnosed", answered=(("d", 1.0),))])[0].count == 1


def test_latency_is_by_message_and_nearest_rank() -> None:
    one = [scored(seconds=float(i)) for i in range(1, 20)]
    two = joined([scored(seconds=20.0), scored(seconds=20.0)])
    assert latency([*one, two]) == {"p50": 11.0, "p95": 20.0}
    assert latency([]) == {}


def test_pass_hat_k_asks_for_k_right_tries() -> None:
    # Of four tries a case is right in all, b in two, c in none: C(4,k), C(2,k) and 0 over C(4,k).
    runs = [[scored(n, right_at_1=i < r) for n, r in (("a", 4), ("b", 2), ("c", 0))] for i in range(4)]
    assert pass_hat(runs) == pytest.approx({1: 0.5, 2: (1 + 1 / 6) / 3, 3: 1 / 3, 4: 1 / 3})
    assert pass_hat([]) == {}


def test_families_mixed_up_are_counted() -> None:
    scores = [
        scored("a", cause="kv-cache-too-small", status="diagnosed", answered=(("size-kv-cache", 0.9),)),
        scored("b", cause="kv-cache-too-small", status="diagnosed", answered=(("nccl-timeout", 0.9),)),
        scored("c", cause="kv-cache-too-small", status="insufficient", answered=()),
        scored("d", "healthy", status="diagnosed", answered=(("nccl-timeout", 0.9),)),
    ]
    assert confusion(scores, family_of_document) == {
        ("kv-cache-size", "kv-cache-size"): 1,
        ("kv-cache-size", "multi-gpu"): 1,
        ("kv-cache-size", "—"): 1,
    }
    groups = by_group(scores)
    assert [len(g) for g in groups["family"].values()] == [3]
    assert sum(len(g) for g in groups["kind"].values()) == 4
