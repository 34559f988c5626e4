"""The API of a running server: answers, streams, readings, documents, threads, tokens, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistant.assistant import Assistant
from assistant.settings import Settings
from kb.errors import InputError
from tests.serving import serving
from ui.api import build_app
from ui.measures import Measures
from ui.server import Front, check_reach, declared_bytes, name_of

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
OPENAPI = Path(__file__).parent.parent / "ui" / "openapi.json"


@pytest.fixture(scope="module")
def api(home: Path) -> Iterator[httpx.Client]:
    with serving(home) as url, httpx.Client(base_url=f"{url}/api/v1", timeout=60) as client:
        yield client


def ask(api: httpx.Client, question: str, **parts: Any) -> dict[str, Any]:
    response = api.post("/ask", json={"question": question, "use_probes": False, **parts})
    assert response.status_code == 200, response.text
    return response.json()


def test_an_answer_has_the_parts_of_schema_1(api: httpx.Client) -> None:
    answer = ask(api, "why?", logs={"vllm.log": OOM})
    assert answer["schema"] == 1 and answer["status"] == "diagnosed"
    assert {"id", "title", "confidence", "supporting", "fixes"} <= set(answer["diagnoses"][0])
    assert {e["id"] for e in answer["evidence"]} >= set(answer["diagnoses"][0]["supporting"])


def test_a_stream_has_steps_text_and_answer_in_this_order(api: httpx.Client) -> None:
    body = {"question": OOM, "use_probes": False}
    with api.stream("POST", "/ask/stream", json=body) as response:
        lines = list(response.iter_lines())
    kinds = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert kinds[0] == "step_started" and kinds[-2:] == ["text", "answer"]
    assert data[-1]["answer"]["text"] == data[-2]["text"]


def test_a_thread_is_remembered_listed_rated_and_forgotten(api: httpx.Client, home: Path) -> None:
    first = ask(api, "it dies", logs={"vllm.log": OOM}, thread="api-thread")
    second = ask(api, "I did that, it still fails", thread="api-thread")
    assert second["diagnoses"][0]["fixes"][0]["place"] != first["diagnoses"][0]["fixes"][0]["place"]
    assert api.get("/threads").json()[0]["id"] == "api-thread"
    assert [turn["text"] for turn in api.get("/threads/api-thread").json()] == ["it dies", "I did that, it still fails"]
    case = Path(api.post("/threads/api-thread/feedback", json={"helped": True, "place": 1}).json()["case"])
    assert case.is_relative_to(home) and "CUDA out of memory" in case.read_text("utf-8")
    assert api.delete("/threads/api-thread").status_code == 204
    assert api.get("/threads/api-thread").status_code == 404


def test_readings_logs_flags_and_documents(api: httpx.Client) -> None:
    assert "gpu_memory" in api.get("/probes").json()
    assert api.post("/probes/disk").json()["status"] in ("ok", "warning", "critical", "unknown")
    assert "versions" in api.get("/checkup").json()
    assert api.post("/scan", json={"vllm.log": OOM}).json()["matches"][0]["document"] == "gpu-out-of-memory"
    checked = api.post(
        "/flags/check", json={"command": "vllm serve m --swap-space 4", "release": "vllm==0.20.2"}
    ).json()
    assert checked["items"][0]["status"] == "removed" and checked["patched_command"] == "vllm serve m"
    assert api.get("/search", params={"q": "KV cache too small", "limit": 2}).json()[0]["document"]
    assert {"id", "title"} <= set(api.get("/documents").json()[0])
    assert "```bash" in api.get("/documents/gpu-out-of-memory", params={"lang": "zh"}).json()["text"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/ask", {"question": " "}, 400),
        ("POST", "/ask", {"question": "x", "thread": "../x"}, 400),
        ("POST", "/ask", {"question": "x", "host": {"probes": 1}}, 400),
        ("POST", "/ask", {"question": 1}, 422),
        ("POST", "/probes/none", None, 400),
        ("POST", "/flags/check", {"command": "ls"}, 400),
        ("POST", "/flags/check", {"command": "vllm serve m", "release": "latest"}, 400),
        ("GET", "/documents/none", None, 404),
        ("GET", "/threads/none", None, 404),
        ("DELETE", "/threads/none", None, 404),
        ("POST", "/threads/none/feedback", {"helped": True}, 400),
        ("GET", "/nothing", None, 404),
    ],
)
def test_bad_input_is_one_sentence(api: httpx.Client, method: str, path: str, body: Any, status: int) -> None:
    response = api.request(method, path, json=body)
    assert response.status_code == status
    if status == 400:
        assert "\n" not in response.json()["detail"]


def test_another_name_too_much_and_another_type_are_refused(api: httpx.Client) -> None:
    assert api.get("/threads", headers={"Host": "evil.example"}).status_code == 421
    assert api.post("/ask", content=b"x" * (65 << 20), headers={"Content-Type": "application/json"}).status_code == 413
    assert api.post("/ask", content='{"question": "x"}', headers={"Content-Type": "text/plain"}).status_code == 422


def test_health_readiness_and_metrics(api: httpx.Client) -> None:
    url = str(api.base_url).partition("/api")[0]
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{url}/readyz").status_code in (200, 503)
    assert "crashcart_answers_total" in httpx.get(f"{url}/metrics").text


def test_a_token_is_asked_for(home: Path) -> None:
    with serving(home, token="right") as url:
        assert httpx.get(f"{url}/api/v1/threads").status_code == 401
        assert httpx.get(f"{url}/api/v1/threads", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert httpx.get(f"{url}/api/v1/threads", headers={"Authorization": "Bearer right"}).status_code == 200
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_a_login_is_asked_for(home: Path) -> None:
    with serving(home, login="eng:secret") as url:
        assert httpx.get(f"{url}/config", timeout=60).status_code == 401
        session = httpx.Client(base_url=url, timeout=60)
        assert session.post("/login", data={"username": "eng", "password": "wrong"}).status_code == 400
        assert session.post("/login", data={"username": "eng", "password": "secret"}).status_code == 200
        assert session.get("/config").status_code == 200
        session.close()


def test_an_open_address_needs_a_token_and_a_login() -> None:
    with pytest.raises(InputError, match="CRASHCART_TOKEN and CRASHCART_LOGIN"):
        check_reach(Settings(host="0.0.0.0"))
    with pytest.raises(InputError, match="set CRASHCART_LOGIN "):
        check_reach(Settings(host="10.0.0.1", token="t"))
    check_reach(Settings(host="0.0.0.0", token="t", login="a:b"))


def test_names_and_sizes_of_a_request() -> None:
    assert [name_of(h) for h in ("[::1]:7860", "LocalHost:1", "127.0.0.1")] == ["::1", "localhost", "127.0.0.1"]
    assert declared_bytes({"headers": [(b"content-length", b"12")]}) == 12
    assert declared_bytes({"headers": [(b"content-length", b"-1")]}) == 0
    assert Front is not None


def test_the_committed_description_is_that_of_the_code(tmp_path: Path) -> None:
    """After a change: python -m ui.api > ui/openapi.json"""
    app = build_app(Assistant(Settings(home=str(tmp_path))), Measures(), lambda: True)
    assert json.loads(OPENAPI.read_text("utf-8")) == app.openapi()
