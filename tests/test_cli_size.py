"""`crashcart size` and what finds the model for it: forms, sources of a model, flags, exit codes."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from assistant.signals import Signals
from assistant.sizing import find_checkpoint, headers_in, setup_of, sized, snapshot_of
from kb.errors import InputError
from kb.sizing.architecture import read_architecture
from kb.sizing.layout import expected_tensors
from kb.sizing.setup import GIB, Setup
from kb.sizing.tables import known_model
from kb.sizing.tensors import Tensor

Run = Callable[..., tuple[int, str, str]]

CONTRACT = {
    "weights_bytes_per_gpu",
    "kv_bytes_per_token_per_gpu",
    "kv_available_bytes_per_gpu",
    "kv_tokens",
    "max_model_len_that_fits",
    "max_concurrency",
    "assumptions",
    "formula",
}
TINY: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A file with a true header and no values behind it but a hole of their size."""
    reached, header = 0, {}
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [reached, reached + tensor.size_bytes],
        }
        reached += tensor.size_bytes
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + reached)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder in two shards."""
    model = tmp_path / "tiny"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(TINY))
    tensors = list(expected_tensors(read_architecture(TINY)).items())
    write_safetensors(model / "model-00001-of-00002.safetensors", dict(tensors[:9]))
    write_safetensors(model / "model-00002-of-00002.safetensors", dict(tensors[9:]))
    return model


def size(crashcart: Run, *argv: str) -> tuple[int, dict[str, Any]]:
    code, out, err = crashcart("size", *argv, "--json")
    assert err == ""
    found: dict[str, Any] = json.loads(out)
    return code, found


def test_the_contracts_form(crashcart: Run) -> None:
    code, found = size(crashcart, "Qwen/Qwen2.5-7B-Instruct", "--gpus", "1", "--gpu-memory-bytes", str(24 * GIB))
    assert code == 0 and found.keys() >= CONTRACT
    assert found["kv_bytes_per_token_per_gpu"] == 57344
    assert "57344" in found["formula"] and found["reasons"] == {}


def test_a_printed_pool_is_met(crashcart: Run) -> None:
    # llm-d-planner: Llama 3.1 8B, H100, vLLM 0.19.0, --gpu-memory-utilization 0.95: 58.11 GiB, 476,016 tokens
    argv = ("meta-llama/Llama-3.1-8B-Instruct", "--gpu", "H100", "--release", "vllm==0.19.0")
    flags = ("--gpu-memory-utilization", "0.95", "--max-model-len", "8192")
    _, found = size(crashcart, *argv, *flags)
    assert found["kv_tokens"] == pytest.approx(476016, rel=0.01)
    _, told = size(crashcart, *argv, *flags, "--kv-available-bytes", str(int(58.11 * GIB)))
    assert told["kv_tokens"] == pytest.approx(476016, rel=0.0002)


def test_what_does_not_fit_says_so(crashcart: Run) -> None:
    code, out, _ = crashcart("size", "Qwen/Qwen2.5-32B-Instruct", "--gpu", "4090", "--gpus", "2")
    assert code == 2
    assert "the weights do not fit" in out and "Fewest GPUs" in out and "4-bit weights free" in out


def test_what_is_not_modelled_is_null_with_the_reason(crashcart: Run, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**TINY, "mamba_d_state": 128}))
    code, found = size(crashcart, str(path), "--gpu", "H100")
    assert code == 3 and found["kv_tokens"] is None
    assert "recurrent state" in found["reasons"]["kv_tokens"]


def test_flags_count_also_from_a_command(crashcart: Run) -> None:
    flags = "-tp 2 --max_model_len 16k --kv-cache-dtype=fp8 --gpu-memory-utilization 0.8"
    command = f"docker run --gpus all vllm/vllm-openai:v0.11.0 --model Qwen/Qwen3-32B {flags}"
    _, found = size(crashcart, "--command", command, "--gpu", "H100", "--release", "vllm==0.11.0")
    assert (found["tensor_parallel_size"], found["kv_bytes_per_token_per_gpu"]) == (2, 65536)
    assert "× 0.8 −" in found["formula"] and "requests of 16000 tokens" in found["formula"]


def test_graphs_are_set_aside_since_vllm_0_20(crashcart: Run) -> None:
    argv = ("Qwen/Qwen3-8B", "--gpu", "H100", "--release", "vllm==0.20.2")
    (_, graphs), (_, eager) = size(crashcart, *argv), size(crashcart, *argv, "--enforce-eager")
    assert eager["kv_available_bytes_per_gpu"] - graphs["kv_available_bytes_per_gpu"] == GIB
    assert "CUDA graphs" in graphs["formula"] and "CUDA graphs" not in eager["formula"]


@pytest.mark.parametrize(
    ("command", "hybrid"),
    [
        ("vllm serve m", True),
        ("vllm serve m --disable-hybrid-kv-cache-manager", False),
        ("vllm serve m --no-disable-hybrid-kv-cache-manager", True),
        ("python -m sglang.launch_server --model m --disable-hybrid-swa-memory", False),
    ],
)
def test_the_hybrid_pool_can_be_switched_off(command: str, hybrid: bool) -> None:
    assert setup_of(command, Setup())[0].hybrid is hybrid


def test_sglang_is_told_by_its_flags(crashcart: Run) -> None:
    # healthy start of Qwen3-32B on two H100: #tokens 290112 of 0.88
    _, found = size(crashcart, "Qwen/Qwen3-32B", "--gpu", "H100", "--gpus", "2", "--mem-fraction-static", "0.88")
    assert found["engine"] == "sglang" and found["kv_tokens"] == pytest.approx(290112, rel=0.08)


def test_flags_that_spread_the_model_otherwise(crashcart: Run) -> None:
    code, found = size(crashcart, "Qwen/Qwen3-8B", "--gpu", "H100", "--data-parallel-size", "2")
    assert code == 0 and "--data-parallel-size: the figures are of one replica." in found["assumptions"]
    moe = ("Qwen/Qwen3-30B-A3B", "--gpu", "H100", "--data-parallel-size", "2", "--enable-expert-parallel")
    code, found = size(crashcart, *moe)
    assert code == 3 and "data-parallel ranks" in found["reasons"]["kv_tokens"]
    code, found = size(crashcart, "Qwen/Qwen3-8B", "--gpu", "H100", "--tp-size", "2", "--enable-dp-attention")
    assert code == 3 and "--enable-dp-attention" in found["reasons"]["weights_bytes_per_gpu"]


def test_a_folder_is_read_with_its_headers(crashcart: Run, folder: Path) -> None:
    _, found = size(crashcart, str(folder), "--gpu", "T4")
    weights = next(figure for figure in found["figures"] if figure["name"] == "weights_bytes_per_gpu")
    assert weights["source"] == "safetensors headers"
    assert weights["value"] == sum(t.size_bytes for t in expected_tensors(read_architecture(TINY)).values())


def test_a_missing_or_cut_shard_leaves_the_config(folder: Path) -> None:
    assert len(headers_in(folder)) == len(expected_tensors(read_architecture(TINY)))
    shard = folder / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-10])
    assert headers_in(folder) == {}
    shard.unlink()
    assert headers_in(folder) == {}


def test_the_hugging_face_cache_comes_before_the_table(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--Qwen--Qwen3-8B" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(TINY))
    (snapshot / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "FP8"}}))
    assert snapshot_of("Qwen/Qwen3-8B", str(tmp_path)) == snapshot
    found = find_checkpoint("Qwen/Qwen3-8B", str(tmp_path))
    assert found.config["hidden_size"] == 256 and found.config["quantization_config"]["quant_algo"] == "FP8"
    assert find_checkpoint("Qwen/Qwen3-4B", str(tmp_path)).source.startswith("https://huggingface.co/")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("nobody/nothing-7b", "--gpu", "H100"), "not in the shipped table"),
        (("Qwen/Qwen3-8B", "--gpu", "Voodoo 2"), "give --gpu-memory-bytes"),
        (("Qwen/Qwen3-8B", "--gpu", "A100"), "two sizes"),
        (("--max-model-len", "8192"), "name the model first"),
        ((), "name the model first"),
        (("Qwen/Qwen3-8B", "--release", "latest"), "not a release"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(crashcart: Run, argv: tuple[str, ...], says: str) -> None:
    code, out, err = crashcart("size", *argv)
    assert code == 64 and out == "" and says in err and err.count("\n") == 1


def test_a_broken_config_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text in ("{", "[]"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"config\.json"):
            find_checkpoint(str(path))


def test_a_command_without_a_size_starts_on_one_gpu() -> None:
    setup, model, _ = setup_of("vllm serve m --max-model-len 4096", Setup(gpus=8))
    assert (setup.split.tensor, setup.max_model_len, model) == (1, 4096, "m")
    staged, _, _ = setup_of("vllm serve m -pp 2 -tp 4", Setup())
    assert (staged.gpus, staged.split.tensor, staged.split.pipeline) == (8, 4, 2)


def test_a_diagnosis_gets_what_fits() -> None:
    # vllm-project/vllm issue 27508: 1.71 GiB left for gpt-oss-120b, whose sliding layers need little of it
    signals = Signals(
        engine="vllm",
        release="0.11.0",
        command="vllm serve openai/gpt-oss-120b --max-num-batched-tokens 1024",
        values={"max_model_len": 131072, "available_kv_gib": 1.71, "needed_kv_gib": 4.54},
    )
    found = sized(signals, {"gpu_total_gib": 79.19, "gpu_name": "NVIDIA H100 80GB HBM3"})
    assert found["fitting_model_len"].value == found["sized_model_len"].value == 48624
    assert found["sized_model_len"].how == ("36864 B × L + 36864 B × min(L, 1151) ≤ 1.71 GiB, L = 48624")
    assert found["sized_tensor_parallel"].value == 2 and "≈ 2" in found["sized_tensor_parallel"].how


def test_a_diagnosis_without_a_known_model_or_gpu_gets_nothing() -> None:
    assert sized(Signals(command="vllm serve /models/mine"), {"gpu_total_gib": 80.0}) == {}
    assert sized(Signals(command="vllm serve Qwen/Qwen3-8B"), {}) == {}
    config = known_model("Qwen/Qwen3-8B")
    assert config is not None
    given = sized(Signals(command="vllm serve /models/mine"), {"gpu_total_gib": 80.0}, config.config)
    assert given["sized_model_len"].value == 40960
