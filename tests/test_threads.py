"""Threads over restarts, in two processes on one file, and in a PostgreSQL started here."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.conversation import Turn
from assistant.signals import Signals
from assistant.threads import ThreadError, Threads, check_thread, title_of
from assistant.types import Answer, Diagnosis, Fix

ANSWER = Answer("diagnosed", "en", (Diagnosis("oom", "Out of memory", 0.9, fixes=(Fix("Lower it", "…", place=0),)),))
TURN = Turn("it died", ANSWER, Signals(engine="vllm", release="0.11.0", values={"tokens": 20304}), tried=(("oom", 0),))
WRITER = """
import sys
from assistant.conversation import Turn
from assistant.threads import Threads
from tests.test_threads import TURN
threads = Threads(sys.argv[1])
for i in range(40):
    threads.finish("shared", threads.begin("shared", f"{sys.argv[2]} {i}"), TURN)
"""


def postgres_folder() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of its own, by a Unix socket and a loopback port; the address of its database."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    folder = postgres_folder()
    if folder is None:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    data = tmp_path_factory.mktemp("postgres")
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    if as_user:
        shutil.chown(data, "postgres")
        for parent in data.parents[:2]:
            parent.chmod(0o755)
    run = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run([*as_user, str(folder / "initdb"), "-D", str(data / "d"), "-A", "trust", "-U", "crashcart"], **run)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"-k {data} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [*as_user, str(folder / "pg_ctl"), "-D", str(data / "d"), "-w"]
    subprocess.run([*control, "-o", options, "-l", str(data / "log"), "start"], **run)
    yield f"postgresql+psycopg://crashcart@127.0.0.1:{port}/postgres"
    subprocess.run([*control, "-m", "immediate", "stop"], **(run | {"check": False}))


@pytest.fixture(params=["sqlite", "postgresql"])
def threads(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Threads]:
    url = f"sqlite:///{tmp_path / 'threads.sqlite3'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres")
    opened = Threads(url)
    for thread in opened.list():
        opened.delete(thread.id)
    yield opened
    opened.close()


def test_a_turn_comes_back_after_a_restart(threads: Threads) -> None:
    threads.finish("t", threads.begin("t", "it died"), TURN)
    threads.close()
    again = Threads(threads.url)
    assert again.turns("t") == (TURN,)
    again.close()


def test_a_question_is_kept_before_it_is_answered(threads: Threads) -> None:
    threads.begin("t", "it died")
    (asked,) = threads.read("t")
    assert (asked.text, asked.turn) == ("it died", None)


def test_secrets_are_masked_before_they_are_written(threads: Threads) -> None:
    secret = "hf_" + "abcdEFGHijklMNOPqrstUVWXyz01234567"
    place = threads.begin("t", f"my token is {secret}")
    threads.finish("t", place, Turn(f"--hf-token {secret}", ANSWER, Signals(values={"flag_hf_token": secret})))
    assert secret not in repr(threads.read("t"))


def test_threads_are_listed_newest_first_and_forgotten(threads: Threads) -> None:
    for name in ("old", "new"):
        threads.begin(name, f"question of {name}")
        time.sleep(0.01)
    threads.begin("new", "more")
    assert [(t.id, t.title, t.turns) for t in threads.list()] == [
        ("new", "question of new", 2),
        ("old", "question of old", 1),
    ]
    assert threads.delete("old") and not threads.delete("old")
    assert threads.prune(days=1) == 0
    assert threads.prune(days=0) == 2
    assert threads.list() == ()


def test_feedback_is_kept(threads: Threads) -> None:
    threads.rate("t", threads.begin("t", "q"), helped=False)
    assert threads.read("t")[0].helped is False


def test_two_processes_write_to_one_thread(threads: Threads) -> None:
    command = [sys.executable, "-c", WRITER, threads.url]
    writers = [subprocess.Popen([*command, name], cwd=Path(__file__).parent.parent) for name in ("a", "b")]
    assert [w.wait(120) for w in writers] == [0, 0]
    asked = threads.read("shared")
    assert [a.place for a in asked] == list(range(1, 81))
    assert sorted(a.text for a in asked) == sorted(f"{n} {i}" for n in "ab" for i in range(40))
    assert all(a.turn == TURN for a in asked)


def test_a_database_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ThreadError, match="cannot open the threads at sqlite"):
        Threads(f"sqlite:///{tmp_path / 'none' / 'x.sqlite3'}").list()
    with pytest.raises(ThreadError, match="cannot open the threads"):
        Threads("nonsense").list()


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 129])
def test_a_thread_has_a_plain_name(name: str) -> None:
    with pytest.raises(ThreadError):
        check_thread(name)


def test_a_title_is_one_short_line() -> None:
    assert title_of("a\n b") == "a b"
    assert len(title_of("x" * 200)) == 80
