"""What may be read, how much of it, and that every refusal is one sentence."""

import os
import socket
from pathlib import Path

import pytest

from probes.reading.files import Unreadable, read_cgroup_file, read_kernel_file, read_text, resolve


def refusal(path: Path | str, root: Path | str) -> str:
    with pytest.raises(Unreadable) as refused:
        read_text(path, (root,))
    sentence = str(refused.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_the_start_or_the_end_of_a_file_is_read(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text("first\n" + "x" * 5_000 + "\nlast\n")
    assert read_text(log, (tmp_path,), 5) == "first"
    assert read_text(log, (tmp_path,), 5, end=True) == "last\n"
    assert len(read_text(log, (tmp_path,))) == 5_012


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"a\xff\x00b")
    assert read_text(tmp_path / "log", (tmp_path,)) == "a\ufffd\x00b"


def test_a_link_inside_is_followed_and_a_link_outside_is_refused(tmp_path: Path) -> None:
    allowed, secret = tmp_path / "logs", tmp_path / "secret"
    allowed.mkdir()
    secret.write_text("password")
    (allowed / "real").write_text("text")
    (allowed / "inside").symlink_to("real")
    (allowed / "outside").symlink_to(secret)
    assert read_text(allowed / "inside", (allowed,)) == "text"
    assert "outside the folders that may be read" in refusal(allowed / "outside", allowed)
    assert "outside the folders" in refusal(allowed / ".." / "secret", allowed)


def test_a_root_is_no_prefix_of_another_folder(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "logbook").write_text("text")
    assert "outside the folders" in refusal(tmp_path / "logbook", tmp_path / "log")


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert "is a FIFO, not a regular file" in refusal(tmp_path / "fifo", tmp_path)
        assert "is a socket, not a regular file" in refusal(tmp_path / "socket", tmp_path)
    assert "is a folder, not a regular file" in refusal(tmp_path, tmp_path)
    assert "is a device, not a regular file" in refusal("/dev/zero", "/")
    assert "does not exist" in refusal(tmp_path / "nothing", tmp_path)


@pytest.mark.parametrize(
    "path", ["/proc/self/environ", "/proc/1/cmdline", "/sys/kernel/mm/transparent_hugepage/enabled"]
)
def test_kernel_files_are_refused_under_any_root(path: str) -> None:
    if os.path.exists(path):
        assert "is a kernel file and is not read" in refusal(path, "/")


def test_a_link_to_a_kernel_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/proc/self/environ")
    assert "is a kernel file" in refusal(tmp_path / "log", "/")


def test_a_path_is_resolved_without_reading(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert resolve(tmp_path / "link", (tmp_path,)) == (tmp_path / "file").resolve()


def test_the_kernel_files_on_the_list_are_read() -> None:
    assert "MemTotal:" in read_kernel_file("meminfo")
    assert read_kernel_file(f"{os.getpid()}/cmdline")


@pytest.mark.parametrize(
    "name", ["kcore", "self/environ/../../1/environ", "1/mem", "../etc/passwd", "sys/kernel/core_pattern", "1/fd/0"]
)
def test_the_kernel_files_off_the_list_are_refused(name: str) -> None:
    with pytest.raises(Unreadable, match="is not among the kernel files"):
        read_kernel_file(name)


@pytest.mark.parametrize(
    ("group", "name"), [("/", "cgroup.procs"), ("../../etc", "memory.max"), ("/", "../memory.max")]
)
def test_only_limits_and_counters_of_control_groups_are_read(group: str, name: str) -> None:
    with pytest.raises(Unreadable, match="is not among the control group files"):
        read_cgroup_file(group, name)
