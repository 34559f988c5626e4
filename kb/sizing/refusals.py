"""What is not modelled, and what is no config.json: the reasons for which no number is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]

# Architectures whose memory grows by other rules than those below, and what stands in the way.
UNMODELLED = {
    "deepseek_v32": "the sparse attention's indexer keeps a cache of its own",
    "glm_moe_dsa": "the sparse attention's indexer keeps a cache of its own",
    "deepseek_v4": "its compressed attention caches several kinds of state",
    "deepseek_ref": "its compressed attention caches several kinds of state",
    "minimax_m3": "its layers do not cache alike",
    "minimax_m3_vl": "its layers do not cache alike",
    "gemma3n": "some layers share the KV cache of others",
    "gemma3n_text": "some layers share the KV cache of others",
    "gemma4": "full and sliding layers have different head sizes, and some share their KV cache",
    "gemma4_text": "full and sliding layers have different head sizes, and some share their KV cache",
    "mimo_v2_flash": "full and sliding layers have different head counts",
    "step3_text": "its heads share keys and values in a way of their own",
    "step3p5": "full and sliding layers have different head counts",
    "step3p7": "full and sliding layers have different head counts",
    "nemotron-nas": "its layers differ in heads and width",
    "whisper": "cross attention keeps a second cache, sized by the encoder",
    "mllama": "cross-attention layers keep a second cache, sized by the images",
    "mllama_text_model": "cross-attention layers keep a second cache, sized by the images",
    "t5": "cross attention keeps a second cache, sized by the encoder",
    "bart": "cross attention keeps a second cache, sized by the encoder",
}
STATEFUL_KEYS = (
    "mamba_d_state",
    "mamba_d_conv",
    "ssm_state_size",
    "ssm_cfg",
    "linear_num_key_heads",
    "linear_conv_kernel_dim",
    "linear_attn_config",
    "hybrid_override_pattern",
    "layers_block_type",
    "lru_width",
    "state_size",
)
COUNTS = (
    *("num_attention_heads", "n_head", "n_heads", "num_heads", "hidden_size", "n_embd", "d_model", "vocab_size"),
    *("padded_vocab_size", "num_hidden_layers", "n_layer", "n_layers", "num_layers", "head_dim", "kv_channels"),
    *("attention_head_dim", "num_kv_heads", "n_head_kv", "multi_query_group_num", "kv_lora_rank", "qk_rope_head_dim"),
    *("qk_nope_head_dim", "v_head_dim", "q_lora_rank", "intermediate_size", "intermediate_size_mlp"),
    *(
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
        "n_routed_experts",
        "num_local_experts",
        "num_experts",
    ),
    *("n_shared_experts", "num_experts_per_tok", "experts_per_token", "first_k_dense_replace", "moe_layer_freq"),
    *(
        "decoder_sparse_step",
        "interleave_moe_layer_step",
        "sliding_window",
        "attention_chunk_size",
        "max_window_layers",
    ),
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
)
MAY_BE_ZERO = (
    *("shared_expert_intermediate_size", "n_shared_experts", "first_k_dense_replace", "sliding_window"),
    *("max_window_layers", "q_lora_rank", "num_experts", "moe_intermediate_size"),
)
MOST_LAYERS = 10_000
LISTS = ("layer_types", "mlp_only_layers", "moe_layers", "attn_type_list")


class Unmodelled(ValueError):
    """The model's memory follows rules that are not modelled here; the text says which."""


def refuse_malformed(text: Config) -> None:
    """Raise Unmodelled for a field that holds something else than a config.json has there."""
    for key in COUNTS:
        value = text.get(key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
        if value is not None and not (
            is_number and (value > 0 or (value == 0 and key in MAY_BE_ZERO)) and value < 1 << 40
        ):
            raise Unmodelled(f"{key} is {value!r}, which is no size.")
    for key in LISTS:
        if not isinstance(text.get(key) or [], list):
            raise Unmodelled(f"{key} is {text[key]!r}, which is no list.")
    scaling = text.get("rope_scaling")
    if isinstance(scaling, dict) and not all(
        isinstance(scaling.get(key) or 1, int | float) for key in ("factor", "original_max_position_embeddings")
    ):
        raise Unmodelled("rope_scaling holds no numbers.")


def refuse_unmodelled(config: Config, text: Config) -> None:
    """Raise Unmodelled for a model type or a field that is known to change what a token keeps."""
    for model_type in (str(config.get("model_type")), str(text.get("model_type"))):
        if model_type in UNMODELLED:
            raise Unmodelled(f"{model_type} is not modelled: {UNMODELLED[model_type]}.")
    if config.get("is_encoder_decoder") or text.get("add_cross_attention") or text.get("cross_attention_layers"):
        raise Unmodelled("cross attention keeps a second cache, which is not modelled.")
    if 0 in (text.get("attn_type_list") or ()):
        raise Unmodelled("some layers keep a recurrent state (attn_type_list), which is not modelled.")
    stateful = [key for key in STATEFUL_KEYS if text.get(key) not in (None, [], {}, 0)]
    if stateful:
        raise Unmodelled(f"some layers keep a recurrent state ({stateful[0]}), which is not modelled.")
    if text.get("index_topk") or text.get("index_head_dim"):
        raise Unmodelled(
            "the sparse attention's indexer (index_head_dim) keeps a cache of its own, which is not modelled."
        )
    if text.get("use_cla"):
        raise Unmodelled("some layers share the KV cache of others (use_cla), which is not modelled.")
    if text.get("num_key_value_heads_per_layer"):
        raise Unmodelled("the layers have different KV heads (num_key_value_heads_per_layer), which is not modelled.")
    if text.get("num_kv_shared_layers"):
        raise Unmodelled("some layers share the KV cache of others (num_kv_shared_layers), which is not modelled.")
    if text.get("block_configs"):
        raise Unmodelled("the layers differ from each other (block_configs), which is not modelled.")
