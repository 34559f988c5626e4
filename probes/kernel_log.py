from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import kb
from probes.judging import Finding, conclude, gib
from probes.reading.files import Unreadable, read_text
from probes.reading.kernel_events import Event, on_gpus, parse_events, short_device
from probes.reading.nvml import read_indices
from probes.reading.programs import ProgramFailed, kernel_journal, kernel_ring
from probes.registry import probe
from probes.types import ProbeResult, Target

CATALOGUE = Path(kb.__file__).parent / "data" / "xid.yaml"
FILES = ("kern.log", "dmesg", "syslog", "messages")
END_BYTES = 4 << 20
DAYS = 7
HARMLESS = ("Nonfatal", "Non-fatal")
"""How an NVLink 5 line (Xid 144 to 150) says that traffic goes on."""


@probe()
def kernel_log(target: Target) -> ProbeResult:
    """Read the kernel log for Xid and SXid errors of GPUs, processes killed for memory, crashes in NCCL and PCIe errors.
    Says what each number means, and whether the program or the hardware is at fault."""
    text, source = read(target)
    if not text:
        return ProbeResult(
            "kernel_log",
            "unknown",
            "The kernel log may not be read by this user or inside this container.",
            "当前用户或容器无法读取内核日志。",
            data={"tried": source},
            source="",
            advice=("Run `sudo dmesg --time-format=iso > dmesg.txt` on the host and give it with `--log dmesg.txt`.",),
            advice_zh=("在主机上运行 `sudo dmesg --time-format=iso > dmesg.txt`，再用 `--log dmesg.txt` 提供。",),
        )
    events = parse_events(text.splitlines())
    indices = {short_device(bus): index for bus, index in read_indices().items()} if events else {}
    return judge(on_gpus(events, indices), source)


def read(target: Target) -> tuple[str, str]:
    """Read kernel lines, oldest first, and say from where: a file given, the journal, the ring buffer, or a system log.

    A source without any line counts as not read: journalctl shows nothing to whom it may not show the kernel's lines.
    """
    refusals = []
    for path in target.log_paths:
        if os.path.basename(path).startswith(FILES):
            try:
                return read_text(path, (os.path.realpath(path),), END_BYTES, end=True), path
            except Unreadable as error:
                refusals.append(str(error))
    for name, ask in (("journalctl", _journal), ("dmesg", _ring)):
        try:
            if text := ask():
                return text, name
        except ProgramFailed as error:
            refusals.append(str(error))
    for path in (os.path.join(root, name) for root in target.log_roots for name in FILES):
        try:
            if text := read_text(path, target.log_roots, END_BYTES, end=True):
                return text, path
        except Unreadable as error:
            refusals.append(str(error))
    return "", " ".join(refusals)


def judge(events: Iterable[Event], source: str) -> ProbeResult:
    """Judge the events by the catalogue."""
    events = tuple(events)
    findings = [finding for event in events if (finding := _judge_event(event))]
    data = {"events": [{**asdict(event), **_meaning(event)} for event in events]}
    facts = facts_of(events)
    calm = (f"No GPU error stands in the kernel log ({source}).", f"内核日志（{source}）中没有 GPU 错误。")
    return conclude("kernel_log", calm, findings, facts, data, source)


def facts_of(events: tuple[Event, ...]) -> dict[str, Any]:
    """Gather the facts; a log in which nothing stands says that nothing happened."""
    xids = [event for event in events if event.kind == "xid"]
    killed = [event for event in events if event.kind == "killed"]
    facts: dict[str, Any] = {
        "xid_codes": sorted({event.code for event in xids if event.code is not None}),
        "xid_count": sum(event.count for event in xids),
        "oom_kills_logged": sum(event.count for event in killed),
        "pcie_errors_logged": sum(event.count for event in events if event.kind == "pcie"),
        "nccl_crashes_logged": sum(event.count for event in events if event.kind == "nccl-crash"),
    }
    return {**facts, "oom_victim": killed[-1].detail.partition(" (")[0]} if killed else facts


@cache
def load_catalogue() -> dict[str, Any]:
    """Load what the numbers mean: kb/data/xid.yaml."""
    import yaml

    loaded: dict[str, Any] = yaml.safe_load(CATALOGUE.read_text("utf-8"))
    return loaded


def entry_of(code: int) -> Mapping[str, str]:
    """Look up an Xid; one that the catalogue does not describe has its entry `unlisted`."""
    catalogue = load_catalogue()
    entry: Mapping[str, str] = catalogue["xid"].get(code, catalogue["unlisted"])
    return entry


def _journal() -> str:
    lines = kernel_journal(days=DAYS).text.splitlines()
    return "\n".join(reversed(lines))  # the newest come first, so that the cap cuts the oldest


def _ring() -> str:
    return kernel_ring().text


def _meaning(event: Event) -> dict[str, Any]:
    return dict(entry_of(event.code)) if event.kind == "xid" and event.code is not None else {}


def _judge_event(event: Event) -> Finding | None:
    judges = {
        "xid": _xid,
        "sxid": _sxid,
        "killed": _killed,
        "nccl-crash": _nccl,
        "driver-mismatch": _mismatch,
        "pcie": _pcie,
    }
    return judges[event.kind](event)


def _when(event: Event) -> tuple[str, str]:
    """Say where, how often and when last."""
    index = "" if event.gpu is None else f"{event.gpu} at "
    device = f" of GPU {index}{event.device}" if event.device else ""
    device_zh = f"，设备 {event.device}" + ("" if event.gpu is None else f"（GPU {event.gpu}）") if event.device else ""
    last, last_zh = (f", last at {event.last}", f"，最近一次 {event.last}") if event.last else ("", "")
    times = "once" if event.count == 1 else f"{event.count} times"
    return (
        f"{device} ({times}{last})",
        f"{device_zh}（{event.count} 次{last_zh}）",
    )


LAYERS = {
    "application": ("the program's own error, not a fault of the hardware", "程序自身的错误，不是硬件故障"),
    "hardware": ("a fault of the hardware", "硬件故障"),
    "link": ("a fault of a link between GPUs", "GPU 互联故障"),
    "driver": ("a fault of driver or firmware", "驱动或固件故障"),
    "information": ("information", "提示信息"),
}


def _xid(event: Event) -> Finding | None:
    entry = entry_of(event.code or 0)
    if entry["status"] == "ok":
        return None
    action = load_catalogue()["actions"][entry["action"]]
    (layer, layer_zh), (when, when_zh) = LAYERS[entry["layer"]], _when(event)
    dispute = f" Sources differ: {entry['disputed']}." if "disputed" in entry else ""
    dispute_zh = f"各来源说法不一：{entry['disputed_zh']}。" if "disputed" in entry else ""
    program = f" The program was {event.process} (pid {event.pid})." if event.process else ""
    program_zh = f"相关程序是 {event.process}（pid {event.pid}）。" if event.process else ""
    is_critical = entry["status"] == "critical" and event.detail not in HARMLESS
    return Finding(
        "critical" if is_critical else "warning",
        f"Xid {event.code}{when}: {entry['en']}; {layer}.{program}",
        f"Xid {event.code}{when_zh}：{entry['zh']}；{layer_zh}。{program_zh}",
        action["en"] + dispute,
        action["zh"] + dispute_zh,
    )


def _sxid(event: Event) -> Finding | None:
    known = load_catalogue()["sxid"]
    is_fatal = event.code in known["fatal"] or (event.detail == "Fatal" and event.code not in known["harmless"])
    when, when_zh = _when(event)
    is_disputed = event.code in known["disputed"]
    dispute = " Sources differ: the Fabric Manager guide calls it not fatal, gpud fatal." if is_disputed else ""
    dispute_zh = "各来源说法不一：Fabric Manager 手册称非致命，gpud 视为致命。" if is_disputed else ""
    if not is_fatal:
        return Finding(
            "warning",
            f"SXid {event.code}{when.replace('GPU', 'NVSwitch')}: an NVSwitch reports an error that is not fatal.",
            f"SXid {event.code}{when_zh}：NVSwitch 报告非致命错误。",
            "Nothing needs to be done now; note when and how often it comes." + dispute,
            "暂时无需处理；留意出现的时间和频率。" + dispute_zh,
        )
    return Finding(
        "critical",
        f"SXid {event.code}{when.replace('GPU', 'NVSwitch')}: an NVSwitch reports a fatal error.",
        f"SXid {event.code}{when_zh}：NVSwitch 报告致命错误。",
        "Reboot the host (or reset all GPUs and switches together) and restart the fabric manager; have it checked if it returns.",
        "重启主机（或整体复位所有 GPU 和交换机）并重启 fabric manager；若再次出现请检修。",
    )


def _killed(event: Event) -> Finding:
    when, when_zh = _when(event)
    size = gib(event.resident_bytes) if event.resident_bytes else 0
    held, held_zh = (f"; it held {size:.1f} GiB", f"；它占用了 {size:.1f} GiB") if size >= 1 else ("", "")
    return Finding(
        "warning",
        f"The kernel killed {event.detail or 'a process'} for memory{when}{held}.",
        f"内核因内存不足杀死了 {event.detail or '进程'}{when_zh}{held_zh}。",
        "Give the host or the container more RAM, or load fewer models at once; the server's exit code is then 137.",
        "给主机或容器更多内存，或减少同时加载的模型；此时服务退出码为 137。",
    )


def _nccl(event: Event) -> Finding:
    when, when_zh = _when(event)
    return Finding(
        "warning",
        f"{event.detail} crashed inside NCCL{when}.",
        f"{event.detail} 在 NCCL 中崩溃{when_zh}。",
        "Start again with `NCCL_DEBUG=INFO` and read its last lines; check that only one NCCL version is installed.",
        "用 `NCCL_DEBUG=INFO` 重新启动并查看最后几行；确认只安装了一个 NCCL 版本。",
    )


def _mismatch(event: Event) -> Finding:
    when, when_zh = _when(event)
    return Finding(
        "critical",
        f"The NVIDIA library and the loaded kernel driver are of different versions{when}.",
        f"NVIDIA 用户态库与已加载的内核驱动版本不一致{when_zh}。",
        "Reboot, or unload and reload the nvidia modules; restart containers afterwards.",
        "重启主机，或卸载并重新加载 nvidia 模块；随后重启容器。",
    )


def _pcie(event: Event) -> Finding:
    when, when_zh = _when(event)
    return Finding(
        "critical" if event.detail == "Fatal" else "warning",
        f"An uncorrected PCIe error{when.replace('GPU', 'device')}.",
        f"PCIe 不可纠正错误{when_zh}。",
        "Check with `lspci -s ADDRESS` which device it is; reseat it and check its slot and riser.",
        "用 `lspci -s 地址` 确认设备；重新插拔并检查插槽和转接卡。",
    )
