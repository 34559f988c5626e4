"""What one GPU holds of a model's weights under tensor, pipeline and expert parallelism: the fullest one counts."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

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


@dataclass(frozen=True, slots=True)
class Kind:
    """What a tensor's name says of it: its layer, and how it is shared among GPUs."""

    layer: int | None
    share: Literal["vocabulary", "whole", "keys", "even"]
    is_encoder: bool
    is_mxfp4_expert: bool
    is_last: bool


@lru_cache(maxsize=1 << 18)
def kind_of(name: str) -> Kind:
    """A tensor's kind by its name. Kept, because a large checkpoint has 90,000 names and is counted for several splits."""
    encoder = ENCODER.match(name) is not None
    found = None if encoder else LAYER.search(name)
    share: Literal["vocabulary", "whole", "keys", "even"] = "even"
    if VOCABULARY.search(name):
        share = "vocabulary"
    elif REPLICATED.search(name):
        share = "whole"
    elif KEYS.search(name):
        share = "keys"
    return Kind(
        layer=int(found[1] or found[2]) if found else None,
        share=share,
        is_encoder=encoder,
        is_mxfp4_expert=MXFP4_EXPERTS.search(name) is not None,
        is_last="lm_head" in name or name.endswith("model.norm.weight"),
    )


def bytes_per_gpu(
    tensors: Mapping[str, Tensor], architecture: Architecture, split: Split, scheme: Scheme | None = None
) -> int:
    """Weights in bytes on the fullest GPU. `scheme` is for tensors still in 16 bits; None for those of a quantized checkpoint."""
    layers = len(architecture.layers)
    bounds = stage_bounds(layers, split.pipeline)
    stages = [0.0] * split.pipeline
    tied = bool(architecture.config.get("tie_word_embeddings"))
    for name, tensor in tensors.items():
        kind = kind_of(name)
        if kind.layer is not None and kind.layer >= layers:
            continue  # layers for multi-token prediction, loaded only for speculative decoding
        size = share_bytes(name, tensor, architecture, split, scheme)
        for stage in stages_of(kind, bounds, tied):
            stages[stage] += size
    return int(max(stages))


def share_bytes(
    name: str, tensor: Tensor, architecture: Architecture, split: Split, scheme: Scheme | None = None
) -> float:
    """What a GPU holds of one tensor."""
    kind = kind_of(name)
    is_16_bit = scheme is not None and tensor.dtype in ("BF16", "F16", "F32")
    bits = weight_bits(name, tensor, scheme) if is_16_bit else None
    size = tensor.count * bits / 8 if bits is not None else served_bytes(tensor)
    if kind.is_mxfp4_expert or (bits is not None and scheme and scheme.name == "mxfp4" and ".experts." in name):
        size *= padding_of(architecture)
    if split.tensor == 1 or kind.share == "whole" or not tensor.shape:
        return size
    if kind.share == "vocabulary":
        padded = -(-tensor.shape[0] // PADDING) * PADDING
        return size * padded / tensor.shape[0] / split.tensor
    if kind.share == "keys":
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


def stages_of(kind: Kind, bounds: list[int], tied: bool) -> list[int]:
    """The stages that hold a tensor: embeddings the first, the head and last norm the last."""
    last = len(bounds) - 2
    if kind.layer is not None:
        return [bisect_right(bounds, kind.layer) - 1]
    if kind.is_last:
        return [last]
    return sorted({0, last}) if tied and kind.share == "vocabulary" else [0]
