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
    power_limit_default_w: float | None = None
    compute_mode: int | None = None
    """0: shared, 2: no CUDA at all, 3: one process at a time."""
    recovery_action: int | None = None
    """What the driver recommends: 0 nothing; else one of RECOVERY in probes/gpu_health.py."""
    remapped_uncorrected: int | None = None
    vbios: str = ""
    margin_c: int | None = None
    """Degrees left until the GPU slows itself; newer GPUs tell this in place of `slowdown_c`."""
    used_bytes: int | None = None
    nvlinks_active: int | None = None


@dataclass(frozen=True, slots=True)
class NvLink:
    """One link of a GPU, with its errors since the driver was loaded. None where they are not told."""

    number: int
    active: bool
    replays: int | None = None
    recoveries: int | None = None
    crc_flit: int | None = None
    crc_data: int | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """How a GPU reaches another: what their PCIe paths share, and whether it may read the other's memory directly."""

    index: int
    path: str
    reads_directly: bool | None = None


@dataclass(frozen=True, slots=True)
class GpuLinks:
    """`links` is None where the GPU has no NVLink, `slices` where MIG is off or they cannot be counted.

    `fabric_state` is NVML_GPU_FABRIC_STATE_*, None where the driver knows no fabric.
    """

    gpu: Gpu
    links: tuple[NvLink, ...] | None = None
    fabric_state: int | None = None
    fabric_status: int | None = None
    peers: tuple[Peer, ...] = ()
    mig: bool | None = None
    mig_after_reset: bool | None = None
    slices: int | None = None


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver's version, and the newest CUDA that it supports as major.minor."""

    version: str
    cuda: float | None
