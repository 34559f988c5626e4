from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from probes.judging import GIB, Finding, conclude
from probes.reading.gpus import GpuHealth
from probes.reading.nvml import read_health, read_sm_clocks
from probes.reading.unavailable import GpuUnavailable, unavailable
from probes.registry import probe
from probes.types import ProbeResult, Target

BUSY_RATIO = 0.5
SLOWER_CLOCK_RATIO = 0.9
LOWER_LIMIT_RATIO = 0.95
WARMER_C = 15
MORE_MEMORY_RATIO = 0.05
"""Chosen, not measured: equal GPUs in one chassis differ by some percent in clock and some degrees by their place."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What sets one GPU apart from the equal ones. `slows`: it makes this GPU the one that all others wait for."""

    gpu: int
    trait: str
    text: str
    text_zh: str
    slows: bool = True


Check = Callable[[GpuHealth, list[GpuHealth]], Difference | None]


@probe()
def gpu_differences(target: Target) -> ProbeResult:
    """Compare the GPUs of one model on this host: clocks under load, power limit, NVLinks, PCIe, heat, memory, vBIOS. Says
    which one is the straggler that a tensor-parallel group waits for."""
    try:
        gpus, source = read_health()
        clocks = read_sm_clocks() if source == "NVML" and any(map(_is_working, _groups(gpus))) else {}
    except GpuUnavailable as error:
        return unavailable("gpu_differences", error)
    return judge(tuple(replace(gpu, sm_clock_mhz=clocks.get(gpu.gpu.index, gpu.sm_clock_mhz)) for gpu in gpus), source)


def judge(gpus: tuple[GpuHealth, ...], source: str = "NVML") -> ProbeResult:
    """Judge each GPU against the others of its model. GPUs that do not answer are left to gpu_health."""
    groups = [group for group in _groups(gpus) if len(group) > 1]
    names = sorted({gpu.gpu.name for gpu in gpus if not gpu.gpu.lost})
    found = [difference for group in groups for gpu in group for difference in differences(gpu, group)]
    data = {"models": names, "differences": [asdict(difference) for difference in found]}
    facts: dict[str, Any] = {"gpu_mixed_models": len(names) > 1} if names else {}
    if not groups:
        said, said_zh = "There are no two equal GPUs here to compare.", "本机没有两张同型号的 GPU 可供比较。"
        return ProbeResult("gpu_differences", "ok" if names else "unknown", said, said_zh, facts, data, source)
    stragglers = {difference.gpu for difference in found if difference.slows}
    findings = [_straggler(index, found) for index in sorted(stragglers)]
    compared = sum(len(group) for group in groups)
    facts["gpu_straggler"] = bool(stragglers)
    return conclude("gpu_differences", _calm(compared, found), findings, facts, data, source)


def differences(gpu: GpuHealth, group: list[GpuHealth]) -> list[Difference]:
    """List what sets a GPU apart from the others of its group."""
    return [found for check in CHECKS if (found := check(gpu, group))]


def _groups(gpus: Iterable[GpuHealth]) -> list[list[GpuHealth]]:
    by_name: dict[str, list[GpuHealth]] = {}
    for gpu in gpus:
        if gpu.gpu.name and not gpu.gpu.lost:
            by_name.setdefault(gpu.gpu.name, []).append(gpu)
    return list(by_name.values())


def _is_working(group: list[GpuHealth]) -> bool:
    """Tell whether all of at least two equal GPUs work at this moment."""
    return len(group) > 1 and all((one.utilization_ratio or 0) >= BUSY_RATIO and one.sm_clock_mhz for one in group)


def _known(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def _most_common(values: Iterable[Any]) -> Any:
    """The value that more than half have; None where there is none, so that of two GPUs neither is the odd one."""
    known = _known(values)
    (value, count), *_ = Counter(known).most_common(1) or [(None, 0)]
    return value if 2 * count > len(known) else None


def _clock(gpu: GpuHealth, group: list[GpuHealth]) -> Difference | None:
    """Clocks compare only while all of the group work; an idle GPU is slow by intent."""
    if not _is_working(group):
        return None
    usual = median(one.sm_clock_mhz or 0 for one in group if one is not gpu)
    if (gpu.sm_clock_mhz or 0) >= SLOWER_CLOCK_RATIO * usual:
        return None
    text = f"its SM clock under load is {gpu.sm_clock_mhz} MHz, that of the others {usual:.0f} MHz"
    return Difference(gpu.gpu.index, "clock", text, f"负载下 SM 频率 {gpu.sm_clock_mhz} MHz，其他为 {usual:.0f} MHz")


def _power_limit(gpu: GpuHealth, group: list[GpuHealth]) -> Difference | None:
    highest = max(_known(one.power_limit_w for one in group), default=0)
    if gpu.power_limit_w is None or gpu.power_limit_w >= LOWER_LIMIT_RATIO * highest:
        return None
    text = f"its power limit is {gpu.power_limit_w:.0f} W, that of others {highest:.0f} W"
    return Difference(gpu.gpu.index, "power limit", text, f"功耗上限 {gpu.power_limit_w:.0f} W，其他为 {highest:.0f} W")


def _nvlinks(gpu: GpuHealth, group: list[GpuHealth]) -> Difference | None:
    """A card without a bridge beside cards with one is wired so; it is the GPU with a part of its links that is ill."""
    most = max(_known(one.nvlinks_active for one in group), default=0)
    if not gpu.nvlinks_active or gpu.nvlinks_active == most:
        return None
    text = f"{gpu.nvlinks_active} of its NVLinks are up, {most} of others"
    return Difference(gpu.gpu.index, "NVLinks", text, f"{gpu.nvlinks_active} 条 NVLink 正常，其他为 {most} 条")


def _pcie(gpu: GpuHealth, group: list[GpuHealth]) -> Difference | None:
    """Lanes are compared; the generation falls with the load, so its maximum is."""
    for trait, slowest, unit, unit_zh in (
        ("pcie_width", gpu.pcie_width, "PCIe lanes", "条 PCIe 通道"),
        ("pcie_generation_max", gpu.pcie_generation_max, "as highest PCIe generation", "（最高 PCIe 代数）"),
    ):
        most = max(_known(getattr(one, trait) for one in group), default=0)
        is_idle = trait == "pcie_width" and not gpu.utilization_ratio
        if slowest is not None and slowest < most and not is_idle:
            text = f"it has {slowest} {unit}, others have {most}"
            return Difference(gpu.gpu.index, "PCIe", text, f"只有 {slowest} {unit_zh}，其他为 {most}")
    return None


def _heat(gpu: GpuHealth, group: list[GpuHealth]) -> Difference | None:
    others = _known(one.temperature_c for one in group if one is not gpu)
    if gpu.temperature_c is None or not others or gpu.temperature_c < median(others) + WARMER_C:
        return None
    text = f"it has {gpu.temperature_c} °C, the others {median(others):.0f} °C"
    return Difference(
        gpu.gpu.index, "heat", text, f"温度 {gpu.temperature_c} °C，其他为 {median(others):.0f} °C", False
    )


def _memory(gpu: GpuHealth, group: list[GpuHealth]) -> Difference | None:
    """The fullest GPU of a group sets how much KV cache all of them can have."""
    others = _known(one.used_bytes for one in group if one is not gpu)
    if gpu.used_bytes is None or not others:
        return None
    usual = median(others)
    if gpu.used_bytes - usual < max(GIB, MORE_MEMORY_RATIO * usual):
        return None
    text = f"{gpu.used_bytes / GIB:.1f} GiB of its memory are used, {usual / GIB:.1f} GiB of the others'"
    zh = f"已用显存 {gpu.used_bytes / GIB:.1f} GiB，其他为 {usual / GIB:.1f} GiB"
    return Difference(gpu.gpu.index, "memory", text, zh, False)


def _vbios(gpu: GpuHealth, group: list[GpuHealth]) -> Difference | None:
    usual = _most_common(one.vbios or None for one in group)
    if not usual or not gpu.vbios or gpu.vbios == usual:
        return None
    text = f"its vBIOS is {gpu.vbios}, that of the others {usual}"
    return Difference(gpu.gpu.index, "vBIOS", text, f"vBIOS 为 {gpu.vbios}，其他为 {usual}", False)


def _ecc(gpu: GpuHealth, group: list[GpuHealth]) -> Difference | None:
    usual = _most_common(one.ecc for one in group)
    if usual is None or gpu.ecc is None or gpu.ecc == usual:
        return None
    here, here_zh = ("on", "开启") if gpu.ecc else ("off", "关闭")
    return Difference(gpu.gpu.index, "ECC", f"ECC is {here} on it alone", f"只有它的 ECC 为{here_zh}", False)


CHECKS: tuple[Check, ...] = (_clock, _power_limit, _nvlinks, _pcie, _heat, _memory, _vbios, _ecc)


def _straggler(index: int, found: list[Difference]) -> Finding:
    mine = [difference for difference in found if difference.gpu == index]
    return Finding(
        "warning",
        f"GPU {index} is slower than its equals: {'; '.join(difference.text for difference in mine)}.",
        f"GPU {index} 比同型号的其他 GPU 慢：{'；'.join(difference.text_zh for difference in mine)}。",
        f"Leave GPU {index} out with `CUDA_VISIBLE_DEVICES` to see whether the others are faster without it; then mend what "
        "sets it apart. In a tensor-parallel group all wait for the slowest.",
        f"用 `CUDA_VISIBLE_DEVICES` 排除 GPU {index}，看其他 GPU 是否变快，再处理它与其他 GPU 的差异；张量并行时所有 GPU 都要等最慢的一张。",
    )


def _calm(compared: int, found: list[Difference]) -> tuple[str, str]:
    if not found:
        return f"The {compared} equal GPUs show no difference.", f"{compared} 张同型号 GPU 之间没有差异。"
    first = found[0]
    return (
        f"The {compared} equal GPUs differ in nothing that slows one; of GPU {first.gpu}: {first.text}.",
        f"{compared} 张同型号 GPU 没有会拖慢某一张的差异；GPU {first.gpu}：{first.text_zh}。",
    )
