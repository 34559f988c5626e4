from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from probes.judging import Finding, conclude, gib
from probes.reading.gpus import GpuMemory, Memory
from probes.reading.nvml import read_memory
from probes.reading.processes import engines, read_processes
from probes.reading.unavailable import GpuUnavailable, unavailable
from probes.registry import probe
from probes.types import ProbeResult, Target

HELD_RATIO = 0.5


@probe()
def gpu_memory(target: Target) -> ProbeResult:
    """Read how much memory each GPU has, uses and has free. Also reads compute capability and MIG slices, and says when
    memory is held although no inference engine runs here."""
    try:
        gpus, source = read_memory()
    except GpuUnavailable as error:
        return unavailable("gpu_memory", error)
    return judge(gpus, sorted(set(engines(read_processes()).values())), source)


def judge(gpus: tuple[GpuMemory, ...], running: list[str], source: str = "NVML") -> ProbeResult:
    """Judge what was read of every GPU, with the names of the engines that run here."""
    data = {"gpus": [asdict(gpu) for gpu in gpus], "engines": running}
    facts = facts_of(gpus)
    findings = [_none(gpus), _lost(gpus), _held(facts, running)]
    if not any(findings) and "gpu_total_gib" not in facts:
        names = names_of(gpus)
        said = f"{names}: the driver does not tell the memory (unified memory, vGPU or WSL)."
        said_zh = f"{names}：驱动不报告显存（统一内存、vGPU 或 WSL）。"
        return ProbeResult("gpu_memory", "unknown", said, said_zh, facts, data, source)
    return conclude("gpu_memory", _figures(gpus, facts), findings, facts, data, source)


def facts_of(gpus: tuple[GpuMemory, ...]) -> dict[str, Any]:
    """Gather the facts of the GPUs that answer, leaving out what is not told. Slices stand for a GPU split into them."""
    gpus = tuple(gpu for gpu in gpus if not gpu.gpu.lost)
    facts: dict[str, Any] = {"gpu_count": len(gpus)}
    if not gpus:
        return facts
    facts["gpu_mig"] = any(gpu.mig for gpu in gpus)
    if gpus[0].gpu.name:
        facts["gpu_name"] = gpus[0].gpu.name
    capabilities = [gpu.compute_capability for gpu in gpus if gpu.compute_capability]
    if capabilities:
        facts["gpu_compute_capability"] = min(capabilities)
    units = [memory for memory in _units(gpus) if memory.total_bytes and memory.free_bytes is not None]
    if units:
        fullest = min(units, key=_free_ratio)
        facts["gpu_total_gib"] = gib(min(memory.total_bytes or 0 for memory in units))
        facts["gpu_free_gib"] = gib(fullest.free_bytes or 0)
        facts["gpu_used_gib"] = gib(fullest.used_bytes or 0)
        facts["gpu_free_ratio"] = round(_free_ratio(fullest), 3)
    return facts


def names_of(gpus: tuple[GpuMemory, ...]) -> str:
    """Name the GPUs: `8 × NVIDIA H100 80GB HBM3`."""
    counts = Counter(gpu.gpu.name or "GPU" for gpu in gpus)
    return " + ".join(f"{count} × {name}" for name, count in counts.items())


def _units(gpus: tuple[GpuMemory, ...]) -> list[Memory]:
    return [memory for gpu in gpus for memory in ([piece.memory for piece in gpu.slices] or [gpu.memory])]


def _free_ratio(memory: Memory) -> float:
    return (memory.free_bytes or 0) / (memory.total_bytes or 1)


def _figures(gpus: tuple[GpuMemory, ...], facts: dict[str, Any]) -> tuple[str, str]:
    """Say the sizes of the fullest GPU or slice."""
    if "gpu_total_gib" not in facts:
        return "", ""
    slices = sum(len(gpu.slices) for gpu in gpus)
    names, names_zh = names_of(gpus), names_of(gpus)
    if slices:
        names, names_zh = f"{names} in {slices} MIG slices", f"{names}（{slices} 个 MIG 切片）"
    total, used, free = (facts[f"gpu_{kind}_gib"] for kind in ("total", "used", "free"))
    if len(gpus) + slices > 1:
        return (
            f"{names}: the fullest has {free:.1f} GiB free and {used:.1f} GiB used, the smallest {total:.1f} GiB in all.",
            f"{names_zh}：最满的空闲 {free:.1f} GiB、已用 {used:.1f} GiB，最小的共 {total:.1f} GiB。",
        )
    return (
        f"{names}: {free:.1f} GiB free, {used:.1f} GiB used of {total:.1f} GiB.",
        f"{names_zh}：共 {total:.1f} GiB，已用 {used:.1f} GiB，空闲 {free:.1f} GiB。",
    )


def _none(gpus: tuple[GpuMemory, ...]) -> Finding | None:
    if gpus:
        return None
    return Finding(
        "warning",
        "The driver is loaded but shows no GPU.",
        "驱动已加载，但看不到任何 GPU。",
        "In a container, start it with `--gpus all`; on the host, look for Xid 79 in the kernel log.",
        "若在容器中，请用 `--gpus all` 启动；在主机上，请在内核日志中查找 Xid 79。",
    )


def _lost(gpus: tuple[GpuMemory, ...]) -> Finding | None:
    lost = [gpu.gpu for gpu in gpus if gpu.gpu.lost]
    if not lost:
        return None
    numbers = ", ".join(str(gpu.index) for gpu in lost)
    return Finding(
        "critical",
        f"GPU {numbers} of {len(gpus)} does not answer ({lost[0].lost}).",
        f"{len(gpus)} 张 GPU 中的 {numbers} 号不再响应（{lost[0].lost}）。",
        "Look for Xid lines in the kernel log, then reboot the host; if it returns, have the card checked.",
        "在内核日志中查找 Xid，然后重启主机；若再次出现，请检修该卡。",
    )


def _held(facts: dict[str, Any], running: list[str]) -> Finding | None:
    if running or facts.get("gpu_free_ratio", 1) >= HELD_RATIO:
        return None
    used, ratio = facts["gpu_used_gib"], 1 - facts["gpu_free_ratio"]
    return Finding(
        "warning",
        f"{ratio:.0%} of a GPU's memory ({used:.1f} GiB) is held although no inference engine is visible here.",
        f"本机看不到推理引擎，但有 GPU 的显存已被占用 {ratio:.0%}（{used:.1f} GiB）。",
        "See who holds it with `nvidia-smi`, and end leftover processes of an earlier run.",
        "用 `nvidia-smi` 查看占用者，并结束上一次运行遗留的进程。",
    )
