"""What is read of a GPU. None stands for what a GPU or its driver does not tell; bytes, MHz, W, °C and ratios."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """Which GPU a reading is of. `lost` says why it no longer answers; then nothing else was read of it."""

    index: int
    name: str = ""
    uuid: str = ""
    pci_bus_id: str = ""
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a GPU or of a MIG slice. `used` leaves out what the driver keeps for itself (`reserved`), where it is told."""

    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None
    reserved_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """A MIG slice."""

    name: str
    uuid: str
    memory: Memory


@dataclass(frozen=True, slots=True)
class GpuMemory:
    gpu: Gpu
    memory: Memory
    compute_capability: float | None = None
    mig: bool = False
    slices: tuple[Slice, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds memory of a GPU. `used_bytes` is None where the driver does not say."""

    pid: int
    used_bytes: int | None
    kind: str = "compute"


@dataclass(frozen=True, slots=True)
class GpuProcesses:
    gpu: Gpu
    memory: Memory
    processes: tuple[GpuProcess, ...] | None = None


@dataclass(frozen=True, slots=True)
class GpuHealth:
    gpu: Gpu
    temperature_c: int | None = None
    slowdown_c: int | None = None
    shutdown_c: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    sm_clock_mhz: int | None = None
    max_sm_clock_mhz: int | None = None
    throttle_reasons: int | None = None
    performance_state: int | None = None
    utilization_ratio: float | None = None
    memory_utilization_ratio: float | None = None
    persistence: bool | None = None
    ecc: bool | None = None
    ecc_corrected_volatile: int | None = None
    ecc_uncorrected_volatile: int | None = None
    ecc_uncorrected_aggregate: int | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver's version, and the newest CUDA that it supports as major.minor."""

    version: str
    cuda: float | None
