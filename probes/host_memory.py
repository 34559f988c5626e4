from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probes.judging import GIB, Finding, conclude
from probes.reading.files import (
    CGROUP,
    PROC,
    SYSTEM,
    Unreadable,
    read_cgroup_file,
    read_kernel_file,
    read_system_file,
)
from probes.registry import probe
from probes.types import ProbeResult, Target

LOW_RATIO, EMPTY_RATIO = 0.10, 0.03
SMALL_SHM_BYTES = GIB
"""Docker gives a container 64 MiB; NCCL and the workers of tensor parallelism pass tensors through /dev/shm."""
NO_LIMIT_BYTES = 1 << 60
"""Control groups of the first version write a limit near 2^63 where there is none."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a control group allows and uses, in bytes; `used` leaves out page cache that can be dropped."""

    group: str
    limit_bytes: int
    used_bytes: int | None
    oom_kills: int | None


@dataclass(frozen=True, slots=True)
class HostMemory:
    """What was read: bytes by the names of /proc/meminfo, kills since boot, the tightest limit, and /dev/shm."""

    meminfo: dict[str, int]
    boot_oom_kills: int | None
    limit: Limit | None
    shm_total_bytes: int | None
    shm_free_bytes: int | None
    load: float | None = None
    """Processes that wanted a CPU, on average over the last minute."""
    numa_nodes: int | None = None
    transparent_hugepages: str = ""


@probe()
def host_memory(target: Target) -> ProbeResult:
    """Read RAM, swap, the container's memory limit, processes killed for memory, the size of /dev/shm, the load and NUMA nodes."""
    return judge(read())


def read(proc: Path = PROC, cgroup: Path = CGROUP, shm: Path = Path("/dev/shm"), system: Path = SYSTEM) -> HostMemory:
    """Read the host; what cannot be read is empty."""
    total, free = _space(shm)
    kills = re.search(r"^oom_kill (\d+)", _text("vmstat", proc), re.MULTILINE)
    limit = read_limit(_text("self/cgroup", proc), cgroup)
    load = re.match(r"\d+\.\d+", _text("loadavg", proc))
    huge = re.search(r"\[(\w+)\]", _system("kernel/mm/transparent_hugepage/enabled", system))
    return HostMemory(
        parse_meminfo(_text("meminfo", proc)),
        int(kills.group(1)) if kills else None,
        limit,
        total,
        free,
        float(load.group()) if load else None,
        count_of(_system("devices/system/node/online", system)),
        huge.group(1) if huge else "",
    )


def count_of(ranges: str) -> int | None:
    """Count what a list of ranges (`0-1,4`) names; None for an empty one."""
    spans = [span.partition("-") for span in ranges.strip().split(",") if span]
    return sum(int(last or first) - int(first) + 1 for first, _, last in spans) or None


def parse_meminfo(text: str) -> dict[str, int]:
    """Parse /proc/meminfo to bytes by name."""
    return {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}


def read_limit(own_groups: str, cgroup: Path = CGROUP) -> Limit | None:
    """Read the lowest limit among the control groups that this process is in; None where there is none."""
    limits = [limit for group, version in parse_groups(own_groups) if (limit := _limit(group, version, cgroup))]
    return min(limits, key=lambda limit: limit.limit_bytes, default=None)


def parse_groups(own_groups: str) -> Iterator[tuple[str, int]]:
    """Parse /proc/self/cgroup to the memory groups that this process is in, from its own up, with their version."""
    for line in own_groups.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        version = 2 if number == "0" and not controllers else 1
        if version == 2 or "memory" in controllers.split(","):
            parts = [part for part in path.split("/") if part and part != ".."]
            yield from (("/".join(parts[:depth]), version) for depth in range(len(parts), -1, -1))


def judge(host: HostMemory) -> ProbeResult:
    """Judge what was read."""
    facts = facts_of(host)
    data = _data(host)
    if "host_total_gib" not in facts:
        return ProbeResult(
            "host_memory",
            "unknown",
            "/proc/meminfo cannot be read here.",
            "无法读取 /proc/meminfo。",
            facts,
            data,
            "/proc",
        )
    findings = [_short(facts), _killed(facts, host), _small_shm(host)]
    return conclude("host_memory", _figures(facts, host), findings, facts, data, "/proc/meminfo")


def facts_of(host: HostMemory) -> dict[str, Any]:
    """Gather the facts; the container's limit counts where it is lower than the RAM."""
    facts: dict[str, Any] = {}
    total, available = host.meminfo.get("MemTotal"), host.meminfo.get("MemAvailable")
    limit = host.limit if host.limit and (total is None or host.limit.limit_bytes < total) else None
    if limit:
        total = limit.limit_bytes
        if limit.used_bytes is not None:
            left = max(0, limit.limit_bytes - limit.used_bytes)
            available = left if available is None else min(available, left)
    kills = host.limit.oom_kills if limit and host.limit and host.limit.oom_kills is not None else host.boot_oom_kills
    sizes = {
        "host_total_gib": total,
        "host_available_gib": available,
        "shm_total_gib": host.shm_total_bytes,
        "shm_free_gib": host.shm_free_bytes,
    }
    swap, swap_free = host.meminfo.get("SwapTotal"), host.meminfo.get("SwapFree")
    if swap is not None and swap_free is not None:
        sizes |= {"swap_total_gib": swap, "swap_used_gib": swap - swap_free}
    facts |= {name: round(size / GIB, 3) for name, size in sizes.items() if size is not None}
    if host.load is not None:
        facts["cpu_load_ratio"] = round(host.load / (os.cpu_count() or 1), 2)
    if host.numa_nodes is not None:
        facts["numa_nodes"] = host.numa_nodes
    if host.transparent_hugepages:
        facts["transparent_hugepages"] = host.transparent_hugepages
    return facts if kills is None else {**facts, "host_oom_kills": kills}


def _limit(group: str, version: int, cgroup: Path) -> Limit | None:
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    folder = group if version == 2 else f"memory/{group}"
    size, used = (_cgroup(folder, name, cgroup).strip() for name in names)
    if not size.isdigit() or int(size) >= NO_LIMIT_BYTES:
        return None
    stat, events = _cgroup(folder, "memory.stat", cgroup), _cgroup(folder, "memory.events", cgroup)
    events = events or _cgroup(folder, "memory.oom_control", cgroup)
    droppable = re.search(r"^(?:total_)?inactive_file (\d+)", stat, re.MULTILINE)
    kills = re.search(r"^oom_kill (\d+)", events, re.MULTILINE)
    held = int(used) - (int(droppable.group(1)) if droppable else 0) if used.isdigit() else None
    return Limit(group or "/", int(size), held, int(kills.group(1)) if kills else None)


def _short(facts: dict[str, Any]) -> Finding | None:
    total = facts["host_total_gib"]
    available = facts.get("host_available_gib", total)
    ratio = available / total
    if ratio >= LOW_RATIO:
        return None
    return Finding(
        "critical" if ratio < EMPTY_RATIO else "warning",
        f"Only {available:.1f} of {total:.1f} GiB RAM can still be had.",
        f"{total:.1f} GiB 内存只剩 {available:.1f} GiB 可用。",
        "Find the largest processes with `ps aux --sort=-rss | head`; a process killed for memory leaves exit code 137.",
        "用 `ps aux --sort=-rss | head` 找出占用最大的进程；被 OOM 杀死的进程退出码为 137。",
    )


def _killed(facts: dict[str, Any], host: HostMemory) -> Finding | None:
    kills = facts.get("host_oom_kills")
    if not kills:
        return None
    limited = host.limit and host.limit.oom_kills == kills
    where, where_zh = ("in this container", "在本容器中") if limited else ("since boot", "自开机以来")
    return Finding(
        "warning",
        f"{kills} processes were killed for memory {where}.",
        f"{where_zh}已有 {kills} 个进程因内存不足被杀。",
        "See which and when with `journalctl -k | grep -i 'killed process'`; raise the container's memory limit if it has one.",
        "用 `journalctl -k | grep -i 'killed process'` 查看何时杀了谁；若容器有内存上限，请调高。",
    )


def _small_shm(host: HostMemory) -> Finding | None:
    if host.shm_total_bytes is None or host.shm_total_bytes >= SMALL_SHM_BYTES:
        return None
    size = f"{host.shm_total_bytes / (1 << 20):.0f} MiB"
    return Finding(
        "warning",
        f"/dev/shm has only {size}, too little for several GPUs.",
        f"/dev/shm 只有 {size}，多卡并行时不够用。",
        "Start the container with `--ipc=host` or `--shm-size=16g`; in Kubernetes mount an emptyDir of medium Memory there.",
        "启动容器时加 `--ipc=host` 或 `--shm-size=16g`；Kubernetes 中把 medium 为 Memory 的 emptyDir 挂到该处。",
    )


def _figures(facts: dict[str, Any], host: HostMemory) -> tuple[str, str]:
    total, available = facts["host_total_gib"], facts.get("host_available_gib")
    limited = host.limit is not None and host.limit.limit_bytes < host.meminfo.get("MemTotal", NO_LIMIT_BYTES)
    kind, kind_zh = ("The container may use", "容器内存上限") if limited else ("The host has", "主机内存")
    left = left_zh = shared = shared_zh = ""
    if available is not None:
        left, left_zh = f", {available:.1f} GiB of it available", f"，可用 {available:.1f} GiB"
    if "shm_total_gib" in facts:
        size = f"{facts['shm_total_gib']:.1f} GiB"
        shared, shared_zh = f"; /dev/shm has {size}", f"；/dev/shm {size}"
    return f"{kind} {total:.1f} GiB{left}{shared}.", f"{kind_zh} {total:.1f} GiB{left_zh}{shared_zh}。"


def _data(host: HostMemory) -> dict[str, Any]:
    names = ("MemTotal", "MemFree", "MemAvailable", "SwapTotal", "SwapFree", "Shmem", "HugePages_Total")
    limit = host.limit
    return {
        "meminfo_bytes": {name: host.meminfo[name] for name in names if name in host.meminfo},
        "boot_oom_kills": host.boot_oom_kills,
        "limit": limit and {"group": limit.group, "limit_bytes": limit.limit_bytes, "used_bytes": limit.used_bytes},
        "container_oom_kills": limit.oom_kills if limit else None,
        "shm_total_bytes": host.shm_total_bytes,
        "shm_free_bytes": host.shm_free_bytes,
        "load": host.load,
        "numa_nodes": host.numa_nodes,
        "transparent_hugepages": host.transparent_hugepages,
    }


def _space(path: Path) -> tuple[int | None, int | None]:
    try:
        space = os.statvfs(path)
    except OSError:
        return None, None
    return space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize


def _text(name: str, proc: Path) -> str:
    try:
        return read_kernel_file(name, proc)
    except Unreadable:
        return ""


def _system(name: str, system: Path) -> str:
    try:
        return read_system_file(name, system)
    except Unreadable:
        return ""


def _cgroup(group: str, name: str, cgroup: Path) -> str:
    try:
        return read_cgroup_file(group, name, cgroup)
    except Unreadable:
        return ""
