"""The GPU probes through the real Python binding, over a libnvidia-ml.so.1 that is built here and plays recorded hosts."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from probes import gpu_differences, gpu_health, gpu_links, gpu_processes
from probes.reading.gpus import Gpu, GpuHealth, GpuLinks, GpuProcess, GpuProcesses, Memory, NvLink
from probes.reading.nvidia_smi import (
    CAPABILITY,
    HEALTH,
    IDENTITY,
    MEMORY,
    WITHOUT_REASONS,
    parse_health,
    parse_memory,
    parse_processes,
    parse_rows,
)
from probes.reading.processes import Process
from probes.registry import replay, to_json
from probes.types import ProbeResult

ROOT = Path(__file__).parent.parent
HOSTS = Path(__file__).parent / "fixtures" / "hosts"
PROBES = ("gpu_memory", "gpu_processes", "gpu_health", "gpu_links", "gpu_differences")
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


def test_a_gpu_that_tells_only_how_far_it_is_from_slowing() -> None:
    near = gpu_health.judge((busy(0, temperature_c=84, margin_c=2),))
    assert (near.status, near.summary) == ("warning", "GPU 0 is close to slowing for heat (84 °C).")
    assert gpu_health.judge((busy(0, temperature_c=84, margin_c=20, slowdown_c=80),)).status == "ok"


def test_a_power_limit_that_costs_speed_and_modes_that_shut_a_gpu(look: Look) -> None:
    health = look("a100x2-modes")["gpu_health"]
    assert health.status == "critical"
    assert health.data["findings"] == [
        "GPU 1 is in compute mode Prohibited: no program can use CUDA on it.",
        "The driver recommends a reset of the GPU for GPU 1.",
        "GPU 0 is slowed by its power limit of 250 W, set below its own 400 W.",
    ]
    assert health.facts["gpu_power_capped"] is True
    assert health.facts["gpu_throttled"] is False
    assert "sudo nvidia-smi -i 0 -pl 400" in health.advice[2]


def test_persistence_mode_is_told_and_no_fault(look: Look) -> None:
    host = look("l4x2-no-persistence")
    assert {result.status for result in host.values()} == {"ok"}
    assert host["gpu_health"].facts["gpu_persistence"] is False
    assert host["gpu_health"].summary.endswith("persistence mode off.")
    assert host["gpu_links"].facts == {"gpu_across_sockets": True}
    assert readings(host["gpu_links"])["peers"] == [{"index": 1, "path": "across sockets", "reads_directly": False}]


def test_eight_gpus_on_a_switch(look: Look) -> None:
    links = look("h100x8-serving", "gpu_links")["gpu_links"]
    assert links.facts == {
        "gpu_nvlink_active": 18,
        "gpu_nvlink_inactive": 0,
        "gpu_nvlink_errors": 0,
        "gpu_fabric_ready": True,
        "gpu_across_sockets": True,
    }
    assert [len(gpu["peers"]) for gpu in links.data["gpus"]] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert readings(links)["fabric"] == "completed"


def test_links_that_are_down_where_equal_gpus_have_them_up(look: Look) -> None:
    host = look("h100x8-nvlink-down")
    assert host["gpu_links"].status == "warning"
    assert host["gpu_links"].data["findings"] == [
        "GPU 3 has 16 NVLinks up where its equals have 18.",
        "NVLink 7 of GPU 3 had to recover 3 times since the driver was loaded.",
    ]
    assert host["gpu_links"].facts["gpu_nvlink_inactive"] == 2
    assert host["gpu_differences"].summary == (
        "GPU 3 is slower than its equals: 16 of its NVLinks are up, 18 of others."
    )


def test_recoveries_of_nvlink_5_are_read_from_its_field(look: Look) -> None:
    links = look("b200x2-recoveries")["gpu_links"]
    assert links.facts["gpu_nvlink_errors"] == 2
    assert links.summary == "NVLink 4 of GPU 1 had to recover 2 times since the driver was loaded."
    assert readings(links, 1)["links"][4] == {
        **{"number": 4, "active": True, "replays": None, "recoveries": 2},
        **{"crc_flit": None, "crc_data": None},
    }


def test_a_fabric_that_is_not_set_up(look: Look) -> None:
    links = look("h100x8-fabric-down")["gpu_links"]
    assert links.status == "critical"
    assert links.summary == "The NVSwitch fabric is not set up for GPU 0, 1, 2, 3, 4, 5, 6, 7."
    assert links.facts["gpu_fabric_ready"] is False
    assert "error 802" in links.advice[0]


def test_the_straggler_is_named_with_all_that_sets_it_apart(look: Look) -> None:
    result = look("h100x8-straggler")["gpu_differences"]
    assert result.status == "warning"
    assert result.facts == {"gpu_straggler": True, "gpu_mixed_models": False}
    assert {found["gpu"] for found in result.data["differences"]} == {5}
    assert [(found["trait"], found["slows"]) for found in result.data["differences"]] == [
        ("clock", True),
        ("power limit", True),
        ("NVLinks", True),
        ("PCIe", True),
        ("heat", False),
        ("memory", False),
        ("vBIOS", False),
    ]
    assert result.summary.startswith(
        "GPU 5 is slower than its equals: its SM clock under load is 1185 MHz, that of the others 1980 MHz; "
    )
    assert "CUDA_VISIBLE_DEVICES" in result.advice[0]


def test_a_mig_gpu_without_a_slice_has_nothing_for_cuda(look: Look) -> None:
    assert look("a100-mig")["gpu_links"].summary == "1 GPU, no NVLink told of, 3 MIG slices."
    links = look("a100-mig-empty")["gpu_links"]
    assert (links.status, links.summary) == (
        "critical",
        "GPU 0 is in MIG mode without a slice: CUDA finds no device on it.",
    )


def test_a_gpu_that_is_lost_half_way(look: Look) -> None:
    host = look("h100x2-lost")
    assert host["gpu_memory"].status == "critical"
    assert host["gpu_memory"].summary == "GPU 1 of 2 does not answer (GPU is lost)."
    assert host["gpu_memory"].facts["gpu_count"] == 1
    assert host["gpu_health"].status == "critical"
    assert readings(host["gpu_health"], 1)["temperature_c"] is None
    assert readings(host["gpu_health"], 0)["temperature_c"] == 38
    assert host["gpu_links"].summary == "1 GPU, no NVLink told of."
    assert host["gpu_differences"].facts == {"gpu_mixed_models": False}
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
    assert {host[name].status for name in PROBES[1:]} == {"unknown"}


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


def busy(index: int, **readings: Any) -> GpuHealth:
    return GpuHealth(Gpu(index, "NVIDIA A100-SXM4-80GB"), **{"utilization_ratio": 0.9, **readings})


@pytest.mark.parametrize(
    ("readings", "status"),
    [
        ({"pcie_width": 8, "pcie_width_max": 16}, "ok"),  # as many boards are wired
        ({"pcie_width": 4, "pcie_width_max": 16}, "warning"),
        ({"pcie_width": 16, "pcie_width_max": 16, "pcie_generation": 3, "pcie_generation_max": 4}, "ok"),
        ({"pcie_width": 16, "pcie_width_max": 16, "pcie_generation": 1, "pcie_generation_max": 4}, "warning"),
        ({"pcie_width": 8, "pcie_width_max": 16, "pcie_generation": 3, "pcie_generation_max": 4}, "warning"),
        ({"pcie_width": 4, "pcie_width_max": 16, "utilization_ratio": 0.0}, "ok"),
        (
            {
                **{"pcie_width": 16, "pcie_width_max": 16, "pcie_generation": 1, "pcie_generation_max": 4},
                "utilization_ratio": 0.02,
            },
            "ok",
        ),
    ],
)
def test_a_pcie_link_is_judged_by_what_it_carries_under_load(readings: dict[str, Any], status: str) -> None:
    assert gpu_health.judge((busy(0, **readings),)).status == status


def test_clocks_are_compared_only_while_all_work() -> None:
    slow, quick = busy(0, sm_clock_mhz=900), busy(1, sm_clock_mhz=1980)
    assert gpu_differences.judge((slow, quick)).facts["gpu_straggler"] is True
    resting = busy(1, sm_clock_mhz=1980, utilization_ratio=0.0)
    assert gpu_differences.judge((slow, resting)).facts["gpu_straggler"] is False


def test_one_low_clock_among_several_looks_makes_no_straggler(look: Look) -> None:
    result = look("a10x2-uneven-clocks", "gpu_differences")["gpu_differences"]
    assert (result.status, result.facts["gpu_straggler"]) == ("ok", False)


def test_what_only_differs_is_told_and_is_no_fault() -> None:
    group = tuple(busy(index, vbios="92.00.81.00.04" if index else "92.00.45.00.03") for index in range(4))
    result = gpu_differences.judge(group)
    assert result.status == "ok"
    assert result.summary == (
        "The 4 equal GPUs differ in nothing that slows one; of GPU 0: its vBIOS is 92.00.45.00.03, that of the others "
        "92.00.81.00.04."
    )
    assert gpu_differences.judge(group[:2]).data["differences"] == []  # of two, neither is the odd one


def test_gpus_of_different_models_are_not_compared() -> None:
    other = GpuHealth(Gpu(1, "NVIDIA L4"), power_limit_w=72.0)
    result = gpu_differences.judge((busy(0, power_limit_w=400.0), other))
    assert (result.status, result.facts) == ("ok", {"gpu_mixed_models": True})


def linked(index: int, active: int, of: int, name: str = "NVIDIA A100 80GB PCIe", **readings: Any) -> GpuLinks:
    return GpuLinks(Gpu(index, name), tuple(NvLink(number, number < active) for number in range(of)), **readings)


def test_cards_without_a_bridge_beside_cards_with_one_are_wired_so() -> None:
    result = gpu_links.judge((linked(0, 12, 12), linked(1, 12, 12), linked(2, 0, 12)))
    assert (result.status, result.facts) == ("ok", {"gpu_nvlink_active": 0, "gpu_nvlink_inactive": 0})
    assert result.summary == "3 GPUs, NVLink up between some of them."
    on_a_board = gpu_links.judge(tuple(linked(i, 12 * (i != 1), 12, "NVIDIA A100-SXM4-80GB") for i in range(3)))
    assert (on_a_board.status, on_a_board.summary) == (
        "critical",
        "GPU 1 has 0 NVLinks up where its equals have 12.",
    )


def test_one_gpu_that_waits_for_a_fabric_is_a_warning() -> None:
    alone = gpu_links.judge((linked(0, 0, 18, "NVIDIA H100 80GB HBM3", fabric_state=2),))
    assert (alone.status, alone.facts["gpu_fabric_ready"]) == ("warning", False)
    assert gpu_links.judge((linked(0, 0, 18, "NVIDIA H100 80GB HBM3", fabric_state=0),)).status == "ok"


COUNTS = st.none() | st.integers(0, 2**40)
SHARES = st.none() | st.floats(0, 1)
ODD = {int | None: COUNTS, float | None: st.none() | st.floats(0, 2000)}


def readings_of(kind: type, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    fields = {name: ODD[hint] for name, hint in hints.items() if hint in ODD}
    gpu = st.builds(Gpu, st.integers(0, 15), st.sampled_from(("", "NVIDIA L4", "NVIDIA H100 80GB HBM3")))
    return st.builds(kind, gpu, **{**fields, **given})


@given(st.lists(readings_of(GpuHealth, utilization_ratio=SHARES, memory_utilization_ratio=SHARES), max_size=5))
def test_no_health_reading_is_too_odd_to_judge(gpus: list[GpuHealth]) -> None:
    for judge in (gpu_health.judge, gpu_differences.judge):
        result = judge(tuple(gpus))
        assert json.loads(json.dumps(to_json(result)))["summary_zh"]
        assert bool(result.advice) == (result.status in ("warning", "critical"))
        assert len(result.advice) == len(result.advice_zh)


LINKS = st.none() | st.lists(st.builds(NvLink, st.integers(0, 17), st.booleans(), recoveries=COUNTS)).map(tuple)


@given(st.lists(readings_of(GpuLinks, links=LINKS, mig=st.none() | st.booleans()), max_size=5))
def test_no_links_are_too_odd_to_judge(gpus: list[GpuLinks]) -> None:
    result = gpu_links.judge(tuple(gpus))
    assert json.loads(json.dumps(to_json(result)))["summary_zh"]
    assert len(result.advice) == len(result.advice_zh)


def test_slices_that_cannot_be_counted_are_not_called_missing() -> None:
    assert gpu_links.judge((GpuLinks(Gpu(0), mig=True, mig_after_reset=True),)).status == "ok"
    waits = gpu_links.judge((GpuLinks(Gpu(0), mig=False, mig_after_reset=True),))
    assert (waits.status, waits.summary) == ("warning", "MIG mode of GPU 0 goes on at the next reset; it is not yet.")


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


def test_the_container_of_a_stranger_is_named() -> None:
    host = {10: Process(10, 1, "S", "python3", ("python3", "train.py"), container="3f1c6a5290de")}
    gpu = GpuProcesses(Gpu(0), Memory(80 * GIB, 70 * GIB, 10 * GIB), (GpuProcess(10, 69 * GIB),))
    result = gpu_processes.judge((gpu,), host)
    assert result.summary.endswith("most of it by pid 10 (python3 train.py) in container 3f1c6a5290de.")
    assert "容器 3f1c6a5290de" in result.summary_zh


def test_health_is_read_without_the_reasons_where_their_name_is_gone() -> None:
    cells = SMI_HEALTH.strip().split(", ")
    row = parse_rows(", ".join(cells[:-2] + cells[-1:]) + "\n", WITHOUT_REASONS)[0]
    assert parse_health(row).throttle_reasons is None
    assert parse_health(row).performance_state == 8


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


def test_a_killed_look_leaves_nothing_behind(library: Path, tmp_path: Path) -> None:
    (tmp_path / "nvml.txt").write_text("hang 60\n")
    variables = {**os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML_HOST": str(tmp_path / "nvml.txt")}
    process = subprocess.Popen([sys.executable, "-c", LOOK, "gpu_memory"], cwd=ROOT, env=variables)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == -signal.SIGTERM
