"""A model's architecture as far as memory is concerned, read from its config.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from kb.sizing.refusals import MOST_LAYERS, Config, Unmodelled, refuse_malformed, refuse_unmodelled

LayerKind = Literal["full", "sliding", "chunked", "latent"]

# What the class of a model type fills in where config.json is silent (transformers 4.57, configuration_*.py).
DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma": {"head_dim": 256, "tie_word_embeddings": True},
    "gemma2": {"head_dim": 256, "sliding_window": 4096, "tie_word_embeddings": True},
    "gemma3_text": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
        "max_position_embeddings": 131072,
        "vocab_size": 262208,
        "tie_word_embeddings": True,
    },
    "mistral": {"head_dim": None},
    "llama4_text": {"attention_chunk_size": 8192},
}
LATENT_TYPES = ("deepseek_v2", "deepseek_v3", "kimi_k2", "kimi_k25")
CLASSES = {"full_attention": "full", "sliding_attention": "sliding", "chunked_attention": "chunked"}


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer keeps of a token: keys and values of some heads, or one latent vector that every GPU holds whole.

    `window` is how many tokens a sliding or chunked layer looks back; `key_dim` and `value_dim` count elements a head.
    """

    kind: LayerKind
    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Architecture:
    """`context` is the longest context in tokens, None where the config does not say. `config` is the language model's."""

    model_type: str
    layers: tuple[Layer, ...]
    heads: int
    kv_heads: int
    hidden: int
    vocabulary: int
    context: int | None
    dtype: str
    config: Config

    @property
    def is_latent(self) -> bool:
        return any(layer.kind == "latent" for layer in self.layers)

    @property
    def has_windows(self) -> bool:
        return any(layer.window is not None for layer in self.layers)


def read_architecture(config: Config) -> Architecture:
    """The architecture that a config.json describes. Raises Unmodelled where its KV cache follows other rules, or a field
    that is needed is missing."""
    text = language_config(config)
    refuse_malformed(text)
    heads = whole(text, "num_attention_heads", "n_head", "n_heads", "num_heads")
    hidden = whole(text, "hidden_size", "n_embd", "d_model")
    refuse_unmodelled(config, text)
    kv_heads = kv_heads_of(text, heads)
    return Architecture(
        model_type=str(text.get("model_type") or config.get("model_type") or ""),
        layers=layers_of(text, heads, kv_heads, hidden),
        heads=heads,
        kv_heads=kv_heads,
        hidden=hidden,
        vocabulary=whole(text, "vocab_size", "padded_vocab_size"),
        context=context_of(text),
        dtype=dtype_of(config, text),
        config=text,
    )


def language_config(config: Config) -> Config:
    """The language model's part of a config, with what its class fills in; that of a text model is the config itself."""
    parts = (config.get(key) for key in ("text_config", "llm_config", "language_config"))
    inner: Config = next((part for part in parts if isinstance(part, dict)), {})
    text = {**{k: v for k, v in config.items() if k not in ("vision_config", "audio_config")}, **inner}
    model_type = str(inner.get("model_type") or config.get("model_type") or "")
    if model_type == "gemma3":
        model_type = "gemma3_text"
    filled = {k: v for k, v in DEFAULTS.get(model_type, {}).items() if text.get(k) is None}
    return {**text, **filled, "model_type": model_type}


def kv_heads_of(text: Config, heads: int) -> int:
    """Heads that keep keys and values; as many as attention heads where the config names none."""
    if text.get("new_decoder_architecture"):  # Falcon: `multi_query` then says nothing
        return int(text.get("num_kv_heads") or heads)
    if text.get("multi_query") is True or text.get("multi_query_attention") is True:
        return int(text.get("multi_query_group_num") or 1)
    for key in ("num_key_value_heads", "num_kv_heads", "n_head_kv"):
        value = text.get(key)
        if isinstance(value, list):
            raise Unmodelled(f"{key} differs from layer to layer, which is not modelled.")
        if isinstance(value, int) and value > 0 and not isinstance(value, bool):
            return value
        if value is not None:
            raise Unmodelled(f"{key} is {value!r}, which is no size.")
    attention = text.get("attn_config")
    return int(attention.get("kv_n_heads") or heads) if isinstance(attention, dict) else heads


def layers_of(text: Config, heads: int, kv_heads: int, hidden: int) -> tuple[Layer, ...]:
    """What each layer keeps of a token."""
    count = whole(text, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    if not 1 <= count <= MOST_LAYERS:
        raise Unmodelled(f"num_hidden_layers is {count}, which is no size.")
    if text.get("kv_lora_rank") is not None:
        if text.get("model_type") not in LATENT_TYPES:
            raise Unmodelled(
                f"kv_lora_rank in a model of type {text.get('model_type')!r}: how it is cached is not modelled."
            )
        return (Layer("latent", 1, whole(text, "kv_lora_rank"), whole(text, "qk_rope_head_dim")),) * count
    dim = int(text.get("head_dim") or text.get("kv_channels") or text.get("attention_head_dim") or hidden // heads)
    if dim < 1:
        raise Unmodelled("hidden_size and num_attention_heads do not give a head size.")
    windows = {"sliding": text.get("sliding_window"), "chunked": text.get("attention_chunk_size")}
    kinds = kinds_of(text, count)
    return tuple(Layer(kind, kv_heads, dim, dim, windows.get(kind)) for kind in kinds)


def kinds_of(text: Config, count: int) -> list[LayerKind]:
    """Which layers look at the whole context and which at a window of it."""
    listed = text.get("layer_types")
    if listed:
        unknown = sorted({str(each) for each in listed} - CLASSES.keys())
        if unknown or len(listed) < count:
            raise Unmodelled(f"layer_types has {', '.join(unknown) or 'too few layers'}, which is not modelled.")
        return [CLASSES[each] for each in listed[:count]]  # type: ignore[misc]
    model_type = text.get("model_type")
    if model_type in ("llama4_text", "llama4"):
        return ["chunked" if (i + 1) % 4 else "full" for i in range(count)]
    window = text.get("sliding_window")
    pattern = text.get("sliding_window_pattern") or (2 if model_type == "gemma2" else None)
    if not window or (text.get("use_sliding_window") is False):
        return ["full"] * count
    if isinstance(pattern, str):
        if not pattern or set(pattern) - set("LG"):
            raise Unmodelled(f"sliding_window_pattern {pattern!r} is not modelled.")
        return ["full" if pattern[i % len(pattern)] == "G" else "sliding" for i in range(count)]
    if isinstance(pattern, int) and not isinstance(pattern, bool) and pattern > 1:
        return ["sliding" if (i + 1) % pattern else "full" for i in range(count)]
    if text.get("use_sliding_window") and int(text.get("max_window_layers") or 0) > 0:
        if int(text["max_window_layers"]) >= count:
            return ["full"] * count
        raise Unmodelled("the window starts at layer max_window_layers, which engines treat differently.")
    return ["sliding"] * count


def context_of(text: Config) -> int | None:
    """The longest context in tokens, with the factor of a rope scaling that stretches it, as vLLM derives it."""
    keys = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length")
    limits = [int(text[k]) for k in keys if isinstance(text.get(k), int | float)]
    if not limits:
        return None
    limit = min(limits)
    scaling = text.get("rope_scaling")
    if not isinstance(scaling, dict) or text.get("model_type") == "gemma3_text":
        return limit
    kind = scaling.get("rope_type") or scaling.get("type")
    if kind in ("su", "longrope", "llama3"):
        return limit
    original = scaling.get("original_max_position_embeddings") if kind == "yarn" else None
    return int(float(original or limit) * float(scaling.get("factor") or 1))


def dtype_of(config: Config, text: Config) -> str:
    """The precision of the weights in config.json: `bfloat16`, `float16`, `float32`. float32 is served in 16 bits."""
    inner = config.get("text_config")
    own = inner.get("torch_dtype") or inner.get("dtype") if isinstance(inner, dict) else None
    return str(own or text.get("torch_dtype") or text.get("dtype") or "bfloat16").removeprefix("torch.")


def whole(text: Config, *keys: str) -> int:
    """The first of these fields that holds a number; raises Unmodelled where none does."""
    for key in keys:
        value = text.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if value < 1:
                raise Unmodelled(f"{key} is {value}, which is no size.")
            return int(value)
    raise Unmodelled(f"config.json has no {keys[0]}.")
