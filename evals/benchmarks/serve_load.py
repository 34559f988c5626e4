"""A running `crashcart serve`: how soon it answers, and how it bears many conversations at once, with the offline writer.

    python -m evals.benchmarks.serve_load --seconds 120 --streams 100

Prints the time from the start of the process to /healthz and to the page, then of concurrent streaming conversations over
/api/v1/ask/stream the errors, wrong answers and the time to the first event, then memory before and after many conversations.
Goals: /healthz ≤ 0.8 s, page ≤ 3.5 s, no error, first event ≤ 300 ms at p95, answers correct, memory flat over 1,000 conversations.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).parent.parent.parent
SERVE = [sys.executable, "-c", "import sys; sys.argv[0] = 'crashcart'; from ui.cli import main; main()", "serve"]
ASKED = (
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "gpu-out-of-memory"),
    (
        "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in KV cache (20304).",
        "kv-cache-too-small",
    ),
)
START_SECONDS = 120


@dataclass
class Seen:
    """What the streams of a run came to."""

    first_seconds: list[float] = field(default_factory=list)
    whole_seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    wrong: int = 0

    def summary(self) -> str:
        if not self.first_seconds:
            return f"no answer; errors: {self.errors[:3]}"
        first, whole = sorted(self.first_seconds), sorted(self.whole_seconds)
        return (
            f"{len(whole)} conversations, {len(self.errors)} errors, {self.wrong} wrong; "
            f"first event p50 {1000 * statistics.median(first):.0f} ms, p95 {1000 * first[int(0.95 * len(first))]:.0f} ms; "
            f"whole answer p50 {1000 * statistics.median(whole):.0f} ms, p95 {1000 * whole[int(0.95 * len(whole))]:.0f} ms"
            + (f"; {self.errors[0]}" if self.errors else "")
        )


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def start(home: str, port: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "CRASHCART_HOME": home}
    return subprocess.Popen([*SERVE, "--port", str(port)], env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)


def wait_for(url: str, began: float) -> float:
    """Seconds from `began` until the address answers with 200."""
    while time.perf_counter() - began < START_SECONDS:
        try:
            if httpx.get(url, timeout=START_SECONDS).status_code == 200:
                return time.perf_counter() - began
        except httpx.TransportError:
            time.sleep(0.005)
    raise TimeoutError(f"{url} did not answer within {START_SECONDS} s")


async def converse(client: httpx.AsyncClient, seen: Seen, thread: str, place: int) -> None:
    """One question asked and its stream read to the end."""
    question, document = ASKED[place % len(ASKED)]
    body = {"question": f"why does it stop? {question}", "use_probes": False, "thread": thread}
    began, first, answer = time.perf_counter(), 0.0, None
    try:
        async with client.stream("POST", "/api/v1/ask/stream", json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("event: ") and not first:
                    first = time.perf_counter() - began
                if line.startswith("data: "):
                    answer = json.loads(line.removeprefix("data: ")).get("answer") or answer
    except httpx.HTTPError as error:
        seen.errors.append(f"{type(error).__name__}: {error}")
        return
    seen.first_seconds.append(first)
    seen.whole_seconds.append(time.perf_counter() - began)
    seen.wrong += not answer or not answer["diagnoses"] or answer["diagnoses"][0]["id"] != document


async def load(url: str, streams: int, seconds: float, pause_seconds: float) -> Seen:
    """So many people, each asking, reading the answer, and asking again after a pause, for so long."""
    seen, end = Seen(), time.perf_counter() + seconds
    limits = httpx.Limits(max_connections=streams)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits, trust_env=False) as client:

        async def person(number: int) -> None:
            dice = random.Random(number)
            await asyncio.sleep(dice.uniform(0, pause_seconds))
            place = number
            while time.perf_counter() < end:
                await converse(client, seen, f"load-{number}-{place}", place)
                place += 1
                await asyncio.sleep(dice.uniform(0.5, 1.5) * pause_seconds)

        await asyncio.gather(*(person(number) for number in range(streams)))
    return seen


async def many(url: str, conversations: int) -> Seen:
    """So many conversations, eight at a time."""
    seen, gate = Seen(), asyncio.Semaphore(8)
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:

        async def one(number: int) -> None:
            async with gate:
                await converse(client, seen, f"many-{number}", number)

        await asyncio.gather(*(one(number) for number in range(conversations)))
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--pause", type=float, default=10.0, help="seconds that a person reads before asking again")
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--starts", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        subprocess.run([*SERVE[:-1], "kb", "build"], env={**os.environ, "CRASHCART_HOME": home}, cwd=ROOT, check=True)
        for number in range(options.starts):
            port, began = free_port(), time.perf_counter()
            server = start(home, port)
            url = f"http://127.0.0.1:{port}"
            health = wait_for(f"{url}/healthz", began)
            page = wait_for(f"{url}/", began)
            print(
                f"start: /healthz {health:.2f} s, page {page:.2f} s, load average {os.getloadavg()[0]:.1f}", flush=True
            )
            if number < options.starts - 1:
                stop(server)
        wait_for(f"{url}/readyz", began)
        print(
            f"{options.streams} streams:",
            asyncio.run(load(url, options.streams, options.seconds, options.pause)).summary(),
        )
        process = psutil.Process(server.pid)
        asyncio.run(many(url, 50))
        before = process.memory_info().rss
        seen = asyncio.run(many(url, options.conversations))
        after = process.memory_info().rss
        print(f"memory: {before >> 20} MiB, after {options.conversations} more {after >> 20} MiB; {seen.summary()}")
        stop(server)


def stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGTERM)
    server.wait(60)


if __name__ == "__main__":
    main()
