"""Times the log scan against ripgrep with the same patterns, side by side in one run.

    python -m evals.benchmarks.log_scan [--gib 2] [--signatures N] [--rounds 3] [--folder /tmp]

Four logs: an ordinary one, the same gzipped, one that marks each line with colours, and one in which every line hits. Each
is scanned by a fresh process and by
`rg --no-unicode -c -f`, in turns; the figure that counts is the ratio of the wall times, the median of the rounds. Signatures
are the knowledge base's, filled up with made ones to N. `rg` is the package ripgrep; without it only our own times are shown.
"""

from __future__ import annotations

import argparse
import gzip
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from kb.documents import load_documents
from kb.types import Signature

ROOT = Path(__file__).parents[2]
WORDS = [
    "scheduler",
    "worker",
    "tensor",
    "cache",
    "block",
    "memory",
    "failed",
    "error",
    "invalid",
    "device",
    "driver",
    "kernel",
    "flash",
    "prefill",
    "decode",
    "shard",
]
HIT = "ERROR 11-22 20:33:01 [core.py:708] RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
GOALS = {"ordinary": 0.4, "every line hits": 1.5, "gzip": 0.5, "small": None, "coloured": None}
WORKER = """
import pickle, sys, time
signatures = pickle.load(open(sys.argv[2], "rb"))
start = time.perf_counter()
from probes.scanner import scan_files
report = scan_files([sys.argv[1]], signatures)
seconds = time.perf_counter() - start
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(seconds, sum(m.count for m in report.matches), peak)
"""


def signatures(count: int) -> list[Signature]:
    """The shipped signatures, and made ones of the same kind up to `count`."""
    shipped = [s for d in load_documents(ROOT / "kb" / "docs") if d.language == "en" for s in d.signatures]
    chance = random.Random(5)
    while len(shipped) < count:
        text = " ".join(chance.choice(WORDS) for _ in range(chance.randint(3, 7)))
        shipped.append(Signature("made", str(len(shipped)), "context", rf"{text} \((?P<n>\d+)\)", ""))
    return shipped


def line(i: int) -> str:
    """An ordinary line of a serving log."""
    clock = f"11-22 20:{i // 60 % 60:02d}:{i % 60:02d}"
    match i % 7:
        case 0:
            return (
                f"INFO {clock} [loggers.py:123] Engine 000: Avg prompt throughput: {i % 997}.3 tokens/s, Avg generation "
                f"throughput: {i % 733}.1 tokens/s, Running: {i % 31} reqs, Waiting: {i % 3} reqs, GPU KV cache usage: {i % 100}.2%"
            )
        case 1 | 2 | 3:
            return f'INFO:     10.0.{i % 255}.{i % 77}:{i % 60000} - "POST /v1/chat/completions HTTP/1.1" 200 OK'
        case 4:
            return (
                f"(APIServer pid=1) INFO {clock} [logger.py:40] Received request chatcmpl-{i * 2654435761 % 2**64:016x}: prompt: "
                f"'Summarise the memory of the scheduler', params: SamplingParams(n=1, temperature=0.7, max_tokens={i % 2048})."
            )
        case 5:
            return f"(EngineCore_DP0 pid=123) DEBUG {clock} [core.py:708] step {i} scheduled {i % 256} requests"
    return f"INFO {clock} [async_llm.py:270] Added request chatcmpl-{i * 40503 % 2**64:016x}."


def write_log(path: Path, size: int, lines: Callable[[int], str], end: str = "") -> Path:
    """A log of about `size` bytes: 200,000 lines over and over, and `end`."""
    block = "".join(f"{lines(i)}\n" for i in range(200_000)).encode()
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(block)
        file.write(end.encode())
    return path


def pack(path: Path) -> Path:
    packed = path.with_suffix(".log.gz")
    with path.open("rb") as source, gzip.open(packed, "wb", compresslevel=4) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return packed


def run(argv: Sequence[str]) -> tuple[float, float, str]:
    """Wall seconds and processor seconds of a whole process, and its output. Raises CalledProcessError."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    output = subprocess.run(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True).stdout
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, output.strip()


def compare(name: str, path: Path, ours: list[str], patterns: Path, rounds: int) -> None:
    """One row: both times in turns, their ratio, our peak memory."""
    rg = shutil.which("rg")
    theirs = [rg or "", "--no-unicode", "-c", "-f", str(patterns), *(["-z"] if path.suffix == ".gz" else []), str(path)]
    times: list[tuple[float, float, float, float]] = []
    peak = hits = 0
    for _ in range(rounds):
        seconds, processor, output = run([*ours[:3], str(path), *ours[3:]])
        times.append((seconds, processor, *(run(theirs)[:2] if rg else (float("nan"),) * 2)))
        _, hits, memory = (round(float(word)) for word in output.split())
        peak = max(peak, memory)
    ratio, of_processor = (statistics.median(row[i] / row[i + 2] for row in times) for i in (0, 1))
    goal = GOALS.get(name)
    print(
        f"{name:16} {path.stat().st_size / 1e9:5.2f} GB  ours {min(row[0] for row in times):6.2f} s  "
        f"rg {min(row[2] for row in times):6.2f} s  ratio {ratio:5.2f}{f' (goal {goal})' if goal else '':11}  "
        f"of processor time {of_processor:5.2f}  peak {peak / 1024:3.0f} MiB  hits {hits}",
        flush=True,
    )


def for_ripgrep(patterns: Iterable[str]) -> str:
    """Without names of groups, which must differ, and without backslashes before quotes, which ripgrep refuses."""
    return "".join(re.sub(r"\?P<\w+>", "?:", re.sub(r"(\\[^\"'])|\\", r"\1", p)) + "\n" for p in patterns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--gib", type=float, default=2.0, help="size of the ordinary log; the others are a quarter of it"
    )
    parser.add_argument(
        "--signatures", type=int, default=600, help="at least so many; the shipped ones are always used"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    import pickle

    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        found = signatures(options.signatures)
        (folder / "signatures").write_bytes(pickle.dumps(found))
        patterns = folder / "patterns"
        patterns.write_text(for_ripgrep(s.pattern for s in found))
        ours = [sys.executable, "-c", WORKER, str(folder / "signatures")]
        size = int(options.gib * 2**30)
        log = write_log(folder / "ordinary.log", size, line, f"{HIT}\n")
        compare("ordinary", log, ours, patterns, options.rounds)
        log.unlink()
        quarter = write_log(folder / "quarter.log", size // 4, line, f"{HIT}\n")
        compare("gzip", pack(quarter), ours, patterns, options.rounds)
        coloured = write_log(
            folder / "coloured.log", size // 4, lambda i: f"\x1b[1;36m(EngineCore pid=1)\x1b[0;0m {line(i)}"
        )
        compare("coloured", coloured, ours, patterns, options.rounds)
        every = write_log(folder / "every.log", size // 4, lambda i: f"(EngineCore_DP0 pid={i}) {HIT}")
        compare("every line hits", every, ours, patterns, options.rounds)
        small = write_log(folder / "small.log", 1, lambda i: line(i) if i < 1500 else "")
        small.write_bytes(small.read_bytes()[:200_000])
        compare("small", small, ours, patterns, options.rounds)


if __name__ == "__main__":
    main()
