"""The KV cache as the engines allocate it: bytes a token takes on a GPU, tokens in a pool, the longest request that fits.

vLLM cuts the pool into blocks (v1/core/kv_cache_utils.py, v1/kv_cache_interface.py); SGLang counts cells of one token
(model_executor/model_runner.py profile_max_num_token, set_num_token_hybrid).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from kb.sizing.architecture import Architecture, Layer
from kb.sizing.refusals import Unmodelled
from kb.sizing.sharding import Split, stage_bounds

# Bits an element takes. Four-bit caches have an 8-bit scale for 16 elements.
CACHE_BITS = {
    **dict.fromkeys(("auto", "half", "float16", "fp16", "bfloat16", "bf16"), 16.0),
    **dict.fromkeys(("fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "int8"), 8.0),
    **dict.fromkeys(("fp4", "fp4_e2m1", "nvfp4"), 4.5),
    **dict.fromkeys(("float32", "float"), 32.0),
}
LATENT_FP8_BYTES = 656
"""`fp8_ds_mla`: 512 elements of 8 bits, 4 scales of 32 bits, 64 rope elements of 16 bits (vLLM 0.11.0 MLAAttentionSpec)."""


def cache_bits(dtype: str) -> float:
    """Bits an element of the cache takes under a `--kv-cache-dtype`. Raises Unmodelled for one that is not known here."""
    try:
        return CACHE_BITS[dtype or "auto"]
    except KeyError:
        raise Unmodelled(f"--kv-cache-dtype {dtype}: the bytes that a token takes are not known here.") from None


def layer_bytes(layer: Layer, tensor_parallel: int, dtype: str = "auto") -> float:
    """Bytes that a token takes in one layer on one GPU. Each GPU has at least one head; a latent vector is on all of them."""
    if layer.kind == "latent":
        if dtype == "fp8_ds_mla":
            return LATENT_FP8_BYTES
        return (layer.key_dim + layer.value_dim) * cache_bits(dtype) / 8
    heads = max(1, layer.kv_heads // tensor_parallel)
    return heads * (layer.key_dim + layer.value_dim) * cache_bits(dtype) / 8


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that keep the same tokens: how many of them the fullest pipeline stage has, and how far back they look."""

    layers: int
    window: int | None
    kind: str


@dataclass(frozen=True, slots=True)
class Cache:
    """The KV cache of one GPU. `layer_bytes` is what a token takes in one layer; `batched` the tokens of one scheduler step."""

    groups: tuple[Group, ...]
    layer_bytes: float
    block: int = 16
    batched: int = 2048

    @property
    def token_bytes(self) -> int:
        """Bytes of a token that every layer keeps."""
        return int(sum(group.layers for group in self.groups) * self.layer_bytes)

    @property
    def lasting_bytes(self) -> int:
        """Bytes of a token that is out of every window: what a long request grows by."""
        return int(sum(group.layers for group in self.groups if group.window is None) * self.layer_bytes)


def cache_of(architecture: Architecture, split: Split, dtype: str = "auto", hybrid: bool = True) -> tuple[Group, ...]:
    """The groups of the fullest stage. Without `hybrid` every layer of a mixed model keeps every token."""
    bounds = stage_bounds(len(architecture.layers), split.pipeline)
    stages = [architecture.layers[a:b] for a, b in pairwise(bounds)]
    layers = max(stages, key=len)
    kinds = dict.fromkeys((layer.kind, layer.window) for layer in layers)
    if len(kinds) > 1 and not hybrid:
        return (Group(len(layers), None, "full"),)
    return tuple(Group(sum((layer.kind, layer.window) == each for layer in layers), each[1], each[0]) for each in kinds)


def pool_shape(groups: tuple[Group, ...], stretch: float = 1.0) -> tuple[int, int]:
    """How vLLM lays a pool out: layers that share a block, and how many such rows one block of every layer needs.

    Layers are cut into rows of as many as the smallest group has, or as the largest has where that is less than `stretch`
    times as many (1.0 before vLLM 0.12, 1.25 before 0.18.1, 1.5 since).
    """
    counts = [group.layers for group in groups]
    size = max(counts) if max(counts) < min(counts) * stretch else min(counts)
    return size, sum(-(-count // size) for count in counts)


def pages_of(group: Group, length: int, block: int, batched: int) -> int:
    """Blocks that a request of this length holds in one layer of a group, at most."""
    if group.window is None or group.kind == "full":
        return -(-length // block)
    if group.kind == "chunked":
        return -(-min(group.window + batched, length) // block)
    return -(-min(group.window - 1 + batched, length) // block) + 1


def request_bytes(cache: Cache, length: int) -> float:
    """What vLLM asks for before it starts: the blocks of one request of this length, in every layer."""
    pages = (group.layers * pages_of(group, length, cache.block, cache.batched) for group in cache.groups)
    return sum(pages) * cache.block * cache.layer_bytes


def longest_request(cache: Cache, available_bytes: float, limit: int | None = None) -> int:
    """The longest request in tokens that fits, at most `limit`. 0 where none does; raises Unmodelled where nothing bounds it."""
    high = limit or 1 << 27
    if request_bytes(cache, high) <= available_bytes:
        if limit is None:
            raise Unmodelled("every layer forgets beyond its window, and config.json names no longest context.")
        return limit
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if request_bytes(cache, middle) <= available_bytes else (low, middle)
    return low


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as the engine reports it: `tokens` as its log counts them, requests of a length at once, blocks where it has them."""

    tokens: int
    concurrency: float
    blocks: int | None = None


def vllm_pool(
    cache: Cache, available_bytes: float, length: int, stretch: float = 1.0, by_concurrency: bool = False
) -> Pool:
    """What vLLM's log says of a pool. `stretch` as in `pool_shape`; `by_concurrency` is how tokens are counted since 0.20."""
    size, rows = pool_shape(cache.groups, stretch)
    blocks = max(0, int(available_bytes // (cache.block * cache.layer_bytes) // size))
    pages = sum(-(-g.layers // size) * pages_of(g, length, cache.block, cache.batched) for g in cache.groups)
    concurrency = blocks / pages if pages else 0.0
    tokens = int(concurrency * length) if by_concurrency else blocks // rows * cache.block
    return Pool(tokens, concurrency, blocks)


def sglang_pool(cache: Cache, available_bytes: float, length: int, page: int = 1, window_ratio: float = 0.8) -> Pool:
    """What SGLang's log says of a pool: `max_total_num_tokens`. Sliding layers have a pool of `window_ratio` as many tokens
    (`--swa-full-tokens-ratio`), where it keeps two."""
    cells = int(available_bytes // cache.token_bytes)
    full = sum(group.layers for group in cache.groups if group.window is None)
    sliding = sum(group.layers for group in cache.groups) - full
    if full and sliding:
        cells = int(cells * (full + sliding) / (window_ratio * sliding + full))
    tokens = cells // page * page
    return Pool(tokens, tokens / length if length else 0.0)
