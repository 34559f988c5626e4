"""Chroma, the store of everything known: written through its client, read through its engine.

`import chromadb` takes 0.8 s here, its compiled engine (`chromadb_rust_bindings`, of the same wheel) 0.03 s. A cold
question reads the very files that the client wrote, through the engine alone; the lock file pins the pair, and where
the engine's interface is another one, the client reads instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.types import Chunk

if TYPE_CHECKING:
    from kb.embed import Vectors

COLLECTION = "crashcart"
TENANT, DATABASE = "default_tenant", "default_database"
BATCH = 1000
Query = Callable[[list[float], int], tuple[list[str], list[float]]]


def _client(place: str) -> Any:
    """A client of a folder, or of a server (http://host:port)."""
    import chromadb
    from chromadb.config import Settings

    settings = Settings(anonymized_telemetry=False)
    if place.startswith(("http://", "https://")):
        from urllib.parse import urlsplit

        url = urlsplit(place)
        return chromadb.HttpClient(url.hostname or "", url.port or 8000, ssl=url.scheme == "https", settings=settings)
    return chromadb.PersistentClient(place, settings=settings)


def write_store(place: str, chunks: Sequence[Chunk], vectors: Vectors, collection: str = COLLECTION) -> None:
    """Put chunks and their vectors into a collection made anew."""
    with closing(_client(place)) as client:
        if collection in [c.name for c in client.list_collections()]:  # of a server: a folder is always a new one
            client.delete_collection(collection)
        made = client.create_collection(
            collection, embedding_function=None, configuration={"hnsw": {"space": "cosine", "ef_search": 200}}
        )
        for start in range(0, len(chunks), BATCH):
            part = chunks[start : start + BATCH]
            made.add(
                ids=[c.id for c in part],
                embeddings=vectors[start : start + BATCH],
                metadatas=[_metadata(c) for c in part],
            )


def _metadata(chunk: Chunk) -> dict[str, str]:
    """A chunk as Chroma keeps it, for who looks into the collection: search reads chunks.json.

    Each key costs 0.3 s of 4 s over 6,300 chunks. The text is here, not in `documents`: their trigram index, unused,
    doubles the time.
    """
    place = f"{chunk.path}:{chunk.lines[0]}-{chunk.lines[1]}"
    return {"document": chunk.document, "language": chunk.language, "place": place, "text": chunk.text}


def drop_collection(place: str, collection: str) -> None:
    """Forget a collection of a server; one that is not there is no error."""
    with closing(_client(place)) as client:
        if collection in [c.name for c in client.list_collections()]:
            client.delete_collection(collection)


class StoreReader:
    """Nearest chunks of a collection."""

    def __init__(self, place: str, collection: str = COLLECTION) -> None:
        self._query = (None if "://" in place else _engine_query(place, collection)) or _client_query(place, collection)

    def nearest(self, vector: Vectors, count: int) -> list[tuple[str, float]]:
        """(chunk id, cosine similarity), best first."""
        ids, distances = self._query(vector.tolist(), count)
        return [(i, 1.0 - d) for i, d in zip(ids, distances, strict=True)]


def _client_query(place: str, collection: str) -> Query:
    opened = _client(place).get_collection(collection, embedding_function=None)

    def query(vector: list[float], count: int) -> tuple[list[str], list[float]]:
        found = opened.query(query_embeddings=[vector], n_results=count, include=["distances"])
        return found["ids"][0], found["distances"][0]

    return query


def _engine_query(folder: str, collection: str) -> Query | None:
    """The same query asked of the engine; None where its interface is not the one known here."""
    if not (Path(folder) / "chroma.sqlite3").exists():
        raise FileNotFoundError(f"no Chroma store in {folder}")
    try:
        import chromadb_rust_bindings as engine

        config = engine.SqliteDBConfig(
            hash_type=engine.MigrationHash.MD5,
            migration_mode=engine.MigrationMode.Validate,
            url=str(Path(folder) / "chroma.sqlite3"),
        )
        bindings = engine.Bindings(allow_reset=False, sqlite_db_config=config, persist_path=folder, hnsw_cache_size=64)
        identity = str(bindings.get_collection(collection, TENANT, DATABASE).id)
    except (ImportError, AttributeError, TypeError):
        return None

    def query(vector: list[float], count: int) -> tuple[list[str], list[float]]:
        found = bindings.query(identity, None, [vector], count, None, None, ["distances"], TENANT, DATABASE)
        return found.ids[0], found.distances[0]

    return query
