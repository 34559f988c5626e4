"""Judges where an exception comes from, and which of many started it.

A failing server prints one failure many times: the worker's traceback, then the engine's, then the API server's, each
with the one before it as its reason. The root is the earliest exception of the best origin: an engine or worker
process before any other process, a line that names an exception without its traceback after those, then what failed
one request; sentences that only point to another process ("See root cause above") and the echo of a dead peer come
last but for the chatter of shutting down.

Within a chain the first exception counts. One is passed over: a failed look-up (KeyError, "No module named …") whose
handler, in the very function that tried it, raised an explanation; there the explanation says more than `'qwen3'`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from probes.scanner.prefixes import Line, parse_line
from probes.scanner.tracebacks import HEADER, Raised, RawTraceback, ends_message
from probes.scanner.types import Link, Origin

ORDER: tuple[Origin, ...] = ("engine", "process", "line", "request", "secondary", "noise")
_QUIET = ("TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "WARNING")
_LOOKUPS = {"KeyError", "IndexError", "LookupError", "AttributeError", "StopIteration", "StopAsyncIteration", "Empty"}
_ENGINE_PROCESS = re.compile(r"(?i)engine|worker|scheduler|rank|\b(?:DP|TP|PP|EP)\d|detokenizer|raylet")
_ENGINE_LOGGER = re.compile(
    r"(?:^|/)(?:core|engine|multiproc_executor|multiproc_worker_utils|worker\w*|ray_utils|gpu_\w+)\.py:"
)
_ENGINE_FRAME = re.compile(
    r"vllm/(?:v1/)?(?:engine/core|worker/|executor/|engine/multiprocessing/engine|model_executor/)"
    r"|sglang/srt/(?:managers/(?:scheduler|tp_worker|detokenizer)|model_executor/|model_loader/|layers/)"
)
_ENGINE_PREFACE = re.compile(
    r"EngineCore|WorkerProc failed|[Ss]cheduler hit an exception|hit an exception|Error executing method|in worker \w+|Process \S*(?:Engine|Worker|Spawn)"
)
_REQUEST = re.compile(
    r"Exception in ASGI application|Error in (?:chat|completion|preprocessing)|uvicorn/protocols/(?:http|websockets)/"
)
_NOISE = re.compile(
    r"Exception ignored in|Logging error|in <function .*__del__|resource_tracker|usage_lib|atexit|Task was destroyed"
)
_POINTS_ELSEWHERE = re.compile(
    r"(?i)engine core initialization failed|engine process failed to start|WorkerProc initialization failed"
    r"|(?:EngineDead|AsyncEngineDead|MQEngineDead)Error|background loop (?:has errored|is not running|is stopped)"
    r"|encountered an issue\. see stack trace|see (?:stack trace|root cause|error messages?) ?\(?above"
    r"|please (?:check|see) the (?:stack trace|error messages?|logs?) above|ChildFailedError|unhandled errors in a TaskGroup"
    r"|(?:scheduler|worker|child|rank \d+).{0,20} (?:is dead|died)|actor died unexpectedly|ActorDiedError|ActorUnavailableError"
    r"|Task finished unexpectedly|Executor failed|\bcancelled$|Failed core proc"
)
_PEER_GONE = re.compile(
    r"(?i)remote process exited|process exiting prematurely|connection (?:reset|closed) by peer|broken pipe"
    r"|ncclRemoteError|recvValue failed|failed to recv, got 0 bytes|ProcessGroupNCCL's watchdog"
)
_LEAVING = {"KeyboardInterrupt", "SystemExit", "GeneratorExit", "CancelledError"}
_PIPES = {"EOFError", "BrokenPipeError", "ConnectionResetError", "ZMQError", "ContextTerminated"}
_NAME = r"(?:[A-Za-z_]\w*\.)*(?:[A-Za-z_]\w*(?:Error|Exception|Interrupt|Exit|OutOfResources)|Exception)"
_ON_LINE = re.compile(rf"(?:^|(?<=[\s'\"`(:>\]]))(?P<name>{_NAME})(?:\([\w.]+\))?: (?P<message>\S.*)")
_ALONE = re.compile(rf"(?P<name>{_NAME}):?(?P<message>\s*)$")
_USAGE = re.compile(r"(?P<name>[\w./-]+: error): (?P<message>.+)")
_NATIVE = re.compile(r"(?P<name>Fatal Python error|what\(\)): +(?P<message>.+)")


class Candidate(NamedTuple):
    """An exception that may be the root: file order, line, and what it says."""

    origin: Origin
    order: int
    link: Link
    path: str


def chain_of(raw: RawTraceback) -> tuple[Raised, ...]:
    """The exceptions of a traceback from the one that started it on."""
    chain = raw.chain
    start = 0
    while start + 1 < len(chain) and _is_probe(chain[start], chain[start + 1]):
        start += 1
    return tuple(chain[start:])


def origin_of(raw: RawTraceback, chain: Sequence[Raised]) -> Origin:
    """Where a traceback comes from, by what was printed before it, by its process, its frames and its exception."""
    first, text = chain[0], raw.text
    origin = _origin_of_exception(first.name, first.message)
    if _NOISE.search(raw.preface) or origin == "noise":
        return "noise"
    if origin == "secondary":
        return origin
    if raw.key.level in _QUIET or _REQUEST.search(raw.preface) or _REQUEST.search(text):
        return "request"
    from_engine = (
        _ENGINE_PROCESS.search(raw.key.process)
        or _ENGINE_LOGGER.search(raw.key.logger)
        or _ENGINE_PREFACE.search(raw.preface)
        or _ENGINE_FRAME.search(text)
    )
    return "engine" if from_engine else "process"


def exception_on(text: str) -> tuple[Origin, str, str] | None:
    """The exception that one log line names without a traceback: origin, name, message; None for warnings and for none."""
    line = parse_line(text)
    if line.level in _QUIET or HEADER in text:
        return None
    usage = _USAGE.match(line.text)
    found = usage or _NATIVE.search(line.text) or _ALONE.match(line.text) or _ON_LINE.search(line.text)
    if not found or found["name"].endswith("Warning"):
        return None
    name = "terminate called" if found["name"] == "what()" else found["name"]
    message = found["message"].strip()
    origin = _origin_of_exception(name, [message])
    return ("process" if usage and origin == "line" else origin), name, message


def goes_on(first: str, text: str) -> bool:
    """Whether a line can belong to the message of the exception that the line `first` names."""
    began, line = parse_line(first), parse_line(text)
    same = (began.container, began.process, began.logger) == (line.container, line.process, line.logger)
    return same and bool(line.text.strip()) and not ends_message(line.text)


def choose(candidates: Iterable[Candidate]) -> Candidate | None:
    """The earliest of the best origin; None where there is nothing but noise."""
    serious = (c for c in candidates if c.origin != "noise")
    return min(serious, key=lambda c: (ORDER.index(c.origin), c.order, c.link.line), default=None)


def _origin_of_exception(name: str, message: Sequence[str]) -> Origin:
    plain = name.rpartition(".")[2]
    said = " ".join([plain, *message])
    if plain in _LEAVING:
        return "noise"
    if plain in _PIPES or _POINTS_ELSEWHERE.search(said) or _PEER_GONE.search(said):
        return "secondary"
    return "line"


def _is_probe(earlier: Raised, later: Raised) -> bool:
    """Whether `earlier` is only a look-up that failed, which `later` explains; or a cancellation, which carries a timeout."""
    name = earlier.name.rpartition(".")[2]
    if name in _LEAVING:
        return True
    if later.relation != "context":
        return False
    absent = name in ("ImportError", "ModuleNotFoundError") and earlier.message[0].startswith("No module named")
    tried_here = earlier.first is not None and earlier.first == later.last
    return (name in _LOOKUPS or absent) and tried_here


def stream_of(line: Line) -> str:
    """The process a line was printed by, with its container, for a person."""
    return " ".join(part for part in (line.container, line.process) if part)
