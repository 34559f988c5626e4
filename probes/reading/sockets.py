"""Reads who listens on which TCP port, from /proc."""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from probes.reading.files import (
    PROC,
    SYSTEM,
    Unreadable,
    list_descriptors,
    read_kernel_file,
    read_link,
    read_system_file,
)

LISTEN = "0A"
INODE = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket. `pid` is None where its owner is another user's or in another container."""

    port: int
    address: str
    pid: int | None = None


def read_listeners(ports: Iterable[int], pids: Iterable[int], root: Path = PROC) -> tuple[Listener, ...]:
    """Read the sockets that listen on `ports`, and which of `pids` holds each. Raises Unreadable."""
    wanted = set(ports)
    tables = read_kernel_file("self/net/tcp", root), _second_table(root)
    found = {inode: listener for table in tables for inode, listener in parse_table(table) if listener.port in wanted}
    owners = _owners(set(found), pids, root) if found else {}
    return tuple(Listener(each.port, each.address, owners.get(inode)) for inode, each in found.items())


def parse_table(text: str) -> list[tuple[str, Listener]]:
    """Parse /proc/net/tcp or tcp6 to its listening sockets by inode."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return [
        (row[9], Listener(int(row[1].rpartition(":")[2], 16), parse_address(row[1])))
        for row in rows
        if row[3] == LISTEN
    ]


def parse_address(field: str) -> str:
    """Parse `0100007F:1F90` to 127.0.0.1: the kernel prints each four bytes in the machine's own order."""
    digits = field.rpartition(":")[0]
    packed = b"".join(struct.pack("=I", int(digits[at : at + 8], 16)) for at in range(0, len(digits), 8))
    return str(ipaddress.ip_address(packed))


def reaches(host: str, port: int, timeout_seconds: float = 2.0) -> bool:
    """Tell whether a TCP connection to an operator's address can be made; it is closed at once, and nothing is sent."""
    made: list[bool] = []
    # In a thread of its own: looking up a name takes no timeout, and a dead resolver holds it for half a minute.
    trying = threading.Thread(target=lambda: made.append(_connects(host, port, timeout_seconds)), daemon=True)
    trying.start()
    trying.join(timeout_seconds)
    return made == [True]


def _connects(host: str, port: int, timeout_seconds: float) -> bool:
    try:
        with socket.create_connection((host, port), timeout_seconds):
            return True
    except (OSError, UnicodeError):  # UnicodeError: a host name that cannot be one
        return False


def interfaces() -> list[str]:
    """List the network interfaces of this host or container."""
    return [name for _, name in socket.if_nameindex()]


def infiniband_ports(root: Path = SYSTEM) -> dict[str, str]:
    """Read the state (`ACTIVE`, `DOWN`, `INIT`) of every port of the InfiniBand and RoCE adapters, as `mlx5_0/1`."""
    found = {}
    for path in sorted((root / "class/infiniband").glob("*/ports/*")):
        adapter, port = path.parts[-3], path.parts[-1]
        try:
            state = read_system_file(f"class/infiniband/{adapter}/ports/{port}/state", root)
        except Unreadable:
            continue
        found[f"{adapter}/{port}"] = state.rpartition(":")[2].strip()
    return found


def _second_table(root: Path) -> str:
    try:
        return read_kernel_file("self/net/tcp6", root)
    except Unreadable:  # a host without IPv6
        return ""


def _owners(inodes: set[str], pids: Iterable[int], root: Path) -> dict[str, int]:
    owners: dict[str, int] = {}
    for pid in pids:
        for inode in _sockets(pid, root) & inodes:
            owners.setdefault(inode, pid)
    return owners


def _sockets(pid: int, root: Path) -> set[str]:
    found = set()
    try:
        for descriptor in list_descriptors(pid, root):
            match = INODE.fullmatch(read_link(pid, descriptor, root))
            found |= {match.group(1)} if match else set()
    except Unreadable:
        return found
    return found
