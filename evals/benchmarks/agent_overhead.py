"""What the agent adds to the time that a language model itself takes, per answer.

    python -m evals.benchmarks.agent_overhead

A loopback endpoint answers after a fixed delay, so that all above the delays is ours: the offline answer, LangChain, HTTP, grounding.
Printed are medians for an answer with one call of the model, and one with two tool calls before it; and what the first answer of
a process pays for imports.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOG = (
    "INFO 11-22 10:00:00 [api_server.py:1896] vLLM API server version 0.11.0\n"
    "ValueError: To serve at least one request with the models's max seq len (131072), (4.54 GiB KV cache is needed, which is "
    "larger than the available KV cache memory (1.71 GiB).\n"
)
TEXT = "The KV cache needs 4.54 GiB, and 1.71 GiB is left [L1]. Lower `--max-model-len` to what fits [K2].\n\n```bash\nvllm serve MODEL --max-model-len FITTING\n```"


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    """One event of a stream of chat completions."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(body)}\n\n".encode()


def fitting(prompt: str) -> str:
    """The context length that the prompt's first fix names."""
    found = re.search(r"vllm serve MODEL --max-model-len (\d+)", prompt)
    return found[1] if found else "FITTING"


@contextmanager
def endpoint(delay: float, tool_calls: int) -> Iterator[str]:
    """An endpoint that answers each call after `delay` seconds: so many tool calls one after the other, then the text."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            done = sum(message["role"] == "tool" for message in body["messages"])
            time.sleep(delay)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            if done < tool_calls:
                call = {"name": "search_knowledge", "arguments": json.dumps({"query": f"kv cache {done}"})}
                told = {"index": 0, "id": f"call_{done}", "type": "function", "function": call}
                self.wfile.write(chunk({"role": "assistant", "tool_calls": [told]}) + chunk({}, "tool_calls"))
            else:
                text = TEXT.replace("FITTING", fitting(json.dumps(body["messages"])))
                self.wfile.write(chunk({"role": "assistant", "content": text}) + chunk({}, "stop"))
            self.wfile.write(b"data: [DONE]\n\n")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def seconds_of(assistant: Any, question: Any) -> float:
    """The time of one answer; it must be the model's."""
    start = time.perf_counter()
    answer = assistant.answer(question)
    taken = time.perf_counter() - start
    if any("offline answer" in warning for warning in answer.warnings):
        raise SystemExit(f"the model's text was not shown: {answer.warnings}")
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--delay", type=float, default=0.2, help="seconds that the endpoint takes for each call")
    options = parser.parse_args()
    from assistant.assistant import Assistant
    from assistant.settings import Settings
    from assistant.types import Question

    question = Question(text="vLLM stops at start-up, why?", logs={"vllm.log": LOG}, use_probes=False)
    with tempfile.TemporaryDirectory() as home:
        offline = Assistant(Settings(home=home))
        offline.answer(question)
        offline.answer(Question(text="How can I lower the time to first token?", use_probes=False))  # builds the index
        plain = statistics.median(seconds_of(offline, question) for _ in range(options.repeats))
        print(f"offline answer: {1000 * plain:.1f} ms (median of {options.repeats})")
        for tool_calls in (0, 2):
            with endpoint(options.delay, tool_calls) as url:
                assistant = Assistant(Settings(home=home, model=f"m@{url}"))
                first = seconds_of(assistant, question)
                times = [seconds_of(assistant, question) for _ in range(options.repeats)]
            waited = (tool_calls + 1) * options.delay
            print(
                f"{tool_calls} tool calls: model {1000 * waited:.0f} ms; over it {1000 * (statistics.median(times) - waited):.0f} ms "
                f"median, {1000 * (min(times) - waited):.0f} ms at least; first answer {1000 * (first - waited):.0f} ms"
            )


if __name__ == "__main__":
    main()
