"""Reads the inference servers that run here: what each was started with, where it listens and logs, and its workers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from probes.reading.files import PROC, Unreadable, read_kernel_file, read_link
from probes.reading.processes import Process, engine_of, engine_of_tree, read_variables

DEFAULT_PORTS = {"vllm": 8000, "sglang": 30000, "tgi": 3000, "llama.cpp": 8080, "lmdeploy": 23333}
VARIABLES = (
    *(
        "VLLM_",
        "SGLANG_",
        "SGL_",
        "CUDA_",
        "NVIDIA_",
        "NCCL_",
        "GLOO_",
        "HF_",
        "HUGGINGFACE_",
        "TRANSFORMERS_",
        "TORCH",
    ),
    *("PYTORCH_", "TRITON_", "RAY_", "OMP_", "MASTER_", "TOKENIZERS_", "LD_LIBRARY_PATH", "LD_PRELOAD", "FLASHINFER_"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "COMPUTE_PROFILE"),
)
PORT = re.compile(r"--port[= ](\d{1,5})(?!\S)")
HOST = re.compile(r"--host[= ](\S+)")
EVERYWHERE = frozenset({"", "0.0.0.0", "::", "[::]", "localhost"})


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `started` is seconds since 1970; `log` the file that its output goes to, empty for none."""

    pid: int
    engine: str
    command: str
    port: int | None
    host: str = ""
    started: float | None = None
    container: str = ""
    log: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    workers: tuple[int, ...] = ()
    dead_workers: tuple[int, ...] = ()
    stuck_workers: tuple[int, ...] = ()
    user: int | None = None
    """The numeric id of the user that it runs as."""

    @property
    def url(self) -> str:
        """The address to ask it at from this host; empty where its port is not known."""
        host = "127.0.0.1" if self.host in EVERYWHERE else self.host
        return f"http://{host}:{self.port}" if self.port else ""


def read_servers(processes: Mapping[int, Process], root: Path = PROC) -> tuple[Server, ...]:
    """Read every server: an engine's process that was not itself begun by a process of that engine."""
    servers = (_server(pid, processes, root) for pid in sorted(processes) if _is_server(pid, processes))
    return tuple(servers)


def parse_port(command: str, engine: str) -> int | None:
    """Tell the port of a command line: the last --port, or the engine's own; None for an engine without one."""
    given = [int(port) for port in PORT.findall(command)]
    return given[-1] if given and 0 < given[-1] < 65_536 else DEFAULT_PORTS.get(engine)


def parse_host(command: str) -> str:
    """Tell the --host of a command line, empty for none."""
    given = HOST.findall(command)
    return str(given[-1]).strip("'\"") if given else ""


def _is_server(pid: int, processes: Mapping[int, Process]) -> bool:
    process = processes[pid]
    if process.state == "Z" or not engine_of(process.argv) or "::" in process.argv[0]:
        return False
    return not engine_of_tree(process.parent, processes)


def _server(pid: int, processes: Mapping[int, Process], root: Path) -> Server:
    process = processes[pid]
    engine, command = engine_of(process.argv), process.command
    children = [other for other in _descendants(pid, processes) if _works(processes[other])]
    return Server(
        pid,
        engine,
        command,
        parse_port(command, engine),
        parse_host(command),
        process.started,
        process.container,
        _log(pid, root),
        _variables(pid, root),
        tuple(children),
        tuple(other for other in children if processes[other].state == "Z"),
        tuple(other for other in children if processes[other].state == "D"),
        _user(pid, root),
    )


def _descendants(pid: int, processes: Mapping[int, Process]) -> list[int]:
    children = [other for other, process in sorted(processes.items()) if process.parent == pid and other != pid]
    return children + [deeper for child in children for deeper in _descendants(child, processes)]


def _works(process: Process) -> bool:
    """Tell a worker from a helper such as a compiler; a dead process keeps only its name."""
    return bool(engine_of(process.argv)) or process.name.startswith(("VLLM::", "sglang::", "python", "ray::"))


def _log(pid: int, root: Path) -> str:
    try:
        target = read_link(pid, 1, root)
    except Unreadable:
        return ""
    return target if target.startswith("/") and not target.startswith(("/dev/", "/proc/")) else ""


def _user(pid: int, root: Path) -> int | None:
    try:
        found = re.search(r"^Uid:\s+(\d+)", read_kernel_file(f"{pid}/status", root), re.MULTILINE)
    except Unreadable:
        return None
    return int(found[1]) if found else None


def _variables(pid: int, root: Path) -> dict[str, str]:
    try:
        return read_variables(pid, VARIABLES, root)
    except Unreadable:
        return {}
