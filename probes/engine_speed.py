from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from probes.judging import Finding, conclude
from probes.reading.processes import read_processes
from probes.reading.servers import read_servers
from probes.registry import probe
from probes.types import ProbeResult, Target

if TYPE_CHECKING:
    from probes.reading.http import Address
    from probes.reading.streams import Level

LEVELS = (1, 4, 16)
BUDGET_SECONDS = 4.5
"""All probes of an answer share 5 s. What has not ended by then counts as far as it came."""
LOOK_SECONDS = 1.0
LEAST_SCALING = 2.0
"""One stream's step reads all weights for one token; sixteen share the reading, so far more than double is usual."""
SOURCE = "POST /v1/completions"


@probe(passive=False)
def engine_speed(target: Target) -> ProbeResult:
    """Measure an engine with short completions, 1, 4 and 16 at once: TTFT, TPOT, tokens per second. Puts load on the
    engine for at most 5 s (22 completions of up to 64 tokens), so it runs only where the operator allows it."""
    from probes.reading.http import BadAddress, addresses

    if not target.active:
        return _unknown(*NOT_ALLOWED)
    try:
        asked = addresses(target.urls, read_servers(read_processes()), target.engine_api_key)
    except BadAddress as error:
        return _unknown(str(error), "CRASHCART_URLS 中有无法使用的地址。", *ADDRESS)
    deadline = time.monotonic() + BUDGET_SECONDS
    for address in asked:
        model = served_model(address, deadline)
        if model:
            return judge(address.url, model, measure(address, model, deadline))
    return _unknown(*NO_ENGINE)


def served_model(address: Address, deadline: float) -> str:
    """Ask for the first model that is served; empty where none is told."""
    from probes.reading.endpoints import parse_models
    from probes.reading.http import Unanswered, get

    try:
        models = parse_models(get(address, "/v1/models", min(deadline, time.monotonic() + LOOK_SECONDS)))
    except Unanswered:
        return ""
    return models[0].id if models else ""


def measure(address: Address, model: str, deadline: float) -> dict[int, Level]:
    """Measure every level, after one token to warm up, each for its share of the time left. Ends where nothing comes."""
    from probes.reading.streams import measure_level

    warm = measure_level(address, model, 1, deadline, max_tokens=1)
    if warm.error:
        return {1: warm}
    levels: dict[int, Level] = {}
    for done, streams in enumerate(LEVELS):
        share = (deadline - time.monotonic()) / (len(LEVELS) - done)
        if share <= 0:
            break
        levels[streams] = measure_level(address, model, streams, time.monotonic() + share)
        if levels[streams].error:
            break
    return levels


def judge(url: str, model: str, levels: dict[int, Level]) -> ProbeResult:
    """Judge what was measured, by number of streams."""
    rows = [{"streams": streams, **_row(level)} for streams, level in levels.items()]
    data = {"url": url, "model": model, "levels": rows}
    good = {streams: level for streams, level in levels.items() if level.tokens_per_second}
    if not good:
        why = next((level.error for level in levels.values() if level.error), "no answer")
        said = f"The speed of {url} was not measured: no completion gave a token ({why})."
        return _unknown(said, f"未能测量 {url} 的速度：没有补全返回 token（{why}）。", *NOTHING, data)
    facts = facts_of(good)
    return conclude("engine_speed", _figures(url, good), [_flat(good, facts)], facts, data, SOURCE)


def facts_of(levels: dict[int, Level]) -> dict[str, Any]:
    """Gather the facts: latencies of one stream, tokens per second of the most streams."""
    facts: dict[str, Any] = {}
    one, most = levels.get(1), levels[max(levels)]
    if one:
        facts |= {"measured_ttft_seconds": one.ttft_seconds, "measured_tpot_seconds": one.tpot_seconds}
    facts["measured_tokens_per_second"] = most.tokens_per_second
    if one and one is not most and one.tokens_per_second and most.tokens_per_second:
        facts["measured_scaling_ratio"] = most.tokens_per_second / one.tokens_per_second
    return {name: round(value, 1 if value > 100 else 4) for name, value in facts.items() if value is not None}


def _row(level: Level) -> dict[str, Any]:
    return {
        "seconds": round(level.seconds, 3),
        "finished": level.finished,
        "ttft_seconds": level.ttft_seconds,
        "tpot_seconds": level.tpot_seconds,
        "tokens_per_second": level.tokens_per_second,
        "completions": [asdict(stream) for stream in level.streams],
    }


def _figures(url: str, levels: dict[int, Level]) -> tuple[str, str]:
    said, said_zh = [], []
    for streams, level in levels.items():
        cut = f" ({level.finished} of {streams} finished)" if level.finished < streams else ""
        cut_zh = f"（{streams} 个中完成 {level.finished} 个）" if level.finished < streams else ""
        times = f", TTFT {level.ttft_seconds:.3f} s" if level.ttft_seconds is not None else ""
        times += f", TPOT {level.tpot_seconds * 1000:.1f} ms" if level.tpot_seconds is not None else ""
        said.append(f"{streams} at once {level.tokens_per_second:.0f} tokens/s{times}{cut}")
        said_zh.append(f"并发 {streams} 时 {level.tokens_per_second:.0f} tokens/s{times}{cut_zh}")
    return f"Measured at {url}: {'; '.join(said)}.", f"{url} 实测：{'；'.join(said_zh)}。"


def _flat(levels: dict[int, Level], facts: dict[str, Any]) -> Finding | None:
    """Find an engine that gains nothing from batching. Levels that broke off are not compared."""
    ratio, most = facts.get("measured_scaling_ratio"), max(levels)
    if ratio is None or ratio >= LEAST_SCALING or most < max(LEVELS) or levels[most].finished < most:
        return None
    all_of, of_one = (f"{levels[streams].tokens_per_second or 0:.0f}" for streams in (most, 1))
    return Finding(
        "warning",
        f"{most} streams at once give only {ratio:.1f} times the tokens of one ({all_of} against {of_one} tokens/s).",
        f"并发 {most} 的总吞吐只有单流的 {ratio:.1f} 倍（{all_of} 对 {of_one} tokens/s）。",
        "Look at the queue and the CPU of the API process, and check that no flag holds concurrency down; "
        "other load at the same time has the same effect.",
        "查看排队情况和 API 进程的 CPU，并确认没有参数限制并发；同时存在的其他负载也会如此。",
    )


def _unknown(said: str, said_zh: str, advice: str, advice_zh: str, data: dict[str, Any] | None = None) -> ProbeResult:
    return ProbeResult(
        "engine_speed",
        "unknown",
        said,
        said_zh,
        data=data or {},
        source=SOURCE,
        advice=(advice,),
        advice_zh=(advice_zh,),
    )


NOT_ALLOWED = (
    "The speed was not measured: it puts load on the engine, and that was not allowed.",
    "没有测速：测速会给引擎带来负载，尚未获得允许。",
    "Allow it with `--active` or `CRASHCART_ACTIVE=true`.",
    "用 `--active` 或 `CRASHCART_ACTIVE=true` 允许测速。",
)
NO_ENGINE = (
    "The speed was not measured: no engine that names its model answers at CRASHCART_URLS or on this host.",
    "没有测速：CRASHCART_URLS 和本机上都没有给出模型名的引擎应答。",
    "Run `crashcart probe run engine_endpoint` to see what answers.",
    "运行 `crashcart probe run engine_endpoint` 查看应答情况。",
)
NOTHING = (
    "Check that the model generates text and that `CRASHCART_ENGINE_API_KEY` is right.",
    "确认该模型能生成文本，并检查 `CRASHCART_ENGINE_API_KEY`。",
)
ADDRESS = (
    "Correct `CRASHCART_URLS`, for example `http://127.0.0.1:8000`.",
    "更正 `CRASHCART_URLS`，例如 `http://127.0.0.1:8000`。",
)
