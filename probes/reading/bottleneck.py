"""Which limit of a server binds: a judgement over its scheduler's readings, with the arithmetic behind it.

An engine fills its memory by design and keeps a kernel running while it has any request, so neither used memory nor
GPU utilisation tells what is short. Queue, KV cache, preemptions and filled steps do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Limit = Literal["kv", "sequence_cap", "token_budget", "compute", "client", "none", "unknown"]

FULL_KV_RATIO = 0.9
NEARLY_FULL_KV_RATIO = 0.75
FULL_STEP_RATIO = 0.8
COMPUTE_STEP_TOKENS = 2048
"""A dense bf16 model needs about one byte of weights per FLOP and token, so an H100 (989 TFLOP/s, 3.35 TB/s) is bound
by compute from about 300 tokens a step on; at 2048 that holds for every GPU in use."""
IDLE_GPU_RATIO = 0.5
FEW_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Load:
    """What was read of one scheduler or of all of a server; None for what is not known.

    `waiting` is the smaller of two readings, so that a queue of a moment does not count.
    """

    engine: str
    running: float | None = None
    waiting: float | None = None
    kv_usage_ratio: float | None = None
    preemptions_per_second: float | None = None
    max_sequences: int | None = None
    step_tokens: float | None = None
    """Mean tokens of the steps between two readings."""
    max_step_tokens: int | None = None
    gpu_utilization_ratio: float | None = None
    gpu_slowed: bool | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """The limit that binds, why, and what to do about it; advice is empty where there is nothing to do."""

    limit: Limit
    why: str
    why_zh: str
    advice: str = ""
    advice_zh: str = ""


def binding_limit(load: Load) -> Binding:
    """Judge which limit keeps requests waiting, or that none does. `unknown` where the readings do not decide."""
    if load.running is None or load.waiting is None:
        return _unknown(load, "its running and waiting requests are not told", "没有报告运行与等待的请求数")
    for judge in (_preempting, _idle, _kv_full, _sequence_cap, _full_steps, _below_all_limits, _client):
        found = judge(load)
        if found:
            return found
    if not load.waiting:
        return Binding(
            "none",
            f"{load.running:.0f} requests run and none waits, so no limit of the scheduler binds.",
            f"{load.running:.0f} 个请求在运行、无等待，调度器的任何上限都未触及。",
        )
    return _unknown(load, *_missing(load))


def _preempting(load: Load) -> Binding | None:
    rate = load.preemptions_per_second
    if not rate:
        return None
    usage = f", KV cache {load.kv_usage_ratio:.0%} used" if load.kv_usage_ratio is not None else ""
    usage_zh = f"，KV cache 已用 {load.kv_usage_ratio:.0%}" if load.kv_usage_ratio is not None else ""
    return Binding(
        "kv",
        f"The KV cache is too small: {rate:.2g} requests a second are preempted and computed again{usage}.",
        f"KV cache 不足：每秒有 {rate:.2g} 个请求被抢占并重新计算{usage_zh}。",
        *_more_kv(load),
    )


def _idle(load: Load) -> Binding | None:
    if load.running or load.waiting:
        return None
    return Binding("none", "No request runs or waits.", "没有运行或等待的请求。")


def _kv_full(load: Load) -> Binding | None:
    if load.kv_usage_ratio is None or load.kv_usage_ratio < FULL_KV_RATIO or not load.waiting:
        return None
    return Binding(
        "kv",
        f"The KV cache is full ({load.kv_usage_ratio:.0%}) while {load.waiting:.0f} requests wait.",
        f"KV cache 已满（{load.kv_usage_ratio:.0%}），有 {load.waiting:.0f} 个请求在等待。",
        *_more_kv(load),
    )


def _sequence_cap(load: Load) -> Binding | None:
    if not load.waiting or not load.max_sequences or (load.running or 0) < load.max_sequences:
        return None
    flag = "--max-running-requests" if load.engine == "sglang" else "--max-num-seqs"
    usage = f" and the KV cache is only {load.kv_usage_ratio:.0%} used" if load.kv_usage_ratio is not None else ""
    usage_zh = f"，而 KV cache 只用了 {load.kv_usage_ratio:.0%}" if load.kv_usage_ratio is not None else ""
    return Binding(
        "sequence_cap",
        f"{load.running:.0f} of {load.max_sequences} allowed sequences run, {load.waiting:.0f} wait{usage}.",
        f"允许的 {load.max_sequences} 个序列中已有 {load.running:.0f} 个在运行，{load.waiting:.0f} 个等待{usage_zh}。",
        f"Raise `{flag}`, as far as the KV cache holds; each answer then comes somewhat slower.",
        f"在 KV cache 允许的范围内调高 `{flag}`；单个请求的速度会略降。",
    )


def _full_steps(load: Load) -> Binding | None:
    if not load.waiting or not load.step_tokens or not load.max_step_tokens:
        return None
    share = load.step_tokens / load.max_step_tokens
    if share < FULL_STEP_RATIO:
        return None
    figures = f"{load.step_tokens:.0f} of {load.max_step_tokens} tokens a step ({share:.0%})"
    figures_zh = f"每步 {load.step_tokens:.0f}/{load.max_step_tokens} 个 token（{share:.0%}）"
    working = load.gpu_utilization_ratio is None or load.gpu_utilization_ratio >= IDLE_GPU_RATIO
    if load.step_tokens >= COMPUTE_STEP_TOKENS and working:
        hot, hot_zh = (" The GPU's clocks are held down.", "GPU 时钟被限制。") if load.gpu_slowed else ("", "")
        return Binding(
            "compute",
            f"Steps are full of prompt tokens: {figures}, and {load.waiting:.0f} requests wait.{hot}",
            f"每一步都被提示词 token 填满：{figures_zh}，有 {load.waiting:.0f} 个请求等待。{hot_zh}",
            "Add GPUs or replicas, use an FP8 model, or shorten prompts and share prefixes; larger steps bring little.",
            "增加 GPU 或副本、使用 FP8 模型，或缩短提示词、共享前缀；加大每步 token 数收效甚微。",
        )
    return Binding(
        "token_budget",
        f"The token budget of a step is full: {figures}, and {load.waiting:.0f} requests wait.",
        f"每步的 token 预算已用满：{figures_zh}，有 {load.waiting:.0f} 个请求等待。",
        "Raise `--max-num-batched-tokens`: prompts get through faster, running answers pause a little longer.",
        "调高 `--max-num-batched-tokens`：提示词处理更快，正在输出的请求停顿略长。",
    )


def _below_all_limits(load: Load) -> Binding | None:
    """SGLang tells nothing of its steps: its queue may be prompts in work, or room kept for tokens still to come."""
    if load.engine != "sglang" or not load.waiting or load.kv_usage_ratio is None or not load.max_sequences:
        return None
    return Binding(
        "unknown",
        f"{load.waiting:.0f} requests wait although {load.running:.0f} of {load.max_sequences} sequences run and the "
        f"KV cache is {load.kv_usage_ratio:.0%} used: prompts are being computed, or room is kept for tokens to come.",
        f"KV cache 只用了 {load.kv_usage_ratio:.0%}、{load.max_sequences} 个序列中有 {load.running:.0f} 个在运行，"
        f"仍有 {load.waiting:.0f} 个请求等待：可能正在计算提示词，也可能空间被预留给将要生成的 token。",
        "Read `#new-token` of the log's `Prefill batch` lines: near the chunk size, prompts are the load; if not, lower "
        "`--schedule-conservativeness` (for example to 0.3).",
        "查看日志 `Prefill batch` 行的 `#new-token`：接近分块大小说明负载在提示词；否则可调低 "
        "`--schedule-conservativeness`（例如 0.3）。",
    )


def _client(load: Load) -> Binding | None:
    if load.waiting or not load.running or not load.max_sequences or load.running > FEW_SHARE * load.max_sequences:
        return None
    return Binding(
        "client",
        f"Only {load.running:.0f} of {load.max_sequences} possible sequences run and none waits: the clients ask too "
        "little at once to fill the server.",
        f"最多可运行 {load.max_sequences} 个序列，现在只有 {load.running:.0f} 个且无等待：客户端并发不足以填满服务。",
        "For more throughput send more requests at once.",
        "若要更高吞吐，请提高客户端并发。",
    )


def _more_kv(load: Load) -> tuple[str, str]:
    if load.engine == "sglang":
        return (
            "Give the KV cache more room: raise `--mem-fraction-static`, lower `--context-length`, or use FP8 KV cache.",
            "扩大 KV cache：调高 `--mem-fraction-static`、调低 `--context-length`，或使用 FP8 KV cache。",
        )
    return (
        "Give the KV cache more room: raise `--gpu-memory-utilization`, use `--kv-cache-dtype fp8`, or more GPUs; "
        "lower `--max-num-seqs` only if that is not possible.",
        "扩大 KV cache：调高 `--gpu-memory-utilization`、使用 `--kv-cache-dtype fp8` 或增加 GPU；"
        "实在不行再调低 `--max-num-seqs`。",
    )


def _missing(load: Load) -> tuple[str, str]:
    """Name the reading that would decide."""
    if load.max_sequences is None:
        return "how many sequences it may run is not known", "不知道它最多可运行多少个序列"
    if load.kv_usage_ratio is None:
        return "its KV cache usage is not told", "没有报告 KV cache 占用"
    if load.kv_usage_ratio >= NEARLY_FULL_KV_RATIO:
        rest, rest_zh = f"the KV cache is {load.kv_usage_ratio:.0%} used", f"KV cache 已用 {load.kv_usage_ratio:.0%}"
        return f"{rest}, and a long prompt may not fit into the rest", f"{rest_zh}，剩余部分可能容不下长提示词"
    if load.step_tokens is None or load.max_step_tokens is None:
        return "how full its steps are is not known", "不知道每一步的 token 填充程度"
    return "none of its limits is reached", "各项上限均未触及"


def _unknown(load: Load, why: str, why_zh: str) -> Binding:
    waiting = f"{load.waiting:.0f} requests wait; " if load.waiting else ""
    waiting_zh = f"有 {load.waiting:.0f} 个请求等待；" if load.waiting else ""
    return Binding(
        "unknown",
        f"{waiting}which limit binds cannot be told: {why}.",
        f"{waiting_zh}无法判断哪个上限在起作用：{why_zh}。",
    )
