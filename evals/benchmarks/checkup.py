"""Whole-process time of `crashcart checkup`: cold on this machine, and with five probes whose programs hang.

    python -m evals.benchmarks.checkup --peer OTHER/bin/gpumedic --peer "OTHER/bin/vllm-doctor diagnose --url URL"

A peer is another tool's command line, run in turn with ours. Goals: ≤ 0.6 s without a GPU; ≤ 2.6 s under a deadline of 2 s
with five hung programs that ignore SIGTERM and have a child each, none of which is left afterwards.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HUNG = 5
DEADLINE_SECONDS = 2.0
GONE_SECONDS = 0.5
PROBE = '''
from probes.reading import programs
from probes.registry import probe
from probes.types import ProbeResult

SCRIPT = "trap '' TERM; echo $$ > {note}; sleep 600 & echo $! >> {note}; wait; sleep 600"


@probe()
def {name}(target):
    """Start a program that hangs."""
    programs._run(("/bin/sh", "-c", SCRIPT), 60.0)
    return ProbeResult("{name}", "ok", "It ended.")
'''
LAUNCH = "import sys, probes; probes.__path__.append(sys.argv.pop(1)); from ui.cli import main; main()"


class Run(NamedTuple):
    """A whole process: wall and processor seconds, peak memory, exit code."""

    wall: float
    cpu: float
    peak_mb: float
    code: int


def run(argv: list[str]) -> Run:
    """Run a command to its end."""
    start = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    return Run(wall, cpu, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status))


def write_hung_probes(folder: Path) -> None:
    """Probes whose programs hang; each program notes its own process and its child's."""
    for number in range(HUNG):
        name = f"hung_{number}"
        (folder / f"{name}.py").write_text(PROBE.format(name=name, note=folder / f"{name}.pids"))


def alive(folder: Path) -> list[int]:
    """The noted processes that still run, zombies not counted."""
    pids = [int(word) for note in folder.glob("*.pids") for word in note.read_text().split()]
    return [pid for pid in pids if is_running(pid)]


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def hang() -> tuple[float, float, int, int]:
    """One checkup with the hung probes: (wall seconds, seconds until all are gone, started, left after half a second)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_hung_probes(folder)
        argv = [sys.executable, "-c", LAUNCH, name, "checkup", "--json", "--seconds", str(DEADLINE_SECONDS)]
        wall = run(argv).wall
        ended = time.perf_counter()
        while alive(folder) and time.perf_counter() - ended < GONE_SECONDS:
            time.sleep(0.01)
        started = sum(len(note.read_text().split()) for note in folder.glob("*.pids"))
        return wall, time.perf_counter() - ended, started, len(alive(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--peer", action="append", default=[], metavar="COMMAND", help="another tool's command line")
    options = parser.parse_args()
    crashcart = str(Path(sys.executable).parent / "crashcart")
    commands = {"python -c pass": [sys.executable, "-c", "pass"], "crashcart checkup": [crashcart, "checkup"]}
    commands |= {Path(shlex.split(peer)[0]).name: shlex.split(peer) for peer in options.peer}
    seen: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(options.repeats):
        for name, argv in commands.items():
            seen[name].append(run(argv))
    ours = statistics.median(each.wall for each in seen["crashcart checkup"])
    print(f"{'':20} median s    min s    cpu s   peak MB   exit   theirs / ours")
    for name, runs in seen.items():
        median, cpu = (statistics.median(column) for column in zip(*((r.wall, r.cpu) for r in runs), strict=True))
        low, peak = min(each.wall for each in runs), max(each.peak_mb for each in runs)
        print(f"{name:20} {median:8.3f} {low:8.3f} {cpu:8.3f} {peak:9.0f} {runs[-1].code:6} {median / ours:12.2f}×")
    hung = [hang() for _ in range(max(3, options.repeats // 3))]
    walls = sorted(wall for wall, _, _, _ in hung)
    print(
        f"{HUNG} hung programs under {DEADLINE_SECONDS:g} s: {statistics.median(walls):.2f} s (worst {walls[-1]:.2f}); "
        f"{hung[-1][2]} processes started, gone {max(gone for _, gone, _, _ in hung):.3f} s after the end, {sum(left for *_, left in hung)} left"
    )


if __name__ == "__main__":
    main()
