"""Where a start stopped: the last milestone of a log that ends without an error and without a server that is ready."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import MappingProxyType

STAGES = MappingProxyType(
    {
        "ray": r"Waiting for creating a placement group|Started a local Ray instance|Connecting to existing Ray cluster|Connected to Ray cluster",
        "nccl": r"vLLM is using nccl==|Found nccl from library|sglang is using nccl==|NCCL INFO |NCCL version \d|Init torch distributed begin"
        r"|world_size=\d+ rank=\d+ .*backend=nccl|pynccl\.py:\d+\]",
        "weights": r"Starting to load model|Load weight begin|Loading (?:safetensors|pt) checkpoint shards|Loading model weights|Multi-thread loading shards",
        "loaded": r"Loading (?:model )?weights took|Model loading took|Load weight end",
        "compile": r"torch\.compile|Dynamo bytecode transform|Compiling a graph|Cache the graph|Directly load (?:the )?compiled graph|DeepGEMM (?:JIT|warmup)",
        "memory": r"Memory profiling|[Aa]vailable KV cache memory|# (?:GPU|cuda) blocks|GPU KV cache size|Maximum concurrency for|KV Cache is allocated|Memory pool end",
        "graphs": r"Capturing (?:CUDA graph|the model for CUDA graphs|batches)|Capture (?:cuda|CUDA) graph begin|Graph capturing",
        "warm-up": r"init engine \(profile|Capture (?:cuda|CUDA) graph end|Starting vLLM (?:API )?server|Started server process|Waiting for application startup",
    }
)
"""The stages of a start in their order, and the lines of vLLM and SGLang that show each."""
_STAGE_OF = {stage.replace("-", "_"): stage for stage in STAGES}
_ANY = re.compile("|".join(f"(?P<{group}>{STAGES[stage]})" for group, stage in _STAGE_OF.items()))


def stopped_at(logs: Iterable[str]) -> str:
    """The stage of the last milestone in these logs, "" where there is none."""
    last = ""
    for text in logs:
        for found in _ANY.finditer(text):
            last = found.lastgroup or last
    return _STAGE_OF.get(last, "")
