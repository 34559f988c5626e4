"""Chroma: the folder read through its engine and through its client gives the same; a server works like a folder."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kb.index import open_index
from kb.library import Library
from kb.search import search
from kb.store import COLLECTION, _client_query, _engine_query, write_store
from kb.types import Chunk
from tests.test_index import library

__all__ = ["library"]


def chunks(count: int) -> list[Chunk]:
    return [
        Chunk(f"c{i}", "doc", "Title", "en", ("Part",), f"text {i}", "doc.md", (i, i + 1)) for i in range(1, count + 1)
    ]


def test_engine_and_client_agree(tmp_path: Path) -> None:
    vectors = np.random.default_rng(7).normal(size=(300, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    write_store(str(tmp_path), chunks(300), vectors)
    by_engine, by_client = _engine_query(str(tmp_path), COLLECTION), _client_query(str(tmp_path), COLLECTION)
    assert by_engine is not None, "the engine's interface is the one known here"
    for row in (0, 42, 299):
        ids, distances = by_engine(vectors[row].tolist(), 10)
        assert ids[0] == f"c{row + 1}" and distances[0] == pytest.approx(0, abs=1e-5)
        assert ids == by_client(vectors[row].tolist(), 10)[0]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    chroma = Path(sys.executable).parent / "chroma"
    process = subprocess.Popen(
        [str(chroma), "run", "--path", str(tmp_path / "served"), "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "ANONYMIZED_TELEMETRY": "False"},
    )
    for _ in range(100):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


def test_a_chroma_server_is_a_setting(tmp_path: Path, library: Library, server: str) -> None:
    index = open_index(tmp_path / "index", library, store=server)
    assert not (index.folder / "chroma").exists()
    assert [hit.document for hit in search(index, "no kernel image is available", 1, "dense")] == ["no-kernel-image"]
