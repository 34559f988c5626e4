"""Memory and disks of the host, read from recorded kernel files and judged."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from probes import disk, host_memory
from probes.disk import Space, cache_folder, filesystem_of, parse_mounts, read_space, status_of
from probes.host_memory import HostMemory, Limit, count_of, parse_groups, read, read_limit
from probes.types import Target

ROOT = Path(__file__).parent.parent
GIB = 1 << 30
MAY_BE_MISSING = {"numa_nodes", "transparent_hugepages"}
"""What a container without /sys does not show."""

MEMINFO = """\
MemTotal:       1056294812 kB
MemFree:         39872104 kB
MemAvailable:   801223344 kB
SwapTotal:              0 kB
SwapFree:               0 kB
Shmem:           20971520 kB
HugePages_Total:       0
"""
VMSTAT = "nr_free_pages 9968026\noom_kill 0\npgfault 8812\n"

Tree = Callable[[dict[str, str]], Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Write files below a folder; the folder."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def host(**changes: object) -> HostMemory:
    meminfo = {"MemTotal": 64 * GIB, "MemAvailable": 48 * GIB}
    return replace(HostMemory(meminfo, 0, None, 32 * GIB, 31 * GIB), **changes)  # type: ignore[arg-type]


def test_a_large_host_is_read(tree: Tree) -> None:
    root = tree({"meminfo": MEMINFO, "vmstat": VMSTAT, "self/cgroup": "0::/user.slice/session-1.scope\n"})
    result = host_memory.judge(read(root, root / "cgroup", root))
    assert result.status == "ok"
    assert result.facts["host_total_gib"] == 1007.361
    assert result.facts["host_available_gib"] == 764.106
    assert result.facts["host_oom_kills"] == 0
    assert result.data["meminfo_bytes"]["Shmem"] == 20 * GIB


def test_every_fact_of_the_host_probes_is_read_here() -> None:
    facts = yaml.safe_load((ROOT / "kb/data/facts.yaml").read_text("utf-8"))
    for probe, look in (("host_memory", host_memory.host_memory), ("disk", disk.disk)):
        given = set(look(Target()).facts) | MAY_BE_MISSING
        assert given == MAY_BE_MISSING | {name for name, fact in facts.items() if fact["probe"] == probe}


def test_the_tightest_limit_of_the_second_control_groups_counts(tree: Tree) -> None:
    root = tree(
        {
            "kubepods/pod1/box/memory.max": "max\n",
            "kubepods/pod1/memory.max": f"{16 * GIB}\n",
            "kubepods/pod1/memory.current": f"{15 * GIB}\n",
            "kubepods/pod1/memory.stat": f"anon 1\ninactive_file {5 * GIB}\nactive_file 2\n",
            "kubepods/pod1/memory.events": "low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n",
            "kubepods/memory.max": f"{512 * GIB}\n",
            "kubepods/memory.current": "0\n",
        }
    )
    limit = read_limit("0::/kubepods/pod1/box\n", root)
    assert limit == Limit("kubepods/pod1", 16 * GIB, 10 * GIB, 2)
    result = host_memory.judge(host(limit=limit))
    assert result.status == "warning"
    assert result.summary == "2 processes were killed for memory in this container."
    assert result.facts["host_total_gib"] == 16
    assert result.facts["host_available_gib"] == 6
    assert result.facts["host_oom_kills"] == 2


def test_limits_of_the_first_control_groups_are_read(tree: Tree) -> None:
    root = tree(
        {
            "memory/docker/abc/memory.limit_in_bytes": f"{8 * GIB}\n",
            "memory/docker/abc/memory.usage_in_bytes": f"{7 * GIB}\n",
            "memory/docker/abc/memory.stat": f"cache 1\ntotal_inactive_file {GIB}\n",
            "memory/docker/abc/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/memory.usage_in_bytes": "1\n",
        }
    )
    assert read_limit("4:memory:/docker/abc\n", root) == Limit("docker/abc", 8 * GIB, 6 * GIB, 1)
    assert read_limit("4:memory:/\n", root) is None


def test_a_limit_above_the_ram_is_none() -> None:
    result = host_memory.judge(host(limit=Limit("/", 900 * GIB, GIB, 0), boot_oom_kills=0))
    assert result.facts["host_total_gib"] == 64
    assert result.summary.startswith("The host has 64.0 GiB")


def test_groups_are_tried_from_the_own_up() -> None:
    assert list(parse_groups("0::/a/b\n")) == [("a/b", 2), ("a", 2), ("", 2)]
    assert list(parse_groups("4:cpu,memory:/x\n1:cpu:/y\n")) == [("x", 1), ("", 1)]
    assert list(parse_groups("0::/../../escape\n")) == [("escape", 2), ("", 2)]


@pytest.mark.parametrize(("available", "status"), [(48, "ok"), (5, "warning"), (1, "critical")])
def test_memory_that_runs_out(available: int, status: str) -> None:
    result = host_memory.judge(host(meminfo={"MemTotal": 64 * GIB, "MemAvailable": available * GIB}))
    assert result.status == status


def test_dockers_shared_memory_is_too_small() -> None:
    result = host_memory.judge(host(shm_total_bytes=64 << 20, shm_free_bytes=64 << 20))
    assert result.status == "warning"
    assert result.summary == "/dev/shm has only 64 MiB, too little for several GPUs."
    assert "--ipc=host" in result.advice[0]
    assert result.facts["shm_total_gib"] == 0.062


def test_kills_since_boot_are_told() -> None:
    result = host_memory.judge(host(boot_oom_kills=3))
    assert result.summary == "3 processes were killed for memory since boot."


def test_a_host_that_cannot_be_read_is_unknown(tree: Tree) -> None:
    root = tree({})
    result = host_memory.judge(read(root / "proc", root / "cgroup", root / "no-shm", root / "sys"))
    assert (result.status, result.facts) == ("unknown", {})


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"HOME": "/home/a"}, "/home/a/.cache/huggingface/hub"),
        ({"HOME": "/home/a", "XDG_CACHE_HOME": "/cache"}, "/cache/huggingface/hub"),
        ({"HF_HOME": "/data/hf"}, "/data/hf/hub"),
        ({"HF_HOME": "/data/hf", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old"),
        ({"HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/new"}, "/new"),
    ],
)
def test_the_model_cache_is_where_huggingface_hub_keeps_it(variables: dict[str, str], folder: str) -> None:
    assert cache_folder(variables) == folder


def test_a_folder_that_is_not_there_yet_is_judged_by_its_parent(tmp_path: Path) -> None:
    space = read_space("model cache", str(tmp_path / "not" / "yet"), {})
    here = os.statvfs(tmp_path)
    assert space
    assert space.total_bytes == here.f_blocks * here.f_frsize
    assert read_space("model cache", "relative", {}) is None


def test_the_file_system_of_a_path_is_that_of_the_nearest_mount() -> None:
    mounts = parse_mounts("overlay / overlay rw 0 0\nfs:/models /mnt/my\\040models nfs4 rw,vers=4.1 0 0\n")
    assert filesystem_of("/mnt/my models/llama", mounts) == "nfs4"
    assert filesystem_of("/mnt/my modelsx", mounts) == "overlay"
    assert filesystem_of("/", {}) == ""


def space(free_gib: float, total_gib: float = 1000, **changes: object) -> Space:
    whole = Space(
        "model cache", "/root/.cache/huggingface/hub", int(total_gib * GIB), int(free_gib * GIB), 0.5, False, "ext4"
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("free", "total", "status"),
    [
        (500, 1000, "ok"),
        (40, 1000, "warning"),
        (500, 20_000, "ok"),
        (8, 100, "warning"),
        (0.5, 1000, "critical"),
        (30, 60, "ok"),
    ],
)
def test_room_is_judged_by_share_and_by_size(free: float, total: float, status: str) -> None:
    assert status_of(space(free, total)) == status
    assert disk.judge([space(free, total)]).status == status


def test_a_full_disk_says_which_and_what_to_do() -> None:
    result = disk.judge([space(0.4), space(300, purpose="temporary files", path="/tmp")])
    assert result.status == "critical"
    assert result.summary == "/root/.cache/huggingface/hub (model cache) has only 0.4 GiB left."
    assert result.facts == {"disk_free_gib": 0.4}
    assert "HF_HOME" in result.advice[0]


def test_a_cache_that_cannot_be_written_and_files_that_cannot_be_made() -> None:
    assert "read-only file system" in disk.judge([space(500, read_only=True)]).summary
    assert disk.judge([space(500, purpose="models", read_only=True)]).status == "ok"
    assert "inodes" in disk.judge([space(500, free_inodes_ratio=0.001)]).summary


def test_no_place_is_unknown() -> None:
    assert disk.judge([]).status == "unknown"


def test_the_operators_model_directories_are_looked_at(tmp_path: Path) -> None:
    result = disk.disk(Target(model_directories=(str(tmp_path),)))
    assert [(place["purpose"], place["path"]) for place in result.data["places"]][1] == ("models", str(tmp_path))


def test_load_swap_and_nodes_are_facts(tree: Tree) -> None:
    files = {
        "meminfo": MEMINFO.replace("SwapTotal:              0", "SwapTotal:        8388608"),
        "loadavg": "12.50 8.00 4.00 3/1200 4711\n",
        "devices/system/node/online": "0-1,4\n",
        "kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    }
    root = tree(files)
    facts = host_memory.judge(read(root, root, root, root)).facts
    assert (facts["swap_total_gib"], facts["swap_used_gib"]) == (8, 8)
    assert facts["cpu_load_ratio"] == round(12.5 / (os.cpu_count() or 1), 2)
    assert (facts["numa_nodes"], facts["transparent_hugepages"]) == (3, "madvise")
    assert count_of("0\n") == 1
    assert count_of("") is None
