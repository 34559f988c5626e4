"""What a GPU needs beside weights and KV cache: activations of the largest step, the sampler, memory outside PyTorch.

Estimates. The feed-forward term is what vLLM's profiling run peaks at: for Llama 3.1 8B and 20,000 or 29,000 tokens it gives 2.06
and 2.99 GiB where vLLM 0.6 measured 2.07 and 2.99 (vllm-project/vllm issue 10517). The sampler's term is fitted to what vLLM
0.15 to 0.19 printed on an H100 with 1,024 sequences: 4.76 GiB at 128,256 entries, 5.6 at 151,936, 7.4 at 201,088, and from 0.17
on 1.89, 2.21 and 2.87 (llm-d-planner, accuracy/accuracy_report.md; llm-d-benchmark, empirical-vllm-memory-results.md). The first holds
for 256 sequences of vLLM 0.6.5 too: 1.26 GiB at 128,256 entries (vllm-project/vllm pull request 10511).
"""

from __future__ import annotations

from kb.sizing.architecture import Architecture
from kb.sizing.layout import SPARSE, expert_width_keys
from kb.sizing.setup import GIB, Setup

SAMPLER_BYTES = 15.4
SAMPLER_BYTES_BEFORE = 39.0
"""Bytes a sequence and vocabulary entry in vLLM's profiling run, from 0.17 on and before: logits, sorted, with their index."""


def activation_bytes(architecture: Architecture, setup: Setup) -> int:
    """The peak of one step in 16 bits: a feed-forward part with its input and output, or the sampler."""
    feed_forward = setup.tokens_a_step * step_width(architecture, setup.split.tensor) * 2
    entry = SAMPLER_BYTES if setup.since("0.17.0") else SAMPLER_BYTES_BEFORE
    sampler = setup.sequences * architecture.vocabulary * entry if setup.engine == "vllm" else 0
    return int(max(feed_forward, sampler))


def outside_bytes(setup: Setup) -> int:
    """Memory that PyTorch does not count: kernels and workspaces, and NCCL's buffers where GPUs share layers.

    As printed: 0.13 GiB on one GPU, 0.25 from vLLM 0.18 on, 0.35 before 0.7, which counted the CUDA context too; 0.55 a GPU in a
    tensor-parallel group, 2.1 from 0.18 on.
    """
    late = setup.since("0.18.0")
    if setup.split.tensor > 1:
        return int((2.1 if late else 0.55) * GIB)
    if not setup.since("0.7.0"):
        return int(0.35 * GIB)
    return int((0.25 if late else 0.13) * GIB)


def graph_bytes(setup: Setup) -> int:
    """CUDA graphs, which vLLM sets aside before the cache from 0.20 on (VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS).

    As printed: 0.5 to 1.9 GiB on an H100, about 1 on average, and 0.1 to 0.45 on an RTX 5090, whose steps are smaller.
    """
    if setup.engine != "vllm" or not setup.graphs or not setup.since("0.20.0"):
        return 0
    return int((1.0 if setup.is_large else 0.3) * GIB)


def step_width(architecture: Architecture, tensor_parallel: int) -> float:
    """Elements a token that are alive at once in the widest part of a layer."""
    text, hidden = architecture.config, architecture.hidden
    dense = float(text.get("intermediate_size") or 4 * hidden) / tensor_parallel
    if architecture.model_type not in SPARSE:
        return 3 * dense + 3 * hidden
    chosen = int(text.get("num_experts_per_tok") or text.get("experts_per_token") or 1)
    width = (
        float(next((text[k] for k in expert_width_keys(architecture.model_type) if text.get(k)), hidden))
        / tensor_parallel
    )
    return chosen * (max(2 * width, hidden) + width) + 3 * hidden
