"""What is installed, read from folder names, and which versions fit together."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from probes import versions
from probes.reading.compatibility import OLDEST_DRIVER, check_environment, check_gpu, cuda_of_driver, is_older
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
    given = set(judged(install(**packages), DRIVER).facts)
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
    assert cuda_of_driver("999.1") is None


def test_the_system_is_read_and_the_distribution_named() -> None:
    assert versions.parse_os_release('NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.4 LTS"\n') == "Ubuntu 22.04.4 LTS"
    assert versions.system()["kernel"] == os.uname().release
