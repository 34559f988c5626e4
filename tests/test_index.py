"""The index is built once, whole or not at all, and made anew when it is damaged."""

import multiprocessing
import shutil
from pathlib import Path

import pytest

from kb.index import Index, is_whole, open_index
from kb.library import Library, load_library
from kb.search import search
from tests.test_documents import CHINESE, ENGLISH


@pytest.fixture
def library(tmp_path: Path) -> Library:
    from kb.documents import SHIPPED

    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("kv-cache-too-small", "ttft-high", "no-kernel-image"):
        for path in SHIPPED.glob(f"{name}*.md"):
            shutil.copy(path, docs)
    return load_library(tmp_path / "cache", shipped=docs)


def opened(folder: str, library: Library) -> str:
    return str(open_index(Path(folder), library).folder)


def found(index: Index) -> list[str]:
    return [hit.document for hit in search(index, "no kernel image is available", 1)]


def test_an_unchanged_library_is_not_indexed_again(tmp_path: Path, library: Library) -> None:
    first = open_index(tmp_path / "index", library)
    written = (first.folder / "complete").stat().st_mtime_ns
    second = open_index(tmp_path / "index", library)
    assert second.folder == first.folder
    assert (second.folder / "complete").stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", ["truncate", "remove", "overwrite", "zero"])
def test_a_damaged_index_is_built_anew(tmp_path: Path, library: Library, damage: str) -> None:
    index = open_index(tmp_path / "index", library)
    chunks, database = index.folder / "chunks.json", index.folder / "chroma/chroma.sqlite3"
    if damage == "truncate":
        chunks.write_bytes(chunks.read_bytes()[:100])
    elif damage == "remove":
        shutil.rmtree(index.folder / "bm25")
    elif damage == "overwrite":
        database.write_bytes(b"x" * database.stat().st_size)
    else:
        (index.folder / "complete").write_bytes(b"")
    assert not is_whole(index.folder)
    assert found(open_index(tmp_path / "index", library)) == ["no-kernel-image"]


def test_a_killed_build_leaves_nothing_that_is_taken_for_an_index(tmp_path: Path, library: Library) -> None:
    index = open_index(tmp_path / "index", library)
    beside = index.folder.with_suffix(".building")
    shutil.move(index.folder, beside)
    (beside / "complete").unlink()
    assert found(open_index(tmp_path / "index", library)) == ["no-kernel-image"]


def test_two_processes_at_once_build_one_index(tmp_path: Path, library: Library) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        folders = pool.starmap(opened, [(str(tmp_path / "index"), library)] * 2)
    assert len(set(folders)) == 1
    assert found(open_index(tmp_path / "index", library)) == ["no-kernel-image"]


def test_without_an_embedder_search_is_lexical_and_says_so(tmp_path: Path, library: Library) -> None:
    index = open_index(tmp_path / "index", library, "sentence-transformers:/nowhere")
    assert index.embedder is None
    assert "sentence-transformers" in index.limits
    assert found(index) == ["no-kernel-image"]


def test_another_embedder_or_another_document_makes_another_index(tmp_path: Path, library: Library) -> None:
    docs = tmp_path / "docs"
    first = open_index(tmp_path / "index", library)
    assert open_index(tmp_path / "index", library, "sentence-transformers:/nowhere").folder != first.folder
    (docs / "kv.md").write_text(ENGLISH)
    (docs / "kv.zh.md").write_text(CHINESE)
    assert load_library(tmp_path / "cache", shipped=docs).fingerprint != library.fingerprint
