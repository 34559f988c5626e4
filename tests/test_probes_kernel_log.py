"""Lines of the kernel log, and what their numbers are said to mean."""

from pathlib import Path

import pytest

from kb.expressions import evaluate
from probes.kernel_log import entry_of, judge, kernel_log, load_catalogue, read
from probes.reading.kernel_events import on_gpus, parse_events, parse_line, short_device, time_of
from probes.types import Target

JOURNAL = "2026-03-01T10:00:01+0000 node7 kernel: "


@pytest.mark.parametrize(
    ("line", "kind", "code", "device"),
    [
        (
            "NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
            "xid",
            79,
            "0000:05:00",
        ),
        ("[1234.5] NVRM: Xid (0000:03:00): 14, Channel 00000001", "xid", 14, "0000:03:00"),
        (
            "NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x004505c6 0x00000000)",
            "xid",
            149,
            "0018:01:00",
        ),
        (
            JOURNAL
            + "NVRM: Xid (PCI:0000:c1:00): 31, pid=88123, name=VLLM::EngineCor, Ch 00000008, intr 00000000. MMU Fault",
            "xid",
            31,
            "0000:c1:00",
        ),
        ("NVRM: GPU 0000:18:00.0: GPU has fallen off the bus.", "xid", 79, "0000:18:00"),
        ("NVRM: GPU at PCI:0000:18:00: GPU has fallen off the bus", "xid", 79, "0000:18:00"),
        (
            "nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM Fault Up",
            "sxid",
            20034,
            "0000:06:00",
        ),
        ("Out of memory: Killed process 4711 (python3) total-vm:1kB, anon-rss:2kB", "killed", None, ""),
        ("Memory cgroup out of memory: Killed process 9 (VLLM::EngineCor) total-vm:1kB", "killed", None, ""),
        ("python3[88]: segfault at 8 ip 00007f in libnccl.so.2[7f+1000]", "nccl-crash", None, ""),
        ("NVRM: API mismatch: the client has the version 550.54.15, but", "driver-mismatch", None, ""),
        (
            "pcieport 0000:00:01.0: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Transaction Layer",
            "pcie",
            None,
            "0000:00:01",
        ),
    ],
)
def test_lines_that_are_events(line: str, kind: str, code: int | None, device: str) -> None:
    event = parse_line(line)
    assert event
    assert (event.kind, event.code, event.device) == (kind, code, device)


@pytest.mark.parametrize(
    "line",
    [
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.54.15",
        "nvidia 0000:18:00.0: enabling device (0000 -> 0003)",
        "pcieport 0000:00:01.0: PCIe Bus Error: severity=Corrected, type=Physical Layer",
        "oom_reaper: reaped process 4711 (python3), now anon-rss:0kB",
        "",
    ],
)
def test_lines_that_are_none(line: str) -> None:
    assert parse_line(line) is None


@pytest.mark.parametrize(
    ("line", "time"),
    [
        (JOURNAL, "2026-03-01T10:00:01+0000"),
        ("2026-03-01T10:00:01,123456+00:00 NVRM: x", "2026-03-01T10:00:01,123456+00:00"),
        ("Mar  1 10:00:01 node7 kernel: NVRM", "Mar  1 10:00:01"),
        ("[Sun Mar  1 10:00:01 2026] NVRM", "[Sun Mar  1 10:00:01 2026]"),
        ("[   12.345678] NVRM", "[   12.345678]"),
        ("NVRM", ""),
    ],
)
def test_times_are_kept_as_they_are_printed(line: str, time: str) -> None:
    assert time_of(line) == time


def test_events_of_one_kind_and_device_are_counted() -> None:
    lines = [f"2026-03-01T10:0{minute}:00 NVRM: Xid (PCI:0000:05:00): 31, pid=1" for minute in range(5)]
    lines += ["2026-03-01T10:09:00 NVRM: Xid (PCI:0000:06:00): 31, pid=1"]
    first, second = parse_events(lines)
    assert (first.count, first.first, first.last) == (5, "2026-03-01T10:00:00", "2026-03-01T10:04:00")
    assert (second.device, second.count) == ("0000:06:00", 1)


def test_one_fall_off_the_bus_is_one_event_in_however_many_lines() -> None:
    events = parse_events(
        [
            JOURNAL + "NVRM: The NVIDIA GPU 0000:18:00.0",
            JOURNAL + "NVRM: (PCI ID: 10de:2330) installed in this system has",
            JOURNAL + "NVRM: fallen off the bus and is not responding to commands.",
            JOURNAL + "NVRM: GPU 0000:18:00.0: GPU has fallen off the bus.",
            JOURNAL + "NVRM: Xid (PCI:0000:18:00): 79, GPU has fallen off the bus.",
        ]
    )
    assert [(event.code, event.device, event.count) for event in events] == [(79, "0000:18:00", 1)]


def test_an_event_names_its_program_and_what_a_killed_one_held() -> None:
    first, second, third = parse_events(
        [
            "NVRM: Xid (PCI:0000:c1:00): 31, pid=88123, name=VLLM::EngineCor, Ch 00000008, intr 00000000. MMU Fault",
            "NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
            "Out of memory: Killed process 4711 (python3) total-vm:9kB, anon-rss:62914560kB, file-rss:0kB",
        ]
    )
    assert (first.pid, first.process, first.resident_bytes) == (88123, "VLLM::EngineCor", None)
    assert (second.pid, second.process) == (None, "")
    assert (third.pid, third.process, third.resident_bytes) == (4711, "python3", 60 << 30)


def test_events_are_mapped_to_the_gpus_that_answer() -> None:
    lines = ["NVRM: Xid (PCI:0000:C1:00): 31, pid=1", "NVRM: Xid (PCI:0000:05:00): 79, GPU has fallen off the bus."]
    indices = {short_device("00000000:C1:00.0"): 6, short_device("00000000:18:00.0"): 0}
    assert indices == {"0000:c1:00": 6, "0000:18:00": 0}
    assert [event.gpu for event in on_gpus(parse_events(lines), indices)] == [6, None]
    assert short_device("00000001:C1:00.0") == "0001:c1:00"
    assert short_device("0018:01:00") == "0018:01:00"


@pytest.mark.parametrize(
    ("rest", "gravity"),
    [
        ("149, NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x004505c6 0x00000000)", "Fatal"),
        ("145, RLW_REMAP Nonfatal XC1 i0 Link 03 (0x00000004 0x00000000)", "Nonfatal"),
        ("74, NVLink: fatal error detected on link 2", ""),
    ],
)
def test_an_nvlink_5_line_says_itself_how_grave_it_is(rest: str, gravity: str) -> None:
    event = parse_line(f"NVRM: Xid (PCI:0018:01:00): {rest}")
    assert event
    assert event.detail == gravity


@pytest.mark.parametrize("code", [13, 31, 43, 45])
def test_an_error_of_a_program_is_never_called_a_fault_of_the_hardware(code: int) -> None:
    result = judge(parse_events([f"NVRM: Xid (PCI:0000:05:00): {code}, pid=1"]), "dmesg")
    assert result.status == "warning"
    assert "not a fault of the hardware" in result.summary
    assert "不是硬件故障" in result.summary_zh
    assert result.data["events"][0]["layer"] == "application"


@pytest.mark.parametrize("code", [48, 62, 64, 74, 79, 95, 109, 119, 140, 143])
def test_what_needs_a_reset_or_a_reboot_is_critical(code: int) -> None:
    result = judge(parse_events([f"NVRM: Xid (PCI:0000:05:00): {code}, pid=1"]), "dmesg")
    assert result.status == "critical"
    assert result.advice


def test_the_worst_speaks_first() -> None:
    result = judge(
        parse_events(
            ["NVRM: Xid (PCI:0000:05:00): 31, pid=1", "NVRM: Xid (PCI:0000:05:00): 79, GPU has fallen off the bus."]
        ),
        "dmesg",
    )
    assert result.status == "critical"
    assert result.summary.startswith("Xid 79 of GPU 0000:05:00 (once)")
    assert result.summary.endswith("(and 1 more).")


def test_sources_that_differ_are_told() -> None:
    result = judge(parse_events(["NVRM: Xid (PCI:0000:05:00): 94, pid=1"]), "dmesg")
    assert "Sources differ" in result.advice[0]


def test_a_number_that_is_not_described_is_neither_hidden_nor_judged_grave() -> None:
    result = judge(parse_events(["NVRM: Xid (PCI:0000:05:00): 999, x"]), "dmesg")
    assert result.status == "warning"
    assert "Xid 999" in result.summary


@pytest.mark.parametrize(
    ("code", "gravity", "status"),
    [(20034, "Fatal", "critical"), (24001, "Non-fatal", "warning"), (77777, "Fatal", "critical")],
)
def test_errors_of_a_switch(code: int, gravity: str, status: str) -> None:
    result = judge(parse_events([f"nvidia-nvswitch1: SXid (PCI:0000:06:00.0): {code}, {gravity}, Link 48"]), "dmesg")
    assert result.status == status
    assert "NVSwitch" in result.summary


def test_a_killed_process_and_its_containers_limit_are_named() -> None:
    result = judge(
        parse_events(["Memory cgroup out of memory: Killed process 9 (VLLM::EngineCor) total-vm:1kB"]), "dmesg"
    )
    assert result.summary == "The kernel killed VLLM::EngineCor (container limit) for memory (once)."


def test_a_calm_log_is_ok_and_says_where_it_was_read() -> None:
    assert judge((), "journalctl").summary == "No GPU error stands in the kernel log (journalctl)."


def test_a_file_that_is_given_comes_first(tmp_path: Path) -> None:
    log = tmp_path / "dmesg.txt"
    log.write_text("NVRM: Xid (PCI:0000:05:00): 79, GPU has fallen off the bus.\n")
    (tmp_path / "server.log").write_text("NVRM: Xid (PCI:0000:05:00): 31\n")
    result = kernel_log(Target(log_paths=(str(tmp_path / "server.log"), str(log))))
    assert result.source == str(log)
    assert [event["code"] for event in result.data["events"]] == [79]
    assert read(Target(log_paths=(str(log),)))[1] == str(log)


def test_every_entry_of_the_catalogue_is_whole() -> None:
    catalogue = load_catalogue()
    for code, entry in [*catalogue["xid"].items(), (0, catalogue["unlisted"])]:
        assert isinstance(code, int)
        assert entry["layer"] in ("application", "hardware", "link", "driver", "information")
        assert entry["status"] in ("ok", "warning", "critical")
        assert entry["action"] in catalogue["actions"]
        assert entry["en"]
        assert entry["zh"]
        assert set(entry) <= {"layer", "status", "action", "en", "zh", "disputed", "disputed_zh"}
        assert ("disputed" in entry) == ("disputed_zh" in entry)
    assert not set(catalogue["sxid"]["fatal"]) & set(catalogue["sxid"]["harmless"])
    assert entry_of(31)["layer"] == "application"


def test_facts_of_a_kernel_log() -> None:
    lines = [
        JOURNAL + "NVRM: Xid (PCI:0000:c1:00): 31, pid=1, MMU Fault",
        JOURNAL + "NVRM: Xid (PCI:0000:c1:00): 31, pid=2, MMU Fault",
        JOURNAL + "NVRM: Xid (PCI:0000:05:00): 79, GPU has fallen off the bus.",
        JOURNAL + "Out of memory: Killed process 4711 (python3) total-vm:1kB, anon-rss:2kB",
        JOURNAL + "Memory cgroup out of memory: Killed process 9 (VLLM::EngineCor) total-vm:1kB",
    ]
    facts = judge(parse_events(lines), "journalctl").facts
    assert facts == {
        "xid_codes": [31, 79],
        "xid_count": 3,
        "oom_kills_logged": 2,
        "oom_victim": "VLLM::EngineCor",
        "pcie_errors_logged": 0,
        "nccl_crashes_logged": 0,
    }
    assert evaluate("79 in xid_codes", facts) is True
    assert evaluate("7 in xid_codes", facts) is False
    assert evaluate("79 in xid_codes", {}) is None
    assert judge((), "journalctl").facts["xid_codes"] == []
