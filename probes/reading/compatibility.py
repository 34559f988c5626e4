"""Which driver, CUDA, PyTorch and packages fit together: pure rules over what was read.

Driver floors: NVIDIA's CUDA compatibility guide, minor-version compatibility. CUDA of a driver branch: the release
notes of the CUDA toolkit, table of toolkit and driver versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.judging import Finding
from probes.reading.environments import Environment, normalised
from probes.reading.gpus import Driver

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OLDEST_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
CUDA_OF_BRANCH = {
    **{450: 11.0, 455: 11.1, 460: 11.2, 465: 11.3, 470: 11.4, 495: 11.5, 510: 11.6, 515: 11.7, 520: 11.8},
    **{525: 12.0, 530: 12.1, 535: 12.2, 545: 12.3, 550: 12.4, 555: 12.5, 560: 12.6, 565: 12.7, 570: 12.8, 575: 12.9},
    **{580: 13.0, 590: 13.1},
}
BLACKWELL = 10.0
BLACKWELL_CUDA = 12.8
TURING = 7.5
WATCHED = frozenset(
    (
        *("torch", "torchvision", "torchaudio", "transformers", "huggingface-hub", "tokenizers", "numpy", "triton"),
        *("xformers", "flashinfer-python", "sgl-kernel", "ray", "xgrammar", "outlines", "compressed-tensors"),
        *("mistral-common", "pydantic"),
    )
)


def cuda_of_driver(version: str) -> float | None:
    """Tell the newest CUDA that a driver supports by its branch (570.86.15 → 12.8); None for one not in the table."""
    branch = version.partition(".")[0]
    return CUDA_OF_BRANCH.get(int(branch)) if branch.isdigit() else None


def is_older(version: str, floor: str) -> bool:
    """Compare versions of whole numbers and dots."""
    return _numbers(version) < _numbers(floor)


def check_environment(environment: Environment, driver: Driver | None) -> list[Finding]:
    """Check PyTorch against the driver, and packages against what engine and transformers require."""
    found = [_cpu_only(environment, driver), _driver_too_old(environment, driver)]
    return [finding for finding in found if finding] + _unmet(environment)


def check_gpu(environment: Environment, capability: float | None) -> list[Finding]:
    """Check that PyTorch's CUDA can build for the GPU at all."""
    if not environment.torch_cuda or capability is None:
        return []
    cuda, torch = float(environment.torch_cuda), environment.packages.get("torch", "")
    if capability >= BLACKWELL and cuda < BLACKWELL_CUDA:
        return [
            Finding(
                "critical",
                f"torch {torch} is built for CUDA {cuda}, which has no code for this GPU (compute capability {capability}).",
                f"torch {torch} 基于 CUDA {cuda} 编译，不支持本机 GPU（计算能力 {capability}）。",
                "Install PyTorch and the engine built for CUDA 12.8 or newer.",
                "安装基于 CUDA 12.8 或更新版本编译的 PyTorch 和推理引擎。",
            )
        ]
    if capability < TURING and cuda >= 13:
        return [
            Finding(
                "critical",
                f"torch {torch} is built for CUDA {cuda}, which dropped this GPU (compute capability {capability}).",
                f"torch {torch} 基于 CUDA {cuda} 编译，已不再支持本机 GPU（计算能力 {capability}）。",
                "Install PyTorch and the engine built for CUDA 12.",
                "安装基于 CUDA 12 编译的 PyTorch 和推理引擎。",
            )
        ]
    return []


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
        f"{driver.cuda or 'of this driver'}.",
        f"将 NVIDIA 驱动升级到 {floor} 或更新并重启，或安装为 CUDA {driver.cuda or '（本驱动支持的版本）'} 编译的引擎版本。",
    )


def _unmet(environment: Environment) -> list[Finding]:
    """Check what engine and transformers require of the packages that matter, as pip would."""
    found: dict[str, Finding] = {}
    for owner, lines in environment.requirements.items():
        for line in lines:
            finding = _unmet_line(environment, owner, line)
            if finding:
                found.setdefault(finding.what, finding)
    return list(found.values())


def _unmet_line(environment: Environment, owner: str, line: str) -> Finding | None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None
    name = normalised(requirement.name)
    if name not in WATCHED or not _applies(requirement, environment.python):
        return None
    have = environment.packages.get(name)
    if not have or not _differs(requirement, have):
        return None
    exact = name == "torch" and any(clause.operator == "==" for clause in requirement.specifier)
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
