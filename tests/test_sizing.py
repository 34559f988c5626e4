"""The memory arithmetic: figures that engines printed, published parameter counts, and properties that always hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.errors import InputError
from kb.sizing.architecture import read_architecture
from kb.sizing.cache import Cache, Group, cache_bits, longest_request, pool_shape, request_bytes, sglang_pool, vllm_pool
from kb.sizing.layout import expected_tensors
from kb.sizing.plan import ALL, plan, smallest_split
from kb.sizing.quantization import scheme_of, weight_bits
from kb.sizing.refusals import Unmodelled
from kb.sizing.setup import GIB, Setup, sglang_fraction
from kb.sizing.sharding import Split, bytes_per_gpu, stage_bounds
from kb.sizing.tables import ENDINGS, gpu_memory_bytes, known_ids, known_model
from kb.sizing.tensors import Tensor

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
GPT_OSS = "openai/gpt-oss-120b"


def config(name: str) -> dict[str, Any]:
    found = known_model(name)
    assert found is not None
    return found.config


def billions(name: str) -> float:
    tensors = expected_tensors(read_architecture(config(name)))
    return sum(tensor.count for tensor in tensors.values()) / 1e9


@pytest.mark.parametrize("name", known_ids())
def test_every_known_model_is_modelled(name: str) -> None:
    size = plan(config(name), Setup(gpu_memory_bytes=80 * GIB, max_model_len=4096))
    assert [key for key in ALL if size.figures[key].value is None] == []


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("meta-llama/Llama-2-7b-chat-hf", 6.74),
        (LLAMA, 8.03),
        ("meta-llama/Llama-3.1-70B-Instruct", 70.55),
        ("meta-llama/Llama-3.1-405B-Instruct", 405.85),
        ("meta-llama/Llama-3.2-1B-Instruct", 1.24),
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.494),
        ("Qwen/Qwen2.5-7B-Instruct", 7.62),
        ("Qwen/Qwen2.5-72B-Instruct", 72.71),
        ("Qwen/Qwen3-32B", 32.76),
        ("Qwen/Qwen3-235B-A22B", 235.09),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 46.70),
        ("google/gemma-2-9b-it", 9.24),
        ("deepseek-ai/DeepSeek-V3", 671.03),
        ("deepseek-ai/DeepSeek-V2-Lite-Chat", 15.71),
        ("moonshotai/Kimi-K2-Instruct", 1026.41),
        ("openai/gpt-oss-20b", 20.91),
        (GPT_OSS, 116.83),
        ("01-ai/Yi-34B-Chat", 34.39),
    ],
)
def test_shapes_add_up_to_the_published_parameters(name: str, published: float) -> None:
    assert billions(name) == pytest.approx(published, rel=0.004)


@pytest.mark.parametrize(
    ("name", "setup", "expected"),
    [
        (LLAMA, {}, 131072),
        (LLAMA, {"tensor": 8}, 16384),
        (LLAMA, {"tensor": 16}, 16384),  # eight KV heads: two GPUs hold the same one
        (LLAMA, {"cache_dtype": "fp8"}, 65536),
        (LLAMA, {"cache_dtype": "nvfp4"}, 36864),  # 4 bits and an 8-bit scale for 16
        (LLAMA, {"pipeline": 2}, 65536),
        ("meta-llama/Llama-2-7b-chat-hf", {}, 524288),  # as many KV heads as attention heads
        ("deepseek-ai/DeepSeek-V3", {"tensor": 8}, 70272),  # (512 + 64) × 2 × 61, whole on every GPU
        ("Qwen/Qwen3-235B-A22B", {"tensor": 4}, 48128),
        (GPT_OSS, {}, 73728),
    ],
)
def test_bytes_a_token(name: str, setup: dict[str, Any], expected: int) -> None:
    size = plan(config(name), Setup(**setup))
    assert size.value("kv_bytes_per_token_per_gpu") == expected


def test_vllm_0_11_asks_for_what_gpt_oss_needs() -> None:
    # vllm-project/vllm issue 27508: 131072 tokens, --max-num-batched-tokens 1024, 4.54 GiB needed
    architecture = read_architecture(config(GPT_OSS))
    cache = Cache((Group(18, 128, "sliding"), Group(18, None, "full")), 2048, 16, 1024)
    assert architecture.has_windows
    assert round(request_bytes(cache, 131072) / GIB, 2) == 4.54


def test_a_mixed_model_fits_as_vllm_counts_it() -> None:
    # llm-d-planner, gemma-3-12b-it on an H100, vLLM 0.19.0: 47.72 GiB are 130,304 tokens, 15.88 requests of 8,192
    setup = Setup(release="0.19.0", available_bytes=int(47.72 * GIB), max_model_len=8192, batched_tokens=8192)
    size = plan(config("google/gemma-3-12b-it"), setup)
    assert (size.value("kv_tokens"), size.value("max_concurrency")) == (130304, 15.88)


@pytest.mark.parametrize(
    ("changes", "heads", "windows"),
    [
        ({"sliding_window": 4096, "sliding_window_pattern": "LLLG"}, 8, 24),
        ({"sliding_window": 4096, "sliding_window_pattern": 4}, 8, 24),
        ({"sliding_window": 4096}, 8, 32),
        ({"sliding_window": 4096, "use_sliding_window": False}, 8, 0),
        ({"layer_types": ["sliding_attention", "full_attention"] * 16, "sliding_window": 128}, 8, 16),
        ({"multi_query": True}, 1, 0),
        ({"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 4}, 4, 0),
        ({"multi_query_attention": True, "multi_query_group_num": 2}, 2, 0),
        ({"num_key_value_heads": None}, 32, 0),
    ],
)
def test_what_layers_keep(changes: dict[str, Any], heads: int, windows: int) -> None:
    architecture = read_architecture({**config(LLAMA), **changes})
    assert architecture.kv_heads == heads
    assert sum(layer.window is not None for layer in architecture.layers) == windows


@pytest.mark.parametrize(
    ("scaling", "context"),
    [
        (None, 4096),
        ({"rope_type": "llama3", "factor": 8.0}, 4096),
        ({"type": "linear", "factor": 4.0}, 16384),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ({"rope_type": "longrope", "factor": 32}, 4096),
    ],
)
def test_the_longest_context_is_derived_as_vllm_does(scaling: dict[str, Any] | None, context: int) -> None:
    changed = {**config(LLAMA), "max_position_embeddings": 4096, "rope_scaling": scaling}
    assert read_architecture(changed).context == context


def test_without_the_hybrid_manager_every_layer_keeps_every_token() -> None:
    mixed, plain = (
        plan(config(GPT_OSS), Setup(release="0.11.0", available_bytes=4 * GIB, hybrid=hybrid))
        for hybrid in (True, False)
    )
    assert plain.value("kv_tokens") == 4 * GIB // (73728 * 16) * 16
    assert mixed.value("max_model_len_that_fits") > (plain.value("max_model_len_that_fits") or 0)  # type: ignore[operator]
    old = plan(config(GPT_OSS), Setup(release="0.8.5", available_bytes=4 * GIB))
    assert old.value("kv_tokens") == plain.value("kv_tokens")


def test_tokens_are_counted_by_requests_since_vllm_0_20() -> None:
    given = {"available_bytes": 4 * GIB, "max_model_len": 65536, "batched_tokens": 8192}
    size = plan(config(GPT_OSS), Setup(release="0.20.2", **given))
    assert size.value("kv_tokens") == pytest.approx(65536 * (size.value("max_concurrency") or 0), rel=0.01)


def test_rows_of_a_pool() -> None:
    five_to_one = (Group(29, 1024, "sliding"), Group(5, None, "full"))
    assert pool_shape(five_to_one) == (5, 7)
    nearly_even = (Group(12, 128, "sliding"), Group(13, None, "full"))
    assert (pool_shape(nearly_even), pool_shape(nearly_even, 1.25)) == ((12, 3), (13, 2))


def test_sglang_splits_a_mixed_pool() -> None:
    cache = Cache((Group(18, 128, "sliding"), Group(18, None, "full")), 2048, 1)
    tokens = sglang_pool(cache, GIB, 1000).tokens
    assert tokens * 18 * 2048 + int(tokens * 0.8) * 18 * 2048 == pytest.approx(GIB, rel=1e-4)


def test_sglang_defaults_leave_room_by_the_gpu() -> None:
    forty_six = Setup(engine="sglang", release="0.5.5", gpu_memory_bytes=46068 << 20)
    assert sglang_fraction(forty_six) == 0.851  # sgl-project/sglang pull request 13023
    assert sglang_fraction(Setup(engine="sglang", release="0.4.6", tensor=8)) == 0.81


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"linear_conv_kernel_dim": 4}, "recurrent state"),
        ({"mamba_d_state": 128}, "recurrent state"),
        ({"model_type": "deepseek_v32"}, "indexer"),
        ({"model_type": "gemma4"}, "head sizes"),
        ({"model_type": "whisper"}, "cross attention"),
        ({"is_encoder_decoder": True}, "cross attention"),
        ({"num_kv_shared_layers": 10}, "share the KV cache"),
        ({"use_cla": True}, "share the KV cache"),
        ({"sliding_window": 4096, "sliding_window_pattern": "LLX"}, "LLX"),
        ({"kv_lora_rank": 512}, "how it is cached"),
        ({"num_hidden_layers": None}, "no num_hidden_layers"),
        ({"layer_types": ["full_attention"] * 31 + ["linear_attention"]}, "linear_attention"),
        ({"num_key_value_heads": [8, 4]}, "differs from layer to layer"),
    ],
)
def test_what_is_not_modelled_gives_no_number(changes: dict[str, Any], says: str) -> None:
    size = plan({**config(LLAMA), **changes}, Setup(gpu_memory_bytes=80 * GIB))
    assert {size.figures[name].value for name in ALL} == {None}
    assert all(says in size.figures[name].reason for name in ALL)


def test_weights_that_are_not_modelled_leave_the_cache_known() -> None:
    size = plan({**config(LLAMA), "model_type": "newest"}, Setup(gpu_memory_bytes=80 * GIB))
    assert size.value("kv_bytes_per_token_per_gpu") == 131072
    assert size.value("weights_bytes_per_gpu") is None and size.value("kv_tokens") is None
    assert "newest" in size.figures["kv_tokens"].reason


def test_an_unknown_gpu_leaves_the_rest_known() -> None:
    size = plan(config(LLAMA), Setup())
    assert size.value("weights_bytes_per_gpu") and size.value("kv_tokens") is None
    assert "--gpu" in size.figures["kv_tokens"].reason


def test_a_split_that_the_engine_refuses_is_refused() -> None:
    size = plan(config(LLAMA), Setup(tensor=5, gpu_memory_bytes=80 * GIB))
    assert size.value("kv_tokens") is None and "32 attention heads" in size.figures["kv_tokens"].reason


def test_a_model_that_does_not_fit_has_no_room() -> None:
    setup = Setup(gpu_memory_bytes=gpu_memory_bytes("RTX 4090"))
    size = plan(config("Qwen/Qwen2.5-32B-Instruct"), setup)
    assert (size.value("kv_tokens"), size.value("max_model_len_that_fits")) == (0, 0)
    assert smallest_split(config("Qwen/Qwen2.5-32B-Instruct"), setup) == 4


@pytest.mark.parametrize(
    ("section", "bits"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 16384),
        ({"quant_method": "mxfp4"}, 4.25),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4.5),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4.5),
        ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8}}}}, 8),
    ],
)
def test_bits_a_weight(section: dict[str, Any], bits: float) -> None:
    scheme = scheme_of({"quantization_config": section})
    assert scheme is not None and scheme.bits == pytest.approx(bits)


def test_an_unknown_quantization_gives_no_weights() -> None:
    size = plan({**config(LLAMA), "quantization_config": {"quant_method": "aqlm"}}, Setup(gpu_memory_bytes=80 * GIB))
    assert size.value("weights_bytes_per_gpu") is None and "aqlm" in size.figures["weights_bytes_per_gpu"].reason


def test_what_a_checkpoint_keeps_stays_in_sixteen_bits() -> None:
    scheme = scheme_of(
        {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}}
    )
    matrix = Tensor("BF16", (64, 64))
    kept = {
        name: weight_bits(name, matrix, scheme) for name in ("model.layers.3.self_attn.q_proj.weight", "lm_head.weight")
    }
    assert set(kept.values()) == {None}
    assert weight_bits("model.layers.3.mlp.experts.up_proj.weight", matrix, scheme) == 4.25


def test_tensors_of_a_checkpoint_come_before_what_its_config_implies() -> None:
    architecture = read_architecture(config(LLAMA))
    implied = expected_tensors(architecture)
    extra = {**implied, "model.layers.32.mtp.weight": Tensor("BF16", (1 << 20, 1 << 10))}
    assert bytes_per_gpu(extra, architecture, Split()) == bytes_per_gpu(implied, architecture, Split())
    size = plan(config(LLAMA), Setup(), implied)
    assert size.figures["weights_bytes_per_gpu"].source == "safetensors headers"


def test_the_pipeline_is_cut_as_vllm_cuts_it() -> None:
    assert stage_bounds(48, 2) == [0, 24, 48]
    assert stage_bounds(61, 4) == [0, 15, 30, 46, 61]
    assert stage_bounds(94, 4) == [0, 23, 47, 71, 94]


@given(
    st.sampled_from([LLAMA, "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-V3", GPT_OSS]), st.sampled_from([1, 2, 4, 8])
)
@settings(max_examples=20, deadline=None)
def test_more_gpus_never_hold_more_each(name: str, tensor: int) -> None:
    architecture = read_architecture(config(name))
    tensors = expected_tensors(architecture)
    one, two = (bytes_per_gpu(tensors, architecture, Split(t)) for t in (tensor, tensor * 2))
    assert two <= one <= 2 * two


@given(
    st.integers(1, 80),
    st.integers(0, 80),
    st.integers(1, 4096),
    st.sampled_from([1, 16, 64]),
    st.integers(1, 1 << 34),
    st.integers(64, 8192),
)
@settings(deadline=None)
def test_the_longest_request_fits_and_no_longer_one_does(
    full: int, sliding: int, window: int, block: int, available: int, batched: int
) -> None:
    groups = (Group(full, None, "full"), *((Group(sliding, window, "sliding"),) if sliding else ()))
    cache = Cache(groups, 1024, block, batched)
    longest = longest_request(cache, available, 1 << 20)
    assert longest == 0 or request_bytes(cache, longest) <= available
    assert longest == 1 << 20 or request_bytes(cache, longest + 1) > available


@given(st.integers(1, 1 << 36), st.integers(16, 1 << 17))
@settings(deadline=None)
def test_a_pool_never_holds_more_than_its_bytes(available: int, length: int) -> None:
    cache = Cache((Group(32, None, "full"),), 4096)
    pool = vllm_pool(cache, available, length)
    assert pool.tokens * cache.token_bytes <= available
    assert pool.concurrency * length <= pool.tokens + length


def test_known_ids_are_found_under_other_owners_and_precisions() -> None:
    assert known_model("unsloth/Llama-3.1-70B-Instruct").id == "meta-llama/Llama-3.1-70B-Instruct"  # type: ignore[union-attr]
    assert known_model("meta-llama/Meta-Llama-3.1-8B-Instruct").note == ""  # type: ignore[union-attr]
    awq = known_model("Qwen/Qwen2.5-72B-Instruct-AWQ")
    assert awq is not None and awq.config["quantization_config"]["quant_method"] == "awq" and "awq" in awq.note
    assert known_model("nobody/nothing-7b") is None
    assert len({pattern.pattern for pattern, _ in ENDINGS}) == len(ENDINGS)


def test_gpus_are_known_by_name() -> None:
    assert gpu_memory_bytes("NVIDIA H100 80GB HBM3") == int(79.19 * GIB)
    assert gpu_memory_bytes("NVIDIA GeForce RTX 4090") == gpu_memory_bytes("4090")
    assert gpu_memory_bytes("Voodoo 2") is None
    with pytest.raises(InputError, match="two sizes"):
        gpu_memory_bytes("A100")


def test_a_cache_precision_that_is_not_known_is_refused() -> None:
    with pytest.raises(Unmodelled, match="turboquant"):
        cache_bits("turboquant")


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 1 << 50),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
)


@given(
    st.sampled_from([LLAMA, GPT_OSS, "deepseek-ai/DeepSeek-V3", "google/gemma-3-4b-it", "Qwen/Qwen3-30B-A3B"]),
    st.data(),
)
@settings(deadline=None, max_examples=150)
def test_a_config_of_any_content_gives_numbers_or_reasons(name: str, data: st.DataObject) -> None:
    known = config(name)
    extra = ("head_dim", "layer_types", "sliding_window_pattern", "rope_scaling", "quantization_config", "attn_config")
    changes = data.draw(st.dictionaries(st.sampled_from([*known, *extra]), JUNK, max_size=3))
    if isinstance(changes.get("num_hidden_layers"), int | float) and not 0 < changes["num_hidden_layers"] < 500:
        changes.pop("num_hidden_layers")
    size = plan({**known, **changes}, Setup(gpu_memory_bytes=80 * GIB, tensor=data.draw(st.sampled_from([1, 2, 8]))))
    assert all((figure.value is None) == bool(figure.reason) for figure in size.figures.values())
    assert set(ALL) <= size.figures.keys()
