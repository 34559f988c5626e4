"""Everything joined: what a model needs under a setup, what is left for the KV cache, and what fits into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import floor

from kb.sizing.architecture import Architecture, read_architecture
from kb.sizing.cache import Cache, Pool, cache_bits, cache_of, layer_bytes, longest_request, sglang_pool, vllm_pool
from kb.sizing.layout import expected_tensors, has_encoder
from kb.sizing.overhead import activation_bytes, graph_bytes, outside_bytes
from kb.sizing.quantization import Scheme, is_quantized, of_flag, scheme_of
from kb.sizing.refusals import Config, Unmodelled
from kb.sizing.setup import GIB, NEWEST, Setup
from kb.sizing.sharding import bytes_per_gpu
from kb.sizing.tensors import Tensor
from kb.types import ENGINE_NAMES

HYBRID_POOLS = ("llama4_text", "gpt_oss")  # what SGLang keeps in two pools, from 0.5.4 on
ESTIMATED = "estimate: the engine measures activations and overhead itself"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its arithmetic, where its inputs are from and how far it may be off; or None with the reason."""

    name: str
    value: int | float | None
    unit: str = ""
    how: str = ""
    source: str = ""
    error: str = ""
    reason: str = ""


@dataclass(slots=True)
class Size:
    """The figures by name, in the order of the arithmetic, and what was taken for granted."""

    figures: dict[str, Figure] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)

    def add(self, name: str, value: float | None, unit: str, how: str = "", source: str = "", error: str = "") -> None:
        self.figures[name] = Figure(name, value, unit, how, source, error)

    def miss(self, names: tuple[str, ...], reason: str) -> None:
        """Say why figures are not known; those that are known stay."""
        for name in names:
            self.figures.setdefault(name, Figure(name, None, reason=reason))

    def value(self, name: str) -> int | float | None:
        figure = self.figures.get(name)
        return figure.value if figure else None


MEASURED = ("kv_available_bytes_per_gpu", "kv_tokens", "max_model_len_that_fits", "max_concurrency")
ALL = ("weights_bytes_per_gpu", "kv_bytes_per_token_per_gpu", *MEASURED)


def plan(config: Config, setup: Setup, tensors: Mapping[str, Tensor] | None = None) -> Size:
    """What a model takes and what fits. `tensors` are those of the checkpoint, in place of what config.json implies."""
    size = Size()
    try:
        architecture = read_architecture(config)
        refuse_split(architecture, setup)
    except Unmodelled as error:
        size.miss(ALL, str(error))
        return size
    if not setup.release:
        size.assumptions.append(
            f"No release given: counted as {ENGINE_NAMES[setup.engine]} {NEWEST[setup.engine]} does."
        )
    if setup.tensor is None and setup.gpus > 1:
        size.assumptions.append(f"All {setup.gpus} GPUs share every layer (tensor parallel {setup.split.tensor}).")
    put_weights(size, config, architecture, setup, tensors)
    put_cache(size, architecture, setup)
    put_available(size, config, architecture, setup)
    try:
        put_pool(size, architecture, setup)
    except Unmodelled as error:
        size.miss(MEASURED, str(error))
    return size


def refuse_split(architecture: Architecture, setup: Setup) -> None:
    """Raise Unmodelled for a split that the engines refuse, or that is not modelled."""
    if setup.unmodelled:
        raise Unmodelled(setup.unmodelled)
    tensor, kv_heads = setup.split.tensor, architecture.kv_heads
    if architecture.heads % tensor:
        raise Unmodelled(
            f"{architecture.heads} attention heads cannot be shared by {tensor} GPUs: the engine refuses it."
        )
    if not architecture.is_latent and kv_heads % tensor and tensor % kv_heads:
        raise Unmodelled(f"{kv_heads} KV heads cannot be shared by {tensor} GPUs: the engine refuses it.")


def put_weights(
    size: Size, config: Config, architecture: Architecture, setup: Setup, tensors: Mapping[str, Tensor] | None
) -> None:
    """weights_bytes_per_gpu: from a log, the checkpoint's headers, or config.json."""
    name = "weights_bytes_per_gpu"
    if setup.weights_bytes is not None:
        size.add(name, setup.weights_bytes, "bytes", "as the log prints it", "log", "exact")
        return
    try:
        scheme = None if tensors and is_quantized(config) else scheme_of(config, setup.quantization)
        given = tensors or expected_tensors(architecture)
    except Unmodelled as error:
        size.miss((name,), str(error))
        return
    value = bytes_per_gpu(given, architecture, setup.split, scheme)
    count = sum(tensor.count for tensor in given.values())
    split = setup.split
    shared = f", shared by {split.tensor} × {split.pipeline} GPUs" if split.tensor * split.pipeline > 1 else ""
    if tensors:
        how = f"{len(tensors)} tensors of the checkpoint{shared} = {value}"
        size.add(name, value, "bytes", how, "safetensors headers", "1 %")
    else:
        bits = f"{scheme.how} in {scheme.name}, the rest 16 bits" if scheme else "16 bits"
        how = f"{count / 1e9:.2f} billion weights × {bits}{shared} = {value}"
        size.add(name, value, "bytes", how, "config.json", "2 %" if scheme is None else "5 %")
        if has_encoder(config):
            size.assumptions.append("The encoder for images or sound is not counted: about 1 to 2 GiB more in 16 bits.")


def put_cache(size: Size, architecture: Architecture, setup: Setup) -> None:
    """kv_bytes_per_token_per_gpu, and what a token takes once it is out of every window."""
    try:
        cache = cache_for(architecture, setup)
    except Unmodelled as error:
        size.miss(("kv_bytes_per_token_per_gpu",), str(error))
        return
    layer, count = architecture.layers[0], sum(group.layers for group in cache.groups)
    bits = cache_bits(setup.cache_dtype) if setup.cache_dtype != "fp8_ds_mla" else 8
    if layer.kind == "latent":
        how = f"({layer.key_dim} + {layer.value_dim}) × {bits:g}/8 bytes × {count} layers, whole on every GPU"
    else:
        heads = max(1, layer.kv_heads // setup.split.tensor)
        how = f"2 × {heads} KV heads × {layer.key_dim} × {bits:g}/8 bytes × {count} layers"
    size.add(
        "kv_bytes_per_token_per_gpu", cache.token_bytes, "bytes", f"{how} = {cache.token_bytes}", "config.json", "exact"
    )
    if cache.lasting_bytes != cache.token_bytes:
        windows = sorted({group.window for group in cache.groups if group.window is not None})
        lasting = sum(group.layers for group in cache.groups if group.window is None)
        how = f"{lasting} of {count} layers keep all tokens, the others the last {', '.join(map(str, windows))}"
        size.add("kv_bytes_per_token_beyond_window", cache.lasting_bytes, "bytes", how, "config.json", "exact")


def cache_for(architecture: Architecture, setup: Setup) -> Cache:
    """The cache of one GPU. Raises Unmodelled for a cache precision, or a release, whose rules are not known here."""
    if setup.engine == "vllm" and architecture.is_latent and not setup.since("0.7.1"):
        raise Unmodelled("vLLM before 0.7.1 caches every head of latent attention, which is not modelled.")
    hybrid = (
        setup.hybrid and setup.since("0.9.2")
        if setup.engine == "vllm"
        else (setup.hybrid and architecture.model_type in HYBRID_POOLS and setup.since("0.5.4"))
    )
    if setup.engine == "sglang" and architecture.model_type == "llama4_text" and setup.hybrid:
        raise Unmodelled("SGLang splits the pool of Llama 4 by a rule of its own, which is not modelled.")
    groups = cache_of(architecture, setup.split, hybrid=hybrid)
    if setup.engine == "sglang" and not hybrid:
        groups = tuple(replace(group, window=None, kind="full") for group in groups)
    bytes_a_layer = layer_bytes(architecture.layers[0], setup.split.tensor, setup.cache_dtype)
    return Cache(groups, bytes_a_layer, setup.block_size(architecture), setup.tokens_a_step)


def put_available(size: Size, config: Config, architecture: Architecture, setup: Setup) -> None:
    """kv_available_bytes_per_gpu: from a log, or memory × share − weights − the rest."""
    name = "kv_available_bytes_per_gpu"
    if setup.available_bytes is not None:
        size.add(name, setup.available_bytes, "bytes", "as the log prints it", "log", "the log rounds to 0.01 GiB")
        return
    weights = size.value("weights_bytes_per_gpu")
    if setup.gpu_memory_bytes is None:
        size.miss((name,), "The GPU's memory is not known: give --gpu NAME or --gpu-memory-bytes.")
    if weights is None:
        size.miss((name,), size.figures["weights_bytes_per_gpu"].reason)
    if weights is None or setup.gpu_memory_bytes is None:
        return
    share, source = setup.fraction_of(has_encoder(config))
    total = setup.gpu_memory_bytes
    if setup.engine == "sglang":
        before = setup.free_bytes or total - int((2.0 if setup.split.tensor > 1 else 0.8) * GIB)
        value = int(before * share - weights)
        how = f"{gib(before)} free before loading × {share} − {gib(weights)} weights = {gib(value)}"
    else:
        activation, outside, graphs = activation_bytes(architecture, setup), outside_bytes(setup), graph_bytes(setup)
        size.add(
            "activation_bytes_per_gpu",
            activation,
            "bytes",
            f"a step of {setup.tokens_a_step} tokens and {setup.sequences} sequences",
            "fitted to printed figures",
            "30 %",
        )
        value = int(total * share - weights - activation - outside - graphs)
        parts = [f"{gib(weights)} weights", f"{gib(activation)} activations", f"{gib(outside)} outside PyTorch"]
        parts += [f"{gib(graphs)} CUDA graphs"] if graphs else []
        how = " − ".join([f"{gib(total)} × {share}", *parts]) + f" = {gib(value)}"
    size.add(name, value, "bytes", how, f"{source}; GPU memory", ESTIMATED)


def put_pool(size: Size, architecture: Architecture, setup: Setup) -> None:
    """kv_tokens, max_model_len_that_fits and max_concurrency."""
    available = size.value("kv_available_bytes_per_gpu")
    if available is None or size.value("kv_bytes_per_token_per_gpu") is None:
        short = next(
            f
            for n in ("kv_available_bytes_per_gpu", "kv_bytes_per_token_per_gpu")
            if (f := size.figures[n]).value is None
        )
        size.miss(MEASURED, short.reason)
        return
    if available <= 0:
        size.add("kv_tokens", 0, "tokens", "nothing is left for the cache: the weights do not fit", "", "")
        size.add("max_model_len_that_fits", 0, "tokens", "nothing is left for the cache", "", "")
        size.add("max_concurrency", 0.0, "requests", "nothing is left for the cache", "", "")
        return
    cache = cache_for(architecture, setup)
    exact = "exact" if setup.available_bytes is not None else ESTIMATED
    longest = longest_of(cache, setup, available, architecture.context)
    length = setup.max_model_len or architecture.context or longest
    pool = pool_of(cache, setup, available, length)
    how = f"{gib(available)} / {cache.token_bytes} bytes a token, in blocks of {cache.block} = {pool.tokens}"
    if len(cache.groups) > 1:
        how = f"{gib(available)} in {pool.blocks or 'two pools of'} blocks of {cache.block} tokens, shared by full and sliding layers = {pool.tokens}"
    size.add("kv_tokens", pool.tokens, "tokens", how, "", exact)
    limit = f", at most the model's {architecture.context}" if longest == architecture.context else ""
    size.add(
        "max_model_len_that_fits", longest, "tokens", f"one request in {gib(available)}{limit} = {longest}", "", exact
    )
    size.add(
        "max_concurrency",
        round(pool.concurrency, 2),
        "requests",
        f"requests of {length} tokens at once = {pool.concurrency:.2f}",
        "",
        exact,
    )


def longest_of(cache: Cache, setup: Setup, available: float, context: int | None) -> int:
    """The longest request, in whole blocks."""
    if setup.engine == "sglang":
        tokens = sglang_pool(cache, available, 1, cache.block).tokens
        return min(tokens, context) if context else tokens
    longest = longest_request(cache, available, context)
    return longest if longest == context else floor(longest / cache.block) * cache.block


def pool_of(cache: Cache, setup: Setup, available: float, length: int) -> Pool:
    """The pool as the engine of the setup counts it."""
    if setup.engine == "sglang":
        return sglang_pool(cache, available, length, cache.block)
    stretch = 1.5 if setup.since("0.18.1") else 1.25 if setup.since("0.12.0") else 1.0
    return vllm_pool(cache, available, length, stretch, setup.since("0.20.0"))


def smallest_split(config: Config, setup: Setup, tensors: Mapping[str, Tensor] | None = None) -> int | None:
    """The fewest GPUs in a tensor-parallel group on which a request of the wanted length fits; None where none up to 64 do,
    or where it is not known."""
    tensor = 1
    while tensor <= 64:
        size = plan(
            config,
            replace(setup, tensor=tensor, gpus=tensor * setup.pipeline, available_bytes=None, weights_bytes=None),
            tensors,
        )
        longest, wanted = size.value("max_model_len_that_fits"), setup.max_model_len or context_of(config)
        if longest is not None and wanted is not None and longest >= wanted:
            return tensor
        tensor *= 2
    return None


def context_of(config: Config) -> int | None:
    try:
        return read_architecture(config).context
    except Unmodelled:
        return None


def freed_by(config: Config, setup: Setup, flag: str) -> int | None:
    """Bytes a GPU that weights in another precision (`fp8`, `awq`) would free; None where they are already so small, or unknown."""
    try:
        architecture = read_architecture(config)
        tensors = expected_tensors(architecture)
        now: Scheme | None = scheme_of(config, setup.quantization)
        then = of_flag(flag, now.kept if now else ())
        saved = bytes_per_gpu(tensors, architecture, setup.split, now) - bytes_per_gpu(
            tensors, architecture, setup.split, then
        )
    except Unmodelled:
        return None
    return saved if saved > 0.01 * bytes_per_gpu(tensors, architecture, setup.split, now) else None


def gib(size_bytes: float) -> str:
    """Bytes for people."""
    return f"{size_bytes / GIB:.2f} GiB"
