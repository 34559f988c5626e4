"""Reads the running processes from /proc, and tells which of them are an inference engine."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from probes.reading.files import PROC, Unreadable, read_kernel_file

COMMAND_CHARACTERS = 4_000
COMMAND_CAP_BYTES = 1 << 17
WRAPPERS = frozenset({"python", "uv", "uvx", "torchrun", "accelerate"})

# What the program (a name in bin/, a module after -m, or a process title) must begin with.
ENGINES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("vllm", re.compile(r"VLLM::|vllm($|\.)|ray::(RayWorkerWrapper|RayWorkerProc|RayDistributedActor)")),
    ("sglang", re.compile(r"sglang(::|$|\.)|sgl_(jit|diffusion)")),
    ("tgi", re.compile(r"text-generation-(server|launcher|router|benchmark)|text_generation_server")),
    ("tensorrt-llm", re.compile(r"trtllm-serve|tensorrt_llm|tritonserver")),
    ("llama.cpp", re.compile(r"llama-server|llama_cpp|ollama(_llama_server)?$")),
    ("lmdeploy", re.compile(r"lmdeploy")),
    ("ktransformers", re.compile(r"ktransformers")),
    ("aphrodite", re.compile(r"aphrodite")),
)
CONTAINER = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True, slots=True)
class Process:
    """A running process. `started` is seconds since 1970, `container` the short id that its control group names."""

    pid: int
    parent: int = 0
    state: str = ""
    name: str = ""
    argv: tuple[str, ...] = ()
    started: float | None = None
    container: str = ""

    @property
    def command(self) -> str:
        """The command line as text, secrets masked; the bare name for one that shows none."""
        from probes.reading.mask import mask

        return mask(shlex.join(self.argv)[:COMMAND_CHARACTERS]) if self.argv else self.name


def read_processes(root: Path = PROC) -> dict[int, Process]:
    """Read every process that this user can see, by pid."""
    try:
        pids = [int(name) for name in os.listdir(root) if name.isdigit()]
    except OSError:
        return {}
    booted = _boot_seconds(root)
    found = (_read_process(pid, root, booted) for pid in pids)
    return {process.pid: process for process in found if process}


def parse_stat(text: str) -> tuple[str, str, int, float]:
    """Parse /proc/PID/stat to name, state, parent and start in seconds after boot. The name may hold spaces and brackets."""
    name = text[text.index("(") + 1 : text.rindex(")")]
    fields = text[text.rindex(")") + 2 :].split()
    return name, fields[0], int(fields[1]), int(fields[19]) / os.sysconf("SC_CLK_TCK")


def parse_argv(text: str) -> tuple[str, ...]:
    """Parse /proc/PID/cmdline. A title that a process gave itself is one word, padded with NULs or spaces."""
    return tuple(word for word in text.rstrip("\0 ").split("\0")) if text.strip("\0 ") else ()


def parse_container(cgroup: str) -> str:
    """Find the container id in /proc/PID/cgroup, shortened to 12 digits; empty outside of one."""
    found = CONTAINER.search(cgroup)
    return found.group()[:12] if found else ""


def program_of(argv: tuple[str, ...]) -> str:
    """Name what a command line runs: a module after -m, the script that Python runs, or the program."""
    if not argv:
        return ""
    first = os.path.basename(argv[0].split(" ")[0] if "::" in argv[0] else argv[0])
    if not first.startswith(tuple(WRAPPERS)):
        return first
    words = iter(argv[1:])
    for word in words:
        if word == "-m":
            return next(words, "")
        if word in ("-c", "-"):
            return first
        if word in ("-W", "-X"):
            next(words, "")
        elif word != "run" and not word.startswith("-"):
            return os.path.basename(word)
    return first


def engine_of(argv: tuple[str, ...]) -> str:
    """Name the inference engine that a command line runs; empty for anything else."""
    program = program_of(argv)
    return next((engine for engine, pattern in ENGINES if pattern.match(program)), "")


def engine_of_tree(pid: int, processes: Mapping[int, Process]) -> str:
    """Name the engine that a process or one of its ancestors is: workers often run as `python -c …spawn_main`."""
    seen: set[int] = set()
    while pid in processes and pid not in seen:
        if engine := engine_of(processes[pid].argv):
            return engine
        seen.add(pid)
        pid = processes[pid].parent
    return ""


def engines(processes: Mapping[int, Process]) -> dict[int, str]:
    """Find the processes that are themselves an engine: pid to engine."""
    named = ((pid, engine_of(process.argv)) for pid, process in processes.items() if process.state != "Z")
    return {pid: engine for pid, engine in named if engine}


def read_variables(pid: int, prefixes: tuple[str, ...], root: Path = PROC) -> dict[str, str]:
    """Read a process's variables whose names begin with `prefixes`, secrets masked. Raises Unreadable for another's."""
    return select_variables(read_kernel_file(f"{pid}/environ", root), prefixes)


def select_variables(environ: str, prefixes: tuple[str, ...]) -> dict[str, str]:
    """Pick variables out of /proc/PID/environ and mask their values, each together with its name."""
    from probes.reading.mask import mask

    pairs = (entry.partition("=") for entry in environ.split("\0"))
    chosen = {name: value for name, _, value in pairs if name.startswith(prefixes)}
    return {name: mask(f"{name}={value}").partition("=")[2] for name, value in sorted(chosen.items())}


def _read_process(pid: int, root: Path, booted: float | None) -> Process | None:
    """Read one process; None when it has gone meanwhile."""
    try:
        name, state, parent, after_boot = parse_stat(read_kernel_file(f"{pid}/stat", root))
    except (Unreadable, ValueError, IndexError):
        return None
    argv = parse_argv(_read_or_empty(f"{pid}/cmdline", root))
    container = parse_container(_read_or_empty(f"{pid}/cgroup", root)) if argv else ""
    return Process(pid, parent, state, name, argv, None if booted is None else booted + after_boot, container)


def _read_or_empty(name: str, root: Path) -> str:
    try:
        return read_kernel_file(name, root, COMMAND_CAP_BYTES)
    except Unreadable:
        return ""


def _boot_seconds(root: Path) -> float | None:
    found = re.search(r"^btime (\d+)", _read_or_empty("stat", root), re.MULTILINE)
    return float(found.group(1)) if found else None
