"""Completion of commands, options and names, in the shells themselves where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Shell = Callable[..., str]
CALL = "import sys; sys.argv[0] = 'crashcart'; from ui.cli import main; main()"
BASH = """\
source "$HOME/.bashrc"
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_crashcart_completion crashcart
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def shell(tmp_path: Path, home: Path) -> Shell:
    """Run a shell in an empty home folder, with `crashcart` on its path; gives what it printed."""
    command = tmp_path / "bin" / "crashcart"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{CALL}" "$@"\n')
    command.chmod(0o755)
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "CRASHCART_HOME": str(home),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",  # else the shell that started pytest is meant
    }

    def run(*argv: str) -> str:
        if not shutil.which(argv[0], path=environment["PATH"]):
            pytest.skip(f"no {argv[0]} on this machine")
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_each_shell_takes_what_is_made_for_it(shell: Shell, tmp_path: Path, name: str) -> None:
    script = tmp_path / f"completion.{name}"
    script.write_text(shell("crashcart", "--show-completion", name))
    assert "_CRASHCART_COMPLETE" in script.read_text()
    shell(name, "-n", str(script))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("crashcart fl", ["flags"]),
        ("crashcart ask --no", ["--no-probes"]),
        ("crashcart kb sh", ["show"]),
        ("crashcart kb show kv-cache-too", ["kv-cache-too-small"]),
        ("crashcart probe run gpu_m", ["gpu_memory"]),
    ],
)
def test_bash_completes_once_it_is_installed(shell: Shell, words: str, found: list[str]) -> None:
    shell("crashcart", "--install-completion", "bash")
    assert shell("bash", "--norc", "-c", BASH.format(words=words)).split() == found


def test_fish_completes_with_a_sentence_for_each(shell: Shell) -> None:
    shell("fish", "-c", "true")
    shell("crashcart", "--install-completion", "fish")
    assert shell("fish", "-c", 'complete -C "crashcart che"').startswith("checkup\tRun every passive probe")


def test_zsh_is_told_the_names(shell: Shell) -> None:
    told = shell("env", "_CRASHCART_COMPLETE=complete_zsh", "_TYPER_COMPLETE_ARGS=crashcart sc", "crashcart")
    assert '"scan"' in told
