"""What one GPU holds of a model's weights under tensor, pipeline and expert parallelism: the fullest one counts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kb.sizing.architecture import Architecture
from kb.sizing.quantization import Scheme, weight_bits
from kb.sizing.tensors import Tensor

# vLLM and SGLang hold these whole on every GPU: norms, routers, the down projections of latent attention.
REPLICATED = re.compile(
    r"norm|\.(router|gate)\.|kv_a_proj|q_a_proj|fused_qkv_a|e_score_correction|_scale$|(o_proj|down_proj|experts\.down_proj_)\.?bias$"
)
KEYS = re.compile(r"\.(k_proj|v_proj)\.")
VOCABULARY = re.compile(r"embed_tokens|lm_head|word_embeddings|\bwte\b|output_layer")
LAYER = re.compile(r"\blayers?\.(\d+)\.|\bh\.(\d+)\.")
ENCODER = re.compile(r"^(model\.)?(visual|vision|audio|multi_modal|mm_)")
MXFP4_EXPERTS = re.compile(r"\.experts\.\w+_(blocks|scales)$")
MXFP4_STEP = 256
"""The kernels for MXFP4 experts pad their width to a multiple of this: vLLM prints 13.47 and 64.38 GiB for gpt-oss 20b and 120b."""
PADDING = 64
"""Both engines pad the vocabulary to a multiple of this (vLLM vocab_parallel_embedding.py, DEFAULT_VOCAB_PADDING_SIZE)."""


@dataclass(frozen=True, slots=True)
class Split:
    """How the model is spread: GPUs of a tensor-parallel group, stages of the pipeline."""

    tensor: int = 1
    pipeline: int = 1


def bytes_per_gpu(
    tensors: Mapping[str, Tensor], architecture: Architecture, split: Split, scheme: Scheme | None = None
) -> int:
    """Weights in bytes on the fullest GPU. `scheme` is for tensors still in 16 bits; None for those of a quantized checkpoint."""
    layers = len(architecture.layers)
    bounds = stage_bounds(layers, split.pipeline)
    stages = [0.0] * split.pipeline
    tied = bool(architecture.config.get("tie_word_embeddings"))
    for name, tensor in tensors.items():
        index = layer_of(name)
        if index is not None and index >= layers and not ENCODER.match(name):
            continue  # layers for multi-token prediction, loaded only for speculative decoding
        size = share_bytes(name, tensor, architecture, split, scheme)
        for stage in stages_of(name, index, bounds, tied):
            stages[stage] += size
    return int(max(stages))


def share_bytes(
    name: str, tensor: Tensor, architecture: Architecture, split: Split, scheme: Scheme | None = None
) -> float:
    """What a GPU holds of one tensor."""
    bits = weight_bits(name, tensor, scheme) if tensor.dtype in ("BF16", "F16", "F32") else None
    size = tensor.count * bits / 8 if bits is not None else served_bytes(tensor)
    if MXFP4_EXPERTS.search(name) or (bits is not None and scheme and scheme.name == "mxfp4" and ".experts." in name):
        size *= padding_of(architecture)
    if split.tensor == 1:
        return size
    if VOCABULARY.search(name) and tensor.shape:
        padded = -(-tensor.shape[0] // PADDING) * PADDING
        return size * padded / tensor.shape[0] / split.tensor
    if REPLICATED.search(name) or not tensor.shape:
        return size
    if KEYS.search(name):
        return size * max(1, architecture.kv_heads // split.tensor) / architecture.kv_heads
    return size / split.tensor


def padding_of(architecture: Architecture) -> float:
    """How much larger MXFP4 experts get when their width is padded."""
    width = int(architecture.config.get("intermediate_size") or 0)
    return -(-width // MXFP4_STEP) * MXFP4_STEP / width if width else 1.0


def served_bytes(tensor: Tensor) -> float:
    """Bytes in memory: 32-bit weight matrices are served in 16 bits, scales keep their precision."""
    return (
        tensor.size_bytes / 2
        if tensor.dtype == "F32" and len(tensor.shape) >= 2 and min(tensor.shape) > 256
        else tensor.size_bytes
    )


def layer_of(name: str) -> int | None:
    """The number of the layer that a tensor belongs to; None for embeddings, the head and encoders."""
    found = None if ENCODER.match(name) else LAYER.search(name)
    return int(found[1] or found[2]) if found else None


def stage_bounds(layers: int, stages: int) -> list[int]:
    """The first layer of each pipeline stage and the end, as vLLM splits: the layers left over go to the later stages but the
    last (distributed/utils.py get_pp_indices)."""
    sizes = [layers // stages] * stages
    for i in range(2, layers % stages + 2):
        sizes[-min(i, stages)] += 1
    bounds = [0]
    for size in sizes:
        bounds.append(bounds[-1] + size)
    return bounds


def stages_of(name: str, layer: int | None, bounds: list[int], tied: bool) -> list[int]:
    """The stages that hold a tensor: embeddings the first, the head and last norm the last."""
    last = len(bounds) - 2
    if layer is not None:
        return [next(i for i in range(last + 1) if layer < bounds[i + 1])]
    if "lm_head" in name or name.endswith("model.norm.weight"):
        return [last]
    return sorted({0, last}) if tied and VOCABULARY.search(name) else [0]
