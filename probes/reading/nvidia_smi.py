"""Reads GPUs through nvidia-smi's CSV, for where NVML's library cannot be loaded from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from probes.reading.gpus import Gpu, GpuHealth, GpuMemory, GpuProcess, GpuProcesses, Memory
from probes.reading.programs import ProgramFailed, query_gpu_processes, query_gpus
from probes.reading.unavailable import GpuUnavailable

IDENTITY = ("index", "name", "uuid", "pci.bus_id")
MEMORY = (*IDENTITY, "memory.total", "memory.used", "memory.free")
CAPABILITY = (*MEMORY, "compute_cap", "mig.mode.current")
HEALTH = (
    *IDENTITY,
    "temperature.gpu",
    "power.draw",
    "power.limit",
    "utilization.gpu",
    "persistence_mode",
    "ecc.errors.uncorrected.volatile.total",
    "ecc.errors.uncorrected.aggregate.total",
    "pcie.link.gen.current",
    "pcie.link.gen.max",
    "pcie.link.width.current",
    "pcie.link.width.max",
    "clocks.sm",
    "clocks.max.sm",
    "clocks_throttle_reasons.active",
    "pstate",
)
WITHOUT_REASONS = tuple(field for field in HEALTH if field != "clocks_throttle_reasons.active")
"""Newer drivers call the reasons by another name; should one drop the old name, the rest is still read."""
MIB = 1 << 20

Row = Mapping[str, str | None]


def read_memory() -> tuple[GpuMemory, ...]:
    """Read every GPU's memory; none where nvidia-smi is not there. Raises GpuUnavailable when it fails."""
    return tuple(parse_memory(row) for row in _query(CAPABILITY, MEMORY))


def read_processes() -> tuple[GpuProcesses, ...]:
    """Read who holds memory of every GPU; none where nvidia-smi is not there. Raises GpuUnavailable when it fails."""
    rows = _query(MEMORY)
    listed = _run(query_gpu_processes) if rows else ""
    return tuple(parse_processes(row, listed) for row in rows)


def read_health() -> tuple[GpuHealth, ...]:
    """Read every GPU's health; none where nvidia-smi is not there. Raises GpuUnavailable when it fails."""
    return tuple(parse_health(row) for row in _query(HEALTH, WITHOUT_REASONS))


def parse_rows(text: str, fields: tuple[str, ...]) -> tuple[Row, ...]:
    """Parse CSV without heading or units; what nvidia-smi does not know (`[N/A]`) is None."""
    rows = (line.split(", ") for line in text.splitlines() if line.count(", ") == len(fields) - 1)
    return tuple(dict(zip(fields, map(_known, cells), strict=True)) for cells in rows)


def parse_memory(row: Row) -> GpuMemory:
    """Parse a row of MEMORY or CAPABILITY."""
    return GpuMemory(_gpu(row), _memory(row), _number(row, "compute_cap"), row.get("mig.mode.current") == "Enabled")


def parse_processes(row: Row, listed: str) -> GpuProcesses:
    """Parse a row of MEMORY with nvidia-smi's list of compute processes of all GPUs."""
    gpu = _gpu(row)
    cells = [line.split(", ") for line in listed.splitlines()]
    mine = [cell for cell in cells if len(cell) == 3 and cell[0] == gpu.uuid and cell[1].isdigit()]
    processes = tuple(GpuProcess(int(pid), _bytes({"used": _known(used)}, "used")) for _, pid, used in mine)
    return GpuProcesses(gpu, _memory(row), processes)


def parse_health(row: Row) -> GpuHealth:
    """Parse a row of HEALTH."""
    use, reasons, state = _number(row, "utilization.gpu"), row.get("clocks_throttle_reasons.active"), row["pstate"]
    persistence = row["persistence_mode"]
    return GpuHealth(
        _gpu(row),
        temperature_c=_whole(row, "temperature.gpu"),
        power_w=_number(row, "power.draw"),
        power_limit_w=_number(row, "power.limit"),
        sm_clock_mhz=_whole(row, "clocks.sm"),
        max_sm_clock_mhz=_whole(row, "clocks.max.sm"),
        throttle_reasons=int(reasons, 16) if reasons else None,
        performance_state=int(state[1:]) if state and state[1:].isdigit() else None,
        utilization_ratio=None if use is None else use / 100,
        persistence=None if persistence is None else persistence == "Enabled",
        ecc_uncorrected_volatile=_whole(row, "ecc.errors.uncorrected.volatile.total"),
        ecc_uncorrected_aggregate=_whole(row, "ecc.errors.uncorrected.aggregate.total"),
        pcie_generation=_whole(row, "pcie.link.gen.current"),
        pcie_generation_max=_whole(row, "pcie.link.gen.max"),
        pcie_width=_whole(row, "pcie.link.width.current"),
        pcie_width_max=_whole(row, "pcie.link.width.max"),
    )


def _query(*choices: tuple[str, ...]) -> tuple[Row, ...]:
    """Ask for the first of `choices` whose fields this nvidia-smi knows."""
    for fields in choices[:-1]:
        try:
            return parse_rows(query_gpus(fields), fields)
        except ProgramFailed:
            continue
    return parse_rows(_run(lambda: query_gpus(choices[-1])), choices[-1])


def _run(query: Callable[[], str]) -> str:
    try:
        return query()
    except ProgramFailed as error:
        if "is not installed" in str(error):
            return ""
        reason = "driver-not-loaded" if "couldn't communicate with the NVIDIA driver" in str(error) else "other"
        raise GpuUnavailable(reason, str(error)) from error


def _gpu(row: Row) -> Gpu:
    return Gpu(_whole(row, "index") or 0, row["name"] or "", row["uuid"] or "", row["pci.bus_id"] or "")


def _memory(row: Row) -> Memory:
    return Memory(_bytes(row, "memory.total"), _bytes(row, "memory.used"), _bytes(row, "memory.free"))


def _known(cell: str) -> str | None:
    value = cell.strip()
    return None if not value or value.startswith("[") or value in ("N/A", "Unknown Error") else value


def _number(row: Row, field: str) -> float | None:
    value = row.get(field)
    return float(value) if value and value.replace(".", "", 1).isdigit() else None


def _whole(row: Row, field: str) -> int | None:
    value = _number(row, field)
    return None if value is None else int(value)


def _bytes(row: Row, field: str) -> int | None:
    value = _number(row, field)
    return None if value is None else int(value * MIB)
