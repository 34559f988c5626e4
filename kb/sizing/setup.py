"""How a model is to be served: engine, GPUs, and the flags that change memory, with the defaults of the release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kb.sizing.architecture import Architecture
from kb.sizing.sharding import Split

GIB = 1 << 30
NEWEST = {"vllm": "0.33.0", "sglang": "0.5.23"}


@dataclass(frozen=True, slots=True)
class Setup:
    """None and empty stand for the engine's default. `fraction` is --gpu-memory-utilization or --mem-fraction-static.

    `available_bytes`, `weights_bytes` and `activation_bytes` are what a log printed, in place of an estimate; `free_bytes` is
    what was free before loading, where that is less than the GPU's memory.
    """

    engine: Literal["vllm", "sglang"] = "vllm"
    release: str = ""
    gpus: int = 1
    gpu_name: str = ""
    gpu_memory_bytes: int | None = None
    fraction: float | None = None
    tensor: int | None = None
    pipeline: int = 1
    max_model_len: int | None = None
    cache_dtype: str = "auto"
    quantization: str = ""
    max_num_seqs: int | None = None
    batched_tokens: int | None = None
    block: int | None = None
    hybrid: bool = True
    graphs: bool = True
    free_bytes: int | None = None
    available_bytes: int | None = None
    weights_bytes: int | None = None
    unmodelled: str = ""
    """Why nothing can be said under these flags; empty where it can."""

    @property
    def split(self) -> Split:
        """All GPUs that the pipeline leaves share each layer, where nothing else is said."""
        return Split(self.tensor or max(1, self.gpus // self.pipeline), self.pipeline)

    def since(self, release: str) -> bool:
        """Whether the release is this one or a later one; a release that is not known counts as the newest."""
        from packaging.version import InvalidVersion, Version

        try:
            return Version(self.release or NEWEST[self.engine]) >= Version(release)
        except InvalidVersion:
            return True

    @property
    def is_v1(self) -> bool:
        return self.engine == "vllm" and self.since("0.8.0")

    @property
    def is_large(self) -> bool:
        """A GPU that vLLM's defaults count as large: 70 GiB or more and no A100 (engine/arg_utils.py)."""
        return (self.gpu_memory_bytes or 0) >= 70 * GIB and "a100" not in self.gpu_name.lower()

    @property
    def tokens_a_step(self) -> int:
        """--max-num-batched-tokens, or --chunked-prefill-size of SGLang."""
        if self.batched_tokens:
            return self.batched_tokens
        if self.engine == "sglang":
            return sglang_defaults(self)[0]
        if self.is_v1:
            return 8192 if self.is_large else 2048
        length = self.max_model_len or 8192
        if length > 32768 and self.since("0.5.5"):
            return 2048 if self.since("0.6.5") else 512
        return max(length, 2048)

    @property
    def sequences(self) -> int:
        """--max-num-seqs."""
        wanted = self.max_num_seqs or (1024 if self.is_v1 and self.since("0.8.5") and self.is_large else 256)
        return min(wanted, self.tokens_a_step)

    def block_size(self, architecture: Architecture) -> int:
        """Tokens a block: 16, and 64 for latent attention in vLLM from 0.8 on (FlashMLA); SGLang's page is one token."""
        if self.block:
            return self.block
        if self.engine == "sglang":
            return 1
        return 64 if architecture.is_latent and self.is_v1 else 16

    def fraction_of(self, multimodal: bool = False) -> tuple[float, str]:
        """The share of the GPU that the engine may use, and where it is from."""
        if self.fraction is not None:
            return self.fraction, "--gpu-memory-utilization" if self.engine == "vllm" else "--mem-fraction-static"
        if self.engine == "vllm":
            default = 0.92 if self.since("0.20.0") else 0.9
            return default, f"default {default} of vLLM {self.release or 'from 0.20 on'}"
        value = sglang_fraction(self) * (0.95 if multimodal and self.since("0.4.9") else 1)
        return round(value, 3), "default of SGLang for this GPU"


def sglang_defaults(setup: Setup) -> tuple[int, int]:
    """--chunked-prefill-size and --cuda-graph-max-bs of SGLang (server_args.py, 0.4.6 and 0.5.3)."""
    memory = (setup.gpu_memory_bytes or 80 * GIB) / (1 << 20)
    few = setup.split.tensor < 4
    if not setup.since("0.4.9"):
        return (2048 if memory < 25_000 else 8192), (8 if memory < 25_000 else 160)
    steps = ((20, 2048, 8, 8), (35, 2048, 16, 80), (60, 4096, 32, 160), (160, 8192, 256, 512))
    for limit, chunk, small, large in steps:
        if memory < limit * 1024:
            return chunk, small if few else large
    return 16384, 512


def sglang_fraction(setup: Setup) -> float:
    """The default of --mem-fraction-static: fixed steps before 0.4.9, then what a reserve for activations and graphs leaves."""
    memory = (setup.gpu_memory_bytes or 80 * GIB) / (1 << 20)
    size = setup.split.tensor * setup.split.pipeline
    if not setup.since("0.4.9"):
        return next(share for least, share in ((16, 0.79), (8, 0.81), (4, 0.85), (2, 0.87), (1, 0.88)) if size >= least)
    chunk, graphs = sglang_defaults(setup)
    reserve = 512 + 1.5 * max(setup.batched_tokens or chunk, 2048) + 2 * graphs + size / 8 * 1024
    if memory > 60 * 1024:
        reserve = max(reserve, 10 * 1024)
    return round((memory - reserve) / memory, 3)
