"""The servers that run here: how they were started, where they listen, what surrounds them."""

import os
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from probes import container, engine_processes, network
from probes.container import Container, kind_of, parse_limit, parse_quota
from probes.network import local_port, wanted_ports
from probes.reading.processes import Process, read_processes
from probes.reading.servers import Server, parse_host, parse_port, read_servers
from probes.reading.sockets import (
    Listener,
    infiniband_ports,
    interfaces,
    parse_address,
    parse_table,
    read_listeners,
)
from probes.types import Target

SERVER = Server(10, "vllm", "vllm serve MODEL --port 8000", 8000)


@pytest.mark.parametrize(
    ("command", "engine", "port"),
    [
        ("vllm serve m", "vllm", 8000),
        ("vllm serve m --port 9000", "vllm", 9000),
        ("vllm serve m --port=9000 --host 0.0.0.0", "vllm", 9000),
        ("python -m sglang.launch_server --model m", "sglang", 30000),
        ("vllm serve m --port 8000 --port 8001", "vllm", 8001),
        ("vllm serve m --port 99999", "vllm", 8000),
        ("vllm serve m --port 80abc", "vllm", 8000),
        ("aphrodite run m", "aphrodite", None),
    ],
)
def test_the_port_of_a_command_line(command: str, engine: str, port: int | None) -> None:
    assert parse_port(command, engine) == port


def test_the_address_to_ask_a_server_at() -> None:
    assert parse_host("vllm serve m --host 0.0.0.0") == "0.0.0.0"
    assert SERVER.url == "http://127.0.0.1:8000"
    assert replace(SERVER, host="10.0.0.5").url == "http://10.0.0.5:8000"
    assert replace(SERVER, port=None).url == ""


def test_a_server_is_told_from_its_workers() -> None:
    processes = {
        1: Process(1, 0, "S", "init", ("/sbin/init",)),
        10: Process(10, 1, "S", "vllm", ("vllm", "serve", "MODEL", "--port", "8001"), 1000.0),
        11: Process(11, 10, "S", "VLLM::EngineCor", ("VLLM::EngineCore_DP0",)),
        12: Process(12, 11, "D", "VLLM::Worker_TP", ("VLLM::Worker_TP0",)),
        13: Process(13, 11, "Z", "VLLM::Worker_TP"),
        14: Process(14, 11, "S", "cicc", ("cicc", "--c++17")),
        20: Process(20, 1, "S", "python", ("python", "-m", "sglang.launch_server", "--model", "m")),
    }
    first, second = read_servers(processes, Path("/nonexistent"))
    assert (first.pid, first.engine, first.port, first.started) == (10, "vllm", 8001, 1000.0)
    assert (first.workers, first.dead_workers, first.stuck_workers) == ((11, 12, 13), (13,), (12,))
    assert (second.pid, second.engine, second.port) == (20, "sglang", 30000)


def test_a_running_server_tells_its_log_and_its_variables(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with log.open("w") as output:
        child = subprocess.Popen(
            ["vllm", "-c", "read line", "--port", "8123"],
            executable="/bin/sh",
            stdin=subprocess.PIPE,
            stdout=output,
            env={"CUDA_LAUNCH_BLOCKING": "1", "HF_TOKEN": "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ012345678", "SECRET": "x"},
        )
    try:
        server = next(found for found in read_servers(read_processes()) if found.pid == child.pid)
    finally:
        child.communicate()
    assert server.log == str(log)
    assert server.port == 8123
    assert set(server.variables) == {"CUDA_LAUNCH_BLOCKING", "HF_TOKEN"}
    assert "aBcDeFgHiJ" not in server.variables["HF_TOKEN"]
    result = engine_processes.judge((server,), 2000.0)
    assert result.status == "warning"
    assert result.summary.startswith("CUDA_LAUNCH_BLOCKING is set for vllm")


def test_no_server_is_unknown_and_a_sound_one_is_named() -> None:
    assert engine_processes.judge((), 2000.0).status == "unknown"
    result = engine_processes.judge((SERVER,), 2000.0)
    assert (result.status, result.summary) == ("ok", "Running: vllm (pid 10, port 8000).")
    assert result.data["servers"][0]["url"] == "http://127.0.0.1:8000"


def test_a_worker_that_died_or_hangs() -> None:
    dead = engine_processes.judge((replace(SERVER, dead_workers=(13,)),), 2000.0)
    assert (dead.status, dead.summary) == ("critical", "Worker process 13 of vllm (pid 10) has died.")
    stuck = engine_processes.judge((replace(SERVER, stuck_workers=(12,)),), 2000.0)
    assert stuck.status == "warning"


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F40 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 20 4 30 10 -1
   2: 00000000:7530 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0000000000000000 100 0 0 10 0
"""


def test_listening_sockets_are_told_from_connections() -> None:
    assert parse_table(TCP) == [("4711", Listener(8000, "127.0.0.1")), ("4713", Listener(30000, "0.0.0.0"))]
    assert parse_address("00000000000000000000000001000000:1F40") == "::1"


def test_who_listens_is_found() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert read_listeners([port], [os.getpid()]) == (Listener(port, "127.0.0.1", os.getpid()),)
        assert read_listeners([port], []) == (Listener(port, "127.0.0.1", None),)
        result = network.network(Target(urls=(f"http://127.0.0.1:{port}",)))
    assert f"Port {port} is held by pid {os.getpid()}" in " ".join(result.data["findings"])
    assert "lo" in interfaces()


def test_the_ports_that_matter() -> None:
    assert wanted_ports((), ()) == (8000, 30000)
    assert wanted_ports(("http://localhost:9000/v1", "http://10.0.0.1:7000"), (SERVER,)) == (9000, 8000)
    assert local_port("https://127.0.0.1") == 443
    assert local_port("http://elsewhere:8000") is None


HOST = {
    10: Process(10, 1, "S", "vllm", ("vllm", "serve", "m")),
    20: Process(20, 1, "S", "nginx", ("nginx", "-g", "daemon off;")),
}
URL = ("http://127.0.0.1:8000",)


def judged_network(
    listeners: tuple[Listener, ...], variables: dict[str, str] | None = None, urls: tuple[str, ...] = URL
) -> list[str]:
    result = network.judge(urls, (), listeners, HOST, variables or {}, ["lo", "eth0"])
    found: list[str] = result.data.get("findings", [])
    assert bool(found) == (result.status in ("warning", "critical"))
    return found


def test_an_engine_that_listens_is_ok() -> None:
    assert judged_network((Listener(8000, "0.0.0.0", 10),)) == []


def test_nobody_listens_or_somebody_else_does() -> None:
    assert judged_network(()) == ["Nobody listens on port 8000 of this host."]
    assert "held by pid 20 (nginx" in judged_network((Listener(8000, "0.0.0.0", 20),))[0]
    assert judged_network((Listener(8000, "0.0.0.0", None),)) == []


def test_a_server_that_still_loads() -> None:
    result = network.judge((), (SERVER,), (), HOST, {}, ["lo"])
    assert result.summary == "vllm (pid 10) does not listen on port 8000 yet."


def test_nothing_known_is_unknown() -> None:
    assert network.judge((), (), (), HOST, {}, ["lo"]).status == "unknown"


@pytest.mark.parametrize(
    ("variable", "value", "there"),
    [
        ("NCCL_SOCKET_IFNAME", "eth0", True),
        ("NCCL_SOCKET_IFNAME", "eth", True),
        ("NCCL_SOCKET_IFNAME", "=eth", False),
        ("NCCL_SOCKET_IFNAME", "ib0,eth0", True),
        ("NCCL_SOCKET_IFNAME", "ib0", False),
        ("NCCL_SOCKET_IFNAME", "^docker0,lo", True),
        ("GLOO_SOCKET_IFNAME", "eth", False),
        ("GLOO_SOCKET_IFNAME", "eth0", True),
    ],
)
def test_a_variable_may_name_only_interfaces_that_are_there(variable: str, value: str, there: bool) -> None:
    found = judged_network((Listener(8000, "0.0.0.0", 10),), {variable: value})
    assert (found == []) is there


@pytest.mark.parametrize(
    ("variables", "sound"),
    [
        ({"http_proxy": "http://proxy:3128"}, False),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "localhost,127.0.0.1"}, True),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "*"}, True),
        ({"https_proxy": "http://proxy:3128"}, True),
    ],
)
def test_a_proxy_must_leave_out_this_host(variables: dict[str, str], sound: bool) -> None:
    assert (judged_network((Listener(8000, "0.0.0.0", 10),), variables) == []) is sound


BOX = Container(
    "docker", ("nvidia0", "nvidia1", "nvidiactl"), "all", 16.0, 64, 1 << 20, "unlimited", 90, 4096, False, 0
)


def test_a_sound_container() -> None:
    result = container.judge(BOX)
    assert result.status == "ok"
    assert result.summary == "In a container (docker), 2 GPU device nodes, 16 CPUs, 1048576 open files."


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"devices": ()}, "critical", "has no /dev/nvidia device"),
        ({"devices": (), "wanted_devices": "void"}, "ok", ""),
        ({"cpus": 1.0}, "warning", "may use 1 CPUs"),
        ({"open_files": 1024}, "warning", "Only 1024 files"),
        ({"tasks": 4000}, "critical", "4000 of 4096 processes"),
    ],
)
def test_limits_that_are_too_tight(changes: dict[str, object], status: str, words: str) -> None:
    result = container.judge(replace(BOX, **changes))  # type: ignore[arg-type]
    assert result.status == status
    assert words in result.summary


def test_quota_and_limits_are_read() -> None:
    assert parse_quota("200000 100000\n") == 2.0
    assert parse_quota("max 100000\n") is None
    assert parse_quota("") is None
    text = "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 524288               files\n"
    assert parse_limit(text, "Max open files") == "1024"
    assert parse_limit("", "Max open files") == ""


def test_the_kind_of_container_is_told_by_its_marks(tmp_path: Path) -> None:
    assert kind_of(tmp_path, "0::/\n", {}) == ""
    assert kind_of(tmp_path, "0::/\n", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == "kubernetes"
    (tmp_path / ".dockerenv").touch()
    assert kind_of(tmp_path, "0::/\n", {}) == "docker"


def test_facts_of_servers(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.touch()
    servers = (
        replace(SERVER, started=1000.0, dead_workers=(13, 14)),
        replace(SERVER, pid=20, started=1500.0, log=str(log), stuck_workers=(21,)),
    )
    assert engine_processes.judge(servers, 2000.0).facts == {
        "engine_running": True,
        "engine_count": 2,
        "engine_workers_dead": 2,
        "engine_workers_stuck": 1,
        "engine_uptime_seconds": 500,
        "engine_log_path": str(log),
    }
    assert engine_processes.judge((), 2000.0).facts == {"engine_running": False, "engine_count": 0}
    gone = replace(SERVER, log=str(tmp_path / "gone.log"))
    assert "engine_log_path" not in engine_processes.judge((gone,), 2000.0).facts


def test_facts_of_the_network() -> None:
    variables = {"https_proxy": "http://proxy:3128", "HF_HUB_OFFLINE": "1", "NCCL_SOCKET_IFNAME": "eth0"}
    listeners = (Listener(8000, "0.0.0.0", 10),)
    adapters = {"mlx5_0/1": "ACTIVE", "mlx5_1/1": "DOWN"}
    result = network.judge(URL, (), listeners, HOST, variables, ["lo", "eth0"], adapters)
    assert result.facts == {
        "port_listening": True,
        "proxy_set": True,
        "hub_offline": True,
        "nccl_socket_ifname": "eth0",
        "nccl_debug": "unset",
        "infiniband_ports_active": 1,
        "infiniband_ports_down": 1,
    }
    result = network.judge((), (), (), HOST, {"HF_HUB_OFFLINE": "0", "http_proxy": ""}, ["lo"])
    assert (result.facts["port_listening"], result.facts["proxy_set"], result.facts["hub_offline"]) == (False,) * 3
    assert "infiniband_ports_active" not in result.facts


def test_states_of_fast_adapters_are_read(tmp_path: Path) -> None:
    assert infiniband_ports(tmp_path) == {}
    for port, state in (("mlx5_0/ports/1", "4: ACTIVE\n"), ("mlx5_bond_0/ports/1", "1: DOWN\n")):
        folder = tmp_path / "class/infiniband" / port
        folder.mkdir(parents=True)
        (folder / "state").write_text(state)
    assert infiniband_ports(tmp_path) == {"mlx5_0/1": "ACTIVE", "mlx5_bond_0/1": "DOWN"}


def test_facts_of_the_container() -> None:
    assert container.judge(BOX).facts == {
        "in_container": True,
        "gpus_passed_in": 2,
        "cpu_limit": 16.0,
        "open_files_limit": 1 << 20,
        "locked_memory_unlimited": True,
    }
    bare = container.judge(replace(BOX, kind="", cpus=None, open_files=None, locked_memory="65536"))
    assert bare.facts["cpu_limit"] == 64.0
    assert not bare.facts["in_container"]
    assert "open_files_limit" not in bare.facts


def test_the_user_of_a_server_is_read() -> None:
    here = Process(os.getpid(), 1, "S", "vllm", ("vllm", "serve", "m"))
    (server,) = read_servers({here.pid: here})
    assert server.user == os.getuid()


def test_the_hub_is_tried_only_where_the_operator_names_it() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert network.read_hub(url, {}) is True
        assert network.read_hub(url, {"https_proxy": "http://proxy:3128"}) is None
    assert network.read_hub(url, {}) is False
    for none in ("", "not an address", "http://[::1", "http://host:99999999"):
        assert network.read_hub(none, {}) is None
    listeners = (Listener(8000, "0.0.0.0", 10),)
    silent = network.judge(URL, (), listeners, HOST, {"HF_HUB_OFFLINE": "1"}, ["lo"], None, False)
    assert (silent.status, silent.facts["hub_reachable"]) == ("warning", False)
    assert silent.summary.endswith("It is set offline already.")
    assert "hub_reachable" not in network.judge(URL, (), listeners, HOST, {}, ["lo"]).facts
