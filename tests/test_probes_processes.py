"""Which running processes are an inference engine, and what of them is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from probes.reading.processes import (
    Process,
    engine_of,
    engine_of_tree,
    engines,
    parse_argv,
    parse_container,
    parse_stat,
    program_of,
    read_processes,
    select_variables,
)

ID = "3f1c6a5290de4b7a8c110a2b4c6d8e0f3f1c6a5290de4b7a8c110a2b4c6d8e0f"


@pytest.mark.parametrize(
    ("command", "engine"),
    [
        ("/opt/venv/bin/python3 /opt/venv/bin/vllm serve Qwen/Qwen3-8B", "vllm"),
        ("vllm serve Qwen/Qwen3-8B", "vllm"),
        ("python3 -m vllm.entrypoints.openai.api_server --model m", "vllm"),
        ("python3 -X faulthandler -u -m vllm.entrypoints.openai.api_server", "vllm"),
        ("VLLM::EngineCore_DP0", "vllm"),
        ("VLLM::Worker_TP3", "vllm"),
        ("ray::RayWorkerWrapper.execute_method", "vllm"),
        ("python -m sglang.launch_server --model-path m", "sglang"),
        ("sglang::scheduler_TP0", "sglang"),
        ("sglang serve --model-path m", "sglang"),
        ("text-generation-launcher --model-id m", "tgi"),
        ("/usr/local/bin/ollama runner --model m", "llama.cpp"),
        ("uv run vllm serve m", "vllm"),
        ("tail -f /var/log/vllm/server.log", ""),
        ("vim vllm.py", ""),
        ("python train.py --eval vllm", ""),
        ("pip install vllm", ""),
        ("python -c import_vllm", ""),
        ("python /srv/notebook.py", ""),
        ("grep sglang", ""),
    ],
)
def test_an_engine_is_told_by_the_program_that_runs(command: str, engine: str) -> None:
    assert engine_of(tuple(command.split(" "))) == engine


def test_nothing_runs_nothing() -> None:
    assert program_of(()) == ""
    assert engine_of(()) == ""


def test_a_title_is_one_word_without_its_padding() -> None:
    assert parse_argv("VLLM::EngineCore\0\0\0\0") == ("VLLM::EngineCore",)
    assert parse_argv("sglang::scheduler_TP0            \0") == ("sglang::scheduler_TP0",)
    assert parse_argv("python\0-c\0print( )\0") == ("python", "-c", "print( )")
    assert parse_argv("") == ()


def test_a_name_may_hold_spaces_and_brackets() -> None:
    line = "4711 (VLLM :) x) Z 99 1 1 0 -1 4 0 0 0 0 1 1 0 0 20 0 1 0 " + str(600 * os.sysconf("SC_CLK_TCK")) + " 0 0"
    assert parse_stat(line) == ("VLLM :) x", "Z", 99, 600.0)


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        (f"0::/system.slice/docker-{ID}.scope\n", ID[:12]),
        (f"0::/kubepods.slice/kubepods-pod3f_1c.slice/cri-containerd-{ID}.scope\n", ID[:12]),
        (f"12:memory:/docker/{ID}\n11:cpu:/docker/{ID}\n", ID[:12]),
        ("0::/user.slice/user-1000.slice/session-1.scope\n", ""),
        ("", ""),
    ],
)
def test_the_container_is_in_the_control_group(cgroup: str, container: str) -> None:
    assert parse_container(cgroup) == container


def test_a_worker_belongs_to_the_engine_that_began_it() -> None:
    found = {
        1: Process(1, 0, "S", "init", ("/sbin/init",)),
        2: Process(2, 1, "S", "vllm", ("vllm", "serve", "m")),
        3: Process(3, 2, "S", "python", ("python", "-c", "from multiprocessing.spawn import spawn_main")),
        4: Process(4, 1, "S", "python", ("python", "train.py")),
        5: Process(5, 5, "Z", "VLLM::EngineCor", ("VLLM::EngineCore",)),
    }
    assert [engine_of_tree(pid, found) for pid in (1, 2, 3, 4, 99)] == ["", "vllm", "vllm", "", ""]
    assert engines(found) == {2: "vllm"}


def test_this_process_is_read() -> None:
    me = read_processes()[os.getpid()]
    assert me.parent == os.getppid()
    assert me.state == "R"
    assert me.argv[0].endswith(os.path.basename(sys.argv[0])) or "python" in me.argv[0]
    assert me.started is not None


def test_a_command_line_is_told_without_its_secrets() -> None:
    secret = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyzABCD"
    process = Process(1, argv=("vllm", "serve", "m", "--api-key", secret, "--port", "8000"))
    assert secret not in process.command
    assert process.command.startswith("vllm serve m --api-key ")
    assert process.command.endswith("--port 8000")
    assert Process(1, name="kworker").command == "kworker"


def test_variables_are_chosen_by_name_and_masked() -> None:
    secret = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ012345678"
    environ = f"HF_TOKEN={secret}\0HF_HOME=/data/hf\0HOME=/root\0NCCL_DEBUG=INFO=1\0"
    chosen = select_variables(environ, ("HF_", "NCCL_"))
    assert list(chosen) == ["HF_HOME", "HF_TOKEN", "NCCL_DEBUG"]
    assert chosen["HF_HOME"] == "/data/hf"
    assert chosen["NCCL_DEBUG"] == "INFO=1"
    assert secret not in chosen["HF_TOKEN"]


def test_a_process_that_ends_meanwhile_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "77").mkdir()
    (tmp_path / "78").mkdir()
    (tmp_path / "78" / "stat").write_text("garbage")
    assert read_processes(tmp_path) == {}
    assert read_processes(tmp_path / "nothing") == {}


def test_a_child_that_ended_unreaped_is_seen_as_such() -> None:
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert read_processes()[child.pid].state == "Z"
