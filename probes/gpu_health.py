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
SLOW_LINK_RATIO = 0.25
NEWEST_GENERATION = 7
BUSY_RATIO = 0.5
CAPPED_RATIO = 0.95
SW_POWER_CAP = 0x0004
PROHIBITED = 2
# What the driver recommends (NVML_GPU_RECOVERY_ACTION_*), and whether it can wait until the GPU is idle.
RECOVERY = {
    1: ("a reset of the GPU", "复位该 GPU", False),
    2: ("a reboot of the host", "重启主机", False),
    3: ("that work between GPUs is stopped", "停止 GPU 之间的任务", True),
    4: ("that it is drained and reset", "清空任务后复位", True),
    5: ("a recovery of the IMEX domain", "恢复 IMEX 域", True),
    6: ("a reset of its bus", "复位其总线", False),
    7: ("a reboot of the system", "重启系统", False),
}


@probe()
def gpu_health(target: Target) -> ProbeResult:
    """Read each GPU's temperature, power, clocks, ECC errors, row remapping, PCIe link, modes and utilisation. Says when
    the hardware is failing, hot, slowed or capped, and what the driver recommends."""
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
        "gpu_power_capped": [is_power_capped(gpu) for gpu in gpus],
        "gpu_utilization_ratio": [gpu.utilization_ratio for gpu in gpus],
    }
    known = {name: [value for value in values if value is not None] for name, values in readings.items()}
    facts = {name: max(values) for name, values in known.items() if values}
    if "gpu_ecc_uncorrected" in facts:
        facts["gpu_ecc_uncorrected"] = sum(known["gpu_ecc_uncorrected"])
    if persistence := [gpu.persistence for gpu in gpus if gpu.persistence is not None]:
        facts["gpu_persistence"] = all(persistence)
    return facts


def throttle_names(reasons: int | None) -> list[str]:
    """Name the bits of NVML's clock event reasons."""
    return [name for bit, name in THROTTLE_REASONS.items() if reasons and reasons & bit]


def is_slowed(reasons: int | None) -> bool | None:
    """Tell whether heat or the power supply holds the clocks down."""
    return None if reasons is None else bool(reasons & (HEAT | POWER_BRAKE | HARDWARE))


def is_link_degraded(gpu: GpuHealth) -> bool | None:
    """Tell whether a GPU under load gets less than its PCIe link could carry. An idle GPU may save power by it."""
    share = link_ratio(gpu)
    return None if share is None else share < 1


def link_ratio(gpu: GpuHealth) -> float | None:
    """Tell which part of its PCIe link's speed a GPU has: lanes, and generation (each doubles) when it is busy.

    Idle it is 1; the generation follows the load, so that a little work says nothing about it.
    """
    if gpu.pcie_width is None or not gpu.pcie_width_max or gpu.utilization_ratio is None:
        return None
    if not gpu.utilization_ratio:
        return 1.0
    missing = (gpu.pcie_generation_max or 0) - (gpu.pcie_generation or gpu.pcie_generation_max or 0)
    is_busy = gpu.utilization_ratio >= BUSY_RATIO
    return float(gpu.pcie_width / gpu.pcie_width_max / (2 ** min(max(0, missing), NEWEST_GENERATION) if is_busy else 1))


def is_power_capped(gpu: GpuHealth) -> bool | None:
    """Tell whether the power limit is set clearly below the one that the GPU comes with."""
    if gpu.power_limit_w is None or not gpu.power_limit_default_w:
        return None
    return gpu.power_limit_w < CAPPED_RATIO * gpu.power_limit_default_w


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
    left = gpu.margin_c
    if left is None and gpu.temperature_c is not None and gpu.slowdown_c:
        left = gpu.slowdown_c - gpu.temperature_c
    if not slowed and (left is None or left > NEAR_SLOWDOWN_C):
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


def _slow_link(gpu: GpuHealth) -> Finding | None:
    # Half the lanes is how many boards and cloud machines wire a T4, A10G or L40S; a quarter is a bad contact.
    if (link_ratio(gpu) or 1) > SLOW_LINK_RATIO:
        return None
    lanes, lanes_zh = (
        f"{gpu.pcie_width} PCIe lanes instead of {gpu.pcie_width_max}",
        f"{gpu.pcie_width} 条 PCIe 通道，应为 {gpu.pcie_width_max} 条",
    )
    if gpu.pcie_width == gpu.pcie_width_max:
        lanes = f"PCIe generation {gpu.pcie_generation} instead of {gpu.pcie_generation_max}"
        lanes_zh = f"第 {gpu.pcie_generation} 代 PCIe，应为第 {gpu.pcie_generation_max} 代"
    return Finding(
        "warning",
        f"GPU {gpu.gpu.index} works over {lanes}.",
        f"GPU {gpu.gpu.index} 只用了 {lanes_zh}。",
        "Reseat the card or its riser and check the slot; transfers to it are slow until then.",
        "重新插拔显卡或转接卡并检查插槽；在此之前与它的数据传输会很慢。",
    )


def _recovery(gpu: GpuHealth) -> Finding | None:
    if gpu.recovery_action not in RECOVERY:
        return None
    wanted, wanted_zh, can_wait = RECOVERY[gpu.recovery_action]
    return Finding(
        "warning" if can_wait else "critical",
        f"The driver recommends {wanted} for GPU {gpu.gpu.index}.",
        f"驱动建议对 GPU {gpu.gpu.index}：{wanted_zh}。",
        "Follow what `nvidia-smi -q` prints as GPU Recovery Action, and look for the Xid before it in the kernel log.",
        "按 `nvidia-smi -q` 中的 GPU Recovery Action 处理，并在内核日志中查找此前的 Xid。",
    )


def _capped(gpu: GpuHealth) -> Finding | None:
    """A lower limit is often meant; it is named where it costs speed at this moment."""
    if not is_power_capped(gpu) or not (gpu.throttle_reasons or 0) & SW_POWER_CAP:
        return None
    return Finding(
        "warning",
        f"GPU {gpu.gpu.index} is slowed by its power limit of {gpu.power_limit_w:.0f} W, set below its own "
        f"{gpu.power_limit_default_w:.0f} W.",
        f"GPU {gpu.gpu.index} 因功耗上限 {gpu.power_limit_w:.0f} W（低于出厂的 {gpu.power_limit_default_w:.0f} W）而降频。",
        f"Set it back if the lower limit is not meant: `sudo nvidia-smi -i {gpu.gpu.index} -pl {gpu.power_limit_default_w:.0f}`.",
        f"若并非有意限制，请恢复：`sudo nvidia-smi -i {gpu.gpu.index} -pl {gpu.power_limit_default_w:.0f}`。",
    )


def _prohibited(gpu: GpuHealth) -> Finding | None:
    if gpu.compute_mode != PROHIBITED:
        return None
    return Finding(
        "critical",
        f"GPU {gpu.gpu.index} is in compute mode Prohibited: no program can use CUDA on it.",
        f"GPU {gpu.gpu.index} 处于 Prohibited 计算模式：任何程序都无法在其上使用 CUDA。",
        f"Set it to shared: `sudo nvidia-smi -i {gpu.gpu.index} -c DEFAULT`.",
        f"改为共享模式：`sudo nvidia-smi -i {gpu.gpu.index} -c DEFAULT`。",
    )


CHECKS: tuple[Callable[[GpuHealth], Finding | None], ...] = (
    _lost,
    _prohibited,
    _recovery,
    _remap_failed,
    _uncorrected,
    _remap_pending,
    _hot,
    _power_brake,
    _slow_link,
    _capped,
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
    if facts.get("gpu_persistence") is False:
        parts.append(("persistence mode off", "未开启持久模式"))
    return ", ".join(part for part, _ in parts) + ".", "，".join(part for _, part in parts) + "。"
