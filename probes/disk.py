from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from probes.judging import GIB, Finding, conclude, gib
from probes.reading.files import PROC, Unreadable, read_kernel_file
from probes.reading.processes import engines, read_processes, read_variables
from probes.registry import probe
from probes.types import ProbeResult, Status, Target

EMPTY_BYTES, LOW_BYTES, ROOMY_BYTES = GIB, 10 * GIB, 100 * GIB
LOW_RATIO = 0.05
FEW_INODES_RATIO = 0.01
CACHE_VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME")


@dataclass(frozen=True, slots=True)
class Space:
    """Where something is stored, and what room is left there for this user. `path` need not exist yet."""

    purpose: str
    path: str
    total_bytes: int
    free_bytes: int
    free_inodes_ratio: float | None
    read_only: bool
    filesystem: str = ""


@probe()
def disk(target: Target) -> ProbeResult:
    """Read the free space where the model cache, the model directories and temporary files lie."""
    variables = _engine_variables() or dict(os.environ)
    places = [("model cache", cache_folder(variables)), *(("models", path) for path in target.model_directories)]
    places += [("temporary files", variables.get("TMPDIR") or "/tmp")]
    try:
        mounts = parse_mounts(read_kernel_file("self/mounts", PROC))
    except Unreadable:
        mounts = {}
    return judge([space for purpose, path in places if (space := read_space(purpose, path, mounts))])


def cache_folder(variables: Mapping[str, str]) -> str:
    """Tell where huggingface_hub keeps downloaded models, by the rules of its own constants.py."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if variables.get(name):
            return variables[name]
    home = variables.get("HF_HOME") or os.path.join(
        variables.get("XDG_CACHE_HOME") or os.path.join(variables.get("HOME", "/root"), ".cache"), "huggingface"
    )
    return os.path.join(home, "hub")


def read_space(purpose: str, path: str, mounts: Mapping[str, str]) -> Space | None:
    """Read the room at a path, or at the first of its parents that exists; None for a path that is not absolute."""
    if not path.startswith("/"):
        return None
    existing = next(folder for folder in (Path(path), *Path(path).parents) if os.path.exists(folder))
    try:
        space = os.statvfs(existing)
    except OSError:
        return None
    inodes = space.f_favail / space.f_files if space.f_files else None
    return Space(
        purpose,
        path,
        space.f_blocks * space.f_frsize,
        space.f_bavail * space.f_frsize,
        None if inodes is None else round(inodes, 4),
        bool(space.f_flag & os.ST_RDONLY),
        filesystem_of(os.path.realpath(existing), mounts),
    )


def parse_mounts(text: str) -> dict[str, str]:
    """Parse /proc/self/mounts to the file system's type by mount point."""
    rows = (line.split(" ") for line in text.splitlines())
    return {row[1].replace("\\040", " "): row[2] for row in rows if len(row) >= 3}


def filesystem_of(path: str, mounts: Mapping[str, str]) -> str:
    """Tell the type of the file system that a path lies on; empty where it is not known."""
    holding = [point for point in mounts if path == point or path.startswith(point.rstrip("/") + "/")]
    return mounts[max(holding, key=len)] if holding else ""


def judge(spaces: list[Space]) -> ProbeResult:
    """Judge the room at every place; the first place is the model cache's."""
    data = {"places": [asdict(space) for space in spaces]}
    if not spaces:
        return ProbeResult("disk", "unknown", "No folder could be looked at.", "没有可查看的目录。", data=data)
    cache = next((space for space in spaces if space.purpose == "model cache"), None)
    facts = {"disk_free_gib": gib(cache.free_bytes)} if cache else {}
    findings = [finding for space in spaces for finding in _findings(space)]
    first = cache or spaces[0]
    return conclude("disk", _figures(first), findings, facts, data, first.path)


def status_of(space: Space) -> Status:
    """Judge the free room: a share alone would call 500 GiB of a 20 TiB disk low."""
    if space.free_bytes < EMPTY_BYTES:
        return "critical"
    low = space.total_bytes and space.free_bytes < LOW_RATIO * space.total_bytes and space.free_bytes < ROOMY_BYTES
    return "warning" if low or space.free_bytes < LOW_BYTES else "ok"


def _figures(space: Space) -> tuple[str, str]:
    free, total = space.free_bytes / GIB, space.total_bytes / GIB
    return (
        f"{free:.0f} GiB free of {total:.0f} GiB where the {space.purpose} lies ({space.path}).",
        f"{_zh(space.purpose)}（{space.path}）所在磁盘共 {total:.0f} GiB，空闲 {free:.0f} GiB。",
    )


def _findings(space: Space) -> Iterator[Finding]:
    status, purpose_zh = status_of(space), _zh(space.purpose)
    if space.read_only and space.purpose != "models":
        yield Finding(
            "warning",
            f"{space.path} ({space.purpose}) is on a read-only file system.",
            f"{space.path}（{purpose_zh}）位于只读文件系统。",
            "Mount a writable folder there, or set `HF_HOME` to one.",
            "挂载可写目录，或将 `HF_HOME` 设为可写目录。",
        )
    elif status != "ok" and not space.read_only:
        yield Finding(
            status,
            f"{space.path} ({space.purpose}) has only {space.free_bytes / GIB:.1f} GiB left.",
            f"{space.path}（{purpose_zh}）只剩 {space.free_bytes / GIB:.1f} GiB。",
            "Free space there, or set `HF_HOME` to a larger disk; `hf cache ls` (older: `huggingface-cli scan-cache`) lists models.",
            "清理空间，或将 `HF_HOME` 指向更大的磁盘；`hf cache ls`（旧版 `huggingface-cli scan-cache`）可列出模型。",
        )
    if space.free_inodes_ratio is not None and space.free_inodes_ratio < FEW_INODES_RATIO and not space.read_only:
        yield Finding(
            "warning",
            f"{space.path} ({space.purpose}) can take hardly any more files (inodes used up).",
            f"{space.path}（{purpose_zh}）的 inode 几乎用尽。",
            f"Remove folders with very many small files on that file system; `df -i {space.path}` shows the count.",
            f"删除该文件系统上的大量小文件；用 `df -i {space.path}` 查看数量。",
        )


def _engine_variables() -> dict[str, str]:
    """Read where a running engine of this user keeps its models; empty without one."""
    for pid in engines(read_processes()):
        try:
            return read_variables(pid, (*CACHE_VARIABLES, "TMPDIR"))
        except Unreadable:
            continue
    return {}


def _zh(purpose: str) -> str:
    return {"model cache": "模型缓存", "models": "模型目录", "temporary files": "临时文件"}.get(purpose, purpose)
