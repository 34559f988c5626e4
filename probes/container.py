from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from probes.judging import Finding, conclude
from probes.reading.files import CGROUP, PROC, Unreadable, read_cgroup_file, read_kernel_file
from probes.registry import probe
from probes.types import ProbeResult, Target

FEW_FILES = 4096
FEW_CPUS = 2
MANY_TASKS_RATIO = 0.9


@dataclass(frozen=True, slots=True)
class Container:
    """What surrounds this process. `cpus` is the CPU quota in cores, None without one; `devices` NVIDIA device nodes."""

    kind: str
    devices: tuple[str, ...]
    wanted_devices: str
    cpus: float | None
    host_cpus: int
    open_files: int | None
    locked_memory: str
    tasks: int | None
    most_tasks: int | None
    read_only_root: bool
    user: int


@probe()
def container(target: Target) -> ProbeResult:
    """Read whether this runs in a container, which GPU devices it has, and its limits of CPU, open files and processes."""
    return judge(read())


def read(proc: Path = PROC, cgroup: Path = CGROUP, root: Path = Path("/")) -> Container:
    """Read what surrounds this process."""
    limits = _text("self/limits", proc)
    tasks, most = (_number(_cgroup(name, cgroup)) for name in ("pids.current", "pids.max"))
    return Container(
        kind=kind_of(root, _text("1/cgroup", proc), os.environ),
        devices=tuple(sorted(path.name for path in Path(root, "dev").glob("nvidia*"))),
        wanted_devices=os.environ.get("NVIDIA_VISIBLE_DEVICES", ""),
        cpus=parse_quota(_cgroup("cpu.max", cgroup)),
        host_cpus=os.cpu_count() or 1,
        open_files=_number(parse_limit(limits, "Max open files")),
        locked_memory=parse_limit(limits, "Max locked memory"),
        tasks=tasks,
        most_tasks=most,
        read_only_root=bool(os.statvfs(root).f_flag & os.ST_RDONLY),
        user=os.getuid(),
    )


def kind_of(root: Path, first_groups: str, variables: os._Environ[str] | dict[str, str]) -> str:
    """Tell what kind of container this is by the marks that each leaves; empty outside of one."""
    marks = (
        ("kubernetes", "KUBERNETES_SERVICE_HOST" in variables),
        ("docker", (root / ".dockerenv").exists() or "/docker/" in first_groups),
        ("podman", (root / "run" / ".containerenv").exists() or "libpod" in first_groups),
        ("singularity", "SINGULARITY_CONTAINER" in variables or "APPTAINER_CONTAINER" in variables),
        ("other", "kubepods" in first_groups or "container" in variables),
    )
    return next((kind for kind, found in marks if found), "")


def parse_quota(text: str) -> float | None:
    """Parse cpu.max (`200000 100000`) to cores; None for no quota."""
    parts = text.split()
    if len(parts) != 2 or not parts[0].isdigit():
        return None
    return round(int(parts[0]) / int(parts[1]), 2)


def parse_limit(text: str, name: str) -> str:
    """Parse /proc/self/limits to the soft limit of one name; empty where it is not there."""
    found = re.search(rf"^{re.escape(name)}\s+(\S+)", text, re.MULTILINE)
    return found.group(1) if found else ""


def judge(found: Container) -> ProbeResult:
    """Judge what was read."""
    findings = [_no_devices(found), _few_cpus(found), _few_files(found), _many_tasks(found)]
    place, place_zh = ("Not in a container", "不在容器中")
    if found.kind:
        place, place_zh = f"In a container ({found.kind})", f"在容器中（{found.kind}）"
    cpus = f"{found.cpus:g}" if found.cpus is not None else f"{found.host_cpus}"
    calm = (
        f"{place}, {_gpus(found)} GPU device nodes, {cpus} CPUs, {found.open_files or 'unlimited'} open files.",
        f"{place_zh}，{_gpus(found)} 个 GPU 设备节点，{cpus} 个 CPU，可打开 {found.open_files or '不限'} 个文件。",
    )
    return conclude("container", calm, findings, facts_of(found), asdict(found), "/proc/self")


def facts_of(found: Container) -> dict[str, Any]:
    """Gather the facts. Outside of a container the quota of a service's control group counts as well."""
    return {
        "in_container": bool(found.kind),
        "gpus_passed_in": _gpus(found),
        "cpu_limit": found.cpus if found.cpus is not None else float(found.host_cpus),
        **({"open_files_limit": found.open_files} if found.open_files is not None else {}),
        "locked_memory_unlimited": found.locked_memory == "unlimited",
    }


def _gpus(found: Container) -> int:
    return sum(bool(re.fullmatch(r"nvidia\d+", name)) for name in found.devices)


def _no_devices(found: Container) -> Finding | None:
    if found.devices or found.wanted_devices in ("", "void", "none"):
        return None
    return Finding(
        "critical",
        f"This container asks for GPUs (NVIDIA_VISIBLE_DEVICES={found.wanted_devices}) but has no /dev/nvidia device.",
        f"容器请求了 GPU（NVIDIA_VISIBLE_DEVICES={found.wanted_devices}），但没有 /dev/nvidia 设备。",
        "Start it with `--gpus all` or `--runtime=nvidia`; the NVIDIA container toolkit must be installed on the host.",
        "用 `--gpus all` 或 `--runtime=nvidia` 启动；主机需安装 NVIDIA container toolkit。",
    )


def _few_cpus(found: Container) -> Finding | None:
    if found.cpus is None or found.cpus >= FEW_CPUS:
        return None
    return Finding(
        "warning",
        f"The container may use {found.cpus:g} CPUs: too few for a server, its engine process and its tokenizers.",
        f"容器只能使用 {found.cpus:g} 个 CPU：对服务进程、引擎进程和分词器来说太少。",
        "Raise the CPU limit to at least two cores and one more for each GPU.",
        "把 CPU 上限提高到至少两个核，外加每张 GPU 一个核。",
    )


def _few_files(found: Container) -> Finding | None:
    if found.open_files is None or found.open_files >= FEW_FILES:
        return None
    return Finding(
        "warning",
        f"Only {found.open_files} files may be open at once; each connection takes one (`Too many open files`).",
        f"最多只能同时打开 {found.open_files} 个文件；每个连接占一个（`Too many open files`）。",
        "Raise it with `ulimit -n 65536` before the start, or `--ulimit nofile=65536:65536` for a container.",
        "启动前用 `ulimit -n 65536` 调高；容器用 `--ulimit nofile=65536:65536`。",
    )


def _many_tasks(found: Container) -> Finding | None:
    if not found.tasks or not found.most_tasks or found.tasks < MANY_TASKS_RATIO * found.most_tasks:
        return None
    return Finding(
        "critical",
        f"{found.tasks} of {found.most_tasks} processes and threads are used up (`can't start new thread`).",
        f"进程和线程已用 {found.tasks}/{found.most_tasks}（会报 `can't start new thread`）。",
        "Raise the limit of processes (`--pids-limit`; in Kubernetes `podPidsLimit`), or set `OMP_NUM_THREADS=1`.",
        "调高进程数上限（`--pids-limit`；Kubernetes 为 `podPidsLimit`），或设置 `OMP_NUM_THREADS=1`。",
    )


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None


def _text(name: str, proc: Path) -> str:
    try:
        return read_kernel_file(name, proc)
    except Unreadable:
        return ""


def _cgroup(name: str, cgroup: Path) -> str:
    try:
        return read_cgroup_file("/", name, cgroup)
    except Unreadable:
        return ""
