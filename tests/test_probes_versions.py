"""What is installed, read from folder names, and which versions fit together."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from probes import versions
from probes.reading.compatibility import (
    OLDEST_DRIVER,
    check_environment,
    check_forward,
    check_gpu,
    cuda_of_driver,
    is_older,
)
from probes.reading.environments import (
    Environment,
    find_environments,
    parse_listing,
    parse_maps,
    parse_requirements,
    parse_torch_version,
    read_environment,
    read_environments,
)
from probes.reading.gpus import Driver
from probes.reading.processes import Process
from probes.reading.torch_build import has_code, has_ptx, parse_architectures, read_architectures
from probes.types import ProbeResult, Target

ROOT = Path(__file__).parent.parent

# The head of torch/version.py in the wheels of PyPI, of download.pytorch.org, and of the ROCm index.
TORCH_12_8 = "from typing import Optional\n\n__version__ = '2.8.0'\ndebug = False\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n"
TORCH_OLD = "__version__ = '1.13.1'\ndebug = False\ncuda = '11.7'\ngit_version = '49444c3e546bf240bed24a101e747422d1f8a0ee'\nhip = None\n"
TORCH_CPU = "__version__ = '2.8.0+cpu'\ndebug = False\ncuda: Optional[str] = None\nhip: Optional[str] = None\n"
TORCH_ROCM = "__version__ = '2.8.0+rocm6.4'\ndebug = False\ncuda: Optional[str] = None\nhip: Optional[str] = '6.4.43482-0f2d60242'\n"

VLLM_METADATA = """\
Metadata-Version: 2.4
Name: vllm
Version: 0.11.0
Requires-Dist: regex
Requires-Dist: numpy
Requires-Dist: transformers>=4.55.2
Requires-Dist: torch==2.8.0
Requires-Dist: xformers==0.0.32.post1; platform_system == "Linux" and platform_machine == "x86_64"
Requires-Dist: setuptools<80,>=77.0.3; python_version > "3.11"
Provides-Extra: flashinfer
Requires-Dist: flashinfer-python==0.3.1; extra == "flashinfer"

Requires-Dist: torch==0.0.1
"""

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Lay out an environment as pip does; its site-packages folder."""

    def lay_out(
        name: str = "env", version_py: str = TORCH_12_8, metadata: dict[str, str] | None = None, **packages: str
    ) -> Path:
        folder = tmp_path / name / "lib" / "python3.12" / "site-packages"
        for package, version in packages.items():
            (folder / f"{package}-{version}.dist-info").mkdir(parents=True)
        for package, text in (metadata or {}).items():
            (folder / f"{package}-{packages[package]}.dist-info" / "METADATA").write_text(text)
        if "torch" in packages:
            (folder / "torch").mkdir()
            (folder / "torch" / "version.py").write_text(version_py)
        return folder

    return lay_out


def judged(folder: Path, driver: Driver | None = None, capability: float | None = None) -> ProbeResult:
    environment = read_environment(str(folder), "given", versions.CHECKED)
    return versions.judge((environment,), driver, capability, {})


DRIVER = Driver("570.133.20", 12.8)


def test_versions_are_read_from_the_names_of_folders() -> None:
    names = [
        "torch-2.8.0+cu128.dist-info",
        "torch",
        "flash_attn-2.8.3.dist-info",
        "ruamel.yaml-0.18.dist-info",
        "x.egg-info",
    ]
    assert parse_listing(names) == {"torch": "2.8.0+cu128", "flash-attn": "2.8.3", "ruamel-yaml": "0.18"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TORCH_12_8, ("12.8", "")),
        (TORCH_OLD, ("11.7", "")),
        (TORCH_CPU, ("", "")),
        (TORCH_ROCM, ("", "6.4.43482-0f2d60242")),
        ("", (None, "")),
    ],
)
def test_torch_tells_what_it_was_built_for(text: str, expected: tuple[str | None, str]) -> None:
    assert parse_torch_version(text) == expected


def test_requirements_are_read_from_the_header_alone() -> None:
    lines = parse_requirements(VLLM_METADATA)
    assert "torch==2.8.0" in lines
    assert len(lines) == 7


def test_all_that_fits_together_is_ok(install: Install) -> None:
    folder = install(
        vllm="0.11.0",
        torch="2.8.0",
        transformers="4.57.1",
        numpy="2.2.6",
        huggingface_hub="0.35.3",
        metadata={"vllm": VLLM_METADATA},
    )
    result = judged(folder, DRIVER, 9.0)
    assert result.status == "ok"
    assert result.summary == (
        "Driver 570.133.20 (CUDA 12.8), vllm 0.11.0, torch 2.8.0 (CUDA 12.8), transformers 4.57.1, Python 3.12."
    )
    assert result.facts == {
        "driver_version": "570.133.20",
        "driver_cuda": 12.8,
        "torch_version": "2.8.0",
        "torch_cuda": 12.8,
        "vllm_version": "0.11.0",
        "transformers_version": "4.57.1",
        "huggingface_hub_version": "0.35.3",
        "numpy_version": "2.2.6",
        "python_version": "3.12",
    }
    assert result.source == str(folder)


def test_every_fact_of_versions_is_read_from_some_environment(install: Install) -> None:
    facts = yaml.safe_load((ROOT / "kb/data/facts.yaml").read_text("utf-8"))
    packages = dict.fromkeys(("vllm", "sglang", "torch", "transformers", "huggingface_hub", "numpy"), "1.0")
    environment = read_environment(str(install(**packages)), "given", versions.CHECKED)
    given = set(versions.judge((environment,), DRIVER, 9.0, {}, "NVIDIA H100", ("sm_90",)).facts)
    assert given == {name for name, fact in facts.items() if fact["probe"] == "versions"}


def test_the_full_python_version_is_read_where_it_is_written(install: Install) -> None:
    folder = install(vllm="0.11.0")
    (folder.parents[2] / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.12.11\n")
    assert judged(folder).facts["python_version"] == "3.12.11"


def test_a_torch_without_cuda_is_named(install: Install) -> None:
    result = judged(install(version_py=TORCH_CPU, vllm="0.11.0", torch="2.8.0"), DRIVER)
    assert result.status == "critical"
    assert result.summary.startswith("torch 2.8.0 is a build without CUDA")
    assert result.facts["torch_cuda"] == 0


def test_a_torch_for_rocm_is_no_torch_without_a_gpu(install: Install) -> None:
    result = judged(install(version_py=TORCH_ROCM, vllm="0.11.0", torch="2.8.0"), DRIVER)
    assert result.status == "ok"
    assert "torch_cuda" not in result.facts


@pytest.mark.parametrize(
    ("version", "cuda", "torch_cuda", "fits"),
    [
        ("570.133.20", 12.8, "12.8", True),
        ("535.230.02", 12.2, "12.8", True),  # minor-version compatibility
        ("525.60.13", 12.0, "12.9", True),
        ("525.53", 12.0, "12.9", False),
        ("470.256.02", 11.4, "12.1", False),
        ("470.256.02", 12.8, "12.8", True),  # the forward compatibility package is in use
        ("570.133.20", 12.8, "13.0", False),
        ("580.65.06", 13.0, "13.0", True),
        ("450.80.02", 11.0, "11.8", True),
    ],
)
def test_a_driver_too_old_for_torch(version: str, cuda: float, torch_cuda: str, fits: bool) -> None:
    environment = Environment("/env", "given", packages={"torch": "2.8.0"}, torch_cuda=torch_cuda)
    findings = check_environment(environment, Driver(version, cuda))
    assert (findings == []) is fits
    if findings:
        assert findings[0].status == "critical"
        assert OLDEST_DRIVER[int(float(torch_cuda))] in findings[0].what


def test_versions_are_compared_by_number() -> None:
    assert is_older("525.9", "525.60.13")
    assert not is_older("525.125.06", "525.60.13")
    assert is_older("525.60", "525.60.13")


@pytest.mark.parametrize(
    ("capability", "torch_cuda", "fits"),
    [
        (9.0, "12.1", True),
        (12.0, "12.6", False),
        (12.0, "12.8", True),
        (10.0, "13.0", True),
        (7.0, "12.8", True),
        (7.0, "13.0", False),
    ],
)
def test_a_torch_without_code_for_the_gpu(capability: float, torch_cuda: str, fits: bool) -> None:
    environment = Environment("/env", "given", packages={"torch": "2.8.0"}, torch_cuda=torch_cuda)
    assert (check_gpu(environment, capability) == []) is fits


WHEEL = b"sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120"
"""What the PyTorch wheels for CUDA 12.9 and 13.0 are built for (pytorch .ci/manywheel/build_cuda.sh: 12.0+PTX)."""


def library(folder: Path, text: bytes) -> Path:
    """Write a libtorch_python.so with a text among other bytes."""
    path = folder / "torch" / "lib" / "libtorch_python.so"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x7fELF" + bytes(5000) + b"sm_\0not sm_9\0sm_86\0" + text + b"\0sm_90a is named here\0" + bytes(5000)
    )
    return folder


def test_whether_torch_has_code_for_the_gpu_is_a_fact_where_it_is_known() -> None:
    environment = Environment("/env", "given", packages={"torch": "2.8.0"}, torch_cuda="12.8")
    for capability, architectures, fact in ((9.0, ("sm_90",), True), (7.0, ("sm_90",), False), (9.0, (), None)):
        result = versions.judge((environment,), DRIVER, capability, {}, "", architectures)
        assert result.facts.get("torch_has_gpu_code") is fact


def test_what_torch_was_built_for_is_read_from_its_library(install: Install) -> None:
    folder = library(install(torch="2.8.0"), WHEEL)
    assert read_architectures(str(folder)) == ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")
    assert read_architectures("/nonexistent") == ()
    assert parse_architectures(b"nothing of the kind, sm_") == ()


@pytest.mark.parametrize(
    ("capability", "code", "ptx"),
    [
        *((7.0, False, False), (7.5, True, False), (8.9, True, False), (9.0, True, False), (10.3, True, False)),
        *((11.0, False, False), (12.0, True, True), (12.1, True, True), (13.0, False, True)),
    ],
)
def test_which_gpus_a_list_of_architectures_serves(capability: float, code: bool, ptx: bool) -> None:
    architectures = parse_architectures(WHEEL + b"\0")
    assert (has_code(capability, architectures), has_ptx(capability, architectures)) == (code, ptx)


def test_code_for_one_architecture_alone_serves_no_other() -> None:
    assert has_code(9.0, ("sm_90a",))
    assert not has_code(10.3, ("sm_100a",))
    assert has_code(10.3, ("sm_100f",))
    assert not has_code(10.0, ("sm_103",))


def test_the_list_of_architectures_counts_before_the_cuda_version(install: Install) -> None:
    environment = read_environment(str(install(torch="2.8.0")), "given", ())
    assert check_gpu(environment, 7.0) == []
    (finding,) = check_gpu(environment, 7.0, ("sm_75", "sm_80", "sm_90"))
    assert finding.what == (
        "torch 2.8.0 has no code for this GPU (compute capability 7.0); it was built for sm_75 sm_80 sm_90."
    )
    assert check_gpu(environment, 12.0, ("sm_90", "compute_90"), Driver("570.133.20", 12.8)) == []
    (finding,) = check_gpu(environment, 12.0, ("sm_90", "compute_90"), Driver("550.54.15", 12.4))
    assert "only PTX" in finding.what


@pytest.mark.parametrize(
    ("name", "cuda", "findings"),
    [("NVIDIA GeForce RTX 4090", 13.0, 1), ("NVIDIA GeForce RTX 4090", 12.2, 0), ("NVIDIA H100 80GB HBM3", 13.0, 0)],
)
def test_forward_compatibility_is_not_for_consumer_cards(name: str, cuda: float, findings: int) -> None:
    found = check_forward(Driver("535.230.02", cuda), name)
    assert len(found) == findings
    assert all("error 804" in finding.what and "804" in finding.what_zh for finding in found)


def test_a_driver_too_old_can_be_helped_by_forward_compatibility() -> None:
    environment = Environment("/env", "given", packages={"torch": "2.9.0"}, torch_cuda="13.0")
    (finding,) = check_environment(environment, Driver("570.133.20", 12.8))
    assert "cuda-compat-13-0" in finding.advice
    assert "cuda-compat-13-0" in finding.advice_zh


@pytest.mark.parametrize(("torch", "status"), [("2.8.0", "ok"), ("2.9.1", "critical")])
def test_flash_attention_built_against_another_torch(install: Install, torch: str, status: str) -> None:
    result = judged(install(torch=torch, flash_attn="2.8.3+cu12torch2.8cxx11abitrue"), DRIVER)
    assert result.status == status


def test_every_pin_of_the_engine_that_is_not_met_is_found(install: Install) -> None:
    metadata = "Name: vllm\nRequires-Dist: torch==2.8.0\nRequires-Dist: fastapi>=0.115\nRequires-Dist: lark==1.2.2\n\n"
    folder = install(vllm="0.11.0", torch="2.9.0", fastapi="0.110.0", lark="1.1.9", metadata={"vllm": metadata})
    result = judged(folder, DRIVER)
    assert result.status == "critical"
    assert result.data["findings"] == [
        "vllm 0.11.0 requires torch==2.8.0, but torch 2.9.0 is installed.",
        "vllm 0.11.0 requires fastapi>=0.115, but fastapi 0.110.0 is installed.",
        "vllm 0.11.0 requires lark==1.2.2, but lark 1.1.9 is installed.",
    ]


def test_what_torch_requires_of_its_own_libraries_is_checked(install: Install) -> None:
    metadata = 'Name: torch\nRequires-Dist: nvidia-nccl-cu12==2.27.3; platform_system == "Linux"\n\n'
    folder = install(torch="2.8.0", nvidia_nccl_cu12="2.26.2", metadata={"torch": metadata})
    result = judged(folder, DRIVER)
    assert (result.status, result.summary) == (
        "warning",
        "torch 2.8.0 requires nvidia-nccl-cu12==2.27.3, but nvidia-nccl-cu12 2.26.2 is installed.",
    )


def test_another_torch_than_the_engine_was_built_against(install: Install) -> None:
    result = judged(install(vllm="0.11.0", torch="2.9.0", metadata={"vllm": VLLM_METADATA}), DRIVER)
    assert result.status == "critical"
    assert result.summary == "vllm 0.11.0 requires torch==2.8.0, but torch 2.9.0 is installed."
    assert "torch==2.8.0" in result.advice[0]


def test_a_local_build_of_the_right_torch_fits(install: Install) -> None:
    assert judged(install(vllm="0.11.0", torch="2.8.0+cu129", metadata={"vllm": VLLM_METADATA}), DRIVER).status == "ok"


def test_what_transformers_requires_is_checked_too(install: Install) -> None:
    folder = install(
        transformers="4.57.1",
        huggingface_hub="1.1.2",
        metadata={"transformers": "Name: transformers\nRequires-Dist: huggingface-hub<1.0,>=0.34.0\n\n"},
    )
    result = judged(folder, DRIVER)
    assert result.status == "warning"
    assert (
        result.summary
        == "transformers 4.57.1 requires huggingface-hub<1.0,>=0.34.0, but huggingface-hub 1.1.2 is installed."
    )


def test_extras_and_other_pythons_ask_for_nothing(install: Install) -> None:
    folder = install(vllm="0.11.0", flashinfer_python="0.2.0", metadata={"vllm": VLLM_METADATA})
    assert judged(folder, DRIVER).status == "ok"


def test_nothing_found_is_unknown() -> None:
    assert versions.judge((), None, None, {}).status == "unknown"
    assert versions.judge((), DRIVER, None, {}).status == "unknown"
    assert versions.judge((), DRIVER, None, {}).advice


def test_an_environment_without_a_driver_is_not_called_fitting(install: Install) -> None:
    result = judged(install(vllm="0.11.0"))
    assert result.status == "unknown"
    assert "no NVIDIA driver seen" in result.summary


def test_of_several_environments_that_of_the_running_engine_counts() -> None:
    first = Environment("/first", "VIRTUAL_ENV", packages={"vllm": "0.10.0"})
    second = Environment("/second", "python3 on PATH", packages={"vllm": "0.11.0"})
    result = versions.judge((first, second), DRIVER, None, {})
    assert result.status == "warning"
    assert "installed in 2 environments; /first comes first" in result.summary
    running = replace(first, origin="running vllm (pid 7)")
    assert versions.judge((running, second), DRIVER, None, {}).status == "ok"


def test_an_environment_with_an_engine_counts_before_one_with_torch_alone() -> None:
    tool = Environment("/tool", "VIRTUAL_ENV", packages={"torch": "2.8.0"})
    engine = Environment("/engine", "python3 on PATH", packages={"sglang": "0.5.3"})
    assert versions.choose((tool, engine)) is engine
    assert versions.choose((tool,)) is tool
    assert versions.choose(()) is None


def test_the_environment_that_is_given_alone_is_read(install: Install) -> None:
    folder = install(vllm="0.11.0")
    found = read_environments([str(folder)], {}, {"VIRTUAL_ENV": "/elsewhere"})
    assert [environment.path for environment in found] == [str(folder)]
    assert versions.versions(Target(environments=(str(folder),))).facts["vllm_version"] == "0.11.0"


def test_environments_are_found_by_what_is_active_and_what_is_on_the_path(install: Install, tmp_path: Path) -> None:
    active, on_path = install("active", vllm="1"), install("on-path", vllm="2")
    binaries = on_path.parents[2] / "bin"
    binaries.mkdir()
    (binaries / "python3").symlink_to("/usr/bin/env")
    found = list(find_environments({}, {"VIRTUAL_ENV": str(active.parents[2]), "PATH": f"relative:{binaries}"}))
    assert found[0] == (str(active), "VIRTUAL_ENV")
    assert (str(on_path), "python3 on PATH") in found


def test_a_running_engine_shows_its_environment_by_its_program(install: Install) -> None:
    folder = install(vllm="0.11.0")
    command = (f"{folder.parents[2]}/bin/python3", f"{folder.parents[2]}/bin/vllm", "serve", "MODEL")
    found = list(find_environments({2**22: Process(2**22, argv=command)}, {}))
    assert found[0] == (str(folder), f"running vllm (pid {2**22})")


def test_a_running_python_shows_its_environment_by_what_it_has_mapped() -> None:
    maps = (
        "7f00-7f01 r-xp 00000000 08:01 11 /usr/lib/x86_64-linux-gnu/libc.so.6\n"
        "7f02-7f03 r-xp 00000000 08:01 12 /usr/lib/python3/dist-packages/_cffi_backend.so\n"
        "7f04-7f05 r-xp 00000000 08:01 13 /opt/venv/lib/python3.12/site-packages/torch/lib/libtorch.so\n"
        "7f06-7f07 r-xp 00000000 08:01 14 /opt/venv/lib/python3.12/site-packages/vllm/_C.abi3.so\n"
    )
    assert parse_maps(maps) == "/opt/venv/lib/python3.12/site-packages"
    assert parse_maps("") == ""


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\nGCC version:  gcc\n",
            "535.129.03",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.133.20  Release Build  (dvs-builder)  Mar\n",
            "570.133.20",
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57  Tue\n", "470.57"),
        ("", ""),
    ],
)
def test_the_loaded_kernel_module_tells_its_version(text: str, version: str) -> None:
    assert versions.parse_driver_file(text) == version


def test_the_branch_of_a_driver_tells_its_cuda() -> None:
    assert cuda_of_driver("570.133.20") == 12.8
    assert cuda_of_driver("595.71.05") == 13.2
    assert cuda_of_driver("615.71.09") == 13.4
    assert cuda_of_driver("999.1") is None


def test_the_system_is_read_and_the_distribution_named() -> None:
    assert versions.parse_os_release('NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.4 LTS"\n') == "Ubuntu 22.04.4 LTS"
    assert versions.system()["kernel"] == os.uname().release
