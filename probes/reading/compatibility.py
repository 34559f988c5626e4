"""Which driver, CUDA, PyTorch and packages fit together: pure rules over what was read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from probes.judging import Finding
from probes.reading.environments import Environment, normalised
from probes.reading.gpus import Driver
from probes.reading.torch_build import has_code, has_ptx

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# CUDA toolkit release notes, table 2 (minor-version compatibility): 11.x from 450, 12.x from 525, 13.x from 580. The full
# versions are those of table 3 for 12.0 GA and 13.0 GA, and of its footnote for 11.
OLDEST_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
# The same notes of 13.2 Update 2, table 3, for 450 to 595. No toolkit came with 565; its nvidia-smi prints 12.7. 610 and
# 615 as theirs print ("CUDA UMD Version").
CUDA_OF_BRANCH = {
    **{450: 11.0, 455: 11.1, 460: 11.2, 465: 11.3, 470: 11.4, 495: 11.5, 510: 11.6, 515: 11.7, 520: 11.8},
    **{525: 12.0, 530: 12.1, 535: 12.2, 545: 12.3, 550: 12.4, 555: 12.5, 560: 12.6, 565: 12.7, 570: 12.8, 575: 12.9},
    **{580: 13.0, 590: 13.1, 595: 13.2, 610: 13.3, 615: 13.4},
}
BLACKWELL = 10.0
BLACKWELL_CUDA = 12.8
TURING = 7.5
ENGINES = ("vllm", "sglang", "text-generation-server", "tensorrt-llm", "lmdeploy")
CONSUMER = re.compile(r"GeForce|TITAN", re.I)
"""NVIDIA's CUDA compatibility guide: forward compatibility is for data-centre GPUs, some RTX server cards and Jetson."""
BUILT_AGAINST = re.compile(r"torch(\d+\.\d+)")


def cuda_of_driver(version: str) -> float | None:
    """Tell the newest CUDA that a driver supports by its branch (570.86.15 → 12.8); None for one not in the table."""
    branch = version.partition(".")[0]
    return CUDA_OF_BRANCH.get(int(branch)) if branch.isdigit() else None


def is_older(version: str, floor: str) -> bool:
    """Compare versions of whole numbers and dots."""
    return _numbers(version) < _numbers(floor)


def check_environment(environment: Environment, driver: Driver | None) -> list[Finding]:
    """Check PyTorch against the driver, and packages against what engine, PyTorch and transformers require."""
    found = [_cpu_only(environment, driver), _driver_too_old(environment, driver), _other_torch(environment)]
    return [finding for finding in found if finding] + _unmet(environment)


def check_gpu(
    environment: Environment,
    capability: float | None,
    architectures: tuple[str, ...] = (),
    driver: Driver | None = None,
) -> list[Finding]:
    """Check that PyTorch holds code for the GPU: by its list of architectures, else by what its CUDA can build for."""
    if not environment.torch_cuda or capability is None:
        return []
    cuda = float(environment.torch_cuda)
    if architectures:
        found = _no_code(environment, capability, architectures, driver)
    elif capability >= BLACKWELL and cuda < BLACKWELL_CUDA:
        found = _cuda_without(
            environment, capability, "has no code for", "不支持", "CUDA 12.8 or newer", "CUDA 12.8 或更新版本"
        )
    elif capability < TURING and cuda >= 13:
        found = _cuda_without(environment, capability, "dropped", "已不再支持", "CUDA 12", "CUDA 12")
    else:
        found = None
    return [found] if found else []


def check_forward(driver: Driver | None, name: str) -> list[Finding]:
    """Check that the forward compatibility package (cuda-compat) is not in use on a GPU that it is not made for."""
    own = cuda_of_driver(driver.version) if driver else None
    if driver is None or own is None or driver.cuda is None or driver.cuda <= own or not CONSUMER.search(name):
        return []
    return [
        Finding(
            "critical",
            f"CUDA {driver.cuda} comes from a forward compatibility package over driver {driver.version} (CUDA {own}), "
            f"which {name} does not support: CUDA fails with error 804.",
            f"CUDA {driver.cuda} 来自前向兼容包（驱动 {driver.version} 自带 CUDA {own}），{name} 不支持：CUDA 会报 804 错误。",
            "Take the folder with the package's libcuda (as /usr/local/cuda/compat) out of LD_LIBRARY_PATH and of the linker's "
            "configuration, or upgrade the driver.",
            "把该包的 libcuda 目录（如 /usr/local/cuda/compat）从 LD_LIBRARY_PATH 和链接器配置中移除，或升级驱动。",
        )
    ]


def _no_code(
    environment: Environment, capability: float, architectures: tuple[str, ...], driver: Driver | None
) -> Finding | None:
    """PTX does for a GPU without compiled code where the driver's CUDA is not older than that of PyTorch."""
    if has_code(capability, architectures):
        return None
    torch, listed = environment.packages.get("torch", ""), " ".join(architectures)
    if has_ptx(capability, architectures):
        cuda = driver.cuda if driver else None
        if cuda is None or cuda >= float(environment.torch_cuda or 0):
            return None
        return Finding(
            "critical",
            f"torch {torch} has only PTX for this GPU (compute capability {capability}), and the driver's CUDA {cuda} cannot "
            f"compile that of CUDA {environment.torch_cuda}.",
            f"torch {torch} 对本机 GPU（计算能力 {capability}）只有 PTX，而驱动的 CUDA {cuda} 无法编译 CUDA {environment.torch_cuda} 的 PTX。",
            f"Upgrade the driver to one with CUDA {environment.torch_cuda}, or install a PyTorch built for this GPU.",
            f"将驱动升级到支持 CUDA {environment.torch_cuda} 的版本，或安装为本 GPU 编译的 PyTorch。",
        )
    return Finding(
        "critical",
        f"torch {torch} has no code for this GPU (compute capability {capability}); it was built for {listed}.",
        f"torch {torch} 没有本机 GPU（计算能力 {capability}）的代码；它的编译目标是 {listed}。",
        "Install a PyTorch and an engine that were built for this GPU, or use another GPU.",
        "安装为本 GPU 编译的 PyTorch 和推理引擎，或换用其他 GPU。",
    )


def _cuda_without(
    environment: Environment, capability: float, verb: str, verb_zh: str, wanted: str, wanted_zh: str
) -> Finding:
    torch, cuda = environment.packages.get("torch", ""), environment.torch_cuda
    return Finding(
        "critical",
        f"torch {torch} is built for CUDA {cuda}, which {verb} this GPU (compute capability {capability}).",
        f"torch {torch} 基于 CUDA {cuda} 编译，{verb_zh}本机 GPU（计算能力 {capability}）。",
        f"Install PyTorch and the engine built for {wanted}.",
        f"安装基于 {wanted_zh} 编译的 PyTorch 和推理引擎。",
    )


def _cpu_only(environment: Environment, driver: Driver | None) -> Finding | None:
    if "torch" not in environment.packages or environment.torch_hip or environment.torch_cuda != "":
        return None
    return Finding(
        "critical" if driver else "warning",
        f"torch {environment.packages['torch']} is a build without CUDA: it cannot use the GPU.",
        f"torch {environment.packages['torch']} 是不含 CUDA 的版本，无法使用 GPU。",
        "Reinstall the engine into a fresh environment, so that it brings the PyTorch build it is made for.",
        "在全新的环境中重新安装推理引擎，让它带上匹配的 PyTorch。",
    )


def _driver_too_old(environment: Environment, driver: Driver | None) -> Finding | None:
    """A driver of the same CUDA major version works (minor-version compatibility); so does a newer driver."""
    if not environment.torch_cuda or not driver or not driver.version:
        return None
    cuda = float(environment.torch_cuda)
    floor = OLDEST_DRIVER.get(int(cuda))
    if floor is None or not is_older(driver.version, floor) or (driver.cuda is not None and driver.cuda >= cuda):
        return None
    return Finding(
        "critical",
        f"Driver {driver.version} is too old for torch {environment.packages['torch']}: CUDA {cuda} needs {floor} or newer.",
        f"驱动 {driver.version} 对 torch {environment.packages['torch']} 太旧：CUDA {cuda} 需要 {floor} 或更新。",
        f"Upgrade the NVIDIA driver to {floor} or newer and reboot, or install an engine release built for CUDA "
        f"{driver.cuda or 'of this driver'}; on a data-centre GPU the package cuda-compat-{int(cuda)}-{round(cuda * 10) % 10} "
        "does too.",
        f"将 NVIDIA 驱动升级到 {floor} 或更新并重启，或安装为 CUDA {driver.cuda or '（本驱动支持的版本）'} 编译的引擎版本；"
        f"数据中心 GPU 也可安装 cuda-compat-{int(cuda)}-{round(cuda * 10) % 10} 包。",
    )


def _other_torch(environment: Environment) -> Finding | None:
    """FlashAttention's wheels name the PyTorch that they were built against in their version: 2.8.3+cu12torch2.8…"""
    have, torch = environment.packages.get("flash-attn", ""), environment.packages.get("torch", "")
    built = BUILT_AGAINST.search(have.partition("+")[2])
    if not built or not torch or torch.split(".")[:2] == built.group(1).split("."):
        return None
    return Finding(
        "critical",
        f"flash-attn {have} was built against torch {built.group(1)}, but torch {torch} is installed: its library does not load.",
        f"flash-attn {have} 是针对 torch {built.group(1)} 编译的，但安装的是 torch {torch}：其动态库无法加载。",
        f"Install the wheel of flash-attn for torch {'.'.join(torch.split('.')[:2])}, or remove it: vLLM brings its own copy.",
        f"安装适配 torch {'.'.join(torch.split('.')[:2])} 的 flash-attn，或将其卸载：vLLM 自带一份。",
    )


def _unmet(environment: Environment) -> list[Finding]:
    """Check what the packages that are read require of those that are installed, as pip would, the engine's first."""
    found: dict[str, Finding] = {}
    for owner, lines in environment.requirements.items():
        for line in lines:
            finding = _unmet_line(environment, owner, line)
            if finding:
                found.setdefault(finding.what, finding)
    return sorted(found.values(), key=lambda finding: finding.status != "critical")


def _unmet_line(environment: Environment, owner: str, line: str) -> Finding | None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None
    name = normalised(requirement.name)
    if not _applies(requirement, environment.python):
        return None
    have = environment.packages.get(name)
    if not have or not _differs(requirement, have):
        return None
    exact = owner in ENGINES and name == "torch" and any(clause.operator == "==" for clause in requirement.specifier)
    wanted = f"{name}{requirement.specifier}"
    version = environment.packages[owner]
    return Finding(
        "critical" if exact else "warning",
        f"{owner} {version} requires {wanted}, but {name} {have} is installed.",
        f"{owner} {version} 要求 {wanted}，但安装的是 {name} {have}。",
        f"Install what {owner} was built against: `pip install '{wanted}'`, best by reinstalling {owner}=={version} afresh.",
        f"安装与 {owner} 匹配的版本：`pip install '{wanted}'`，最好重新安装 {owner}=={version}。",
    )


def _applies(requirement: Requirement, python: str) -> bool:
    """Tell whether a requirement holds in the environment: extras are taken as not asked for."""
    if requirement.marker is None:
        return True
    version = {"python_version": ".".join(python.split(".")[:2])} if python else {}
    return requirement.marker.evaluate({"extra": "", **version})


def _differs(requirement: Requirement, have: str) -> bool:
    """Tell whether an installed version does not satisfy a requirement; a local part (+cu128) counts only if asked for."""
    from packaging.version import InvalidVersion, Version

    try:
        return not requirement.specifier.contains(Version(have), prereleases=True)
    except InvalidVersion:
        return False


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
