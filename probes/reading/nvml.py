"""The home of pynvml (nvidia-ml-py): Init, Shutdown and Get calls only, and nvidia-smi where the library cannot load.

A reading that a GPU or a driver does not support is None. Sizes are bytes, clocks MHz, power W, temperatures °C.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from statistics import median
from types import ModuleType
from typing import Any, TypeVar

from probes.reading import nvml_devices
from probes.reading.gpus import Driver, Gpu, GpuHealth, GpuLinks, GpuMemory, GpuProcesses
from probes.reading.nvml_devices import GpuLost
from probes.reading.unavailable import GpuUnavailable

T = TypeVar("T")


def read_memory() -> tuple[tuple[GpuMemory, ...], str]:
    """Read every GPU's memory, and say by what it was read. Raises GpuUnavailable."""
    from probes.reading import nvidia_smi

    return _by_nvml_or_smi(nvml_devices.memory, nvidia_smi.read_memory)


def read_processes() -> tuple[tuple[GpuProcesses, ...], str]:
    """Read who holds memory of every GPU, and say by what it was read. Raises GpuUnavailable."""
    from probes.reading import nvidia_smi

    return _by_nvml_or_smi(nvml_devices.processes, nvidia_smi.read_processes)


def read_health() -> tuple[tuple[GpuHealth, ...], str]:
    """Read every GPU's health, and say by what it was read. Raises GpuUnavailable."""
    from probes.reading import nvidia_smi

    return _by_nvml_or_smi(nvml_devices.health, nvidia_smi.read_health)


def read_links() -> tuple[tuple[GpuLinks, ...], str]:
    """Read how the GPUs are linked, and say by what it was read. Raises GpuUnavailable."""
    return _read_all(nvml_devices.links), "NVML"


def read_indices() -> dict[str, int]:
    """Read NVML's index of every GPU by its PCI address (00000000:18:00.0); empty where no GPU can be asked."""
    try:
        gpus = _read_all(lambda _nvml, _handle, gpu: gpu)
    except GpuUnavailable:
        return {}
    return {gpu.pci_bus_id: gpu.index for gpu in gpus if gpu.pci_bus_id}


def read_sm_clocks(samples: int = 5, pause_seconds: float = 0.2) -> dict[int, int]:
    """Read each GPU's SM clock some times and give the median in MHz by index: under load it changes by the millisecond.

    A GPU that does not answer is left out. Raises GpuUnavailable.
    """
    seen: dict[int, list[int]] = {}
    for sample in range(samples):
        time.sleep(pause_seconds if sample else 0)
        for index, clock in _read_all(_sm_clock):
            if clock is not None:
                seen.setdefault(index, []).append(clock)
    return {index: int(median(clocks)) for index, clocks in seen.items()}


def _sm_clock(nvml: ModuleType, handle: Any, gpu: Gpu) -> tuple[int, int | None]:
    return gpu.index, nvml_devices.ask(nvml, "nvmlDeviceGetClockInfo", handle, getattr(nvml, "NVML_CLOCK_SM", None))


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
        gpu = nvml_devices.identity(nvml, handle, index)
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
