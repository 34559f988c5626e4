"""Only one module starts programs, and what it starts is bounded in time, in bytes and in what reaches it."""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from probes.reading import programs
from probes.reading.programs import ProgramFailed, find_program, kernel_journal, query_gpus

ROOT = Path(__file__).parent.parent
HOMES = {
    "probes/reading/programs.py",
    # Takes the flags of a release out of its wheel, which only pip knows to find; the catalogue's maker runs it.
    "kb/catalog/wheel.py",
}
STARTING_MODULES = {"subprocess", "pty", "multiprocessing", "popen2", "commands"}
STARTING_CALLS = ("system", "popen", "exec", "spawn", "posix_spawn", "fork", "startfile", "create_subprocess")
SOURCES = sorted(path for layer in ("kb", "probes", "assistant", "ui") for path in (ROOT / layer).rglob("*.py"))


def starting_names(tree: ast.AST) -> set[str]:
    """Names in a syntax tree that start programs: modules that are for it, and functions of os and asyncio."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.partition(".")[0] in STARTING_MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.partition(".")[0] in STARTING_MODULES:
                found.add(node.module)
            elif node.module in ("os", "asyncio"):
                found |= {alias.name for alias in node.names if alias.name.startswith(STARTING_CALLS)}
        elif (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("os", "asyncio")
        ):
            if node.attr.startswith(STARTING_CALLS):
                found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.keyword) and node.arg == "shell":
            found.add("shell=")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_module_starts_programs(path: Path) -> None:
    if str(path.relative_to(ROOT)) not in HOMES:
        assert starting_names(ast.parse(path.read_text("utf-8"))) == set()


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess",
        "from subprocess import run",
        "import os; os.system('true')",
        "import os; os.execvp('true', [])",
        "from os import posix_spawn",
        "import asyncio; asyncio.create_subprocess_exec('true')",
        "import multiprocessing.pool",
        "f(shell=True)",
    ],
)
def test_the_check_sees_every_way_to_start_a_program(source: str) -> None:
    assert starting_names(ast.parse(source))


def run_python(code: str, **bounds: object) -> programs.Output:
    return programs._run((sys.executable, "-c", code), **bounds)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: object, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


def test_output_errors_and_exit_code_are_kept_apart() -> None:
    output = run_python("import sys; print('said'); print('wrong', file=sys.stderr); sys.exit(3)")
    assert (output.text, output.errors, output.exit_code) == ("said\n", "wrong\n", 3)
    assert not output.timed_out
    assert not output.truncated


def test_a_program_gets_no_input_and_a_minimal_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    output = run_python("import os, sys; print(repr(sys.stdin.read()), sorted(os.environ), os.getcwd())")
    assert output.text.startswith("'' ['LC_ALL', 'LD_LIBRARY_PATH', 'PATH'")
    assert "HF_TOKEN" not in output.text
    assert output.text.rstrip().endswith("/")


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
print(os.getpid(), child, flush=True)
time.sleep(60)
"""


def test_the_deadline_ends_a_whole_group_that_ignores_a_polite_request() -> None:
    output = run_python(STUBBORN, deadline_seconds=1.0)
    assert output.timed_out
    assert output.exit_code is None
    pids = [int(pid) for pid in output.text.split()]
    assert len(pids) == 2
    assert wait_for(lambda: not any(alive(pid) for pid in pids))


def test_a_child_that_outlives_the_program_and_holds_its_pipe_is_neither_waited_for_nor_left() -> None:
    code = "import os, time\nchild = os.fork()\nif child == 0: time.sleep(60)\nelse: print(child, flush=True)"
    output = run_python(code, deadline_seconds=30.0)
    assert output.exit_code == 0
    assert not output.timed_out
    assert wait_for(lambda: not alive(int(output.text)))


def test_the_start_is_kept_and_the_program_stopped_at_the_cap() -> None:
    output = run_python("while True: print('x' * 999)", cap_bytes=10_000, deadline_seconds=30.0)
    assert (len(output.text), output.truncated, output.timed_out) == (10_000, True, False)


def test_the_end_is_kept_where_that_is_asked_for() -> None:
    output = run_python("for n in range(100_000): print(n)", cap_bytes=1_000, keep="end")
    assert output.text.endswith("99998\n99999\n")
    assert len(output.text) == 1_000
    assert (output.exit_code, output.truncated) == (0, True)


PEAK = """
import resource, sys
from probes.reading import programs
script = "import sys\\nfor _ in range(800): sys.stdout.write('y' * 65535 + chr(10))"
programs._run((sys.executable, "-c", "print(1)"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
output = programs._run((sys.executable, "-c", script), keep=sys.argv[1], deadline_seconds=60)
print(len(output.text), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("keep", ["start", "end"])
def test_fifty_megabytes_of_output_take_less_than_four_of_memory(keep: str) -> None:
    ran = subprocess.run([sys.executable, "-c", PEAK, keep], cwd=ROOT, capture_output=True, text=True, check=True)
    length, peak_kib = map(int, ran.stdout.split())
    assert length == programs.CAP_BYTES
    assert peak_kib <= 4 * 1024


LEAVING = """
import sys, threading
from probes.reading import programs
code = "import os, time; open(os.environ['LC_ALL'] and %r, 'w').write(str(os.getpid())); time.sleep(60)"
threading.Thread(target=programs._run, args=((sys.executable, "-c", code % sys.argv[1]), 60.0), daemon=True).start()
while not programs._live_groups: pass
import os, time
while not (os.path.exists(sys.argv[1]) and open(sys.argv[1]).read()): time.sleep(0.01)
"""


def test_leaving_ends_what_still_runs(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    subprocess.run([sys.executable, "-c", LEAVING, str(note)], cwd=ROOT, check=True, timeout=30)
    assert wait_for(lambda: not alive(int(note.read_text())))


def test_programs_are_found_on_the_fixed_path_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = tmp_path / "nvidia-smi-of-nobody"
    planted.write_text("#!/bin/sh\n")
    planted.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ProgramFailed, match="nvidia-smi-of-nobody is not installed here"):
        find_program("nvidia-smi-of-nobody")
    assert os.path.isabs(find_program("env"))


def test_arguments_are_of_a_fixed_set_and_within_bounds() -> None:
    with pytest.raises(ValueError, match="not fields"):
        query_gpus(("name", "name --help; reboot"))
    with pytest.raises(ValueError, match="whole number from 1 to"):
        kernel_journal(lines=0)
    with pytest.raises(ValueError, match="whole number from 1 to"):
        kernel_journal(days="7d; reboot")  # type: ignore[arg-type]


def test_a_failure_is_one_sentence_with_the_programs_own_words() -> None:
    with pytest.raises(ProgramFailed, match=r"^env ended with exit code 12[57]: .*no-such-program"):
        programs._checked("env", "/no-such-program")
