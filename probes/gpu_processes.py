from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.judging import GIB, Finding, conclude, gib
from probes.reading.gpus import GpuProcesses
from probes.reading.nvml import read_processes
from probes.reading.processes import Process, engine_of_tree
from probes.reading.processes import read_processes as read_host_processes
from probes.reading.unavailable import GpuUnavailable, unavailable
from probes.registry import probe
from probes.types import ProbeResult, Target

STRANGER_BYTES = GIB
UNACCOUNTED_RATIO = 0.2
COMMAND_CHARACTERS = 120

Row = dict[str, Any]


@probe()
def gpu_processes(target: Target) -> ProbeResult:
    """Read which processes hold GPU memory, how much, and whether each is an inference engine. Also finds memory of
    processes that ended or that run in another container."""
    try:
        gpus, source = read_processes()
    except GpuUnavailable as error:
        return unavailable("gpu_processes", error)
    return judge(gpus, read_host_processes(), source)


def judge(gpus: tuple[GpuProcesses, ...], host: Mapping[int, Process], source: str = "NVML") -> ProbeResult:
    """Judge what was read of every GPU with the processes that are visible here."""
    rows = [row for gpu in gpus for row in _rows(gpu, host)]
    unaccounted = {gpu.gpu.index: unaccounted_bytes(gpu) for gpu in gpus}
    data = {"processes": rows, "unaccounted_bytes": {str(index): size for index, size in unaccounted.items()}}
    if all(gpu.processes is None for gpu in gpus):
        return ProbeResult(
            "gpu_processes",
            "unknown",
            "The driver does not tell which processes hold GPU memory.",
            "驱动不报告哪些进程占用显存。",
            data=data,
            source=source,
            advice=("Run on the host itself: a container, vGPU or WSL hides the processes.",),
            advice_zh=("请直接在主机上运行：容器、vGPU 或 WSL 会隐藏进程信息。",),
        )
    findings = [_strangers(rows), _ended(rows), _hidden(gpus, unaccounted)]
    return conclude("gpu_processes", _counts(rows), findings, facts_of(rows), data, source)


def facts_of(rows: list[Row]) -> dict[str, Any]:
    """Gather the facts. A process on several GPUs counts once, with the sum of its memory."""
    by_pid: dict[int, int] = {}
    for row in rows:
        by_pid[row["pid"]] = by_pid.get(row["pid"], 0) + (row["used_bytes"] or 0)
    facts: dict[str, Any] = {"gpu_process_count": len(by_pid)}
    if all(row["used_bytes"] is not None for row in rows):
        facts["gpu_process_max_gib"] = gib(max(by_pid.values(), default=0))
        facts["gpu_stranger_gib"] = gib(sum(row["used_bytes"] for row in rows if row["role"] == "stranger"))
    return facts


def unaccounted_bytes(gpu: GpuProcesses) -> int | None:
    """Tell how much memory is in use that no listed process holds; None where that cannot be said."""
    if gpu.memory.used_bytes is None or gpu.processes is None:
        return None
    if any(process.used_bytes is None for process in gpu.processes):
        return None
    return max(0, gpu.memory.used_bytes - sum(process.used_bytes or 0 for process in gpu.processes))


def _rows(gpu: GpuProcesses, host: Mapping[int, Process]) -> list[Row]:
    return [
        {
            "gpu": gpu.gpu.index,
            "pid": process.pid,
            "used_bytes": process.used_bytes,
            "kind": process.kind,
            **_identity(process.pid, host),
        }
        for process in gpu.processes or ()
    ]


def _identity(pid: int, host: Mapping[int, Process]) -> Row:
    process = host.get(pid)
    if process is None:
        return {"role": "not visible", "engine": "", "command": "", "container": "", "state": ""}
    engine = engine_of_tree(pid, host)
    role = "ended" if process.state in ("Z", "X") else "engine" if engine else "stranger"
    about = {"command": process.command, "container": process.container, "state": process.state}
    return {"role": role, "engine": engine, **about}


def _counts(rows: list[Row]) -> tuple[str, str]:
    pids = {row["pid"] for row in rows}
    if not pids:
        return "No process is listed on a GPU.", "没有列出任何使用 GPU 的进程。"
    named = sorted({row["engine"] for row in rows if row["engine"]})
    whose, whose_zh = (f", among them {', '.join(named)}", f"，其中有 {'、'.join(named)}") if named else ("", "")
    noun = "process holds" if len(pids) == 1 else "processes hold"
    return f"{len(pids)} {noun} GPU memory{whose}.", f"{len(pids)} 个进程占用显存{whose_zh}。"


def _strangers(rows: list[Row]) -> Finding | None:
    """Find the process that is no engine and holds most, when all of them together hold enough to matter."""
    strangers = [row for row in rows if row["role"] == "stranger" and row["used_bytes"]]
    held = sum(row["used_bytes"] for row in strangers)
    if held < STRANGER_BYTES:
        return None
    most = max(strangers, key=lambda row: row["used_bytes"])
    pid, name = most["pid"], most["command"][:COMMAND_CHARACTERS] or "?"
    where, where_zh = (
        (f" in container {most['container']}", f"，容器 {most['container']}") if most["container"] else ("", "")
    )
    return Finding(
        "warning",
        f"{gib(held):.1f} GiB are held by processes that are no inference engine, most of it by pid {pid} ({name}){where}.",
        f"{gib(held):.1f} GiB 显存被非推理引擎的进程占用，占用最多的是 pid {pid}（{name}{where_zh}）。",
        f"Stop pid {pid} if it is not needed, or give the engine another GPU with `CUDA_VISIBLE_DEVICES`.",
        f"若不需要 pid {pid}，请将其停止；或用 `CUDA_VISIBLE_DEVICES` 让引擎换一张 GPU。",
    )


def _ended(rows: list[Row]) -> Finding | None:
    pid = next((row["pid"] for row in rows if row["role"] == "ended"), None)
    if pid is None:
        return None
    return Finding(
        "warning",
        f"Pid {pid} has ended but still holds GPU memory (zombie).",
        f"pid {pid} 已经结束却仍占用显存（僵尸进程）。",
        f"End the parent process of pid {pid}, so that it is reaped; restart its container if that does not help.",
        f"结束 pid {pid} 的父进程以便回收；若无效，请重启其所在容器。",
    )


def _hidden(gpus: tuple[GpuProcesses, ...], unaccounted: dict[int, int | None]) -> Finding | None:
    """Find GPUs with much memory that no listed process holds: another container, or an ended process."""
    totals = {gpu.gpu.index: gpu.memory.total_bytes or 0 for gpu in gpus}
    hidden = {
        index: size for index, size in unaccounted.items() if size and size > UNACCOUNTED_RATIO * totals[index] > 0
    }
    if not hidden:
        return None
    numbers, size = ", ".join(map(str, hidden)), gib(max(hidden.values()))
    return Finding(
        "warning",
        f"On GPU {numbers} up to {size:.1f} GiB belong to no listed process.",
        f"GPU {numbers} 上最多有 {size:.1f} GiB 显存不属于任何列出的进程。",
        "Look for the holder outside of this container, on the host: `sudo fuser -v /dev/nvidia*`.",
        "请在容器之外、在主机上查找占用者：`sudo fuser -v /dev/nvidia*`。",
    )
