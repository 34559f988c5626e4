"""The guard of the tests themselves: it refuses what leaves the machine, and notices it of other processes."""

from __future__ import annotations

import socket
import subprocess

import pytest

from tests.offline import Guard, is_here, parse_counters


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::1%lo", True),
        ("localhost", True),
        (b"localhost", True),
        (None, True),
        ("0.0.0.0", True),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("telemetry.example", False),
    ],
)
def test_which_hosts_are_here(host: object, expected: bool) -> None:
    assert is_here(host) is expected


def test_what_leaves_the_machine_is_refused_and_noticed(guard: Guard) -> None:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        for attempt in (
            lambda: tcp.connect(("192.0.2.1", 80)),
            lambda: udp.sendto(b"x", ("192.0.2.1", 53)),
            lambda: socket.getaddrinfo("telemetry.example", 443),
        ):
            with pytest.raises(OSError, match="no way out"):
                attempt()
    assert guard.take() == [
        "socket.connect 192.0.2.1",
        "socket.sendto 192.0.2.1",
        "socket.getaddrinfo telemetry.example",
    ]


@pytest.mark.parametrize("device", ["tcp/192.0.2.1/80", "udp/192.0.2.1/53", "tcp/2001:db8::1/80"])
def test_what_another_process_tries_is_noticed(guard: Guard, device: str) -> None:
    if not guard.is_closed:
        pytest.skip("the kernel allows no network namespace here")
    subprocess.run(["bash", "-c", f"echo x > /dev/{device}"], stderr=subprocess.DEVNULL, timeout=20)
    assert guard.take() == ["packets without a route"]


def test_this_machine_is_reached(guard: Guard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        assert guard.take() == []


def test_the_counters_of_both_protocols_are_read() -> None:
    four = "Ip: Forwarding OutNoRoutes FragOKs\nIp: 1 7 0\nIcmp: InMsgs\nIcmp: 3\n"
    assert parse_counters(four) == [7] and parse_counters("Ip6InReceives 4\nIp6OutNoRoutes   \t9\n") == [9]
