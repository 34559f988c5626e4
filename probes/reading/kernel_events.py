"""Finds what matters to GPUs in lines of the kernel log: Xid, SXid, killed processes, crashes in NCCL, PCIe errors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

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
            event = Event(*key[:3], earlier.count + 1, earlier.first, event.last, event.text, event.detail)
        found[key] = event
    return tuple(found.values())


def parse_line(line: str, named: str = "") -> Event | None:
    """Parse one line; `named` is the GPU that an earlier line named. None for a line that is no event."""
    line = line.strip()
    if match := XID.search(line):
        return _event("xid", line, int(match["code"]), match["device"])
    if match := OFF_THE_BUS.search(line):
        return _event("xid", line, 79, match["device"] or named)
    if match := SXID.search(line):
        return _event("sxid", line, int(match["code"]), match["device"], match["gravity"] or "")
    for kind, pattern in OTHERS:
        if match := pattern.search(line):
            parts = match.groupdict()
            return _event(kind, line, None, parts.get("device") or "", _detail(parts))
    return None


def time_of(line: str) -> str:
    """Give the time that a line begins with, as it is printed; empty for none."""
    return next((match.group() for pattern in TIMES if (match := pattern.match(line))), "")


def short_device(device: str) -> str:
    """Write a PCI address without its function and in lower case, so that different lines name one device alike."""
    return device.partition(".")[0].lower()


def _event(kind: str, line: str, code: int | None, device: str, detail: str = "") -> Event:
    time = time_of(line)
    return Event(kind, code, short_device(device), 1, time, time, line[:LINE_CHARACTERS], detail)


def _detail(parts: dict[str, str | None]) -> str:
    where = " (container limit)" if (parts.get("group") or "").startswith("Memory cgroup") else ""
    return f"{parts.get('name') or parts.get('gravity') or ''}{where}"


def _is_repeated(event: Event, found: dict[tuple[str, int | None, str, str], Event]) -> bool:
    """Tell whether a line says again, in other words, what an Xid 79 of the same moment said."""
    known = found.get((event.kind, event.code, event.device, event.detail))
    return event.code == 79 and known is not None and known.last[:16] == event.last[:16]
