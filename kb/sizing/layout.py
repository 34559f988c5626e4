"""The tensors that a config.json implies, by their names in a checkpoint. Experts of a layer are one tensor here.

For model types that are not listed nothing is said: their checkpoint's headers tell the size.
"""

from __future__ import annotations

from collections.abc import Iterator

from kb.sizing.architecture import Architecture, whole
from kb.sizing.refusals import Config, Unmodelled
from kb.sizing.tensors import Tensor

Named = tuple[str, tuple[int, ...]]

BIASED = ("qwen2", "qwen2_moe", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text")
NORMED = ("qwen3", "qwen3_moe", "qwen3_vl_text", "qwen3_vl_moe_text", "gemma3_text")
DENSE = (
    *("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3_text", "internlm2", "internlm3", "yi"),
    *("qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text", "qwen3_vl_text", "mistral3", "ministral", "mimo"),
)
SPARSE = (
    *("mixtral", "qwen2_moe", "qwen3_moe", "qwen3_vl_moe_text", "deepseek_v2", "deepseek_v3", "kimi_k2", "gpt_oss"),
    *("llama4_text", "glm4_moe", "minimax_m2"),
)
VISION = ("vision_config", "audio_config")


def expected_tensors(architecture: Architecture) -> dict[str, Tensor]:
    """Names and shapes in 16 bits. Raises Unmodelled for a model type whose layers are not known here."""
    if architecture.model_type not in (*DENSE, *SPARSE):
        raise Unmodelled(
            f"the weights of {architecture.model_type or 'this model type'} are not modelled without a checkpoint."
        )
    dtype = "F16" if architecture.dtype == "float16" else "BF16"
    return {name: Tensor(dtype, shape) for name, shape in names_and_shapes(architecture)}


def names_and_shapes(architecture: Architecture) -> Iterator[Named]:
    """Embeddings, every layer, the head."""
    text, hidden, vocabulary = architecture.config, architecture.hidden, architecture.vocabulary
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    if not text.get("tie_word_embeddings", False):
        yield "lm_head.weight", (vocabulary, hidden)
    yield "model.norm.weight", (hidden,)
    for i in range(len(architecture.layers)):
        prefix = f"model.layers.{i}"
        for part, shape in [*attention(architecture), *feed_forward(architecture, i), *norms(architecture)]:
            yield f"{prefix}.{part}", shape


def norms(architecture: Architecture) -> Iterator[Named]:
    """The norms of a layer; Gemma 2 and 3 have four."""
    names = ["input_layernorm", "post_attention_layernorm"]
    if architecture.model_type in ("gemma2", "gemma3_text"):
        names += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    for name in names:
        yield f"{name}.weight", (architecture.hidden,)


def attention(architecture: Architecture) -> Iterator[Named]:
    """The projections of a layer's attention."""
    if architecture.is_latent:
        yield from latent_attention(architecture)
        return
    text, hidden = architecture.config, architecture.hidden
    dim = architecture.layers[0].key_dim
    queries, keys = architecture.heads * dim, architecture.kv_heads * dim
    biased = architecture.model_type in BIASED or text.get("attention_bias") is True
    for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
        yield f"self_attn.{name}.weight", (rows, hidden)
        if biased:
            yield f"self_attn.{name}.bias", (rows,)
    yield "self_attn.o_proj.weight", (hidden, queries)
    if architecture.model_type == "gpt_oss":
        yield "self_attn.o_proj.bias", (hidden,)
        yield "self_attn.sinks", (architecture.heads,)
    if architecture.model_type in NORMED or text.get("use_qk_norm"):
        yield "self_attn.q_norm.weight", (dim,)
        yield "self_attn.k_norm.weight", (dim,)


def latent_attention(architecture: Architecture) -> Iterator[Named]:
    """The projections of multi-head latent attention (DeepSeek V2 and V3)."""
    text, hidden, heads = architecture.config, architecture.hidden, architecture.heads
    latent, rope = whole(text, "kv_lora_rank"), whole(text, "qk_rope_head_dim")
    nope, value = whole(text, "qk_nope_head_dim"), whole(text, "v_head_dim")
    if text.get("q_lora_rank"):
        rank = whole(text, "q_lora_rank")
        yield "self_attn.q_a_proj.weight", (rank, hidden)
        yield "self_attn.q_a_layernorm.weight", (rank,)
        yield "self_attn.q_b_proj.weight", (heads * (nope + rope), rank)
    else:
        yield "self_attn.q_proj.weight", (heads * (nope + rope), hidden)
    yield "self_attn.kv_a_proj_with_mqa.weight", (latent + rope, hidden)
    yield "self_attn.kv_a_layernorm.weight", (latent,)
    yield "self_attn.kv_b_proj.weight", (heads * (nope + value), latent)
    yield "self_attn.o_proj.weight", (hidden, heads * value)


def feed_forward(architecture: Architecture, index: int) -> Iterator[Named]:
    """The dense or sparse part of a layer."""
    text, hidden = architecture.config, architecture.hidden
    if not is_sparse(text, architecture.model_type, index):
        yield from gated("mlp", hidden, dense_width(text, architecture.model_type))
        return
    count = experts(text)
    width = whole(text, *expert_width_keys(architecture.model_type))
    router = "router" if architecture.model_type in ("gpt_oss", "llama4_text") else "gate"
    yield f"mlp.{router}.weight", (count, hidden)
    for name in ("gate_proj", "up_proj", "down_proj"):
        yield f"mlp.experts.{name}.weight", (count, width, hidden)
    if architecture.model_type == "gpt_oss":
        yield "mlp.experts.gate_up_proj_bias", (count, 2 * width)
        yield "mlp.experts.down_proj_bias", (count, hidden)
    shared = shared_width(text, architecture.model_type, width)
    if shared:
        yield from gated("mlp.shared_experts", hidden, shared)


def gated(prefix: str, hidden: int, width: int) -> Iterator[Named]:
    """A gated feed-forward network."""
    yield f"{prefix}.gate_proj.weight", (width, hidden)
    yield f"{prefix}.up_proj.weight", (width, hidden)
    yield f"{prefix}.down_proj.weight", (hidden, width)


def is_sparse(text: Config, model_type: str, index: int) -> bool:
    """Whether a layer has experts."""
    if model_type not in SPARSE:
        return False
    if model_type == "llama4_text":
        step = int(text.get("interleave_moe_layer_step") or 1)
        return index in text["moe_layers"] if text.get("moe_layers") else (index + 1) % step == 0
    if text.get("first_k_dense_replace") is not None:
        frequency = int(text.get("moe_layer_freq") or 1)
        return index >= int(text["first_k_dense_replace"]) and index % frequency == 0
    if index in (text.get("mlp_only_layers") or ()):
        return False
    return (index + 1) % int(text.get("decoder_sparse_step") or 1) == 0


def experts(text: Config) -> int:
    return whole(text, "n_routed_experts", "num_local_experts", "num_experts")


def expert_width_keys(model_type: str) -> tuple[str, ...]:
    """Where the width of an expert is written."""
    own = ("mixtral", "gpt_oss", "llama4_text", "minimax_m2")
    return ("intermediate_size",) if model_type in own else ("moe_intermediate_size",)


def dense_width(text: Config, model_type: str) -> int:
    """The width of a dense layer; Llama 4's differs from that of its experts."""
    return whole(text, "intermediate_size_mlp") if model_type == "llama4_text" else whole(text, "intermediate_size")


def shared_width(text: Config, model_type: str, width: int) -> int:
    """The width of the experts that every token goes through; 0 for none."""
    if model_type == "llama4_text":
        return width
    if text.get("shared_expert_intermediate_size"):
        return int(text["shared_expert_intermediate_size"])
    return int(text.get("n_shared_experts") or 0) * width


def has_encoder(config: Config) -> bool:
    """Whether the model also sees or hears: that part's weights are not counted here."""
    return any(config.get(key) for key in VISION)
