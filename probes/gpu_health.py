from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from probes.judging import Finding, conclude
from probes.reading.gpus import GpuHealth
from probes.reading.nvml import read_health
from probes.reading.unavailable import GpuUnavailable, unavailable
from probes.registry import probe
from probes.types import ProbeResult, Target

# Bits of NVML's nvmlClocksEventReason*.
THROTTLE_REASONS = {
    0x0001: "GpuIdle",
    0x0002: "ApplicationsClocksSetting",
    0x0004: "SwPowerCap",
    0x0008: "HwSlowdown",
    0x0010: "SyncBoost",
    0x0020: "SwThermalSlowdown",
    0x0040: "HwThermalSlowdown",
    0x0080: "HwPowerBrakeSlowdown",
    0x0100: "DisplayClockSetting",
}
HEAT = 0x0020 | 0x0040
POWER_BRAKE = 0x0080
HARDWARE = 0x0008
"""SwPowerCap is left out of these: at full load, running at the power limit is what a healthy GPU does."""
NEAR_SLOWDOWN_C = 3
NARROW_LINK = 4


@probe()
def gpu_health(target: Target) -> ProbeResult:
    """Read each GPU's temperature, power, clocks, ECC errors, row remapping, PCIe link and utilisation. Says when the
    hardware is failing, hot, or slowed."""
    try:
        gpus, source = read_health()
    except GpuUnavailable as error:
        return unavailable("gpu_health", error)
    return judge(gpus, source)


def judge(gpus: tuple[GpuHealth, ...], source: str = "NVML") -> ProbeResult:
    """Judge the readings of every GPU."""
    findings = [finding for gpu in gpus for check in CHECKS if (finding := check(gpu))]
    data = {"gpus": [{**asdict(gpu), "throttle": throttle_names(gpu.throttle_reasons)} for gpu in gpus]}
    facts = facts_of(gpus)
    if not facts and not findings:
        said, said_zh = "The driver tells nothing about the health of its GPUs.", "驱动没有报告任何 GPU 健康信息。"
        return ProbeResult("gpu_health", "unknown", said, said_zh, facts, data, source)
    return conclude("gpu_health", _calm(gpus, facts), findings, facts, data, source)


def facts_of(gpus: tuple[GpuHealth, ...]) -> dict[str, Any]:
    """Gather the facts over all GPUs; one that no GPU told is left out."""
    readings: dict[str, list[Any]] = {
        "gpu_temperature_c": [gpu.temperature_c for gpu in gpus],
        "gpu_throttled": [is_slowed(gpu.throttle_reasons) for gpu in gpus],
        "gpu_ecc_uncorrected": [gpu.ecc_uncorrected_volatile for gpu in gpus],
        "gpu_remap_pending": [gpu.remap_pending for gpu in gpus],
        "gpu_pcie_degraded": [is_link_degraded(gpu) for gpu in gpus],
        "gpu_utilization_ratio": [gpu.utilization_ratio for gpu in gpus],
    }
    known = {name: [value for value in values if value is not None] for name, values in readings.items()}
    facts = {name: max(values) for name, values in known.items() if values}
    if "gpu_ecc_uncorrected" in facts:
        facts["gpu_ecc_uncorrected"] = sum(known["gpu_ecc_uncorrected"])
    return facts


def throttle_names(reasons: int | None) -> list[str]:
    """Name the bits of NVML's clock event reasons."""
    return [name for bit, name in THROTTLE_REASONS.items() if reasons and reasons & bit]


def is_slowed(reasons: int | None) -> bool | None:
    """Tell whether heat or the power supply holds the clocks down."""
    return None if reasons is None else bool(reasons & (HEAT | POWER_BRAKE | HARDWARE))


def is_link_degraded(gpu: GpuHealth) -> bool | None:
    """Tell whether a GPU under load runs with fewer PCIe lanes than it could. An idle GPU may save power by it."""
    if gpu.pcie_width is None or gpu.pcie_width_max is None or gpu.utilization_ratio is None:
        return None
    return gpu.utilization_ratio > 0 and gpu.pcie_width < gpu.pcie_width_max


def _lost(gpu: GpuHealth) -> Finding | None:
    if not gpu.gpu.lost:
        return None
    return Finding(
        "critical",
        f"GPU {gpu.gpu.index} does not answer ({gpu.gpu.lost}).",
        f"GPU {gpu.gpu.index} 不再响应（{gpu.gpu.lost}）。",
        "Look for Xid lines in the kernel log, then reboot the host; if it returns, have the card and its power checked.",
        "在内核日志中查找 Xid，然后重启主机；若再次出现，请检查该卡及其供电。",
    )


def _remap_failed(gpu: GpuHealth) -> Finding | None:
    if not gpu.remap_failed:
        return None
    return Finding(
        "critical",
        f"GPU {gpu.gpu.index} could not remap a bad memory row.",
        f"GPU {gpu.gpu.index} 有显存坏行重映射失败。",
        "Take this GPU out of service and run the vendor's field diagnosis: a failed row remap is grounds for replacement.",
        "停用该 GPU 并运行厂商的现场诊断：行重映射失败属于更换条件。",
    )


def _uncorrected(gpu: GpuHealth) -> Finding | None:
    if not gpu.ecc_uncorrected_volatile:
        return None
    return Finding(
        "critical",
        f"GPU {gpu.gpu.index} has {gpu.ecc_uncorrected_volatile} uncorrected ECC errors since the driver was loaded.",
        f"GPU {gpu.gpu.index} 自驱动加载以来有 {gpu.ecc_uncorrected_volatile} 次不可纠正的 ECC 错误。",
        "Drain this GPU and reset it (`sudo nvidia-smi --gpu-reset -i N`) or reboot; replace it if the count returns.",
        "清空该 GPU 上的任务后复位（`sudo nvidia-smi --gpu-reset -i N`）或重启；若计数再次出现，请更换。",
    )


def _remap_pending(gpu: GpuHealth) -> Finding | None:
    if not gpu.remap_pending:
        return None
    return Finding(
        "warning",
        f"GPU {gpu.gpu.index} waits for a reset to take a bad memory row out of use.",
        f"GPU {gpu.gpu.index} 需要复位才能隔离坏的显存行。",
        "Reset the GPU when it is idle (`sudo nvidia-smi --gpu-reset -i N`) or reboot.",
        "空闲时复位该 GPU（`sudo nvidia-smi --gpu-reset -i N`）或重启。",
    )


def _hot(gpu: GpuHealth) -> Finding | None:
    slowed = bool(gpu.throttle_reasons and gpu.throttle_reasons & HEAT)
    near = bool(gpu.temperature_c and gpu.slowdown_c and gpu.temperature_c >= gpu.slowdown_c - NEAR_SLOWDOWN_C)
    if not slowed and not near:
        return None
    limit = f", slows at {gpu.slowdown_c} °C" if gpu.slowdown_c else ""
    limit_zh = f"，{gpu.slowdown_c} °C 起降频" if gpu.slowdown_c else ""
    degrees = "?" if gpu.temperature_c is None else f"{gpu.temperature_c} °C"
    state, state_zh = (
        ("is slowed by heat", "因过热降频") if slowed else ("is close to slowing for heat", "接近过热降频")
    )
    return Finding(
        "warning",
        f"GPU {gpu.gpu.index} {state} ({degrees}{limit}).",
        f"GPU {gpu.gpu.index} {state_zh}（{degrees}{limit_zh}）。",
        "Check fans, air flow and inlet temperature; a lower power limit (`sudo nvidia-smi -pl WATTS`) helps meanwhile.",
        "检查风扇、风道和进风温度；可先降低功耗上限（`sudo nvidia-smi -pl 瓦数`）。",
    )


def _power_brake(gpu: GpuHealth) -> Finding | None:
    reasons = gpu.throttle_reasons or 0
    if not reasons & POWER_BRAKE and not (reasons & HARDWARE and not reasons & HEAT):
        return None
    return Finding(
        "warning",
        f"GPU {gpu.gpu.index} is slowed by its hardware ({', '.join(throttle_names(reasons))}).",
        f"GPU {gpu.gpu.index} 被硬件降频（{', '.join(throttle_names(reasons))}）。",
        "Check the power supplies and the power cables of the card: the external power brake is on.",
        "检查电源及显卡供电线：外部功率制动已触发。",
    )


def _narrow_link(gpu: GpuHealth) -> Finding | None:
    # Half the lanes is how many boards and cloud machines wire a T4, A10G or L40S; a quarter is a bad contact.
    if not is_link_degraded(gpu) or (gpu.pcie_width or 0) * NARROW_LINK > (gpu.pcie_width_max or 0):
        return None
    return Finding(
        "warning",
        f"GPU {gpu.gpu.index} works over {gpu.pcie_width} PCIe lanes instead of {gpu.pcie_width_max}.",
        f"GPU {gpu.gpu.index} 只用了 {gpu.pcie_width} 条 PCIe 通道，应为 {gpu.pcie_width_max} 条。",
        "Reseat the card or its riser and check the slot; transfers to it are slow until then.",
        "重新插拔显卡或转接卡并检查插槽；在此之前与它的数据传输会很慢。",
    )


CHECKS: tuple[Callable[[GpuHealth], Finding | None], ...] = (
    _lost,
    _remap_failed,
    _uncorrected,
    _remap_pending,
    _hot,
    _power_brake,
    _narrow_link,
)


def _calm(gpus: tuple[GpuHealth, ...], facts: dict[str, Any]) -> tuple[str, str]:
    noun = "GPU" if len(gpus) == 1 else "GPUs"
    parts = [(f"{len(gpus)} {noun} without a fault", f"{len(gpus)} 张 GPU 未见故障")]
    if "gpu_temperature_c" in facts:
        parts.append((f"at most {facts['gpu_temperature_c']} °C", f"最高 {facts['gpu_temperature_c']} °C"))
    if "gpu_utilization_ratio" in facts:
        busiest = f"{facts['gpu_utilization_ratio']:.0%}"
        parts.append((f"busiest {busiest}", f"最高利用率 {busiest}"))
    if "gpu_ecc_uncorrected" not in facts:
        parts.append(("ECC errors not told", "不报告 ECC 错误"))
    return ", ".join(part for part, _ in parts) + ".", "，".join(part for _, part in parts) + "。"
