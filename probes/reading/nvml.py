"""The home of pynvml (nvidia-ml-py): Init, Shutdown and Get calls only, and nvidia-smi where the library cannot load.

A reading that a GPU or a driver does not support is None. Sizes are bytes, clocks MHz, power W, temperatures °C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import ModuleType
from typing import Any, TypeVar

from probes.reading.gpus import Driver, Gpu, GpuHealth, GpuMemory, GpuProcess, GpuProcesses, Memory, Slice
from probes.reading.unavailable import GpuUnavailable

T = TypeVar("T")

NOT_AVAILABLE_BYTES = 2**64 - 1
"""What NVML reports for a process whose memory the driver does not track (vGPU, WSL)."""


class GpuLost(Exception):
    """A GPU stopped answering while it was read. The message is NVML's."""


def read_memory() -> tuple[tuple[GpuMemory, ...], str]:
    """Read every GPU's memory, and say by what it was read. Raises GpuUnavailable."""
    from probes.reading import nvidia_smi

    return _by_nvml_or_smi(_memory, nvidia_smi.read_memory)


def read_processes() -> tuple[tuple[GpuProcesses, ...], str]:
    """Read who holds memory of every GPU, and say by what it was read. Raises GpuUnavailable."""
    from probes.reading import nvidia_smi

    return _by_nvml_or_smi(_processes, nvidia_smi.read_processes)


def read_health() -> tuple[tuple[GpuHealth, ...], str]:
    """Read every GPU's health, and say by what it was read. Raises GpuUnavailable."""
    from probes.reading import nvidia_smi

    return _by_nvml_or_smi(_health, nvidia_smi.read_health)


def read_driver() -> Driver:
    """Read the driver's version and its CUDA. Raises GpuUnavailable."""
    with _session() as nvml:
        version = _system(nvml, "nvmlSystemGetDriverVersion") or ""
        cuda = _system(nvml, "nvmlSystemGetCudaDriverVersion")
        # NVML counts 1000 for a major and 10 for a minor version: 12080 is CUDA 12.8.
        return Driver(version, None if cuda is None else round(cuda // 1000 + cuda % 1000 / 100, 1))


def _by_nvml_or_smi(
    read_one: Callable[[ModuleType, Any, Gpu], T], read_smi: Callable[[], tuple[T, ...]]
) -> tuple[tuple[T, ...], str]:
    try:
        return _read_all(read_one), "NVML"
    except GpuUnavailable as error:
        if error.reason != "library-missing":
            raise
        rows = read_smi()
        if not rows:
            raise
        return rows, "nvidia-smi"


def _read_all(read_one: Callable[[ModuleType, Any, Gpu], T]) -> tuple[T, ...]:
    with _session() as nvml:
        return tuple(_read_one(nvml, index, read_one) for index in range(nvml.nvmlDeviceGetCount()))


def _read_one(nvml: ModuleType, index: int, read_one: Callable[[ModuleType, Any, Gpu], T]) -> T:
    gpu = Gpu(index)
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        gpu = _identity(nvml, handle, index)
        return read_one(nvml, handle, gpu)
    except nvml.NVMLError as error:
        return read_one(SILENT, None, replace(gpu, lost=str(error) if error.value in _lost_codes(nvml) else ""))
    except GpuLost as error:
        return read_one(SILENT, None, replace(gpu, lost=str(error)))


SILENT = ModuleType("silent")
"""Stands in for pynvml where a GPU does not answer: it has no functions, so that every reading is None."""


def _lost_codes(nvml: ModuleType) -> tuple[int, ...]:
    """What asking for a GPU's handle ends with when it is off the bus or hangs, rather than not ours to see."""
    return (
        nvml.NVML_ERROR_GPU_IS_LOST,
        nvml.NVML_ERROR_RESET_REQUIRED,
        nvml.NVML_ERROR_UNKNOWN,
        nvml.NVML_ERROR_TIMEOUT,
    )


@contextmanager
def _session() -> Iterator[ModuleType]:
    """Hold NVML open. Calls nest and may come from several threads: NVML counts them. Raises GpuUnavailable."""
    try:
        import pynvml
    except ImportError as error:
        raise GpuUnavailable("library-missing") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise GpuUnavailable(_reason(pynvml, error.value), str(error)) from error
    try:
        yield pynvml
    except pynvml.NVMLError as error:
        raise GpuUnavailable(_reason(pynvml, error.value), str(error)) from error
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _reason(nvml: ModuleType, code: int) -> str:
    reasons = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "library-missing",
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: "driver-not-loaded",
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "version-mismatch",
        nvml.NVML_ERROR_NO_PERMISSION: "no-permission",
        nvml.NVML_ERROR_GPU_IS_LOST: "gpu-lost",
        nvml.NVML_ERROR_GPU_NOT_FOUND: "no-gpu",
    }
    return reasons.get(code, "other")


def _system(nvml: ModuleType, function: str) -> Any:
    try:
        return getattr(nvml, function)()
    except nvml.NVMLError:
        return None


def _ask(nvml: ModuleType, function: str, *arguments: Any) -> Any:
    """Return what NVML says, or None where this GPU, driver or pynvml does not know it. Raises GpuLost."""
    call = getattr(nvml, function, None)
    if call is None:
        return None
    try:
        return call(*arguments)
    except nvml.NVMLError as error:
        if error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED):
            raise GpuLost(str(error)) from error
        return None


def _identity(nvml: ModuleType, handle: Any, index: int) -> Gpu:
    pci = _ask(nvml, "nvmlDeviceGetPciInfo", handle)
    bus = pci.busId if pci else ""
    return Gpu(
        index,
        _ask(nvml, "nvmlDeviceGetName", handle) or "",
        _ask(nvml, "nvmlDeviceGetUUID", handle) or "",
        bus.decode() if isinstance(bus, bytes) else bus,
    )


def _memory_of(nvml: ModuleType, handle: Any) -> Memory:
    # The second form leaves the driver's own share out of `used`, as nvidia-smi does; drivers before 510 lack it.
    info = _ask(nvml, "nvmlDeviceGetMemoryInfo", handle, getattr(nvml, "nvmlMemory_v2", None))
    if info is None:
        info = _ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
    if info is None:
        return Memory(None, None, None)
    return Memory(info.total, info.used, info.free, getattr(info, "reserved", None))


def _memory(nvml: ModuleType, handle: Any, gpu: Gpu) -> GpuMemory:
    capability = _ask(nvml, "nvmlDeviceGetCudaComputeCapability", handle)
    mig = _ask(nvml, "nvmlDeviceGetMigMode", handle)
    is_split = bool(mig and mig[0])
    slices = tuple(_slice(nvml, handle) for handle in _slices(nvml, handle)) if is_split else ()
    number = float(f"{capability[0]}.{capability[1]}") if capability else None
    return GpuMemory(gpu, _memory_of(nvml, handle), number, is_split, slices)


def _slices(nvml: ModuleType, handle: Any) -> Iterator[Any]:
    for place in range(_ask(nvml, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        found = _ask(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", handle, place)
        if found is not None:
            yield found


def _slice(nvml: ModuleType, handle: Any) -> Slice:
    name, uuid = _ask(nvml, "nvmlDeviceGetName", handle), _ask(nvml, "nvmlDeviceGetUUID", handle)
    return Slice(name or "", uuid or "", _memory_of(nvml, handle))


def _processes(nvml: ModuleType, handle: Any, gpu: Gpu) -> GpuProcesses:
    mig = _ask(nvml, "nvmlDeviceGetMigMode", handle)
    handles = [handle, *_slices(nvml, handle)] if mig and mig[0] else [handle]
    found: dict[tuple[int, int, str], GpuProcess] = {}
    known = False
    for kind in ("Compute", "Graphics"):
        for place in handles:
            listed = _ask(nvml, f"nvmlDeviceGet{kind}RunningProcesses_v3", place)
            if listed is None:  # drivers before 510
                listed = _ask(nvml, f"nvmlDeviceGet{kind}RunningProcesses_v2", place)
            known = known or listed is not None
            for item in listed or ():
                slice_id = getattr(item, "gpuInstanceId", 0)
                process = GpuProcess(item.pid, _process_bytes(item), kind.lower())
                found.setdefault((item.pid, slice_id, kind), process)
    return GpuProcesses(gpu, _memory_of(nvml, handle), tuple(found.values()) if known else None)


def _process_bytes(item: Any) -> int | None:
    return None if item.usedGpuMemory in (None, NOT_AVAILABLE_BYTES) else int(item.usedGpuMemory)


def _health(nvml: ModuleType, handle: Any, gpu: Gpu) -> GpuHealth:
    def ask(function: str, *names: str) -> Any:
        return _ask(nvml, function, handle, *(getattr(nvml, name, None) for name in names))

    use = ask("nvmlDeviceGetUtilizationRates")
    reasons = ask("nvmlDeviceGetCurrentClocksEventReasons")
    if reasons is None:  # the name before driver 535
        reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    ecc = ask("nvmlDeviceGetEccMode")
    remapped = ask("nvmlDeviceGetRemappedRows")
    retirement = ask("nvmlDeviceGetRetiredPagesPendingStatus")
    persistence = ask("nvmlDeviceGetPersistenceMode")
    bad, mended = "NVML_MEMORY_ERROR_TYPE_UNCORRECTED", "NVML_MEMORY_ERROR_TYPE_CORRECTED"
    return GpuHealth(
        gpu,
        temperature_c=ask("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU"),
        slowdown_c=ask("nvmlDeviceGetTemperatureThreshold", "NVML_TEMPERATURE_THRESHOLD_SLOWDOWN"),
        shutdown_c=ask("nvmlDeviceGetTemperatureThreshold", "NVML_TEMPERATURE_THRESHOLD_SHUTDOWN"),
        power_w=_thousandth(ask("nvmlDeviceGetPowerUsage")),
        power_limit_w=_thousandth(ask("nvmlDeviceGetEnforcedPowerLimit")),
        sm_clock_mhz=ask("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),
        max_sm_clock_mhz=ask("nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_SM"),
        throttle_reasons=reasons,
        performance_state=ask("nvmlDeviceGetPerformanceState"),
        utilization_ratio=use.gpu / 100 if use else None,
        memory_utilization_ratio=use.memory / 100 if use else None,
        persistence=None if persistence is None else bool(persistence),
        ecc=bool(ecc[0]) if ecc else None,
        ecc_corrected_volatile=ask("nvmlDeviceGetTotalEccErrors", mended, "NVML_VOLATILE_ECC"),
        ecc_uncorrected_volatile=ask("nvmlDeviceGetTotalEccErrors", bad, "NVML_VOLATILE_ECC"),
        ecc_uncorrected_aggregate=ask("nvmlDeviceGetTotalEccErrors", bad, "NVML_AGGREGATE_ECC"),
        remap_pending=_either(remapped[2] if remapped else None, retirement),
        remap_failed=bool(remapped[3]) if remapped else None,
        pcie_generation=ask("nvmlDeviceGetCurrPcieLinkGeneration"),
        pcie_generation_max=ask("nvmlDeviceGetMaxPcieLinkGeneration"),
        pcie_width=ask("nvmlDeviceGetCurrPcieLinkWidth"),
        pcie_width_max=ask("nvmlDeviceGetMaxPcieLinkWidth"),
    )


def _thousandth(value: int | None) -> float | None:
    return None if value is None else value / 1000


def _either(first: int | None, second: int | None) -> bool | None:
    """Row remapping (Ampere and later) or page retirement (earlier) waits; None when neither is known."""
    return None if first is None and second is None else bool(first or second)
