"""An engine's speed is measured by completions of bounded number, length and time, where the operator allows it."""

from __future__ import annotations

import json
import time

import pytest

from assistant.settings import Settings
from kb.facts import probe_of
from probes import engine_speed as module
from probes.engine_speed import engine_speed, judge, measure
from probes.reading.http import Address
from probes.reading.streams import MAX_TOKENS, Level, Stream, measure_level, measure_stream
from probes.registry import run_probe
from probes.types import Target
from tests.loopback import Answer, Handler, serving

MODELS = json.dumps({"object": "list", "data": [{"id": "org/model", "owned_by": "vllm"}]})


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def streaming(handler: Handler) -> None:
    """Stream as vLLM and SGLang do: a token a piece, then the usage, then [DONE]."""
    tokens = handler.seen.bodies[-1]["max_tokens"]
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.end_headers()
    for index in range(tokens):
        handler.wfile.write(event(choices=[{"index": 0, "text": f" t{index}", "finish_reason": None}]))
        time.sleep(0.001)
    handler.wfile.write(event(choices=[], usage={"prompt_tokens": 30, "completion_tokens": tokens}))
    handler.wfile.write(b"data: [DONE]\n\n")


def in_pieces(handler: Handler) -> None:
    """Several tokens in one piece, as with speculative decoding: only the usage tells how many."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(4):
        handler.wfile.write(event(choices=[{"index": 0, "text": " four tokens at once"}]))
        time.sleep(0.01)
    handler.wfile.write(event(choices=[], usage={"completion_tokens": 16}))


def slow(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for index in range(handler.seen.bodies[-1]["max_tokens"]):
        handler.wfile.write(event(choices=[{"index": 0, "text": f" t{index}"}]))
        handler.seen.closing.wait(0.05)


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while not handler.seen.closing.wait(0.01):
        handler.wfile.write(event(choices=[{"index": 0, "text": " on"}]))
        handler.wfile.flush()


def engine(completions: Answer) -> dict[str, Answer]:
    return {"/v1/models": MODELS, "/v1/completions": completions}


def soon(seconds: float) -> float:
    return time.monotonic() + seconds


def test_it_runs_only_where_it_is_allowed() -> None:
    assert not engine_speed.passive
    with serving(engine(streaming)) as seen:
        result = run_probe("engine_speed", Target(urls=(seen.url,)))
    assert seen.asked == []
    assert (result.status, result.facts) == ("unknown", {})
    assert "CRASHCART_ACTIVE" in result.advice[0]


def test_three_levels_are_measured_with_22_bounded_completions() -> None:
    with serving(engine(streaming)) as seen:
        result = run_probe("engine_speed", Target(urls=(seen.url,), active=True, engine_api_key="k3y"), 30.0)
    assert [row["streams"] for row in result.data["levels"]] == [1, 4, 16]
    assert [row["finished"] for row in result.data["levels"]] == [1, 4, 16]
    assert len(seen.bodies) == 22
    assert max(body["max_tokens"] for body in seen.bodies) == MAX_TOKENS
    assert len({body["prompt"] for body in seen.bodies}) == 22
    assert {header["Authorization"] for header in seen.headers} == {"Bearer k3y"}
    assert {probe_of(name) for name in result.facts} == {"engine_speed"}
    assert set(result.facts) >= {"measured_ttft_seconds", "measured_tpot_seconds", "measured_scaling_ratio"}
    json.dumps(result.data, allow_nan=False)


def test_the_servers_count_of_tokens_goes_before_the_pieces() -> None:
    with serving(engine(in_pieces)) as seen:
        found = measure_stream(Address(seen.url), "org/model", soon(10))
    assert (found.tokens, found.finished) == (16, True)
    assert found.tpot_seconds
    assert found.first_seconds is not None
    assert found.last_seconds is not None
    assert found.tpot_seconds == pytest.approx((found.last_seconds - found.first_seconds) / 15)


def test_the_deadline_ends_an_endless_stream_with_what_it_gave() -> None:
    with serving(engine(endless)) as seen:
        level = measure_level(Address(seen.url), "org/model", 4, soon(0.5))
    assert (level.finished, level.error) == (0, "")
    assert level.tokens_per_second
    assert all(stream.error == "the time was up" and stream.tokens > 1 for stream in level.streams)
    result = judge(seen.url, "org/model", {1: level})
    assert result.status == "ok"
    assert "0 of 1 finished" in result.summary


def test_a_slow_engine_is_measured_by_what_it_gave_in_each_levels_share_of_the_time() -> None:
    with serving(engine(slow)) as seen:
        levels = measure(Address(seen.url), "org/model", soon(2.0))
    assert list(levels) == [1, 4, 16]
    assert all(level.finished == 0 and level.tokens_per_second for level in levels.values())
    assert Settings().probe_seconds > module.BUDGET_SECONDS


def test_levels_that_no_time_is_left_for_are_left_out() -> None:
    with serving(engine(endless)) as seen:
        levels = measure(Address(seen.url), "org/model", soon(0.4))
    assert levels == {}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((404, '{"detail":"Not Found"}'), "HTTP 404"),
        ((400, '{"error":{"message":"The model does not support Completions API"}}'), "does not support"),
        ((401, "Unauthorized"), "HTTP 401: Unauthorized"),
        ("", "was empty"),
        ("data: {broken\n\n", "broke off"),
        ('data: {"error": {"message": "engine is dead"}}\n\n', "engine is dead"),
    ],
)
def test_an_engine_that_gives_no_token_is_unknown_and_asked_once(answer: Answer, why: str) -> None:
    with serving(engine(answer)) as seen:
        result = run_probe("engine_speed", Target(urls=(seen.url,), active=True))
    assert len(seen.bodies) == 1
    assert (result.status, result.facts) == ("unknown", {})
    assert why in result.summary


def test_no_engine_and_a_bad_address_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "read_processes", dict)
    for urls in ((), ("ftp://host",), ("http://127.0.0.1:9",)):
        result = run_probe("engine_speed", Target(urls=urls, active=True))
        assert result.status == "unknown"
        assert result.summary.endswith(".")
        assert result.summary_zh.endswith("。")


def level(streams: int, tokens: int, seconds: float, finished: bool = True) -> Level:
    return Level(tuple(Stream(0.1, seconds, tokens, finished) for _ in range(streams)), seconds)


def test_batching_that_brings_nothing_is_a_warning() -> None:
    result = judge("http://h", "m", {1: level(1, 64, 1.0), 4: level(4, 64, 4.0), 16: level(16, 64, 14.0)})
    assert result.status == "warning"
    assert result.facts["measured_scaling_ratio"] == pytest.approx(16 / 14, abs=1e-3)
    assert "only 1.1 times" in result.summary
    good = judge("http://h", "m", {1: level(1, 64, 1.0), 16: level(16, 64, 1.2)})
    assert (good.status, good.facts["measured_tokens_per_second"]) == ("ok", 853.3)
    assert good.summary == "Measured at http://h: 1 at once 64 tokens/s, TTFT 0.100 s, TPOT 14.3 ms; " + (
        "16 at once 853 tokens/s, TTFT 0.100 s, TPOT 17.5 ms."
    )
    cut = judge("http://h", "m", {1: level(1, 64, 1.0), 16: level(16, 4, 2.0, finished=False)})
    assert cut.status == "ok"
