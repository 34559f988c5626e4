"""Engines are asked with bounded GETs, their pages are read under every release's names, and a limit is named with its reason."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from kb.facts import probe_of
from probes.engine_endpoint import engine_endpoint, judge
from probes.reading.bottleneck import Load, binding_limit
from probes.reading.endpoints import Endpoint, parse_told, read_endpoint
from probes.reading.http import Address, BadAddress, Unanswered, addresses, get, parse_base
from probes.reading.limits import Hardware, find_limits, parse_default, parse_flag
from probes.reading.metrics import Histogram as Buckets
from probes.reading.metrics import Page, parse_page
from probes.reading.servers import Server
from probes.reading.silence import REASONS
from probes.registry import run_probe
from probes.types import ProbeResult, Target
from tests.loopback import Answer, Handler, serving

ROOT = Path(__file__).parent.parent
SGLANG = (ROOT / "tests/fixtures/metrics/sglang.txt").read_text()
"""The page that SGLang's documentation shows, of a server with 2826 requests in its queue."""
MODELS = json.dumps({"object": "list", "data": [{"id": "org/model", "owned_by": "vllm", "max_model_len": 8192}]})
SGLANG_MODELS = json.dumps({"object": "list", "data": [{"id": "org/model", "owned_by": "sglang"}]})
NODE_EXPORTER = """\
# HELP node_load1 1m load average.
# TYPE node_load1 gauge
node_load1 0.21
# HELP node_memory_MemFree_bytes Memory information field MemFree_bytes.
# TYPE node_memory_MemFree_bytes gauge
node_memory_MemFree_bytes 1.2e+10
"""
TTFT_BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
STEP_BOUNDS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class Engine:
    """What vLLM's logger of 0.10.2 and later declares, in the library that it uses, for some data-parallel engines."""

    def __init__(self, engines: int = 1) -> None:
        self.registry = CollectorRegistry()
        names, self.labels = ["model_name", "engine"], [("org/model", str(index)) for index in range(engines)]
        self.running = self.gauge("vllm:num_requests_running", names)
        self.waiting = self.gauge("vllm:num_requests_waiting", names)
        self.usage = self.gauge("vllm:kv_cache_usage_perc", names)
        by_reason = [*names, "reason"]
        self.by_reason = Gauge("vllm:num_requests_waiting_by_reason", "Waiting.", by_reason, registry=self.registry)
        self.preemptions = self.counter("vllm:num_preemptions", names)
        self.prompt = self.counter("vllm:prompt_tokens", names)
        self.generated = self.counter("vllm:generation_tokens", names)
        self.queries = self.counter("vllm:prefix_cache_queries", names)
        self.hits = self.counter("vllm:prefix_cache_hits", names)
        self.ttft = self.histogram("vllm:time_to_first_token_seconds", names, TTFT_BOUNDS)
        self.steps = self.histogram("vllm:iteration_tokens_total", names, STEP_BOUNDS)

    def gauge(self, name: str, labels: list[str]) -> Gauge:
        return Gauge(name, "Help.", labels, registry=self.registry)

    def counter(self, name: str, labels: list[str]) -> Counter:
        return Counter(name, "Help.", labels, registry=self.registry)

    def histogram(self, name: str, labels: list[str], bounds: tuple[float, ...]) -> Histogram:
        return Histogram(name, "Help.", labels, buckets=bounds, registry=self.registry)

    def set(self, running: float, waiting: float, usage: float, engine: int = 0) -> Engine:
        for gauge, value in ((self.running, running), (self.waiting, waiting), (self.usage, usage)):
            gauge.labels(*self.labels[engine]).set(value)
        self.by_reason.labels(*self.labels[engine], "capacity").set(waiting)
        for counter in (self.preemptions, self.prompt, self.generated, self.queries, self.hits):
            counter.labels(*self.labels[engine])
        self.ttft.labels(*self.labels[engine])
        self.steps.labels(*self.labels[engine])
        return self

    def text(self) -> str:
        return generate_latest(self.registry).decode()


def vllm(page: Answer, **more: Answer) -> dict[str, Answer]:
    answers: dict[str, Answer] = {"/v1/models": MODELS, "/version": '{"version":"0.11.0"}', "/health": ""}
    return answers | {"/metrics": page} | {f"/{path}": answer for path, answer in more.items()}


def asked(url: str) -> ProbeResult:
    result = run_probe("engine_endpoint", Target(urls=(url,)))
    assert {probe_of(name) for name in result.facts} <= {"engine_endpoint"}
    assert result.summary.endswith(".")
    assert result.summary_zh.endswith("。")
    assert len(result.advice) == len(result.advice_zh)
    json.dumps(result.data, allow_nan=False)
    return result


def turns(*pages: str) -> Callable[[Handler], None]:
    """One page after the other; the last stays."""
    left = list(pages)

    def answer(handler: Handler) -> None:
        handler.say(200, (left.pop(0) if len(left) > 1 else left[0]).encode())

    return answer


# What an engine tells


def test_a_sound_vllm_is_ok_with_its_figures() -> None:
    with serving(vllm(Engine().set(3, 0, 0.12).text())) as seen:
        result = asked(seen.url)
    assert result.status == "ok"
    assert result.summary.startswith(f"vLLM 0.11.0 at {seen.url} answers: 3 running, 0 waiting, KV cache 12% used.")
    assert result.facts == {
        "engine_up": True,
        "engine_health": "ok",
        "served_model": "org/model",
        "served_max_model_len": 8192,
        "kv_usage_ratio": 0.12,
        "requests_running": 3,
        "requests_waiting": 0,
        "preemptions_per_second": 0.0,
        "generated_tokens_per_second": 0.0,
        "binding_limit": "none",
    }
    assert all(line.startswith("GET ") for line in seen.asked)
    assert all(header["Accept-Encoding"] == "identity" for header in seen.headers)


def test_preemptions_between_two_scrapes_mean_that_kv_cache_is_short() -> None:
    engine = Engine().set(200, 12, 0.97)
    first = engine.text()
    engine.preemptions.labels(*engine.labels[0]).inc(7)
    with serving(vllm(turns(first, engine.text()))) as seen:
        result = asked(seen.url)
    assert (result.status, result.facts["binding_limit"]) == ("warning", "kv")
    assert 5 < result.facts["preemptions_per_second"] <= 10
    assert "--gpu-memory-utilization" in result.advice[0]


def test_quantiles_are_of_now_where_requests_finished_and_else_since_start() -> None:
    engine = Engine().set(3, 0, 0.1)
    ttft = engine.ttft.labels(*engine.labels[0])
    for _ in range(100):
        ttft.observe(6.0)
    first = engine.text()
    for _ in range(10):
        ttft.observe(0.03)
    with serving(vllm(turns(first, engine.text()))) as seen:
        result = asked(seen.url)
    assert 0.02 <= result.facts["ttft_p50_seconds"] <= 0.04
    assert result.data["endpoints"][0]["times"]["ttft"]["count"] == 10
    with serving(vllm(first)) as seen:
        result = asked(seen.url)
    assert 5.0 <= result.facts["ttft_p50_seconds"] <= 7.5
    assert "since start" in result.summary
    assert "自启动以来" in result.summary_zh


def test_full_steps_with_a_queue_are_the_token_budget_or_compute() -> None:
    engine = Engine().set(40, 30, 0.5)
    first = engine.text()
    for _ in range(20):
        engine.steps.labels(*engine.labels[0]).observe(2000)
    server = Server(1, "vllm", "vllm serve m --max-num-seqs 256 --max_num_batched_tokens=2048", 8000)
    with serving(vllm(turns(first, engine.text()))) as seen:
        found = read_endpoint(Address(seen.url, server=server))
    result = judge(found, Hardware())
    assert result.facts["binding_limit"] == "token_budget"
    assert "2000 of 2048 tokens a step (98%)" in result.summary
    assert result.data["endpoints"][0]["limits"]["origins"] == ("command", "command")


def test_several_engines_are_summed_and_the_most_loaded_one_is_judged() -> None:
    engine = Engine(3)
    for index, (running, waiting, usage) in enumerate(((2, 0, 0.1), (60, 9, 0.99), (4, 0, 0.2))):
        engine.set(running, waiting, usage, index)
    with serving(vllm(engine.text())) as seen:
        result = asked(seen.url)
    assert (result.facts["requests_running"], result.facts["requests_waiting"]) == (66, 9)
    assert (result.facts["kv_usage_ratio"], result.facts["binding_limit"]) == (0.99, "kv")
    assert [unit["engine"] for unit in result.data["endpoints"][0]["units"]] == ["0", "1", "2"]


def test_sglang_is_read_from_its_own_page_and_never_asked_to_generate() -> None:
    info = json.dumps(
        {
            "version": "0.4.9",
            "api_key": "sk-very-secret-0123456789",
            "max_running_requests": None,
            "internal_states": [{"effective_max_running_requests_per_dp": 162}],
        }
    )
    with serving({"/v1/models": SGLANG_MODELS, "/get_server_info": info, "/metrics": SGLANG}) as seen:
        result = asked(seen.url)
    assert result.facts["engine_health"] == "answers"
    assert (result.facts["requests_running"], result.facts["requests_waiting"]) == (162, 2826)
    assert (result.facts["kv_usage_ratio"], result.facts["binding_limit"]) == (0.28, "sequence_cap")
    assert result.facts["ttft_p50_seconds"] == 30.0
    assert 0.075 < result.facts["tpot_p50_seconds"] < 0.1
    assert result.facts["generated_tokens_per_second"] == 86.5
    assert "--max-running-requests" in result.advice[0]
    assert not any("health" in line or "generate" in line for line in seen.asked)
    assert "very-secret" not in json.dumps(result.data)


def test_sglang_without_metrics_answers_but_its_load_is_not_known() -> None:
    with serving({"/v1/models": SGLANG_MODELS, "/server_info": '{"version":"0.5.10"}'}) as seen:
        result = asked(seen.url)
    assert (result.status, result.facts["engine_up"]) == ("unknown", True)
    assert "--enable-metrics" in result.advice[0]


def test_a_dead_engine_behind_a_living_server() -> None:
    with serving(vllm(Engine().set(0, 0, 0).text(), health=(503, ""))) as seen:
        result = asked(seen.url)
    assert (result.status, result.facts["engine_health"]) == ("critical", "dead")
    assert "/health gives HTTP 503" in result.summary


# Answers that are none


@pytest.mark.parametrize(
    "page",
    [
        pytest.param("", id="empty"),
        pytest.param(NODE_EXPORTER, id="another-program"),
        pytest.param("<!doctype html><html><body>vllm:num_requests_running 3</body></html>", id="html"),
        pytest.param("# HELP vllm:num_requests_running x\n# TYPE vllm:num_requests_running gauge\n", id="no-gauge"),
        pytest.param('vllm:num_preemptions_total{model_name="m"} 0.0\n', id="counters-alone"),
        pytest.param("vllm:num_requests_running{ 1\n", id="broken"),
        pytest.param('vllm:num_requests_running{model_name="m"} NaN\n', id="nan"),
        pytest.param('vllm:num_requests_running{model_name="m"} +Inf\n', id="infinite"),
        pytest.param((404, "no"), id="absent"),
        pytest.param((500, "no"), id="error"),
    ],
)
def test_a_page_without_readings_is_never_ok(page: Answer) -> None:
    with serving(vllm(page)) as seen:
        result = asked(seen.url)
    assert result.status == "unknown"
    assert result.facts["engine_up"] is True
    assert "kv_usage_ratio" not in result.facts


def test_a_vllm_that_keeps_no_statistics_is_told_how_to() -> None:
    with serving(vllm('python_info{implementation="CPython"} 1.0\n')) as seen:
        result = asked(seen.url)
    assert (result.status, "--disable-log-stats" in result.advice[0]) == ("unknown", True)


def test_a_page_with_half_its_gauges_is_unknown() -> None:
    with serving(vllm('vllm:kv_cache_usage_perc{model_name="m"} 0.3\n')) as seen:
        result = asked(seen.url)
    assert (result.status, result.facts["kv_usage_ratio"], result.facts["binding_limit"]) == ("unknown", 0.3, "unknown")


@pytest.mark.parametrize(
    "answers",
    [
        {"/metrics": NODE_EXPORTER},
        {"/v1/models": "<html>It works!</html>", "/metrics": "<html>It works!</html>"},
        {"/v1/models": '{"data": [{"id": "m", "owned_by": "llamacpp"}]}', "/metrics": NODE_EXPORTER},
        {"/v1/models": '{"data": 3}'},
        {"/v1/models": "[" * 100_000},
    ],
)
def test_another_service_is_unknown_and_not_up(answers: dict[str, Answer]) -> None:
    with serving(answers) as seen:
        result = asked(seen.url)
    assert result.status == "unknown"
    assert "engine_up" not in result.facts
    assert "CRASHCART_URLS" in result.advice[0]


def test_nobody_there_is_critical_and_an_engine_that_loads_a_warning() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    result = asked(url)
    assert (result.status, result.facts) == ("critical", {"engine_up": False, "engine_health": "refused"})
    server = Server(10, "vllm", "vllm serve m", 8000)
    loading = judge(read_endpoint(Address(url, server=server)))
    assert (loading.status, loading.facts["engine_health"]) == ("warning", "starting")
    boxed = judge(read_endpoint(Address(url, server=replace(server, container="0123456789ab"))))
    assert (boxed.status, boxed.facts) == ("unknown", {})


def test_a_key_that_is_wanted() -> None:
    with serving({"/v1/models": (401, '{"error":"Unauthorized"}'), "/metrics": (401, "")}) as seen:
        result = asked(seen.url)
    assert result.status == "unknown"
    assert "API key" in result.summary
    assert "CRASHCART_ENGINE_API_KEY" in result.advice[0]


def test_no_engine_and_no_url_says_what_was_looked_for() -> None:
    from probes.engine_endpoint import _nobody

    result = _nobody(())
    assert result.status == "unknown"
    assert "CRASHCART_URLS is empty" in result.summary
    elsewhere = _nobody((Server(7, "vllm", "vllm serve m --host 10.0.0.5", 8000, "10.0.0.5"),))
    assert "http://10.0.0.5:8000" in elsewhere.summary


def test_two_addresses_make_one_result_and_the_worst_speaks() -> None:
    good = vllm(Engine().set(1, 0, 0.1).text())
    with serving(good) as one, serving(good | {"/health": (503, "")}) as two:
        result = run_probe("engine_endpoint", Target(urls=(one.url, two.url)))
    assert result.status == "critical"
    assert two.url in result.summary.partition(". ")[0]
    assert [row["url"] for row in result.data["endpoints"]] == [one.url, two.url]


# Bounds


def body_of(handler: Handler) -> None:
    handler.dribble(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")


def headers_of(handler: Handler) -> None:
    handler.dribble(b"HTTP/1.1 200 OK\r\nX-Slow: ")


def status_of(handler: Handler) -> None:
    handler.dribble(b"HTT")


def nothing_of(handler: Handler) -> None:
    handler.seen.closing.wait(30)


@pytest.mark.parametrize("slow", [body_of, headers_of, status_of, nothing_of])
def test_one_deadline_spans_headers_and_body(slow: Callable[[Handler], None]) -> None:
    """A timeout of single reads would never end these: a byte comes every 50 ms."""
    with serving({"/v1/models": slow}) as seen, pytest.raises(Unanswered) as error:
        get(Address(seen.url), "/v1/models", time.monotonic() + 0.4)
    assert error.value.reason in ("silent", "broken")


def test_a_server_that_dribbles_is_critical_before_the_probe_itself_is_late() -> None:
    with serving({"/v1/models": body_of}) as seen:
        result = asked(seen.url)
    assert (result.status, result.facts["engine_health"]) == ("critical", "silent")


def test_an_answer_of_a_listener_that_never_accepts_is_silent() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        with pytest.raises(Unanswered) as error:
            get(Address(f"http://127.0.0.1:{listening.getsockname()[1]}"), "/v1/models", time.monotonic() + 0.3)
    assert (error.value.reason, error.value.connected) == ("silent", True)


HUGE = """
import sys
from pathlib import Path
from probes.reading.endpoints import read_endpoint
from probes.reading.http import Address

def peak_kib():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])

read_endpoint(Address(sys.argv[1] + "/none"))
before = peak_kib()
found = read_endpoint(Address(sys.argv[1]))
print(found.no_page, peak_kib() - before)
"""
"""The peak of getrusage would be that of this process, which the child was forked from."""


def huge(handler: Handler) -> None:
    """400 MB of a page, as fast as the client takes it."""
    piece = b'vllm:num_requests_running{engine="0",model_name="m"} 1.0\n' * 1000
    handler.send_response(200)
    handler.end_headers()
    for _ in range(400_000_000 // len(piece)):
        handler.wfile.write(piece)


def test_a_page_of_400_mb_costs_neither_memory_nor_an_answer() -> None:
    with serving(vllm(huge)) as seen:
        ran = subprocess.run(
            [sys.executable, "-c", HUGE, seen.url], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        )
    no_page, peak_kib = ran.stdout.split()
    assert no_page == "too-large"
    assert int(peak_kib) < 16 * 1024


def test_a_page_with_more_lines_than_an_engine_has_is_not_parsed() -> None:
    line = 'vllm:num_requests_running{model_name="m"} 1.0\n'
    assert parse_page(line * 10_000)
    assert parse_page(line * 10_001) is None


def test_a_compressed_answer_is_not_unpacked() -> None:
    def bomb(handler: Handler) -> None:
        handler.say(200, b"\x1f\x8b" + bytes(1000), Content_Encoding="gzip")

    with serving({"/v1/models": bomb}) as seen, pytest.raises(Unanswered) as error:
        get(Address(seen.url), "/v1/models", time.monotonic() + 5)
    assert error.value.reason == "encoded"


def test_no_redirect_is_followed() -> None:
    with serving({}) as other:

        def away(handler: Handler) -> None:
            handler.say(302, b"", Location=other.url + "/metrics")

        with serving(vllm(away) | {"/v1/models": away}) as seen:
            result = asked(seen.url)
        assert other.asked == []
    assert result.status == "unknown"


def test_a_page_one_slash_further_is_asked_for_on_the_same_server() -> None:
    def slash(handler: Handler) -> None:
        handler.say(307, b"", Location="http://example.org/metrics/")

    with serving(vllm(slash) | {"/metrics/": Engine().set(1, 0, 0.1).text()}) as seen:
        result = asked(seen.url)
    assert result.status == "ok"


def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving({"/v1/models": MODELS}) as seen:
        assert get(Address(seen.url), "/v1/models", time.monotonic() + 5).status == 200


def test_what_does_not_speak_http_is_unknown() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def greet() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
                connection.recv(4096)

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        result = judge(read_endpoint(Address(f"http://127.0.0.1:{listening.getsockname()[1]}")))
        thread.join()
    assert (result.status, result.facts) == ("unknown", {})


def no_such_name(*_: object, **__: object) -> list[object]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def never_resolved(*_: object, **__: object) -> list[object]:
    time.sleep(5)
    return []


@pytest.mark.parametrize("look_up", [no_such_name, never_resolved])
def test_a_name_that_is_not_resolved_is_unreachable(monkeypatch: pytest.MonkeyPatch, look_up: object) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    result = judge(read_endpoint(Address("http://engine.example:8000"), budget_seconds=0.3))
    assert (result.status, result.facts["engine_health"]) == ("critical", "unreachable")


def test_a_client_of_another_protocol_says_so() -> None:
    with serving({"/v1/models": MODELS}) as seen:
        result = judge(read_endpoint(Address(seen.url.replace("http:", "https:"))))
    assert result.status == "unknown"
    assert "TLS" in result.summary


# Addresses and the key


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("localhost:8000", "http://localhost:8000"),
        ("http://host:8000/v1/", "http://host:8000"),
        ("https://gateway/llm/v1", "https://gateway:443/llm"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        (" http://host ", "http://host:80"),
    ],
)
def test_a_url_is_brought_to_its_base(url: str, base: str) -> None:
    assert parse_base(url) == base


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "http://",
        "http://host:port",
        "http://user:secret@host:8000",
        "http://host:8000/?q=1",
        "gopher://h",
        "http://ho\nst:8000/\r\nX: y",
    ],
)
def test_a_url_that_is_none_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(BadAddress) as error:
        print(parse_base(url))
    assert "secret" not in str(error.value)
    result = run_probe("engine_endpoint", Target(urls=(url,)))
    assert result.status == "unknown"
    assert "CRASHCART_URLS" in result.advice[0]


def test_the_key_goes_to_the_operators_urls_alone() -> None:
    server = Server(1, "vllm", "vllm serve m", 8001)
    found = addresses(("http://127.0.0.1:8000",), (server,), "the-key")
    assert [(each.url, each.key) for each in found] == [
        ("http://127.0.0.1:8000", "the-key"),
        ("http://127.0.0.1:8001", ""),
    ]
    assert "the-key" not in repr(found)
    assert "the-key" not in repr(Target(engine_api_key="the-key"))


def test_only_loopback_of_found_servers_is_asked() -> None:
    away = Server(1, "vllm", "vllm serve m --host 10.0.0.5", 8000, "10.0.0.5")
    assert addresses((), (away, Server(2, "aphrodite", "aphrodite run m", None))) == ()
    server = Server(1, "vllm", "vllm serve m", 8000)
    (found,) = addresses(("http://localhost:8000",), (server,))
    assert (found.url, found.server) == ("http://localhost:8000", server)


def test_the_key_is_sent_and_never_shown() -> None:
    def echo(handler: Handler) -> None:
        key = handler.headers.get("Authorization", "")
        handler.say(200, json.dumps({"data": [{"id": key, "owned_by": "vllm"}]}).encode())

    with serving({"/v1/models": echo}) as seen:
        result = run_probe("engine_endpoint", Target(urls=(seen.url,), engine_api_key="k3y-of-mine"))
    assert seen.headers[0]["Authorization"] == "Bearer k3y-of-mine"
    assert "k3y-of-mine" not in json.dumps(result.data) + json.dumps(result.facts) + result.summary


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "ключ"])
def test_a_key_that_is_none_is_not_sent(key: str) -> None:
    with serving({"/v1/models": MODELS}) as seen:
        result = judge(read_endpoint(Address(seen.url, key)))
    assert seen.asked == []
    assert result.status == "unknown"
    assert key not in result.summary


# Pages


@pytest.mark.parametrize(
    ("text", "running", "usage", "preemptions"),
    [
        pytest.param(
            'vllm:num_requests_running{model_name="m"} 2.0\nvllm:num_requests_waiting{model_name="m"} 1.0\n'
            'vllm:gpu_cache_usage_perc{model_name="m"} 0.5\nvllm:num_preemptions_total{model_name="m"} 4.0\n',
            *(2.0, 0.5, 4.0),
            id="vllm-0.5-0.8",
        ),
        pytest.param(
            'vllm:num_requests_running{engine="0"} 2.0\nvllm:gpu_cache_usage_perc{engine="0"} 0.7\n'
            'vllm:kv_cache_usage_perc{engine="0"} 0.7\nvllm:num_preemptions_total{engine="0"} 1.0\n',
            *(2.0, 0.7, 1.0),
            id="vllm-0.9-0.11-both",
        ),
        pytest.param(
            'sglang:num_running_reqs{model_name="m",tp_rank="0"} 5.0\nsglang:num_running_reqs{model_name="m",tp_rank="1"} 5.0\n'
            'sglang:token_usage{model_name="m",tp_rank="0"} 0.4\nsglang:num_retracted_requests_total{model_name="m"} 3.0\n',
            *(5.0, 0.4, 3.0),
            id="sglang-ranks-tell-the-same",
        ),
        pytest.param(
            'sglang:num_running_reqs{dp_rank="0",tp_rank="0"} 5.0\r\nsglang:num_running_reqs{dp_rank="1",tp_rank="0"} 6.0\r\n'
            'sglang:token_usage{dp_rank="0"} 0.4\r\nsglang:token_usage{dp_rank="1"} 0.6\r\n',
            *(11.0, 0.6, None),
            id="sglang-data-parallel",
        ),
    ],
)
def test_every_spelling_is_read(text: str, running: float, usage: float, preemptions: float | None) -> None:
    page = parse_page(text)
    assert page
    assert (page.gauges["running"], page.gauges["kv_usage_ratio"]) == (running, usage)
    assert page.counters.get("preemptions") == preemptions


def test_the_share_of_the_prefix_cache() -> None:
    head = 'vllm:num_requests_running{model_name="m"} 0.0\n'
    for name in ("vllm:prefix_cache", "vllm:gpu_prefix_cache"):
        page = parse_page(head + f'{name}_queries_total{{engine="0"}} 1000.0\n{name}_hits_total{{engine="0"}} 250.0\n')
        assert page
        assert page.prefix_hit_ratio == 0.25
    page = parse_page(head + 'vllm:gpu_prefix_cache_hit_rate{model_name="m"} -1.0\n')
    assert page
    assert page.prefix_hit_ratio is None
    page = parse_page(SGLANG)
    assert page
    assert page.prefix_hit_ratio == pytest.approx(0.0075, abs=1e-4)


@given(st.text(max_size=300) | st.text(alphabet='vllm:sgank_{}="0123 \n#.eE+-NnAaInf', max_size=300))
def test_any_text_is_a_page_or_none(text: str) -> None:
    for whole in (text, "vllm:num_requests_running" + text, SGLANG[:400] + text):
        assert isinstance(parse_page(whole), Page | None)


BUCKETS = Buckets((1.0, 2.0, 4.0, math.inf), (2.0, 6.0, 8.0, 10.0), 30.0)


@pytest.mark.parametrize(("share", "value"), [(0.1, 0.5), (0.2, 1.0), (0.4, 1.5), (0.7, 3.0), (0.95, 4.0)])
def test_a_quantile_lies_on_a_line_inside_its_bucket(share: float, value: float) -> None:
    assert BUCKETS.quantile(share) == pytest.approx(value)


def test_a_server_that_began_anew_has_no_difference() -> None:
    assert BUCKETS.since(replace(BUCKETS, counts=(3.0, 9.0, 11.0, 12.0))).count == 0
    assert BUCKETS.since(BUCKETS).quantile(0.5) is None
    assert Buckets((), ()).mean is None


# Limits


@pytest.mark.parametrize(
    ("command", "flag", "value"),
    [
        ("vllm serve m --max-num-seqs 64", "--max-num-seqs", 64),
        ("vllm serve m --max_num_seqs=64 --max-num-seqs 32", "--max-num-seqs", 32),
        ("vllm serve m --max-num-seqs=6x", "--max-num-seqs", None),
        ("vllm serve m", "--max-num-seqs", None),
    ],
)
def test_the_number_of_a_flag(command: str, flag: str, value: int | None) -> None:
    assert parse_flag(command, flag) == value


def test_a_default_depends_on_the_gpu() -> None:
    text = "16384 on GPUs of 160 GiB or more, 8192 of 70 GiB or more except A100, else 2048"
    gpus = [Hardware("NVIDIA B200", 179.0), Hardware("NVIDIA H100", 79.6), Hardware("NVIDIA A100", 79.3), Hardware()]
    assert [parse_default(text, gpu) for gpu in gpus] == [16384, 8192, 2048, None]
    assert parse_default("the context length, at least 2048", gpus[0]) is None
    found = find_limits("vllm", "0.11.0", gpu=gpus[1])
    assert (found.max_sequences, found.step_tokens, found.origins) == (1024, 8192, ("default", "default"))


def test_a_remote_server_that_stays_at_a_usual_cap_with_a_queue_has_reached_it() -> None:
    assert find_limits("vllm", "0.11.0").usual_sequences == (1024, 256)
    with serving(vllm(Engine().set(256, 40, 0.3).text())) as seen:
        found = read_endpoint(Address(seen.url))
    assert judge(found, Hardware()).facts["binding_limit"] == "sequence_cap"
    with serving(vllm(Engine().set(255, 40, 0.3).text())) as seen:
        found = read_endpoint(Address(seen.url))
    result = judge(found, Hardware())
    assert (result.status, result.facts["binding_limit"]) == ("warning", "unknown")


def test_what_a_server_tells_goes_before_its_command() -> None:
    told = parse_told({"max_running_requests": 64, "api_key": "k", "internal_states": [{}]})
    assert told == {"max_running_requests": 64}
    assert find_limits("sglang", "0.5.10", "--max-running-requests 8", told).max_sequences == 64
    assert parse_told(None) == {}
    assert find_limits("", "", "").max_sequences is None


FULL = Load("vllm", running=50, waiting=20, kv_usage_ratio=0.6, preemptions_per_second=0.0, max_sequences=256)


@pytest.mark.parametrize(
    ("load", "limit"),
    [
        (replace(FULL, running=None), "unknown"),
        (replace(FULL, waiting=None), "unknown"),
        (replace(FULL, running=0, waiting=0), "none"),
        (replace(FULL, preemptions_per_second=2.0), "kv"),
        (replace(FULL, kv_usage_ratio=0.97), "kv"),
        (replace(FULL, kv_usage_ratio=0.97, waiting=0), "client"),
        (replace(FULL, running=256), "sequence_cap"),
        (replace(FULL, step_tokens=1900, max_step_tokens=2048), "token_budget"),
        (replace(FULL, step_tokens=8000, max_step_tokens=8192), "compute"),
        (replace(FULL, step_tokens=8000, max_step_tokens=8192, gpu_utilization_ratio=0.2), "token_budget"),
        (replace(FULL, step_tokens=100, max_step_tokens=8192), "unknown"),
        (replace(FULL, max_sequences=None), "unknown"),
        (replace(FULL, engine="sglang"), "unknown"),
        (replace(FULL, kv_usage_ratio=0.8), "unknown"),
        (replace(FULL, waiting=0, running=3), "client"),
        (replace(FULL, waiting=0, running=200), "none"),
        (replace(FULL, waiting=0, running=3, max_sequences=None), "none"),
    ],
)
def test_the_limit_that_binds(load: Load, limit: str) -> None:
    found = binding_limit(load)
    assert found.limit == limit
    assert found.why.endswith(".")
    assert found.why_zh.endswith("。")
    assert bool(found.advice) == bool(found.advice_zh)


def test_a_queue_below_all_limits_says_what_it_may_be() -> None:
    sglang = binding_limit(replace(FULL, engine="sglang"))
    assert "50 of 256 sequences run" in sglang.why
    assert "--schedule-conservativeness" in sglang.advice
    assert "a long prompt may not fit" in binding_limit(replace(FULL, kv_usage_ratio=0.8)).why


def test_gpu_utilisation_alone_decides_nothing() -> None:
    for load in (FULL, replace(FULL, waiting=0), replace(FULL, running=0, waiting=0)):
        plain = binding_limit(load).limit
        for ratio in (0.0, 0.5, 1.0):
            assert binding_limit(replace(load, gpu_utilization_ratio=ratio)).limit == plain


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_its_words(reason: str) -> None:
    found = Endpoint(Address("http://127.0.0.1:8000"), failed=reason)  # type: ignore[arg-type]
    result = judge(found)
    assert result.status in ("critical", "unknown")
    assert result.summary.endswith(".")
    assert result.summary_zh.endswith("。")
    assert ("engine_up" in result.facts) == (result.status == "critical")


def test_the_probe_is_passive_and_cheap_to_name() -> None:
    assert engine_endpoint.passive
    code = "import sys\nfrom probes.registry import load_probe\nload_probe('engine_endpoint'); load_probe('engine_speed')\n"
    code += "print(sorted({'httpcore', 'prometheus_client', 'httpx'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@pytest.fixture(autouse=True)
def _no_engines_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that runs an engine must not change what is found here."""
    monkeypatch.setattr("probes.engine_endpoint.read_processes", dict)
