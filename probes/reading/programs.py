"""The only module that starts programs: fixed command lines, a deadline for the whole group, a cap while reading.

Nothing a model or a log says reaches a command line: each public function names its program and its arguments, and
takes at most whole numbers or names out of a fixed set.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from typing import Literal

SAFE_PATH = "/usr/local/nvidia/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/wsl/lib"
# Container platforms mount the driver's libraries here without an entry in ld.so.conf; nvidia-smi needs to find them.
ENVIRONMENT = {"PATH": SAFE_PATH, "LC_ALL": "C", "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64:/usr/lib/wsl/lib"}
# A probe has about five seconds; a journal of many gigabytes must leave time to ask for the ring buffer instead.
DEADLINE_SECONDS = 4.0
LOG_DEADLINE_SECONDS = 2.0
CAP_BYTES = 1 << 20
ERROR_CAP_BYTES = 1 << 14
READ_BYTES = 1 << 16
EXIT_POLL_SECONDS = 0.05
REAP_SECONDS = 0.3

GPU_FIELDS = frozenset(
    (
        *("index", "name", "uuid", "pci.bus_id", "driver_version", "compute_cap", "mig.mode.current", "pstate"),
        *("memory.total", "memory.used", "memory.free", "temperature.gpu", "power.draw", "power.limit"),
        *("utilization.gpu", "persistence_mode", "clocks.sm", "clocks.max.sm", "clocks_throttle_reasons.active"),
        *("ecc.errors.uncorrected.volatile.total", "ecc.errors.uncorrected.aggregate.total"),
        *("pcie.link.gen.current", "pcie.link.gen.max", "pcie.link.width.current", "pcie.link.width.max"),
    )
)

_live_groups: set[int] = set()


class ProgramFailed(Exception):
    """A program is not there, was too late, or ended with an error. The message is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a program printed: at most the cap of it. `exit_code` is None when it was killed."""

    text: str
    errors: str
    exit_code: int | None
    truncated: bool = False
    timed_out: bool = False


def query_gpus(fields: tuple[str, ...]) -> str:
    """Return nvidia-smi's CSV rows, a GPU a line, units left out. Raises ProgramFailed."""
    unknown = set(fields) - GPU_FIELDS
    if unknown or not fields:
        raise ValueError(f"not fields of the nvidia-smi query: {', '.join(sorted(unknown)) or 'none given'}")
    return _checked("nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits").text


def query_gpu_processes() -> str:
    """Return nvidia-smi's CSV rows of compute processes: GPU UUID, pid, used MiB. Raises ProgramFailed."""
    return _checked("nvidia-smi", "--query-compute-apps=gpu_uuid,pid,used_memory", "--format=csv,noheader,nounits").text


def kernel_journal(lines: int = 20_000, days: int = 7) -> Output:
    """Return the newest kernel lines of the journal, newest first. Raises ProgramFailed."""
    lines, days = _bounded(lines, 1, 100_000), _bounded(days, 1, 365)
    last = ("-n", str(lines), f"--since=-{days}d")
    return _checked(
        "journalctl",
        "-r",
        "-q",
        "--no-pager",
        "-o",
        "short-iso",
        *last,
        "_TRANSPORT=kernel",
        deadline_seconds=LOG_DEADLINE_SECONDS,
    )


def kernel_ring() -> Output:
    """Return the end of the kernel's ring buffer, oldest first. Raises ProgramFailed."""
    return _checked("dmesg", "--time-format=iso", "--nopager", deadline_seconds=LOG_DEADLINE_SECONDS, keep="end")


def shared_libraries() -> str:
    """Return the linker's table of libraries, as ldconfig -p prints it. Raises ProgramFailed."""
    return _checked("ldconfig", "-p").text


@cache
def find_program(name: str) -> str:
    """Resolve a program to its absolute path, once, on the fixed PATH. Raises ProgramFailed."""
    for folder in SAFE_PATH.split(":"):
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise ProgramFailed(f"{name} is not installed here.")


def _checked(
    name: str,
    *arguments: str,
    deadline_seconds: float = DEADLINE_SECONDS,
    keep: Literal["start", "end"] = "start",
) -> Output:
    output = _run((find_program(name), *arguments), deadline_seconds, keep=keep)
    if output.timed_out:
        raise ProgramFailed(f"{name} did not finish within {deadline_seconds:g} s and was stopped.")
    if output.exit_code and not output.truncated:
        said = (output.errors or output.text).strip().splitlines()
        raise ProgramFailed(
            f"{name} ended with exit code {output.exit_code}: {said[0][:300] if said else 'no message'}"
        )
    return output


def _bounded(value: int, least: int, most: int) -> int:
    if not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"must be a whole number from {least} to {most}, not {value!r}")
    return value


def _run(
    argv: tuple[str, ...],
    deadline_seconds: float = DEADLINE_SECONDS,
    cap_bytes: int = CAP_BYTES,
    keep: Literal["start", "end"] = "start",
) -> Output:
    """Run argv and read both its pipes until it ends, the deadline passes, or the cap is reached (keeping the start)."""
    deadline = time.monotonic() + deadline_seconds
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    )
    _live_groups.add(process.pid)
    assert process.stdout is not None
    assert process.stderr is not None
    printed, errors = _Capture(cap_bytes, keep), _Capture(ERROR_CAP_BYTES, "start")
    captures = {process.stdout.fileno(): printed, process.stderr.fileno(): errors}
    ended = False
    try:
        ended = _read_until_end(process.pid, captures, deadline, stop_when_full=printed if keep == "start" else None)
    finally:
        _end(process)
    timed_out = not ended and not (printed.dropped and keep == "start")
    return Output(printed.text(), errors.text(), process.returncode if ended else None, printed.dropped, timed_out)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the group, reap its leader and close the pipes. One that is stuck in the driver is left, not waited for."""
    # The leader is not yet reaped, so its number cannot have been given to another group.
    _kill_group(process.pid)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=REAP_SECONDS)
    _live_groups.discard(process.pid)
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


class _Capture:
    """Bytes up to a cap; what is over it is dropped, at the end or, to keep the end, at the start."""

    def __init__(self, cap_bytes: int, keep: Literal["start", "end"]) -> None:
        self.cap_bytes, self.keep, self.held, self.dropped = cap_bytes, keep, bytearray(), False

    def add(self, piece: bytes) -> None:
        self.held += piece
        excess = len(self.held) - self.cap_bytes
        if excess > 0:
            self.dropped = True
            if self.keep == "start":
                del self.held[self.cap_bytes :]
            else:
                del self.held[:excess]

    def text(self) -> str:
        return self.held.decode("utf-8", "replace")


def _read_until_end(pid: int, captures: dict[int, _Capture], deadline: float, stop_when_full: _Capture | None) -> bool:
    """Read until the program has ended and its pipes are empty (True), or the time or the room is used up (False).

    A child of the program that outlives it and holds the pipes open is not waited for.
    """
    with selectors.DefaultSelector() as selector:
        for pipe in captures:
            selector.register(pipe, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            ended = _has_ended(pid)
            ready = selector.select(min(left, EXIT_POLL_SECONDS))
            for key, _ in ready:
                piece = os.read(key.fd, READ_BYTES)
                if piece:
                    captures[key.fd].add(piece)
                else:
                    selector.unregister(key.fd)
            if ended and not ready:
                return True
            if stop_when_full and stop_when_full.dropped:
                return False
            if not selector.get_map():
                return _wait_until_end(pid, deadline)
    return False


def _wait_until_end(pid: int, deadline: float) -> bool:
    while not _has_ended(pid):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.002)
    return True


def _has_ended(pid: int) -> bool:
    """Tell whether a child has ended, leaving it unreaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


@atexit.register
def _kill_live_groups() -> None:
    for group in tuple(_live_groups):
        _kill_group(group)
