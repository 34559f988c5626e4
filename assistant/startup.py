"""What an engine says of itself while it starts: model, release, sizes of groups, flags, and the memory that it measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from kb.sizing.setup import GIB, Setup

NUMBER = r"(-?\d+(?:\.\d+)?)"
VLLM = re.compile(r"Initializing an? (?:V\d )?LLM engine \(v?(?P<release>[\w.+]+)\) with config: (?P<config>.*)")
VLLM_RELEASE = re.compile(r"(?:vLLM API server version|█\s+version) (?P<release>\d[\w.]*)")
NON_DEFAULT = re.compile(r"non-default args: (?P<config>\{.*\})")
SGLANG = re.compile(r"server_args=ServerArgs\((?P<config>.*)\)")
# Fields as vLLM (`key=`, `'key': `) and SGLang (`key=`) print them, and the field of a setup that each is.
WHOLE = {
    "tensor_parallel_size": "tensor",
    "tp_size": "tensor",
    "pipeline_parallel_size": "pipeline",
    "pp_size": "pipeline",
    "max_seq_len": "max_model_len",
    "max_model_len": "max_model_len",
    "context_length": "max_model_len",
    "max_num_seqs": "max_num_seqs",
    "max_num_batched_tokens": "batched_tokens",
    "chunked_prefill_size": "batched_tokens",
    "block_size": "block",
    "page_size": "block",
}
SHARES = ("gpu_memory_utilization", "mem_fraction_static")
WORDS = {"kv_cache_dtype": "cache_dtype", "quantization": "quantization"}
MODELS = ("model", "model_path", "model_tag")
GIBS = {
    "weights_bytes": (
        rf"Model loading took {NUMBER} Gi?B",
        rf"Loading model weights took {NUMBER} Gi?B",
        rf"model weights take {NUMBER}GiB",
        rf"Load weight end\..*mem usage={NUMBER} GB",
    ),
    "available_bytes": (
        rf"Available KV cache memory: {NUMBER} GiB",
        rf"reserved for KV Cache is {NUMBER}GiB",
        rf"available_kv_cache_memory\s+{NUMBER}GiB",
        rf"kv_cache_size={NUMBER}GiB",
        rf"larger than the available KV cache memory \({NUMBER} Gi?B\)",
    ),
    "gpu_memory_bytes": (
        rf"total_gpu_memory[ =(]+{NUMBER}GiB",
        rf"total_memory={NUMBER}GiB",
        rf"Free memory on device[^(]*\([\d.]+/{NUMBER} GiB\)",
        rf"total capacity of {NUMBER} GiB",
    ),
    "free_bytes": (rf"Load weight begin\. avail mem={NUMBER} GB",),
}
POOL = re.compile(rf"KV Cache is allocated\..*?K size: {NUMBER} GB, V size: {NUMBER} GB")
LATENT_POOL = re.compile(rf"KV Cache is allocated\..*?KV size: {NUMBER} GB")
TOKENS = (
    re.compile(r"GPU KV cache size: ([\d,]+) tokens"),
    re.compile(r"max_total_num_tokens=(\d+)"),
    re.compile(r"KV Cache is allocated\..*?#tokens: (\d+)"),
)
BLOCKS = re.compile(r"# (?:GPU|cuda) blocks: (\d+)")
CHUNKED = re.compile(r"Chunked prefill is enabled with max_num_batched_tokens=(\d+)")


@dataclass(frozen=True, slots=True)
class Startup:
    """What a start-up log told: the setup as far as it did, the model as the server was given it, the tokens it printed."""

    setup: Setup
    model: str = ""
    tokens: int | None = None


def read_startup(text: str) -> Startup | None:
    """What a log tells of the last start in it; None for a log in which no engine starts."""
    text = text[max(text.rfind("vLLM API server version"), text.rfind("server_args=ServerArgs("), 0) :]
    sglang, vllm = SGLANG.search(text), VLLM.search(text) or NON_DEFAULT.search(text)
    if sglang is None and vllm is None:
        return None
    engine: Literal["vllm", "sglang"] = "sglang" if sglang else "vllm"
    parts = [found["config"] for pattern in (NON_DEFAULT, VLLM, SGLANG) for found in pattern.finditer(text)]
    fields: dict[str, Any] = {}
    model = ""
    for part in parts:
        fields |= settings_in(part)
        model = next((found[1] for key in MODELS if (found := printed(part, key, r"'([^']+)'"))), model)
    fields |= {name: int(size * GIB) for name, size in sizes_in(text).items()}
    chunked = CHUNKED.search(text)
    if chunked:
        fields["batched_tokens"] = int(chunked[1])
    fields["gpus"] = fields.get("tensor", 1) * fields.get("pipeline", 1)
    fields.setdefault("tensor", 1)
    setup = replace(Setup(engine=engine, release=release_in(text)), **fields)
    return Startup(setup, model, tokens_in(text, setup))


def printed(part: str, key: str, value: str) -> re.Match[str] | None:
    """A field of a printed configuration, as `key=…` or `'key': …`."""
    return re.search(rf"(?:(?<![\w'])|'){key}(?:'?: |=){value}", part)


def settings_in(part: str) -> dict[str, Any]:
    """The fields of a setup that a printed configuration sets."""
    found: dict[str, Any] = {}
    for key, name in WHOLE.items():
        match = printed(part, key, r"(\d+)\b")
        if match:
            found[name] = int(match[1])
    for key, name in WORDS.items():
        match = printed(part, key, r"'?([\w.-]+)")
        if match and match[1] not in ("None", "auto"):
            found[name] = match[1].removeprefix("torch.")
    for key in SHARES:
        match = printed(part, key, NUMBER)
        if match:
            found["fraction"] = float(match[1])
    if printed(part, "enforce_eager", "True"):
        found["graphs"] = False
    if printed(part, "disable_hybrid_kv_cache_manager", "True"):
        found["hybrid"] = False
    return found


def sizes_in(text: str) -> Mapping[str, float]:
    """The sizes in GiB that a log prints, the first line of each kind; nothing where nothing is left for the cache."""
    found: dict[str, float] = {}
    for name, patterns in GIBS.items():
        match = next((match for pattern in patterns if (match := re.search(pattern, text))), None)
        if match and float(match[1]) > 0:
            found[name] = float(match[1])
    pool, latent = POOL.search(text), LATENT_POOL.search(text)
    if pool:
        found["available_bytes"] = float(pool[1]) + float(pool[2])
    elif latent:
        found["available_bytes"] = float(latent[1])
    return found


def release_in(text: str) -> str:
    """The release that the log names; empty where it names none."""
    found = VLLM.search(text) or VLLM_RELEASE.search(text)
    release = re.match(r"\d+\.\d+(?:\.\d+)?(?:\.?post\d+)?", found["release"]) if found else None
    return release[0] if release else ""


def tokens_in(text: str, setup: Setup) -> int | None:
    """The tokens that the log says its pool holds."""
    for pattern in TOKENS:
        found = pattern.search(text)
        if found:
            return int(found[1].replace(",", ""))
    blocks = BLOCKS.search(text)
    return int(blocks[1]) * (setup.block or 16) if blocks else None
