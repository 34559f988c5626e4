"""Where an answer's time went, for an OpenTelemetry collector: off until an endpoint is set.

Made from the stream of events that every surface reads, so that nothing else knows of it. A trace has one span for the answer and
one for each finished step, with statuses, counts, tokens and document ids; never words of a question, a log, a reading or an answer.
Whoever asks only notes times: the packages of the extra `tracing` are imported, and the collector is spoken to, in a thread of its own.
"""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from assistant.types import Answer, Event
from assistant.wording import say

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

EXPORTER = "opentelemetry.exporter.otlp.proto.http"
PATH = "/v1/traces"
SEND_SECONDS = 2.0
"""How long a collector may take for a trace."""
EXIT_SECONDS = 10.0
"""How long the end of the process waits at most for the traces before it: on a busy host the imports alone take seconds."""
WAITING = 32
"""The traces that may wait for a collector; more are dropped."""
CORE = ("scan", "search", "model")
"""The steps that are neither a probe, a call of a model nor one of its tools."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Span:
    """A step as a collector will see it: its ends in nanoseconds since 1970, and plain attributes."""

    name: str
    start: int
    end: int
    attributes: dict[str, Any]
    is_call: bool = False
    error: str = ""


@dataclass(slots=True)
class Trace:
    """One answer: its own span, and those of its steps."""

    answer: Span
    steps: list[Span] = field(default_factory=list)


def traced(events: Generator[Event, None, None], endpoint: str) -> Iterator[Event]:
    """The events, and their trace sent when they end. What stands in the way of it is a warning of the answer."""
    trouble = trouble_of(endpoint)
    collector = None if trouble else sender(address_of(endpoint))
    start, steps = time.time_ns(), list[Span]()
    attributes: dict[str, Any] = {"crashcart.answer.status": "given up"}
    error = ""
    try:
        for event in events:
            if event.answer is not None:
                attributes = answer_attributes(event.answer)
                if trouble:
                    warning = say(trouble, event.answer.lang, endpoint=endpoint)
                    event = replace(event, answer=replace(event.answer, warnings=(*event.answer.warnings, warning)))
            elif event.kind == "step_finished" and event.step is not None:
                steps.append(span_of(event, time.time_ns()))
            yield event
    except Exception as raised:
        error = type(raised).__name__
        raise
    finally:
        events.close()
        if collector is not None:
            collector.send(Trace(Span("answer", start, time.time_ns(), attributes, error=error), steps))


def trouble_of(endpoint: str) -> str:
    """Why nothing can be sent, as a key of the wording; empty where it can."""
    try:
        parts = urlsplit(endpoint)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address:
        return "no_collector"
    return "" if find_spec(EXPORTER) else "no_tracing"


def address_of(endpoint: str) -> str:
    """Where traces go: the standard path below the endpoint, unless it is given."""
    bare = endpoint.rstrip("/")
    return bare if bare.endswith(PATH) else bare + PATH


def answer_attributes(answer: Answer) -> dict[str, Any]:
    """What an answer came to, in counts and ids."""
    kinds = Counter(e.kind for e in answer.evidence)
    return {
        "crashcart.answer.status": answer.status,
        "crashcart.answer.language": answer.lang,
        "crashcart.answer.documents": [d.id for d in answer.diagnoses],
        "crashcart.answer.warnings": len(answer.warnings),
        **{f"crashcart.answer.evidence.{kind}": count for kind, count in sorted(kinds.items())},
    }


def span_of(event: Event, now: int) -> Span:
    """A step that has just finished, under the names of OpenTelemetry's conventions for generative AI where it has some."""
    step, spent = event.step, event.spent
    assert step is not None
    start = now - int(step.seconds * 1e9)
    attributes: dict[str, Any] = {"crashcart.step.status": step.status}
    if spent is not None:
        attributes |= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",  # the protocol; who speaks it is not known
            "gen_ai.request.model": spent.model,
            "gen_ai.usage.input_tokens": spent.tokens_in,
            "gen_ai.usage.output_tokens": spent.tokens_out,
        }
        return Span(f"chat {spent.model}", start, now, attributes, is_call=True)
    if step.name in CORE or step.name.startswith("probe "):
        return Span(step.name, start, now, attributes)
    attributes |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": step.name}
    return Span(f"execute_tool {step.name}", start, now, attributes)


class Sender:
    """Sends traces to one address, one after the other, in its own thread."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._waiting: queue.Queue[Trace | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def send(self, trace: Trace) -> None:
        """Leave a trace to the thread; where too many wait, it is dropped."""
        try:
            self._waiting.put_nowait(trace)
        except queue.Full:
            logger.warning("The collector at %s does not keep up: a trace is dropped.", self.address)

    def close(self, seconds: float = EXIT_SECONDS) -> None:
        """Wait so long for what is still to be sent."""
        try:
            self._waiting.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _run(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import SpanExportResult

        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())  # one line below says it all
        exporter = OTLPSpanExporter(self.address, timeout=SEND_SECONDS)
        spans = Recorder()
        was_sent = True
        while (trace := self._waiting.get()) is not None:
            is_sent = exporter.export(spans.of(trace)) is SpanExportResult.SUCCESS
            if was_sent and not is_sent:
                logger.warning("The collector at %s does not take traces.", self.address)
            was_sent = is_sent
        exporter.shutdown()  # type: ignore[no-untyped-call]


class Recorder:
    """Makes OpenTelemetry's spans of a trace. Its sampler and its resource are those of the standard OTEL_ variables."""

    def __init__(self) -> None:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        # Not Resource.create: it asks a pool of threads, and none can be made once the process is ending.
        resource = Resource({"service.name": "crashcart"}).merge(OTELResourceDetector().detect())
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._memory = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        self._tracer = provider.get_tracer("crashcart")

    def of(self, trace: Trace) -> tuple[ReadableSpan, ...]:
        """The spans of a trace, none where the sampler takes none."""
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, set_span_in_context

        self._memory.clear()
        root = self._start(trace.answer, Context(), SpanKind.INTERNAL)
        inside = set_span_in_context(root, Context())
        for step in trace.steps:
            self._start(step, inside, SpanKind.CLIENT if step.is_call else SpanKind.INTERNAL).end(step.end)
        root.end(trace.answer.end)
        return self._memory.get_finished_spans()

    def _start(self, span: Span, context: Any, kind: Any) -> Any:
        from opentelemetry.trace import StatusCode

        made = self._tracer.start_span(span.name, context, kind, span.attributes, start_time=span.start)
        if span.error:
            made.set_attribute("error.type", span.error)
            made.set_status(StatusCode.ERROR)
        return made


@cache
def sender(address: str) -> Sender:
    """The one sender of this process to an address. The end of the process waits a little for it."""
    made = Sender(address)
    atexit.register(made.close)
    return made
