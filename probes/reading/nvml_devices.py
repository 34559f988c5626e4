"""What is asked of one device: NVML's Get calls, each reading None where the GPU, driver or pynvml does not know it.

Sizes are bytes, clocks MHz, power W, temperatures °C. `nvml` is pynvml, or a module without functions for a lost GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import byref
from types import ModuleType
from typing import Any

from probes.reading.gpus import (
    Gpu,
    GpuHealth,
    GpuLinks,
    GpuMemory,
    GpuProcess,
    GpuProcesses,
    Memory,
    NvLink,
    Peer,
    Slice,
)

READING = ("nvmlDeviceGet", "nvmlSystemGet")
NOT_AVAILABLE_BYTES = 2**64 - 1
"""What NVML reports for a process whose memory the driver does not track (vGPU, WSL)."""
MOST_NVLINKS = 18
"""A B200 and an H100 have 18. NVML numbers up to 36; asking on costs time for links that no GPU has."""
LINK_ERRORS = (0, 1, 2, 3)
"""NVML_NVLINK_ERROR_DL_REPLAY, _RECOVERY, _CRC_FLIT, _CRC_DATA."""
RECOVERY = 1
P2P_READ = 0
"""NVML_P2P_CAPS_INDEX_READ; pynvml 13 has it as a tuple by mistake."""
TOPOLOGY = {0: "board", 10: "switch", 20: "switches", 30: "host bridge", 40: "NUMA node", 50: "across sockets"}
"""NVML_TOPOLOGY_*: what the PCIe paths of two GPUs have in common."""


class GpuLost(Exception):
    """A GPU stopped answering while it was read. The message is NVML's."""


def ask(nvml: ModuleType, function: str, *arguments: Any) -> Any:
    """Return what NVML says, or None where this GPU, driver or pynvml does not know it.

    Raises GpuLost, and ValueError for a function that does not read.
    """
    if not function.startswith(READING):
        raise ValueError(f"{function} is not a call that reads")
    call = getattr(nvml, function, None)
    if call is None:
        return None
    try:
        return call(*arguments)
    except nvml.NVMLError as error:
        if error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED):
            raise GpuLost(str(error)) from error
        return None


def identity(nvml: ModuleType, handle: Any, index: int) -> Gpu:
    pci = ask(nvml, "nvmlDeviceGetPciInfo", handle)
    bus = pci.busId if pci else ""
    return Gpu(
        index,
        ask(nvml, "nvmlDeviceGetName", handle) or "",
        ask(nvml, "nvmlDeviceGetUUID", handle) or "",
        bus.decode() if isinstance(bus, bytes) else bus,
    )


def _memory_of(nvml: ModuleType, handle: Any) -> Memory:
    # The second form leaves the driver's own share out of `used`, as nvidia-smi does; drivers before 510 lack it.
    info = ask(nvml, "nvmlDeviceGetMemoryInfo", handle, getattr(nvml, "nvmlMemory_v2", None))
    if info is None:
        info = ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
    if info is None:
        return Memory(None, None, None)
    return Memory(info.total, info.used, info.free, getattr(info, "reserved", None))


def memory(nvml: ModuleType, handle: Any, gpu: Gpu) -> GpuMemory:
    capability = ask(nvml, "nvmlDeviceGetCudaComputeCapability", handle)
    mig = ask(nvml, "nvmlDeviceGetMigMode", handle)
    is_split = bool(mig and mig[0])
    slices = tuple(_slice(nvml, handle) for handle in _slices(nvml, handle)) if is_split else ()
    number = float(f"{capability[0]}.{capability[1]}") if capability else None
    return GpuMemory(gpu, _memory_of(nvml, handle), number, is_split, slices)


def _slices(nvml: ModuleType, handle: Any) -> Iterator[Any]:
    for place in range(ask(nvml, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        found = ask(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", handle, place)
        if found is not None:
            yield found


def _slice_count(nvml: ModuleType, handle: Any) -> int | None:
    if ask(nvml, "nvmlDeviceGetMaxMigDeviceCount", handle) is None:
        return None
    return sum(1 for _ in _slices(nvml, handle))


def _slice(nvml: ModuleType, handle: Any) -> Slice:
    name, uuid = ask(nvml, "nvmlDeviceGetName", handle), ask(nvml, "nvmlDeviceGetUUID", handle)
    return Slice(name or "", uuid or "", _memory_of(nvml, handle))


def processes(nvml: ModuleType, handle: Any, gpu: Gpu) -> GpuProcesses:
    mig = ask(nvml, "nvmlDeviceGetMigMode", handle)
    handles = [handle, *_slices(nvml, handle)] if mig and mig[0] else [handle]
    found: dict[tuple[int, int, str], GpuProcess] = {}
    known = False
    for kind in ("Compute", "Graphics"):
        for place in handles:
            listed = ask(nvml, f"nvmlDeviceGet{kind}RunningProcesses_v3", place)
            if listed is None:  # drivers before 510
                listed = ask(nvml, f"nvmlDeviceGet{kind}RunningProcesses_v2", place)
            known = known or listed is not None
            for item in listed or ():
                slice_id = getattr(item, "gpuInstanceId", 0)
                process = GpuProcess(item.pid, _process_bytes(item), kind.lower())
                found.setdefault((item.pid, slice_id, kind), process)
    return GpuProcesses(gpu, _memory_of(nvml, handle), tuple(found.values()) if known else None)


def _process_bytes(item: Any) -> int | None:
    return None if item.usedGpuMemory in (None, NOT_AVAILABLE_BYTES) else int(item.usedGpuMemory)


def health(nvml: ModuleType, handle: Any, gpu: Gpu) -> GpuHealth:
    def of(function: str, *names: str) -> Any:
        return ask(nvml, function, handle, *(getattr(nvml, name, None) for name in names))

    use = of("nvmlDeviceGetUtilizationRates")
    reasons = of("nvmlDeviceGetCurrentClocksEventReasons")
    if reasons is None:  # the name before driver 535
        reasons = of("nvmlDeviceGetCurrentClocksThrottleReasons")
    ecc = of("nvmlDeviceGetEccMode")
    remapped = of("nvmlDeviceGetRemappedRows")
    retirement = of("nvmlDeviceGetRetiredPagesPendingStatus")
    persistence = of("nvmlDeviceGetPersistenceMode")
    bad, mended = "NVML_MEMORY_ERROR_TYPE_UNCORRECTED", "NVML_MEMORY_ERROR_TYPE_CORRECTED"
    return GpuHealth(
        gpu,
        temperature_c=of("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU"),
        slowdown_c=of("nvmlDeviceGetTemperatureThreshold", "NVML_TEMPERATURE_THRESHOLD_SLOWDOWN"),
        shutdown_c=of("nvmlDeviceGetTemperatureThreshold", "NVML_TEMPERATURE_THRESHOLD_SHUTDOWN"),
        power_w=_thousandth(of("nvmlDeviceGetPowerUsage")),
        power_limit_w=_thousandth(of("nvmlDeviceGetEnforcedPowerLimit")),
        sm_clock_mhz=of("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),
        max_sm_clock_mhz=of("nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_SM"),
        throttle_reasons=reasons,
        performance_state=of("nvmlDeviceGetPerformanceState"),
        utilization_ratio=use.gpu / 100 if use else None,
        memory_utilization_ratio=use.memory / 100 if use else None,
        persistence=None if persistence is None else bool(persistence),
        ecc=bool(ecc[0]) if ecc else None,
        ecc_corrected_volatile=of("nvmlDeviceGetTotalEccErrors", mended, "NVML_VOLATILE_ECC"),
        ecc_uncorrected_volatile=of("nvmlDeviceGetTotalEccErrors", bad, "NVML_VOLATILE_ECC"),
        ecc_uncorrected_aggregate=of("nvmlDeviceGetTotalEccErrors", bad, "NVML_AGGREGATE_ECC"),
        remap_pending=_either(remapped[2] if remapped else None, retirement),
        remap_failed=bool(remapped[3]) if remapped else None,
        pcie_generation=of("nvmlDeviceGetCurrPcieLinkGeneration"),
        pcie_generation_max=of("nvmlDeviceGetMaxPcieLinkGeneration"),
        pcie_width=of("nvmlDeviceGetCurrPcieLinkWidth"),
        pcie_width_max=of("nvmlDeviceGetMaxPcieLinkWidth"),
        power_limit_default_w=_thousandth(of("nvmlDeviceGetPowerManagementDefaultLimit")),
        compute_mode=of("nvmlDeviceGetComputeMode"),
        recovery_action=_field(nvml, handle, "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION"),
        remapped_uncorrected=remapped[1] if remapped else None,
        vbios=of("nvmlDeviceGetVbiosVersion") or "",
        margin_c=of("nvmlDeviceGetMarginTemperature"),
        used_bytes=_memory_of(nvml, handle).used_bytes,
        nvlinks_active=_active(_nvlinks(nvml, handle, counters=False)),
    )


def _field(nvml: ModuleType, handle: Any, name: str, scope: int = 0) -> int | None:
    """Read one of NVML's field values; None for one that pynvml, driver or GPU does not know."""
    field = getattr(nvml, name, None)
    values = None if field is None else ask(nvml, "nvmlDeviceGetFieldValues", handle, [(field, scope)])
    return int(values[0].value.uiVal) if values and values[0].nvmlReturn == 0 else None


def _thousandth(value: int | None) -> float | None:
    return None if value is None else value / 1000


def _either(first: int | None, second: int | None) -> bool | None:
    """Row remapping (Ampere and later) or page retirement (earlier) waits; None when neither is known."""
    return None if first is None and second is None else bool(first or second)


def links(nvml: ModuleType, handle: Any, gpu: Gpu) -> GpuLinks:
    """Read a GPU's NVLinks, the fabric that they hang on, how it reaches the GPUs after it, and its MIG mode."""
    mig = ask(nvml, "nvmlDeviceGetMigMode", handle)
    fabric = _fabric(nvml, handle)
    return GpuLinks(
        gpu,
        _nvlinks(nvml, handle),
        fabric.state if fabric else None,
        fabric.status if fabric else None,
        tuple(_peers(nvml, handle, gpu.index)),
        bool(mig[0]) if mig else None,
        bool(mig[1]) if mig else None,
        _slice_count(nvml, handle) if mig and mig[0] else None,
    )


def _nvlinks(nvml: ModuleType, handle: Any, counters: bool = True) -> tuple[NvLink, ...] | None:
    """Read the links that this GPU has; None where it has none or the driver does not tell."""
    found = []
    for number in range(MOST_NVLINKS):
        state = ask(nvml, "nvmlDeviceGetNvLinkState", handle, number)
        if state is None:
            continue
        errors = _link_errors(nvml, handle, number) if counters else ()
        found.append(NvLink(number, bool(state), *errors))
    return tuple(found) or None


def _link_errors(nvml: ModuleType, handle: Any, number: int) -> list[int | None]:
    """Read a link's replays, recoveries and CRC errors; of NVLink 5 (Blackwell) only the recoveries are told."""
    errors = [ask(nvml, "nvmlDeviceGetNvLinkErrorCounter", handle, number, kind) for kind in LINK_ERRORS]
    if errors[RECOVERY] is None:
        errors[RECOVERY] = _field(nvml, handle, "NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_EVENTS", number)
    return errors


def _active(found: tuple[NvLink, ...] | None) -> int | None:
    return None if found is None else sum(link.active for link in found)


def _fabric(nvml: ModuleType, handle: Any) -> Any:
    form = getattr(nvml, "c_nvmlGpuFabricInfo_t", None)
    if form is None:
        return None
    info = form()
    return None if ask(nvml, "nvmlDeviceGetGpuFabricInfo", handle, byref(info)) is None else info


def _peers(nvml: ModuleType, handle: Any, index: int) -> Iterator[Peer]:
    """Tell how this GPU reaches each GPU after it; a peer that is lost is passed over."""
    for number in range(index + 1, ask(nvml, "nvmlDeviceGetCount") or 0):
        try:
            other = ask(nvml, "nvmlDeviceGetHandleByIndex", number)
            if other is None:
                continue
            level = ask(nvml, "nvmlDeviceGetTopologyCommonAncestor", handle, other)
            status = ask(nvml, "nvmlDeviceGetP2PStatus", handle, other, P2P_READ)
        except GpuLost:
            continue
        yield Peer(number, TOPOLOGY.get(level, ""), None if status is None else status == 0)
