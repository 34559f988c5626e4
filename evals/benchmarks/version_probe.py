"""What it costs to learn the versions of an environment: our probe, which reads metadata, against pip and importing torch.

    python -m evals.benchmarks.version_probe OTHER/bin/python

OTHER is an environment with torch. Each way is a whole process, and the ways are run in turn; the probe alone, as one of
a checkup, is timed too. The probe also compares every requirement of the installed packages. Goal: the same versions as
pip and torch say, in less time than either.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

IMPORTING = "import torch; print(torch.__version__, torch.version.cuda or 0)"
ALONE = """
import time
from probes.types import Target
start = time.perf_counter()
from probes.versions import versions
versions(Target())
print(time.perf_counter() - start)
"""
ASKED = ("torch", "transformers", "numpy")


def run(argv: list[str], environment: dict[str, str]) -> tuple[float, float, str]:
    """(wall seconds, peak MB, standard output) of a whole process."""
    start = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, _, usage = os.wait4(process.pid, 0)
    return time.perf_counter() - start, usage.ru_maxrss / 1024, printed


def read_ours(printed: str) -> dict[str, str]:
    """The versions that the probe's facts name."""
    facts = json.loads(printed)["versions"]["facts"]
    return {name: facts[f"{name}_version"] for name in ASKED if f"{name}_version" in facts}


def read_pip(printed: str) -> dict[str, str]:
    """The versions that `pip list --format=json` names."""
    listed = {row["name"].lower(): row["version"] for row in json.loads(printed)}
    return {name: listed[name] for name in ASKED if name in listed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", type=Path, help="python of an environment with torch")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    python = str(options.python.absolute())
    crashcart = str(Path(sys.executable).parent / "crashcart")
    # The probe looks into the environment of the Python that is first on PATH.
    environment = {
        **os.environ,
        "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    commands = {
        "crashcart probe run versions": [crashcart, "probe", "run", "versions", "--json"],
        "pip list": [python, "-m", "pip", "list", "--format=json"],
        "import torch": [python, "-c", IMPORTING],
    }
    seen: dict[str, list[tuple[float, float, str]]] = {name: [] for name in commands}
    for _ in range(options.repeats):
        for name, argv in commands.items():
            seen[name].append(run(argv, environment))
    alone = [float(run([sys.executable, "-c", ALONE], environment)[2]) for _ in range(options.repeats)]
    ours = statistics.median(wall for wall, _, _ in seen["crashcart probe run versions"])
    print(f"{'':30} median s    min s   peak MB   theirs / ours")
    for name, runs in seen.items():
        median = statistics.median(wall for wall, _, _ in runs)
        low, peak = min(wall for wall, _, _ in runs), max(mb for _, mb, _ in runs)
        print(f"{name:30} {median:8.3f} {low:8.3f} {peak:9.0f} {median / ours:12.1f}×")
    print(f"the probe alone: {statistics.median(alone):.3f} s (median), its imports included")
    probe, pip = read_ours(seen["crashcart probe run versions"][-1][2]), read_pip(seen["pip list"][-1][2])
    told = seen["import torch"][-1][2].split()
    print(f"versions agree with pip: {probe == pip}, with torch itself: {probe.get('torch') == told[0]}   {probe}")


if __name__ == "__main__":
    main()
