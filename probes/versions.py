from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from probes.judging import Finding, conclude
from probes.reading.compatibility import ENGINES, check_environment, check_forward, check_gpu, cuda_of_driver
from probes.reading.environments import Environment, read_environments
from probes.reading.files import PROC, Unreadable, read_kernel_file, read_text
from probes.reading.gpus import Driver
from probes.reading.nvml import read_driver, read_memory
from probes.reading.processes import read_processes
from probes.reading.torch_build import has_code, has_ptx, read_architectures
from probes.reading.unavailable import GpuUnavailable
from probes.registry import probe
from probes.types import ProbeResult, Target

CHECKED = (
    *(*ENGINES, "transformers", "torch", "torchvision", "torchaudio", "xformers", "flashinfer-python", "flash-attn"),
    *("compressed-tensors", "xgrammar", "sgl-kernel", "tokenizers", "huggingface-hub"),
)
SHOWN = (
    *ENGINES,
    *("torch", "torchvision", "torchaudio", "transformers", "huggingface-hub", "tokenizers", "safetensors", "numpy"),
    *(
        "flash-attn",
        "flashinfer-python",
        "flashinfer",
        "triton",
        "xformers",
        "sgl-kernel",
        "deep-gemm",
        "ray",
        "xgrammar",
    ),
    *("nvidia-nccl-cu11", "nvidia-nccl-cu12", "nvidia-nccl-cu13", "outlines", "compressed-tensors", "mistral-common"),
    *(
        "pydantic",
        "fastapi",
        "openai",
        "bitsandbytes",
        "cupy-cuda12x",
        "accelerate",
        "modelscope",
        "setuptools",
        "wheel",
    ),
)

ADVICE = "Name the engine's site-packages folder, or run Crashcart inside the engine's environment or container."
ADVICE_ZH = "请指定推理引擎的 site-packages 目录，或在引擎所在的环境或容器中运行 Crashcart。"


@probe()
def versions(target: Target) -> ProbeResult:
    """Read the versions of driver, CUDA, PyTorch, engine, their packages and the system. Says when they do not fit
    together; starts no Python and imports nothing."""
    environments = read_environments(target.environments, read_processes(), os.environ, CHECKED)
    capability, name = _gpu()
    used = choose(environments)
    has_torch = used is not None and used.torch_cuda and capability is not None
    architectures = read_architectures(used.path) if used and has_torch else ()
    return judge(environments, _driver(), capability, system(), name, architectures)


def judge(
    environments: tuple[Environment, ...],
    driver: Driver | None,
    capability: float | None,
    machine: Mapping[str, str],
    name: str = "",
    architectures: tuple[str, ...] = (),
) -> ProbeResult:
    """Judge the environment that counts against the driver and the GPU, called `name`.

    `architectures` is what its PyTorch was built for, empty where that is not known.
    """
    used = choose(environments)
    facts = facts_of(used, driver)
    if architectures and capability is not None:
        facts["torch_has_gpu_code"] = has_code(capability, architectures) or has_ptx(capability, architectures)
    data: dict[str, Any] = {
        "driver": asdict(driver) if driver else None,
        "environments": [_shown(environment) for environment in environments],
        "used": used.path if used else None,
        "torch_architectures": list(architectures),
        **machine,
    }
    said, said_zh = _summary(used, driver)
    source = used.path if used else "NVML"
    findings = check_forward(driver, name)
    if used:
        findings += check_environment(used, driver) + check_gpu(used, capability, architectures, driver)
        findings += _several(environments, used)
    if not findings and (used is None or driver is None):
        return ProbeResult(
            "versions",
            "unknown",
            said,
            said_zh,
            facts,
            data,
            source,
            advice=(ADVICE,) * (used is None),
            advice_zh=(ADVICE_ZH,) * (used is None),
        )
    return conclude("versions", (said, said_zh), findings, facts, data, source)


def choose(environments: tuple[Environment, ...]) -> Environment | None:
    """Choose the environment that counts: the first with an engine, else with torch, else with transformers."""
    for wanted in (ENGINES, ("torch",), ("transformers",)):
        for environment in environments:
            if any(name in environment.packages for name in wanted):
                return environment
    return None


def facts_of(used: Environment | None, driver: Driver | None) -> dict[str, Any]:
    """Gather the facts; what is not installed or not known is left out."""
    facts: dict[str, Any] = {}
    if driver and driver.version:
        facts["driver_version"] = driver.version
    if driver and driver.cuda is not None:
        facts["driver_cuda"] = driver.cuda
    if used:
        for package in ("torch", "vllm", "sglang", "transformers", "huggingface-hub", "numpy"):
            if package in used.packages:
                facts[f"{package.replace('-', '_')}_version"] = used.packages[package]
        if used.torch_cuda is not None and not used.torch_hip:
            facts["torch_cuda"] = float(used.torch_cuda or 0)
        if used.python:
            facts["python_version"] = used.python
    return facts


def system() -> dict[str, str]:
    """Read what runs the programs: the distribution, the kernel, and glibc (empty where the system has another libc)."""
    try:
        release = read_text("/etc/os-release", ("/etc", "/usr/lib"), 1 << 14)
    except Unreadable:
        release = ""
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else ""
    return {"os": parse_os_release(release), "kernel": os.uname().release, "glibc": (libc or "").removeprefix("glibc ")}


def parse_os_release(text: str) -> str:
    """Parse /etc/os-release to the distribution's name and version."""
    found = re.search(r"^PRETTY_NAME=\"?([^\"\n]*)", text, re.MULTILINE)
    return found.group(1) if found else ""


def parse_driver_file(text: str) -> str:
    """Parse /proc/driver/nvidia/version to the version of the loaded kernel module."""
    found = re.search(r"^NVRM version:.*?\s(\d{3}\.\d+(?:\.\d+)?)\s", text, re.MULTILINE)
    return found.group(1) if found else ""


def _driver() -> Driver | None:
    try:
        return read_driver()
    except GpuUnavailable:
        pass
    try:
        version = parse_driver_file(read_kernel_file("driver/nvidia/version", PROC))
    except Unreadable:
        return None
    return Driver(version, cuda_of_driver(version)) if version else None


def _gpu() -> tuple[float | None, str]:
    """Read the lowest compute capability and that GPU's name; None and empty where no GPU can be asked."""
    try:
        gpus, _ = read_memory()
    except GpuUnavailable:
        return None, ""
    told = [(gpu.compute_capability, gpu.gpu.name) for gpu in gpus if gpu.compute_capability]
    return min(told, default=(None, ""))


def _several(environments: tuple[Environment, ...], used: Environment) -> list[Finding]:
    """Warn of two environments with an engine, unless the one that counts is that of a running engine."""
    others = [other for other in environments if other is not used and any(name in other.packages for name in ENGINES)]
    if not others or used.origin.startswith("running") or used.origin == "given":
        return []
    return [
        Finding(
            "warning",
            f"An inference engine is installed in {len(others) + 1} environments; {used.path} comes first.",
            f"有 {len(others) + 1} 个环境安装了推理引擎，优先的是 {used.path}。",
            f"Make sure that the server starts from the one you mean; also found: {', '.join(other.path for other in others)}.",
            f"请确认服务从你想用的环境启动；另外还有：{'、'.join(other.path for other in others)}。",
        )
    ]


def _shown(environment: Environment) -> dict[str, Any]:
    return {
        "path": environment.path,
        "origin": environment.origin,
        "python": environment.python,
        "torch_cuda": environment.torch_cuda,
        "torch_hip": environment.torch_hip,
        "packages": {name: environment.packages[name] for name in SHOWN if name in environment.packages},
    }


def _summary(used: Environment | None, driver: Driver | None) -> tuple[str, str]:
    parts = [f"driver {driver.version}" + (f" (CUDA {driver.cuda})" if driver.cuda else "")] if driver else []
    if used:
        built = f" (CUDA {used.torch_cuda})" if used.torch_cuda else ""
        named = [(name, used.packages[name]) for name in (*ENGINES, "torch", "transformers") if name in used.packages]
        parts += [f"{name} {version}" + (built if name == "torch" else "") for name, version in named]
        parts += [f"Python {used.python}"] if used.python else []
    gaps = [] if driver else [("no NVIDIA driver seen", "未见 NVIDIA 驱动")]
    if not used:
        gaps.append(("no environment with PyTorch or an engine found", "没有找到装有 PyTorch 或推理引擎的环境"))
    english = "; ".join(filter(None, [", ".join(parts), *(text for text, _ in gaps)]))
    chinese = "；".join(filter(None, ["，".join(parts), *(text for _, text in gaps)]))
    return f"{english[:1].upper()}{english[1:]}.", f"{chinese}。"
