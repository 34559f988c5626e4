from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from probes.judging import Finding, conclude
from probes.reading.gpus import GpuLinks
from probes.reading.nvml import read_links
from probes.reading.unavailable import GpuUnavailable, unavailable
from probes.registry import probe
from probes.types import ProbeResult, Target

# NVML_GPU_FABRIC_STATE_*
FABRIC_STATES = {0: "not supported", 1: "not started", 2: "in progress", 3: "completed"}
FABRIC_WAITS = (1, 2)
COMPLETED = 3
SOCKETS = "across sockets"


@probe()
def gpu_links(target: Target) -> ProbeResult:
    """Read the NVLinks of each GPU and their errors, the NVSwitch fabric, the PCIe paths between GPUs and MIG mode. Says
    when a link is down, the fabric is not set up, or a GPU is split into nothing."""
    try:
        gpus, source = read_links()
    except GpuUnavailable as error:
        return unavailable("gpu_links", error)
    return judge(gpus, source)


def judge(gpus: tuple[GpuLinks, ...], source: str = "NVML") -> ProbeResult:
    """Judge the links of every GPU. A link counts as down only where an equal GPU of this host has it up: not every
    board wires all of them, and cards in PCIe slots have none without a bridge."""
    data = {"gpus": [{**asdict(gpu), "fabric": FABRIC_STATES.get(gpu.fabric_state or 0, "")} for gpu in gpus]}
    answering = tuple(gpu for gpu in gpus if not gpu.gpu.lost)
    if not answering:
        said, said_zh = "No GPU answers, so its links are not known.", "没有 GPU 响应，互联状态未知。"
        return ProbeResult("gpu_links", "unknown", said, said_zh, {}, data, source)
    findings = [
        _fabric(answering),
        _down(answering),
        *(check(gpu) for gpu in answering for check in (_empty, _mode_waits, _errors)),
    ]
    return conclude("gpu_links", _calm(answering), findings, facts_of(answering), data, source)


def facts_of(gpus: tuple[GpuLinks, ...]) -> dict[str, Any]:
    """Gather the facts of the GPUs that answer; what no GPU tells is left out."""
    facts: dict[str, Any] = {}
    active = [count for gpu in gpus if (count := active_links(gpu)) is not None]
    if active:
        facts["gpu_nvlink_active"] = min(active)
        facts["gpu_nvlink_inactive"] = sum(missing_links(gpus).values())
    errors = [link.recoveries for gpu in gpus for link in gpu.links or () if link.recoveries is not None]
    if errors:
        facts["gpu_nvlink_errors"] = sum(errors)
    fabrics = [gpu for gpu in gpus if gpu.fabric_state]
    if fabrics:
        facts["gpu_fabric_ready"] = all(gpu.fabric_state == COMPLETED and not gpu.fabric_status for gpu in fabrics)
    paths = [peer.path for gpu in gpus for peer in gpu.peers if peer.path]
    if paths:
        facts["gpu_across_sockets"] = SOCKETS in paths
    return facts


def active_links(gpu: GpuLinks) -> int | None:
    """Count the NVLinks that are up; None for a GPU without any."""
    return None if gpu.links is None else sum(link.active for link in gpu.links)


def missing_links(gpus: tuple[GpuLinks, ...]) -> Mapping[int, int]:
    """Count, by GPU, the links that are down there and up on an equal GPU of this host.

    A card without any link up counts on an NVSwitch board alone: in PCIe slots only some cards may have a bridge.
    """
    most: dict[str, int] = {}
    for gpu in gpus:
        most[gpu.gpu.name] = max(most.get(gpu.gpu.name, 0), active_links(gpu) or 0)
    missing = {}
    for gpu in gpus:
        active = active_links(gpu)
        is_wired = bool(active) or bool(gpu.fabric_state) or "SXM" in gpu.gpu.name
        if active is not None and is_wired and active < most[gpu.gpu.name]:
            missing[gpu.gpu.index] = most[gpu.gpu.name] - active
    return missing


def _fabric(gpus: tuple[GpuLinks, ...]) -> Finding | None:
    """A single GPU may be one of a switch board that was given away alone, with nothing to wait for: a warning."""
    waiting = [gpu for gpu in gpus if gpu.fabric_state in FABRIC_WAITS]
    failed = [gpu for gpu in gpus if gpu.fabric_state == COMPLETED and gpu.fabric_status]
    if not waiting and not failed:
        return None
    state, state_zh = ("not set up", "尚未建立") if waiting else ("set up with an error", "建立时出错")
    numbers = ", ".join(str(gpu.gpu.index) for gpu in waiting or failed)
    return Finding(
        "critical" if len(gpus) > 1 else "warning",
        f"The NVSwitch fabric is {state} for GPU {numbers}.",
        f"GPU {numbers} 的 NVSwitch 互联（fabric）{state_zh}。",
        "Start the fabric manager, of the driver's own version: `systemctl status nvidia-fabricmanager`; until then CUDA "
        "fails with error 802.",
        "启动与驱动版本一致的 fabric manager：`systemctl status nvidia-fabricmanager`；在此之前 CUDA 会报 802 错误。",
    )


def _down(gpus: tuple[GpuLinks, ...]) -> Finding | None:
    missing = missing_links(gpus)
    if not missing:
        return None
    active = {gpu.gpu.index: active_links(gpu) or 0 for gpu in gpus}
    worst = max(missing, key=lambda index: missing[index])
    whole = active[worst] + missing[worst]
    rest = ", ".join(str(index) for index in missing if index != worst)
    also, also_zh = (f" (also GPU {rest})", f"（另有 GPU {rest}）") if rest else ("", "")
    return Finding(
        "critical" if active[worst] == 0 else "warning",
        f"GPU {worst} has {active[worst]} NVLinks up where its equals have {whole}{also}.",
        f"GPU {worst} 只有 {active[worst]} 条 NVLink 正常，同型号 GPU 有 {whole} 条{also_zh}。",
        "Look at `nvidia-smi nvlink -s` and at Xid 74 or 144 to 150 in the kernel log; reset all GPUs together or reboot, "
        "and have the link checked if it stays down.",
        "查看 `nvidia-smi nvlink -s` 及内核日志中的 Xid 74 或 144 至 150；整体复位所有 GPU 或重启，若仍断开请检修。",
    )


def _empty(gpu: GpuLinks) -> Finding | None:
    if not gpu.mig or gpu.slices != 0:
        return None
    return Finding(
        "critical",
        f"GPU {gpu.gpu.index} is in MIG mode without a slice: CUDA finds no device on it.",
        f"GPU {gpu.gpu.index} 处于 MIG 模式但没有任何切片：CUDA 在其上找不到设备。",
        f"Make slices (`sudo nvidia-smi mig -i {gpu.gpu.index} -cgi PROFILE -C`), or leave MIG mode: "
        f"`sudo nvidia-smi -i {gpu.gpu.index} -mig 0`.",
        f"创建切片（`sudo nvidia-smi mig -i {gpu.gpu.index} -cgi PROFILE -C`），或退出 MIG 模式："
        f"`sudo nvidia-smi -i {gpu.gpu.index} -mig 0`。",
    )


def _mode_waits(gpu: GpuLinks) -> Finding | None:
    if gpu.mig is None or gpu.mig == gpu.mig_after_reset:
        return None
    wanted, wanted_zh = ("on", "开启") if gpu.mig_after_reset else ("off", "关闭")
    return Finding(
        "warning",
        f"MIG mode of GPU {gpu.gpu.index} goes {wanted} at the next reset; it is not yet.",
        f"GPU {gpu.gpu.index} 的 MIG 模式要到下次复位才会{wanted_zh}，目前尚未生效。",
        f"Stop what runs on the GPU and reset it: `sudo nvidia-smi --gpu-reset -i {gpu.gpu.index}`.",
        f"停止该 GPU 上的任务并复位：`sudo nvidia-smi --gpu-reset -i {gpu.gpu.index}`。",
    )


def _errors(gpu: GpuLinks) -> Finding | None:
    """A recovery is a link that had to be trained again under traffic; replays and CRC errors are mended unnoticed."""
    hit = {link.number: link.recoveries for link in gpu.links or () if link.recoveries}
    if not hit:
        return None
    numbers, total = ", ".join(map(str, hit)), sum(hit.values())
    return Finding(
        "warning",
        f"NVLink {numbers} of GPU {gpu.gpu.index} had to recover {total} times since the driver was loaded.",
        f"GPU {gpu.gpu.index} 的 NVLink {numbers} 自驱动加载以来恢复了 {total} 次。",
        f"Run `nvidia-smi nvlink -e -i {gpu.gpu.index}` twice under load; if the recoveries grow, have the bridge, cable or "
        "board checked.",
        f"在负载下运行两次 `nvidia-smi nvlink -e -i {gpu.gpu.index}`；若恢复次数增长，请检查桥接器、线缆或基板。",
    )


def _calm(gpus: tuple[GpuLinks, ...]) -> tuple[str, str]:
    facts = facts_of(gpus)
    noun = "GPU" if len(gpus) == 1 else "GPUs"
    parts = [(f"{len(gpus)} {noun}", f"{len(gpus)} 张 GPU")]
    if least := facts.get("gpu_nvlink_active"):
        parts.append((f"at least {least} NVLinks up on each", f"每张至少 {least} 条 NVLink 正常"))
    elif any(active_links(gpu) for gpu in gpus):
        parts.append(("NVLink up between some of them", "部分 GPU 之间有 NVLink"))
    elif any(gpu.links for gpu in gpus):
        parts.append(("no NVLink up", "没有已启用的 NVLink"))
    else:
        parts.append(("no NVLink told of", "驱动未报告 NVLink"))
    if facts.get("gpu_fabric_ready"):
        parts.append(("NVSwitch fabric set up", "NVSwitch 互联已建立"))
    if facts.get("gpu_across_sockets"):
        parts.append(("PCIe paths between some cross CPU sockets", "部分 GPU 间的 PCIe 路径跨 CPU 插槽"))
    slices = sum(gpu.slices or 0 for gpu in gpus)
    if slices:
        parts.append((f"{slices} MIG slices", f"{slices} 个 MIG 切片"))
    return ", ".join(part for part, _ in parts) + ".", "，".join(part for _, part in parts) + "。"
