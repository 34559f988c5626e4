"""A running `crashcart serve` for tests: the real process on a loopback port of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

COMMAND = [sys.executable, "-c", "import sys; sys.argv[0] = 'crashcart'; from ui.cli import main; main()", "serve"]


@contextmanager
def serving(home: Path, **settings: str) -> Iterator[str]:
    """Start the server with settings by name (`token="…"`), give its address, and end it."""
    host = settings.get("host", "127.0.0.1")
    with socket.socket() as trial:
        trial.bind((host, 0))
        port = trial.getsockname()[1]
    environment = {n: v for n, v in os.environ.items() if not n.startswith("CRASHCART_")}
    environment |= {"CRASHCART_HOME": str(home)} | {f"CRASHCART_{n.upper()}": v for n, v in settings.items()}
    server = subprocess.Popen([*COMMAND, "--port", str(port)], env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        url = f"http://{host}:{port}"
        assert url in server.stdout.readline()
        httpx.get(f"{url}/readyz", timeout=60)
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)
        server.stdout.close()
