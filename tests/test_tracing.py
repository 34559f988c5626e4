"""Traces at a real OTLP receiver on loopback: what is in them, what never is, and that a collector cannot hold anything up."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from assistant.assistant import Assistant
from assistant.settings import Settings, load_settings
from assistant.tracing import WAITING, Sender, Span, Trace, sender
from assistant.types import Answer, Question
from tests.model_server import Reply, model_server
from tests.test_agent_faults import GOOD, LOG, QUESTION, closed_port

ROOT = Path(__file__).parent.parent
HOST = {"gpu_memory": {"status": "ok", "summary": "GPU 0 has 1.71 GiB free.", "facts": {"gpu_free_gib": 1.71}}}


@dataclass
class Collector:
    """A receiver and what it received; while `silent` it answers nothing."""

    url: str = ""
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    came: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def spans(self) -> list[Any]:
        """Every span received."""
        told = [ExportTraceServiceRequest.FromString(body) for _, body in self.requests]
        return [s for t in told for r in t.resource_spans for scope in r.scope_spans for s in scope.spans]


@contextmanager
def collecting(silent: bool = False, status: int = 200) -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.requests.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            collector.came.set()
            if silent:
                collector.over.wait(60)
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def attributes(span: Any) -> dict[str, Any]:
    def plain(value: AnyValue) -> Any:
        kind = value.WhichOneof("value")
        return [plain(v) for v in value.array_value.values] if kind == "array_value" else getattr(value, str(kind))

    return {a.key: plain(a.value) for a in span.attributes}


def asked(home: Path, collector: Collector, question: Question = QUESTION, **settings: Any) -> Answer:
    """An answer, and its trace received."""
    answer = Assistant(Settings(home=str(home), otlp_endpoint=collector.url, **settings)).answer(question)
    sender(f"{collector.url}/v1/traces").close(30)
    return answer


def test_an_answer_is_a_span_with_one_for_each_step(home: Path) -> None:
    with collecting() as collector:
        answer = asked(home, collector, Question(text=QUESTION.text, logs=QUESTION.logs, host=HOST))
    assert not answer.warnings and [path for path, _ in collector.requests] == ["/v1/traces"]
    root = next(s for s in collector.spans() if not s.parent_span_id)
    steps = [s for s in collector.spans() if s is not root and s.parent_span_id == root.span_id]
    assert root.name == "answer" and [s.name for s in steps] == [s.name for s in answer.steps]
    assert len(steps) + 1 == len(collector.spans()) and {s.trace_id for s in steps} == {root.trace_id}
    assert all(root.start_time_unix_nano <= s.end_time_unix_nano <= root.end_time_unix_nano for s in steps)
    told = attributes(root)
    assert told["crashcart.answer.status"] == "diagnosed" and told["crashcart.answer.evidence.log"] >= 1
    assert told["crashcart.answer.documents"] == [d.id for d in answer.diagnoses]


def test_calls_of_a_model_tell_their_tokens_and_tools_their_names(home: Path) -> None:
    replies = [Reply(calls=(("scan_log", '{"name": "vllm.log"}'),)), Reply(GOOD)]
    with collecting() as collector, model_server(replies) as server:
        asked(home, collector, model=f"scripted@{server.url}")
    spans = {s.name: attributes(s) for s in collector.spans()}
    assert [s.name for s in collector.spans()].count("chat scripted") == 2 and "model" in spans
    assert spans["execute_tool scan_log"]["gen_ai.tool.name"] == "scan_log"
    call = spans["chat scripted"]
    assert (call["gen_ai.operation.name"], call["gen_ai.request.model"]) == ("chat", "scripted")
    assert (call["gen_ai.usage.input_tokens"], call["gen_ai.usage.output_tokens"]) == (1000, 50)


def test_no_words_leave_with_a_trace(home: Path) -> None:
    question = Question(
        text="Why does the zebra server stop?", logs={"giraffe.log": LOG}, host=HOST, command="vllm serve okapi"
    )
    replies = [Reply(calls=(("scan_log", '{"name": "giraffe.log"}'),)), Reply(GOOD)]
    with collecting() as collector, model_server(replies) as server:
        answer = asked(
            home, collector, question, model=f"scripted@{server.url}", model_key="sk-walrus-0123456789abcdef"
        )
    sent = b"".join(body for _, body in collector.requests).decode("utf-8", "replace")
    words = ("zebra", "giraffe", "okapi", "walrus", "4.54", "131072", "1.71 GiB", server.url)
    assert not [w for w in words if w in sent] and answer.diagnoses[0].id in sent


def test_an_answer_given_up_is_told_as_such(home: Path) -> None:
    with collecting() as collector:
        stream = Assistant(Settings(home=str(home), otlp_endpoint=collector.url)).ask(QUESTION)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        sender(f"{collector.url}/v1/traces").close(30)
    (root,) = [s for s in collector.spans() if not s.parent_span_id]
    assert attributes(root)["crashcart.answer.status"] == "given up"


def test_a_collector_that_hangs_or_refuses_or_is_not_there_holds_nothing_up(home: Path) -> None:
    offline = Assistant(Settings(home=str(home))).answer(QUESTION)
    with collecting(silent=True) as hanging, collecting(status=500) as refusing:
        for url in (hanging.url, refusing.url, f"http://127.0.0.1:{closed_port()}"):
            assistant = Assistant(Settings(home=str(home), otlp_endpoint=url))
            answers = [assistant.answer(QUESTION) for _ in range(3)]
            assert all(a.text == offline.text and not a.warnings for a in answers)
        assert hanging.came.wait(60)


def test_traces_that_nobody_takes_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    with collecting(silent=True) as collector:
        stuck = Sender(f"{collector.url}/v1/traces")
        for _ in range(WAITING + 2):
            stuck.send(Trace(Span("answer", 0, 1, {})))
        assert "does not keep up" in caplog.text
        stuck.close(0.1)


def test_an_ended_process_has_sent_its_trace_and_never_waits_long(home: Path) -> None:
    script = (
        "import sys\nfrom assistant.assistant import Assistant\nfrom assistant.settings import load_settings\n"
        "from assistant.types import Question\n"
        f"Assistant(load_settings()).answer(Question(text='why?', logs={{'a.log': {LOG!r}}}, use_probes=False))\n"
    )
    with collecting() as collector, collecting(silent=True) as hanging:
        for each in (collector, hanging):
            environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": each.url, "OTEL_SERVICE_NAME": "desk"}
            subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, check=True, timeout=60)
    told = ExportTraceServiceRequest.FromString(collector.requests[0][1])
    assert "desk" in [a.value.string_value for a in told.resource_spans[0].resource.attributes]


def test_without_an_endpoint_nothing_of_it_is_imported(home: Path) -> None:
    script = (
        "import sys\nfrom assistant.assistant import Assistant\nfrom assistant.settings import load_settings\n"
        "from assistant.types import Question\n"
        f"Assistant(load_settings()).answer(Question(text='why?', logs={{'a.log': {LOG!r}}}, use_probes=False))\n"
        "print([n for n in sys.modules if n.startswith(('opentelemetry', 'google', 'assistant.tracing'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("endpoint", "lang", "said"),
    [
        ("http://127.0.0.1:4318", "en", "pip install 'crashcart[tracing]'"),
        ("http://127.0.0.1:4318", "zh", "缺少扩展"),
        ("collector:4317", "en", "no address"),
    ],
)
def test_what_stands_in_the_way_is_one_sentence_of_the_answer(
    home: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, lang: Any, said: str
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    question = Question(text=QUESTION.text, logs=QUESTION.logs, use_probes=False, lang=lang)
    answer = Assistant(Settings(home=str(home), otlp_endpoint=endpoint)).answer(question)
    assert len(answer.warnings) == 1 and said in answer.warnings[0] and endpoint in answer.warnings[0]


def test_the_standard_variable_counts_where_there_is_no_setting(tmp_path: Path) -> None:
    standard = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}
    assert load_settings(standard, tmp_path / ".env").otlp_endpoint == "http://a:4318"
    own = standard | {"CRASHCART_OTLP_ENDPOINT": "http://b:4318"}
    assert load_settings(own, tmp_path / ".env").otlp_endpoint == "http://b:4318"
    assert load_settings({}, tmp_path / ".env").otlp_endpoint == ""
