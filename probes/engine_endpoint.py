from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from probes.judging import GRAVITY, Finding, conclude
from probes.reading.bottleneck import Binding, binding_limit
from probes.reading.limits import Hardware, find_limits
from probes.reading.processes import read_processes
from probes.reading.servers import Server, read_servers
from probes.reading.silence import IN_CONTAINER, LOADING, REASONS, Silence, no_load
from probes.reading.unavailable import GpuUnavailable
from probes.registry import probe
from probes.types import ProbeResult, Target

if TYPE_CHECKING:
    from probes.reading.endpoints import Endpoint

MOST_ENDPOINTS = 8
SOURCE = "HTTP GET"
LOOK_YOURSELF = (
    "Look at the scheduler's lines in the server's log: they tell running, waiting and KV cache usage.",
    "查看服务日志中的调度器行：其中有运行数、等待数和 KV cache 占用。",
)
BOUND = frozenset({"kv", "sequence_cap", "token_budget", "compute"})


@probe()
def engine_endpoint(target: Target) -> ProbeResult:
    """Ask running engines whether they answer and how loaded they are: models, release, KV cache, queue, preemptions,
    latencies. Says which limit binds. Asks only addresses that the operator set, and engines found on this host."""
    servers = read_servers(read_processes())
    if not target.urls and not any(server.port for server in servers):
        return _nobody(servers)  # before the HTTP client is imported, which takes a fifth of a whole checkup
    from concurrent.futures import ThreadPoolExecutor

    from probes.reading.endpoints import read_endpoint
    from probes.reading.http import BadAddress, addresses

    try:
        asked = addresses(target.urls, servers, target.engine_api_key)
    except BadAddress as error:
        return _bad_address(str(error))
    if not asked:
        return _nobody(servers)
    with ThreadPoolExecutor(MOST_ENDPOINTS) as pool:
        found = list(pool.map(read_endpoint, asked[:MOST_ENDPOINTS]))
    hardware = read_hardware() if any(each.address.is_local and each.pages for each in found) else Hardware()
    results = [judge(each, hardware if each.address.is_local else Hardware()) for each in found]
    return together(results, [each.url for each in asked[MOST_ENDPOINTS:]])


def together(results: list[ProbeResult], left_out: list[str] | None = None) -> ProbeResult:
    """Make one result of every address's: the worst speaks and gives the facts, all are kept in `data`."""
    first = min(results, key=lambda result: GRAVITY.index(result.status))
    rows = [row for result in results for row in result.data["endpoints"]]
    data = {**first.data, "endpoints": rows, **({"not_asked": left_out} if left_out else {})}
    if len(results) == 1:
        return replace(first, data=data)
    others = [result for result in results if result is not first]
    return replace(
        first,
        summary=" ".join([first.summary, *(result.summary for result in others)]),
        summary_zh="".join([first.summary_zh, *(result.summary_zh for result in others)]),
        data=data,
        advice=tuple(dict.fromkeys(line for result in (first, *others) for line in result.advice)),
        advice_zh=tuple(dict.fromkeys(line for result in (first, *others) for line in result.advice_zh)),
    )


def judge(found: Endpoint, hardware: Hardware | None = None) -> ProbeResult:
    """Judge what one address answered, with the GPU of its host where that is known."""
    url = found.address.url
    row: dict[str, Any] = {
        "url": url,
        **{name: getattr(found, name) for name in ("engine", "release", "status", "health", "failed", "no_page")},
        "models": [asdict(model) for model in found.models],
        "told": found.told,
        "seconds": round(found.seconds, 3),
    }
    if found.failed:
        return _silent(found, {"endpoints": [row]})
    facts, window = _identity(found), found.window
    if not window:
        return _without_load(found, facts, {"endpoints": [row]})
    command = found.address.server.command if found.address.server else ""
    limits = find_limits(found.engine, found.release, command, found.told, hardware)
    binding = binding_limit(window.load(limits, hardware or Hardware()))
    facts |= window.facts() | {"binding_limit": binding.limit}
    row |= {"limits": asdict(limits), "binding": asdict(binding), "times": window.times()}
    row |= {"units": [asdict(unit) for unit in window.last.units], "cache": window.last.cache}
    row |= {"gauges": window.last.gauges, "counters": window.last.counters}
    row |= {"between_seconds": round(window.seconds, 3)}
    calm = _figures(found, facts, binding)
    return conclude("engine_endpoint", calm, [_ill(found), _bound(found, binding)], facts, {"endpoints": [row]}, SOURCE)


def read_hardware() -> Hardware:
    """Read the smallest GPU of this host and its utilisation; empty where no GPU can be asked."""
    from probes.gpu_health import is_slowed
    from probes.reading.nvml import read_health, read_memory

    try:
        memory = [gpu for gpu in read_memory()[0] if gpu.memory.total_bytes]
        health = read_health()[0]
    except GpuUnavailable:
        return Hardware()
    smallest = min(memory, key=lambda gpu: gpu.memory.total_bytes or 0, default=None)
    busy = [gpu.utilization_ratio for gpu in health if gpu.utilization_ratio is not None]
    slowed = [each for gpu in health if (each := is_slowed(gpu.throttle_reasons)) is not None]
    return Hardware(
        smallest.gpu.name if smallest else "",
        (smallest.memory.total_bytes or 0) / (1 << 30) if smallest else None,
        max(busy, default=None),
        any(slowed) if slowed else None,
    )


def _identity(found: Endpoint) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if found.engine:
        facts |= {"engine_up": True, "engine_health": _health(found)}
    if found.models:
        facts["served_model"] = found.models[0].id
        if found.models[0].max_model_len:
            facts["served_max_model_len"] = found.models[0].max_model_len
    return facts


def _health(found: Endpoint) -> str:
    """`ok` only where the engine itself said so; SGLang is not asked."""
    if _is_dead(found):
        return "dead"
    return "ok" if found.health == 200 else "answers"


def _is_dead(found: Endpoint) -> bool:
    return (found.health or 0) >= 500 or (found.status or 0) >= 500


def _name(found: Endpoint) -> str:
    known = {"vllm": "vLLM", "sglang": "SGLang"}.get(found.engine, found.engine) or "A server"
    return f"{known} {found.release}".strip() + f" at {found.address.url}"


def _name_zh(found: Endpoint) -> str:
    known = {"vllm": "vLLM", "sglang": "SGLang"}.get(found.engine, found.engine) or "服务"
    return f"{found.address.url} 的 {known} {found.release}".strip()


def _figures(found: Endpoint, facts: dict[str, Any], binding: Binding) -> tuple[str, str]:
    said = [f"{facts['requests_running']} running"] if "requests_running" in facts else []
    said_zh = [f"运行 {facts['requests_running']}"] if "requests_running" in facts else []
    if "requests_waiting" in facts:
        said.append(f"{facts['requests_waiting']} waiting")
        said_zh.append(f"等待 {facts['requests_waiting']}")
    if "kv_usage_ratio" in facts:
        said.append(f"KV cache {facts['kv_usage_ratio']:.0%} used")
        said_zh.append(f"KV cache 已用 {facts['kv_usage_ratio']:.0%}")
    for name, label, fact in (("ttft", "TTFT", "ttft_p50_seconds"), ("tpot", "TPOT", "tpot_p50_seconds")):
        if fact in facts:
            since = found.window is None or found.window.histogram(name)[1] == "since start"
            said.append(f"median {label} {facts[fact]:.3g} s" + (" since start" if since else ""))
            said_zh.append(f"{label} 中位数 {facts[fact]:.3g} 秒" + ("（自启动以来）" if since else ""))
    return (
        f"{_name(found)} answers: {', '.join(said)}. {binding.why}",
        f"{_name_zh(found)} 正常响应：{'，'.join(said_zh)}。{binding.why_zh}",
    )


def _bound(found: Endpoint, binding: Binding) -> Finding | None:
    """A queue is a warning, whether its cause is known or not; readings that are missing make it unknown."""
    waits = any(unit.waiting for unit in found.pages[-1].units)
    if binding.limit not in BOUND and not (binding.limit == "unknown" and waits):
        blind = binding.limit == "unknown"
        return Finding("unknown", _said(found, binding), _said_zh(found, binding), *LOOK_YOURSELF) if blind else None
    advice = (binding.advice, binding.advice_zh) if binding.advice else LOOK_YOURSELF
    return Finding("warning", _said(found, binding), _said_zh(found, binding), *advice)


def _said(found: Endpoint, binding: Binding) -> str:
    return f"{_name(found)}: {binding.why}"


def _said_zh(found: Endpoint, binding: Binding) -> str:
    return f"{_name_zh(found)}：{binding.why_zh}"


def _ill(found: Endpoint) -> Finding | None:
    if not _is_dead(found):
        return None
    path, status = ("/health", found.health) if (found.health or 0) >= 500 else ("/v1/models", found.status)
    return Finding(
        "critical",
        f"{_name(found)} does not serve: {path} gives HTTP {status}.",
        f"{_name_zh(found)} 不能提供服务：{path} 返回 HTTP {status}。",
        "Read the first error of the engine in the server's log; unless it is still starting, restart the server.",
        "查看服务日志中引擎最早的错误；若不是仍在启动，请重启服务。",
    )


def _silent(found: Endpoint, data: dict[str, Any]) -> ProbeResult:
    """Judge an address that gave no answer. An engine that was found here but does not listen may still be loading."""
    server = found.address.server
    loading = found.failed == "refused" and server is not None
    why = LOADING if loading else REASONS[found.failed or "silent"]
    if loading and server and server.container:
        why = IN_CONTAINER
    facts: dict[str, Any] = {}
    if why.status != "unknown":
        facts = {"engine_up": False, "engine_health": "starting" if loading else str(found.failed)}
    return _result(why, f"{_name(found)} {why.what}.", f"{_name_zh(found)}{why.what_zh}。", facts, data)


def _without_load(found: Endpoint, facts: dict[str, Any], data: dict[str, Any]) -> ProbeResult:
    """Judge an address that answers, but tells no load: that is never fine, only unknown."""
    ill = _ill(found)
    if ill:
        return conclude("engine_endpoint", ("", ""), [ill], facts, data, SOURCE)
    why = no_load(found.engine, found.status, found.no_page)
    said, said_zh = f"{_name(found)} answers, {why.what}.", f"{_name_zh(found)}有响应，{why.what_zh}。"
    return _result(why, said, said_zh, facts, data)


def _result(why: Silence, said: str, said_zh: str, facts: dict[str, Any], data: dict[str, Any]) -> ProbeResult:
    return ProbeResult(
        "engine_endpoint",
        why.status,
        said,
        said_zh,
        facts,
        data,
        SOURCE,
        advice=(why.advice,),
        advice_zh=(why.advice_zh,),
    )


def _nobody(servers: tuple[Server, ...]) -> ProbeResult:
    elsewhere = [server.url or f"{server.engine} (pid {server.pid})" for server in servers]
    more = f" Not asked, because not on loopback or of unknown port: {', '.join(elsewhere)}." if elsewhere else ""
    more_zh = f"未询问（不在环回地址上或端口未知）：{'、'.join(elsewhere)}。" if elsewhere else ""
    return ProbeResult(
        "engine_endpoint",
        "unknown",
        f"No engine was asked: CRASHCART_URLS is empty, and no vLLM or SGLang process listens on this host.{more}",
        f"没有询问任何引擎：CRASHCART_URLS 为空，本机也没有监听中的 vLLM 或 SGLang 进程。{more_zh}",
        data={"endpoints": [], "servers": [server.pid for server in servers]},
        source=SOURCE,
        advice=("Set `CRASHCART_URLS=http://HOST:PORT`, or run Crashcart on the engine's host.",),
        advice_zh=("设置 `CRASHCART_URLS=http://HOST:PORT`，或在引擎所在主机上运行 Crashcart。",),
    )


def _bad_address(why: str) -> ProbeResult:
    return ProbeResult(
        "engine_endpoint",
        "unknown",
        why,
        "CRASHCART_URLS 中有无法使用的地址。",
        data={"endpoints": []},
        source=SOURCE,
        advice=("Correct `CRASHCART_URLS`, for example `http://127.0.0.1:8000`.",),
        advice_zh=("更正 `CRASHCART_URLS`，例如 `http://127.0.0.1:8000`。",),
    )
