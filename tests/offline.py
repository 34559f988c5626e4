"""No way out of a test: nothing that it starts reaches further than this machine, and what tries is found.

Where the kernel allows it, which takes no root, the whole run moves into a network namespace that has loopback alone. Its counters of
packets without a route tell of every attempt, by whatever process, in whatever language. Everywhere, an audit hook in the tests' own
process refuses addresses of other machines and names that would be looked up.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import ipaddress
import os
import socket
import struct
import sys
import threading
from pathlib import Path
from typing import Any

NEW_NETWORK, NEW_USER = 0x40000000, 0x10000000
SET_FLAGS, UP_AND_RUNNING = 0x8914, 0x41
COUNTERS = (Path("/proc/thread-self/net/snmp"), Path("/proc/thread-self/net/snmp6"))
LOCAL_NAMES = ("", "localhost", "localhost.localdomain", socket.gethostname())


def close_network() -> bool:
    """Leave this process, which has one thread yet, and its children with loopback alone; False where the kernel forbids it."""
    if not sys.platform.startswith("linux") or threading.active_count() > 1:
        return False
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    if libc.unshare(NEW_NETWORK) != 0:
        if libc.unshare(NEW_NETWORK | NEW_USER) != 0:
            return False
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sH14x", b"lo", UP_AND_RUNNING))
    return True


def unrouted() -> int:
    """How many packets and connections found no route so far, in the network namespace of this thread."""
    return sum(count for path in COUNTERS if path.exists() for count in parse_counters(path.read_text()))


def parse_counters(text: str) -> list[int]:
    """`OutNoRoutes` of IPv4, in two lines of names and values, or of IPv6, in a line of its own."""
    names, values = ([line.split() for line in text.splitlines() if line.startswith("Ip:")] or [[], []])[:2]
    found = [int(value) for name, value in zip(names, values, strict=True) if name == "OutNoRoutes"]
    return found + [int(line.split()[1]) for line in text.splitlines() if line.startswith("Ip6OutNoRoutes")]


class Guard:
    """Refuses, in this process, whatever would leave the machine; `tried` holds what that was.

    `is_closed` says whether the kernel counts what other processes try.
    """

    def __init__(self) -> None:
        self.is_closed = close_network()
        self.tried: list[str] = []
        self.counted = unrouted()
        sys.addaudithook(self)

    def take(self) -> list[str]:
        """What was tried since this was last asked, here and by processes started from here."""
        tried, self.tried = self.tried, []
        before, self.counted = self.counted, unrouted()
        return [*tried, *(["packets without a route"] * (self.is_closed and self.counted > before))]

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook (PEP 578). Raises OSError."""
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            address = arguments[1]
            where = address[0] if isinstance(address, tuple) else ""
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            where = arguments[0]
        else:
            return
        if not is_here(where):
            self.tried.append(f"{event} {where}")
            raise OSError(errno.ENETUNREACH, "no way out of a test")


def is_here(host: object) -> bool:
    """Whether a host is this machine, or an address that nothing has to be asked about to know that."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else host
    if not isinstance(name, str) or name in LOCAL_NAMES:
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
