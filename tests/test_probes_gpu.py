"""The GPU probes through the real Python binding, over a libnvidia-ml.so.1 that is built here and plays recorded hosts."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from probes import gpu_health, gpu_processes
from probes.reading.gpus import Gpu, GpuProcess, GpuProcesses, Memory
from probes.reading.nvidia_smi import (
    CAPABILITY,
    HEALTH,
    IDENTITY,
    MEMORY,
    parse_health,
    parse_memory,
    parse_processes,
    parse_rows,
)
from probes.reading.processes import Process
from probes.registry import replay
from probes.types import ProbeResult

ROOT = Path(__file__).parent.parent
HOSTS = Path(__file__).parent / "fixtures" / "hosts"
PROBES = ("gpu_memory", "gpu_processes", "gpu_health")
GIB = 1 << 30

LOOK = """
import json, sys
from probes.registry import run_probes, record
from probes.types import Target
print(json.dumps(record(run_probes(sys.argv[1:], Target(environments=("/nonexistent",)), 30))))
"""

Look = Callable[..., dict[str, ProbeResult]]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the library; its folder."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("no C compiler, so no fake libnvidia-ml.so.1 to read from")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).parent / "fake_nvml" / "nvml.c"
    command = [
        compiler,
        "-Wall",
        "-Werror",
        "-shared",
        "-fPIC",
        "-pthread",
        "-o",
        str(folder / "libnvidia-ml.so.1"),
        str(source),
    ]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture(scope="session")
def look(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Look:
    """Run probes in a process of their own that finds the library playing a host."""
    seen: dict[str, dict[str, ProbeResult]] = {}

    def run(host: str, *names: str, **filled: object) -> dict[str, ProbeResult]:
        text = (HOSTS / host / "nvml.txt").read_text()
        for name, value in filled.items():
            text = text.replace(f"@{name}@", str(value))
        key = f"{names}{text}"
        if key not in seen:
            path = tmp_path_factory.mktemp(host) / "nvml.txt"
            path.write_text(text)
            seen[key] = replay(json.loads(run_program(LOOK, library, path, *(names or PROBES))))
        return seen[key]

    return run


def run_program(code: str, library: Path | str, host: Path | str, *arguments: str) -> str:
    variables = {
        **os.environ,
        "LD_LIBRARY_PATH": str(library),
        "FAKE_NVML_HOST": str(host),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True, timeout=60, check=True
    ).stdout


@pytest.fixture
def start() -> Iterator[Callable[..., int]]:
    """Start a program that waits, under a title and with arguments of choice; its pid."""
    started: list[subprocess.Popen[bytes]] = []

    def run(title: str, *arguments: str) -> int:
        # `read` is the shell's own, so that the shell is not replaced by another program.
        waiting = (title, "-c", "read line", *arguments)
        started.append(subprocess.Popen(waiting, executable="/bin/sh", stdin=subprocess.PIPE))
        return started[-1].pid

    yield run
    for process in started:
        process.kill()
        process.communicate()


def readings(result: ProbeResult, index: int = 0) -> Any:
    return result.data["gpus"][index]


def test_eight_gpus_that_serve(look: Look, start: Callable[..., int]) -> None:
    start("VLLM::EngineCore_DP0")
    host = look("h100x8-serving", running=1)
    assert {name: result.status for name, result in host.items()} == dict.fromkeys(PROBES, "ok")
    assert host["gpu_memory"].facts == {
        "gpu_count": 8,
        "gpu_mig": False,
        "gpu_name": "NVIDIA H100 80GB HBM3",
        "gpu_compute_capability": 9.0,
        "gpu_total_gib": 79.65,
        "gpu_free_gib": 7.7,
        "gpu_used_gib": 71.41,
        "gpu_free_ratio": 0.097,
    }
    assert host["gpu_memory"].data["engines"] == ["vllm"]
    assert host["gpu_memory"].source == "NVML"
    assert host["gpu_processes"].facts["gpu_process_count"] == 8
    assert host["gpu_health"].facts["gpu_temperature_c"] == 59
    assert host["gpu_health"].facts["gpu_throttled"] is False  # at its power limit, as a busy GPU is
    assert readings(host["gpu_health"])["throttle"] == ["SwPowerCap"]


def test_memory_held_by_a_stranger(look: Look, start: Callable[..., int]) -> None:
    pid = start("jupyter-kernel", "--token=0123456789abcdef0123456789abcdef0123456789abcdef")
    host = look("rtx4090-stranger", PID=pid)
    memory, processes = host["gpu_memory"], host["gpu_processes"]
    assert memory.status == "warning"
    assert memory.summary.startswith("70% of a GPU's memory (16.8 GiB) is held although no inference engine")
    assert processes.status == "warning"
    assert f"most of it by pid {pid} (jupyter-kernel" in processes.summary
    assert "0123456789abcdef0123" not in json.dumps(processes.data)
    assert processes.facts == {"gpu_process_count": 2, "gpu_process_max_gib": 16.48, "gpu_stranger_gib": 16.48}
    roles = {row["pid"]: row["role"] for row in processes.data["processes"]}
    assert roles == {pid: "stranger", 1893: "not visible"} or 1893 in map(int, os.listdir("/proc"))
    assert f"pid {pid}" in processes.advice[0]


def test_what_a_t4_does_not_support_is_unknown_and_no_fault(look: Look) -> None:
    health = look("t4-idle")["gpu_health"]
    assert health.status == "ok"
    assert readings(health)["remap_failed"] is None
    assert readings(health)["remap_pending"] is False  # from page retirement, which a T4 has instead
    assert health.facts["gpu_pcie_degraded"] is False  # half its lanes, but idle
    assert look("t4-idle")["gpu_memory"].facts["gpu_compute_capability"] == 7.5


def test_slices_stand_for_the_gpu_that_is_split(look: Look) -> None:
    memory = look("a100-mig")["gpu_memory"]
    assert memory.facts["gpu_mig"] is True
    assert memory.facts["gpu_count"] == 1
    assert memory.facts["gpu_total_gib"] == 4.75  # of the smallest slice
    assert memory.facts["gpu_free_gib"] == 0.82  # of the fullest
    assert [piece["name"] for piece in readings(memory)["slices"]] == [
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "NVIDIA A100-SXM4-40GB MIG 2g.10gb",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
    ]
    assert "gpu_utilization_ratio" not in look("a100-mig")["gpu_health"].facts


def test_failing_memory(look: Look) -> None:
    health = look("a100x2-ecc")["gpu_health"]
    assert health.status == "critical"
    assert health.summary == "GPU 1 has 12 uncorrected ECC errors since the driver was loaded (and 1 more)."
    assert health.facts["gpu_ecc_uncorrected"] == 12
    assert health.facts["gpu_remap_pending"] is True
    assert len(health.advice) == 2
    failed = look("a100-remap-failed")["gpu_health"]
    assert (failed.status, failed.summary) == ("critical", "GPU 0 could not remap a bad memory row.")


def test_heat_and_a_narrow_link_under_load(look: Look) -> None:
    health = look("l40s-hot")["gpu_health"]
    assert health.status == "warning"
    assert health.facts["gpu_throttled"] is True
    assert health.facts["gpu_pcie_degraded"] is True
    assert health.data["findings"] == [
        "GPU 0 is slowed by heat (91 °C, slows at 89 °C).",
        "GPU 0 works over 4 PCIe lanes instead of 16.",
    ]


def test_a_gpu_that_is_lost_half_way(look: Look) -> None:
    host = look("h100x2-lost")
    assert host["gpu_memory"].status == "critical"
    assert host["gpu_memory"].summary == "GPU 1 of 2 does not answer (GPU is lost)."
    assert host["gpu_memory"].facts["gpu_count"] == 1
    assert host["gpu_health"].status == "critical"
    assert readings(host["gpu_health"], 1)["temperature_c"] is None
    assert readings(host["gpu_health"], 0)["temperature_c"] == 38
    assert look("gpu-unknown-handle")["gpu_memory"].facts == {"gpu_count": 0}


@pytest.mark.parametrize(
    ("host", "reason"), [("no-driver", "driver-not-loaded"), ("driver-mismatch", "version-mismatch")]
)
def test_a_driver_that_cannot_be_asked_is_unknown_with_what_to_do(look: Look, host: str, reason: str) -> None:
    for result in look(host).values():
        assert result.status == "unknown"
        assert result.facts == {}
        assert result.data["reason"] == reason
        assert result.summary.count(". ") == 0
        assert result.advice
        assert result.advice_zh


def test_without_the_library_nothing_is_claimed(tmp_path: Path) -> None:
    if any(Path(folder, "libnvidia-ml.so.1").exists() for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64")):
        pytest.skip("this machine has the NVIDIA driver")
    for result in replay(json.loads(run_program(LOOK, tmp_path, "/nonexistent", *PROBES))).values():
        assert (result.status, result.facts, result.data["reason"]) == ("unknown", {}, "library-missing")


def test_a_driver_without_a_gpu(look: Look) -> None:
    host = look("no-gpu")
    assert (host["gpu_memory"].status, host["gpu_memory"].facts) == ("warning", {"gpu_count": 0})
    assert host["gpu_processes"].status == "unknown"
    assert host["gpu_health"].status == "unknown"


def test_unified_memory_is_not_told_and_not_guessed(look: Look) -> None:
    host = look("gb10-unified")
    assert host["gpu_memory"].status == "unknown"
    assert host["gpu_memory"].facts == {
        "gpu_count": 1,
        "gpu_mig": False,
        "gpu_name": "NVIDIA GB10",
        "gpu_compute_capability": 12.1,
    }
    assert host["gpu_processes"].status == "unknown"


def test_the_driver_is_read_without_an_environment(look: Look) -> None:
    versions = look("h100x8-serving", "versions")["versions"]
    assert versions.facts == {"driver_version": "570.133.20", "driver_cuda": 12.8}
    assert versions.status == "unknown"


def test_a_driver_that_hangs_is_late_and_holds_up_nothing(library: Path, tmp_path: Path) -> None:
    (tmp_path / "nvml.txt").write_text("hang 60\n")
    code = LOOK.replace(", 30)", ", 1)")
    results = replay(json.loads(run_program(code, library, tmp_path / "nvml.txt", "gpu_health", "host_memory")))
    assert results["gpu_health"].status == "unknown"
    assert results["gpu_health"].summary == "The probe gpu_health did not finish within 1 s."
    assert results["host_memory"].status != "unknown"


@pytest.mark.parametrize("probe", PROBES)
def test_every_fact_of_a_gpu_probe_is_read_from_some_host(look: Look, probe: str) -> None:
    facts = yaml.safe_load((ROOT / "kb/data/facts.yaml").read_text("utf-8"))
    hosts = sorted(path.parent.name for path in HOSTS.glob("*/nvml.txt"))
    given = {name for host in hosts for name in look(host)[probe].facts}
    assert given == {name for name, fact in facts.items() if fact["probe"] == probe}


WATCHED = """
import json, os, sys
opened = []
def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            opened.append(str(path))
    elif event in ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate"):
        opened.append(f"{event} {arguments}")
sys.addaudithook(watch)
from probes.registry import checkup
from probes.types import Target
names = [result.probe for result in checkup(Target(), 30)]
print(json.dumps([names, sorted(set(opened))]))
"""


def test_a_whole_checkup_opens_no_file_for_writing(library: Path) -> None:
    names, opened = json.loads(run_program(WATCHED, library, HOSTS / "h100x8-serving" / "nvml.txt"))
    assert set(PROBES) < set(names)
    assert set(opened) <= {"/dev/null"}  # no input for the programs that are started


# What nvidia-smi prints for --query-gpu with --format=csv,noheader,nounits.
SMI_MEMORY = "0, NVIDIA A100-SXM4-80GB, GPU-aa, 00000000:07:00.0, 81920, 61440, 19863, 8.0, Disabled\n"
SMI_HEALTH = (
    "0, Tesla T4, GPU-bb, 00000000:00:1E.0, 34, 14.12, 70.00, 3, Enabled, 0, [N/A], 1, 3, 8, 16, 300, 1590, "
    "0x0000000000000001, P8\n"
)


def test_nvidia_smi_says_the_same_as_nvml() -> None:
    memory = parse_memory(parse_rows(SMI_MEMORY, CAPABILITY)[0])
    assert memory.gpu == Gpu(0, "NVIDIA A100-SXM4-80GB", "GPU-aa", "00000000:07:00.0")
    assert memory.memory == Memory(80 * GIB, 60 * GIB, 19863 << 20)
    assert (memory.compute_capability, memory.mig) == (8.0, False)
    health = parse_health(parse_rows(SMI_HEALTH, HEALTH)[0])
    assert (health.temperature_c, health.power_w, health.utilization_ratio) == (34, 14.12, 0.03)
    assert (health.ecc_uncorrected_volatile, health.ecc_uncorrected_aggregate) == (0, None)
    assert (health.performance_state, health.throttle_reasons, health.persistence) == (8, 1, True)
    assert gpu_health.judge((health,), "nvidia-smi").status == "ok"


def test_nvidia_smi_lists_processes_by_gpu() -> None:
    rows = parse_rows("0, A, GPU-aa, 07, 81920, 61440, 20480\n1, A, GPU-bb, 0F, 81920, 0, 81920\n", MEMORY)
    listed = "GPU-aa, 4711, 61000\nGPU-aa, 4712, [N/A]\n"
    assert parse_processes(rows[0], listed).processes == (GpuProcess(4711, 61000 << 20), GpuProcess(4712, None))
    assert parse_processes(rows[1], listed).processes == ()


def test_rows_of_another_form_are_left_out() -> None:
    assert parse_rows("No devices were found\n", IDENTITY) == ()


def test_a_worker_of_an_engine_is_no_stranger() -> None:
    host = {
        10: Process(10, 1, "S", "vllm", ("/opt/venv/bin/python3", "/opt/venv/bin/vllm", "serve", "MODEL")),
        11: Process(
            11, 10, "S", "python3", ("/opt/venv/bin/python3", "-c", "from multiprocessing.spawn import spawn_main")
        ),
    }
    gpu = GpuProcesses(Gpu(0), Memory(80 * GIB, 70 * GIB, 10 * GIB), (GpuProcess(11, 69 * GIB),))
    result = gpu_processes.judge((gpu,), host)
    assert result.status == "ok"
    assert result.data["processes"][0]["engine"] == "vllm"
    assert result.facts["gpu_stranger_gib"] == 0


def test_memory_of_an_ended_process_is_named() -> None:
    host = {10: Process(10, 1, "Z", "python3")}
    gpu = GpuProcesses(Gpu(0), Memory(80 * GIB, 70 * GIB, 10 * GIB), (GpuProcess(10, 69 * GIB),))
    result = gpu_processes.judge((gpu,), host)
    assert result.status == "warning"
    assert result.summary == "Pid 10 has ended but still holds GPU memory (zombie)."


def test_memory_that_no_listed_process_holds_is_named() -> None:
    gpu = GpuProcesses(Gpu(3), Memory(80 * GIB, 70 * GIB, 10 * GIB), ())
    result = gpu_processes.judge((gpu,), {})
    assert result.summary == "On GPU 3 up to 70.0 GiB belong to no listed process."
    assert result.data["unaccounted_bytes"] == {"3": 70 * GIB}


def test_only_reading_calls_of_nvml_are_named() -> None:
    import ast
    import re

    tree = ast.parse((ROOT / "probes/reading/nvml.py").read_text("utf-8"))
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    calls = {name for name in named if re.match(r"nvml[A-Z]", name) and " " not in name} - {"nvmlMemory_v2"}
    assert len(calls) > 25
    assert {name for name in calls if not re.match(r"nvml(Init|Shutdown|(Device|System)Get\w*)$", name)} == set()


def test_a_killed_look_leaves_nothing_behind(library: Path, tmp_path: Path) -> None:
    (tmp_path / "nvml.txt").write_text("hang 60\n")
    variables = {**os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML_HOST": str(tmp_path / "nvml.txt")}
    process = subprocess.Popen([sys.executable, "-c", LOOK, "gpu_memory"], cwd=ROOT, env=variables)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == -signal.SIGTERM
