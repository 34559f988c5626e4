"""Why no GPU can be asked, in sentences that say what to do."""

from __future__ import annotations

from typing import NamedTuple

from probes.types import ProbeResult


class Why(NamedTuple):
    """One reason in both languages: what could not be read, and what to do."""

    what: str
    what_zh: str
    advice: str
    advice_zh: str


REASONS = {
    "library-missing": Why(
        "No GPU was read: NVML (libnvidia-ml.so.1) is not on this machine.",
        "没有读到 GPU：本机没有 NVML 库（libnvidia-ml.so.1）。",
        "Run on the GPU host; in a container, start it with `--gpus all` (NVIDIA container toolkit).",
        "请在 GPU 主机上运行；若在容器中，请用 `--gpus all` 启动（需要 NVIDIA container toolkit）。",
    ),
    "driver-not-loaded": Why(
        "No GPU was read: the NVIDIA kernel driver is not loaded.",
        "没有读到 GPU：NVIDIA 内核驱动没有加载。",
        "Check `lsmod | grep nvidia` and `dkms status` on the host, then load it with `sudo modprobe nvidia`.",
        "在主机上检查 `lsmod | grep nvidia` 和 `dkms status`，再用 `sudo modprobe nvidia` 加载。",
    ),
    "version-mismatch": Why(
        "No GPU was read: the NVIDIA library and the loaded kernel driver are of different versions.",
        "没有读到 GPU：NVIDIA 用户态库与已加载的内核驱动版本不一致。",
        "Reboot (or unload and reload the nvidia modules): the driver was upgraded while the old one was in use; "
        "in a container, restart the container afterwards.",
        "重启主机（或卸载并重新加载 nvidia 模块）：驱动升级时旧模块仍在使用；容器随后也要重启。",
    ),
    "no-permission": Why(
        "No GPU was read: this user or container may not open the NVIDIA devices.",
        "没有读到 GPU：当前用户或容器无权打开 NVIDIA 设备。",
        "Check `ls -l /dev/nvidia*`; in a container, `Failed to initialize NVML` after a while means that its device "
        "rules were lost: restart the container.",
        "检查 `ls -l /dev/nvidia*`；容器运行一段时间后才出现则说明设备规则丢失，重启容器即可。",
    ),
    "gpu-lost": Why(
        "A GPU no longer answers: NVML says that it is lost.",
        "有 GPU 不再响应：NVML 报告该 GPU 已丢失。",
        "Look for Xid 79 in the kernel log, then reboot; if it returns, have the card and its power checked.",
        "在内核日志中查找 Xid 79，然后重启；若再次出现，请检查显卡及其供电。",
    ),
    "no-gpu": Why(
        "The NVIDIA driver is loaded but finds no GPU.",
        "NVIDIA 驱动已加载，但没有找到 GPU。",
        "Check `lspci | grep -i nvidia` on the host; in a container, start it with `--gpus all`.",
        "在主机上检查 `lspci | grep -i nvidia`；若在容器中，请用 `--gpus all` 启动。",
    ),
    "other": Why(
        "No GPU was read: NVML does not answer.",
        "没有读到 GPU：NVML 没有正常响应。",
        "Run `nvidia-smi` on the host and look at its first line and at the kernel log.",
        "在主机上运行 `nvidia-smi`，查看其第一行输出以及内核日志。",
    ),
}


class GpuUnavailable(Exception):
    """No GPU can be asked. `reason` is a key of REASONS, `detail` NVML's or nvidia-smi's own words."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(REASONS[reason].what)
        self.reason, self.detail = reason, detail


def unavailable(probe: str, error: GpuUnavailable) -> ProbeResult:
    """Give the result of a GPU probe that could not look."""
    why = REASONS[error.reason]
    return ProbeResult(
        probe,
        "critical" if error.reason == "gpu-lost" else "unknown",
        why.what,
        why.what_zh,
        data={"reason": error.reason, "detail": error.detail},
        source="NVML",
        advice=(why.advice,),
        advice_zh=(why.advice_zh,),
    )
