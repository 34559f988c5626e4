"""Finds what matters to GPUs in lines of the kernel log: Xid, SXid, killed processes, crashes in NCCL, PCIe errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

LINE_CHARACTERS = 400

XID = re.compile(r"NVRM: Xid \((?:PCI:)?(?P<device>[0-9A-Fa-f:.]+)\): (?P<code>\d+)")
OFF_THE_BUS = re.compile(
    r"NVRM: (?:GPU (?:at )?(?:PCI:)?(?P<device>[0-9A-Fa-f:.]+): GPU has fallen off the bus"
    r"|.*fallen off the bus and is not responding to commands)"
)
NAMED_GPU = re.compile(r"NVRM: The NVIDIA GPU (?P<device>[0-9A-Fa-f:.]+)")
SXID = re.compile(r"SXid \(PCI:(?P<device>[0-9A-Fa-f:.]+)\): (?P<code>\d+)(?:, (?P<gravity>Fatal|Non-fatal))?")
KILLED = re.compile(
    r"(?P<group>Memory cgroup out of memory|Out of memory)[^:]*: Kill(?:ed)? process (?P<pid>\d+) \((?P<name>[^)]*)\)"
)
PROGRAM = re.compile(r"\bpid='?(?P<pid>\d+)'?(?:, name=(?P<name>[^,<>]+))?")
RESIDENT = re.compile(r"anon-rss:(?P<kib>\d+)kB")
GRAVITY = re.compile(r"^[^,]*,\s*\w+ (?P<gravity>Nonfatal|Non-fatal|Fatal)\b")
"""How an NVLink 5 line (Xid 144 to 150) calls itself, right after the unit that reports."""
NVLINK_5 = range(144, 151)
NCCL_CRASH = re.compile(r"(?P<name>\S+)\[(?P<pid>\d+)\]: segfault at .* in libnccl\.so")
MISMATCH = re.compile(r"NVRM: API mismatch")
PCIE = re.compile(r"(?P<device>[0-9A-Fa-f:.]+): PCIe Bus Error: severity=Uncorrect(?:ed|able) \((?P<gravity>[\w-]+)\)")
OTHERS = (("killed", KILLED), ("nccl-crash", NCCL_CRASH), ("driver-mismatch", MISMATCH), ("pcie", PCIE))

TIMES = (
    re.compile(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"),
    re.compile(r"^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"),
    re.compile(r"^\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\]"),
    re.compile(r"^\[ *\d+\.\d+\]"),
)


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of event of one device: how often, when first and last as the log prints times, and the last line."""

    kind: str
    code: int | None
    device: str
    count: int
    first: str
    last: str
    text: str
    detail: str = ""
    """The name of a killed process and whether its container's limit did it, or how grave the line calls itself."""
    pid: int | None = None
    process: str = ""
    """The program that the last line names, as the kernel cuts its name (15 characters)."""
    resident_bytes: int | None = None
    """What a killed process held."""
    gpu: int | None = None
    """NVML's index of the device, where it is known."""


def parse_events(lines: Iterable[str]) -> tuple[Event, ...]:
    """Find the events in lines that are oldest first, one event for each kind, number and device."""
    found: dict[tuple[str, int | None, str, str], Event] = {}
    named = ""
    for line in lines:
        gpu = NAMED_GPU.search(line)
        named = short_device(gpu["device"]) if gpu else named
        event = parse_line(line, named)
        if event is None or _is_repeated(event, found):
            continue
        key = (event.kind, event.code, event.device, event.detail)
        earlier = found.get(key)
        if earlier:
            event = replace(event, count=earlier.count + 1, first=earlier.first)
        found[key] = event
    return tuple(found.values())


def parse_line(line: str, named: str = "") -> Event | None:
    """Parse one line; `named` is the GPU that an earlier line named. None for a line that is no event."""
    line = line.strip()
    if match := XID.search(line):
        code = int(match["code"])
        return _with_program(_event("xid", line, code, match["device"], _gravity(code, line[match.end() :])), line)
    if match := OFF_THE_BUS.search(line):
        return _event("xid", line, 79, match["device"] or named)
    if match := SXID.search(line):
        return _event("sxid", line, int(match["code"]), match["device"], match["gravity"] or "")
    for kind, pattern in OTHERS:
        if match := pattern.search(line):
            parts = match.groupdict()
            event = _event(kind, line, None, parts.get("device") or "", _detail(parts))
            pid, name = parts.get("pid"), parts.get("name") or ""
            return replace(event, pid=int(pid) if pid else None, process=name, resident_bytes=_resident(line))
    return None


def on_gpus(events: Iterable[Event], indices: Mapping[str, int]) -> tuple[Event, ...]:
    """Name the GPU of each event: `indices` gives NVML's index by short PCI address. A GPU that is gone has none."""
    return tuple(replace(event, gpu=indices.get(event.device)) for event in events)


def time_of(line: str) -> str:
    """Give the time that a line begins with, as it is printed; empty for none."""
    return next((match.group() for pattern in TIMES if (match := pattern.match(line))), "")


def short_device(device: str) -> str:
    """Write a PCI address without its function and in lower case, so that different lines name one device alike.

    NVML writes the domain with eight digits, the kernel with four.
    """
    address = device.partition(".")[0].lower()
    return address[4:] if re.match(r"0000[0-9a-f]{4}:", address) else address


def _event(kind: str, line: str, code: int | None, device: str, detail: str = "") -> Event:
    time = time_of(line)
    return Event(kind, code, short_device(device), 1, time, time, line[:LINE_CHARACTERS], detail)


def _gravity(code: int, rest: str) -> str:
    match = GRAVITY.match(rest) if code in NVLINK_5 else None
    return match["gravity"] if match else ""


def _with_program(event: Event, line: str) -> Event:
    match = PROGRAM.search(line)
    return replace(event, pid=int(match["pid"]), process=(match["name"] or "").strip()) if match else event


def _resident(line: str) -> int | None:
    match = RESIDENT.search(line)
    return int(match["kib"]) << 10 if match else None


def _detail(parts: dict[str, str | None]) -> str:
    where = " (container limit)" if (parts.get("group") or "").startswith("Memory cgroup") else ""
    return f"{parts.get('name') or parts.get('gravity') or ''}{where}"


def _is_repeated(event: Event, found: dict[tuple[str, int | None, str, str], Event]) -> bool:
    """Tell whether a line says again, in other words, what an Xid 79 of the same moment said."""
    known = found.get((event.kind, event.code, event.device, event.detail))
    return event.code == 79 and known is not None and known.last[:16] == event.last[:16]
