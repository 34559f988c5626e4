from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import Any

from probes.judging import Finding, conclude
from probes.reading.processes import read_processes
from probes.reading.servers import Server, read_servers
from probes.registry import probe
from probes.types import ProbeResult, Target

# Variables that are for hunting an error, and make a server slow or hang: name to what it does.
HUNTING = {
    "CUDA_LAUNCH_BLOCKING": ("makes every kernel wait for the one before it", "使每个 kernel 同步执行"),
    "CUDA_DEVICE_WAITS_ON_EXCEPTION": ("makes a GPU exception wait for a debugger", "GPU 异常时会等待调试器"),
    "CUDA_ENABLE_COREDUMP_ON_EXCEPTION": ("writes a GPU core dump at every exception", "每次异常都会写 GPU core dump"),
    "CUDA_PROFILE": ("switches the old profiler on", "启用旧版 profiler"),
    "COMPUTE_PROFILE": ("switches the old profiler on", "启用旧版 profiler"),
    "CUDA_INJECTION64_PATH": ("loads a profiler into every CUDA program", "向每个 CUDA 程序注入 profiler"),
    "VLLM_TRACE_FUNCTION": ("writes down every function call", "记录每一次函数调用"),
}
OFF = ("", "0", "false", "False")


@probe()
def engine_processes(target: Target) -> ProbeResult:
    """Read which inference servers run here: command line, port, start, log file, workers and chosen variables. Says when
    a worker has died or hangs in the driver, and when debugging variables are set."""
    return judge(read_servers(read_processes()), time.time())


def judge(servers: tuple[Server, ...], now: float) -> ProbeResult:
    """Judge the servers that were read; `now` is seconds since 1970."""
    facts = facts_of(servers, now)
    data = {"servers": [{**asdict(server), "url": server.url} for server in servers]}
    if not servers:
        return ProbeResult(
            "engine_processes",
            "unknown",
            "No inference server of a known engine is visible here.",
            "这里看不到已知推理引擎的服务进程。",
            facts,
            data,
            "/proc",
            advice=("If one should run, look at its log, or run Crashcart on its host as the same user.",),
            advice_zh=("若本应有服务在运行，请查看其日志，或在其主机上以同一用户运行 Crashcart。",),
        )
    findings = [
        finding for server in servers for finding in (_dead(server), _stuck(server), *_hunting(server)) if finding
    ]
    named = "; ".join(f"{server.engine} (pid {server.pid}, port {server.port or '?'})" for server in servers)
    calm = (f"Running: {named}.", f"正在运行：{named}。")
    return conclude("engine_processes", calm, findings, facts, data, "/proc")


def facts_of(servers: tuple[Server, ...], now: float) -> dict[str, Any]:
    """Gather the facts; uptime and log are those of the server that was started last."""
    facts: dict[str, Any] = {"engine_running": bool(servers), "engine_count": len(servers)}
    if not servers:
        return facts
    facts["engine_workers_dead"] = sum(len(server.dead_workers) for server in servers)
    facts["engine_workers_stuck"] = sum(len(server.stuck_workers) for server in servers)
    newest = max(servers, key=lambda server: server.started or 0.0)
    if newest.started is not None:
        facts["engine_uptime_seconds"] = round(max(0.0, now - newest.started))
    if newest.log and os.path.isfile(newest.log):
        facts["engine_log_path"] = newest.log
    return facts


def _dead(server: Server) -> Finding | None:
    if not server.dead_workers:
        return None
    pids = ", ".join(map(str, server.dead_workers))
    return Finding(
        "critical",
        f"Worker process {pids} of {server.engine} (pid {server.pid}) has died.",
        f"{server.engine}（pid {server.pid}）的工作进程 {pids} 已经死亡。",
        "Read the first error in the server's log, above `Engine core` or `scheduler` lines, then restart the server.",
        "查看服务日志中最早的错误（在 `Engine core` 或 `scheduler` 行之前），然后重启服务。",
    )


def _stuck(server: Server) -> Finding | None:
    if not server.stuck_workers:
        return None
    pids = ", ".join(map(str, server.stuck_workers))
    return Finding(
        "warning",
        f"Worker process {pids} of {server.engine} waits inside the kernel (state D): for the driver, a disk or NFS.",
        f"{server.engine} 的工作进程 {pids} 卡在内核中（状态 D）：在等驱动、磁盘或 NFS。",
        "Look at it again in a minute; if it stays so, read the kernel log for Xid lines and check network file systems.",
        "一分钟后再看；若仍如此，请查看内核日志中的 Xid 以及网络文件系统。",
    )


def _hunting(server: Server) -> list[Finding]:
    named = [name for name in HUNTING if server.variables.get(name, "") not in OFF]
    return [
        Finding(
            "warning",
            f"{name} is set for {server.engine} (pid {server.pid}): it {HUNTING[name][0]}.",
            f"{server.engine}（pid {server.pid}）设置了 {name}：{HUNTING[name][1]}。",
            f"Unset `{name}` for production and restart the server.",
            f"生产环境请取消 `{name}` 并重启服务。",
        )
        for name in named
    ]
