"""Bounded reads of regular files under allowed folders, and of the few kernel files that probes need.

Links are resolved before a path is judged, and the file that was opened is judged again, so that a name that changes
in between gains nothing. Everything refused is one sentence.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

CAP_BYTES = 1 << 20
PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
SYSTEM = Path("/sys")
SYNTHETIC = ("/proc", "/sys")

KERNEL_FILES = re.compile(
    r"(meminfo|vmstat|stat|uptime|loadavg|version|sys/kernel/osrelease|driver/nvidia/version|net/tcp6?"
    r"|self/(cgroup|mounts|limits|net/tcp6?)|[0-9]{1,10}/(cmdline|comm|stat|status|cgroup|environ|maps|limits))"
)
CGROUP_FILES = re.compile(
    r"(memory\.(max|high|current|stat|events|limit_in_bytes|usage_in_bytes|oom_control)|cpu\.(max|cfs_quota_us|cfs_period_us)"
    r"|pids\.(max|current))"
)


SYSTEM_FILES = re.compile(
    r"(devices/system/node/online|kernel/mm/transparent_hugepage/enabled"
    r"|class/infiniband/[\w.-]{1,64}/ports/[0-9]{1,3}/(state|rate|link_layer))"
)


class Unreadable(Exception):
    """A file that is not read: not there, not allowed, not a regular file. The message is one sentence for a person."""


def read_text(path: str | Path, roots: Iterable[str | Path], cap_bytes: int = CAP_BYTES, *, end: bool = False) -> str:
    """Return at most `cap_bytes` of a regular file under one of `roots`: its start, or its end. Raises Unreadable."""
    with os.fdopen(_open_regular(path, roots), "rb", buffering=0) as file:
        if end:
            file.seek(max(0, os.fstat(file.fileno()).st_size - cap_bytes))
        return _read_capped(file.fileno(), cap_bytes).decode("utf-8", "replace")


def read_start(path: str | Path, roots: Iterable[str | Path], cap_bytes: int) -> tuple[bytes, int]:
    """Return at most `cap_bytes` from the start of a regular file under one of `roots`, and its size in bytes.

    Raises Unreadable.
    """
    with os.fdopen(_open_regular(path, roots), "rb", buffering=0) as file:
        return _read_capped(file.fileno(), cap_bytes), os.fstat(file.fileno()).st_size


def read_end(path: str | Path, roots: Iterable[str | Path], cap_bytes: int) -> bytes:
    """Return at most the last `cap_bytes` of a regular file under one of `roots`. Raises Unreadable."""
    with os.fdopen(_open_regular(path, roots), "rb", buffering=0) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - cap_bytes))
        return _read_capped(file.fileno(), cap_bytes)


def read_kernel_file(name: str, root: Path = PROC, cap_bytes: int = CAP_BYTES) -> str:
    """Return a file of /proc that is on the fixed list, as `meminfo` or `123/cmdline`. Raises Unreadable."""
    if not KERNEL_FILES.fullmatch(name):
        raise Unreadable(f"{root / name} is not among the kernel files that are read.")
    return _read_synthetic(root / name, cap_bytes)


def read_system_file(name: str, root: Path = SYSTEM) -> str:
    """Return a file of /sys that is on the fixed list, as `devices/system/node/online`. Raises Unreadable."""
    if not SYSTEM_FILES.fullmatch(name):
        raise Unreadable(f"{root / name} is not among the kernel files that are read.")
    return _read_synthetic(root / name, 1 << 12)


def read_cgroup_file(group: str, name: str, root: Path = CGROUP) -> str:
    """Return a limit or counter of a control group (`/` is the top one). Raises Unreadable."""
    folder = os.path.normpath(root / group.lstrip("/"))
    if not CGROUP_FILES.fullmatch(name) or not _lies_under(folder, str(root)):
        raise Unreadable(f"{folder}/{name} is not among the control group files that are read.")
    return _read_synthetic(Path(folder) / name, 1 << 16)


def read_link(pid: int, descriptor: int, root: Path = PROC) -> str:
    """Tell what an open file of a process is: a path, or `socket:[inode]`. Raises Unreadable for another user's."""
    path = root / str(pid) / "fd" / str(descriptor)
    try:
        return os.readlink(path)
    except OSError as error:
        raise Unreadable(_sentence(path, error)) from error


def list_descriptors(pid: int, root: Path = PROC) -> list[int]:
    """List the open files of a process. Raises Unreadable for another user's."""
    path = root / str(pid) / "fd"
    try:
        return [int(name) for name in os.listdir(path) if name.isdigit()]
    except OSError as error:
        raise Unreadable(_sentence(path, error)) from error


def resolve(path: str | Path, roots: Iterable[str | Path]) -> Path:
    """Resolve links and return the path of an existing file under `roots`. Raises Unreadable."""
    try:
        real = os.path.realpath(path, strict=True)
    except OSError as error:
        raise Unreadable(_sentence(path, error)) from error
    if any(_lies_under(real, folder) for folder in SYNTHETIC):
        raise Unreadable(f"{path} is a kernel file and is not read.")
    allowed = [os.path.realpath(root) for root in roots]
    if not any(_lies_under(real, root) for root in allowed):
        raise Unreadable(f"{path} lies outside the folders that may be read ({', '.join(allowed) or 'none'}).")
    return Path(real)


def _open_regular(path: str | Path, roots: Iterable[str | Path]) -> int:
    real = resolve(path, roots)
    mode = os.stat(real).st_mode
    if not stat.S_ISREG(mode):  # opening a device can already do something
        raise Unreadable(f"{path} is {_kind(mode)}, not a regular file.")
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise Unreadable(_sentence(path, error)) from error
    refusal = _refusal(path, real, descriptor)
    if refusal:
        os.close(descriptor)
        raise Unreadable(refusal)
    return descriptor


def _refusal(path: str | Path, real: Path, descriptor: int) -> str:
    """Say why an opened file is not to be read, or nothing."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is {_kind(status.st_mode)}, not a regular file."
    if status.st_dev in {os.stat(folder).st_dev for folder in SYNTHETIC if os.path.isdir(folder)}:
        return f"{path} is a kernel file and is not read."
    opened = f"/proc/self/fd/{descriptor}"
    if os.path.lexists(opened) and os.readlink(opened) != str(real):
        return f"{path} changed while it was opened."
    return ""


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((name for is_kind, name in kinds if is_kind(mode)), "a device")


def _read_synthetic(path: Path, cap_bytes: int) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb", buffering=0):
            return _read_capped(descriptor, cap_bytes).decode("utf-8", "replace")
    except OSError as error:
        raise Unreadable(_sentence(path, error)) from error


def _read_capped(descriptor: int, cap_bytes: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < cap_bytes and (piece := os.read(descriptor, min(cap_bytes - len(pieces), 1 << 16))):
        pieces += piece
    return bytes(pieces)


def _lies_under(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _sentence(path: str | Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"{path} does not exist."
    if isinstance(error, PermissionError):
        return f"{path} may not be read by this user."
    return f"{path} cannot be read: {error.strerror or error}."
