"""One home folder, library and index for the whole run; nothing of the person who runs it is read or written.

No test reaches another machine, nor does anything that one starts: whatever tries fails the test.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assistant.assistant import Assistant
from assistant.settings import Settings
from tests.offline import Guard

GUARD = Guard()
LOOKS_FOR_ROUTES = "test_browser.py"  # Chromium connects a socket, sending nothing, to see whether there is IPv6

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a gate in the background ignores Ctrl-C, and so would its children
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def assistant(home: Path) -> Assistant:
    return Assistant(Settings(home=str(home)))


def pytest_report_header() -> str:
    if GUARD.is_closed:
        return "network: loopback alone, for this process and all that it starts"
    return "network: guarded in this process alone, the kernel allows no namespace"


@pytest.fixture
def guard() -> Guard:
    return GUARD


@pytest.fixture(autouse=True)
def _no_way_out(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    tried = GUARD.take()
    assert not tried or request.path.name == LOOKS_FOR_ROUTES, f"reached for another machine: {tried}"


@pytest.fixture(autouse=True)
def _own_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("CRASHCART_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CRASHCART_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def crashcart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: (exit code, standard output, standard error)."""
    from ui.cli import main

    def run(*argv: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["crashcart", *argv])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        code = left.value.code
        return (code if isinstance(code, int) else 0), out, err

    return run
