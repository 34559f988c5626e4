"""Which GPUs an installed PyTorch holds code for, read from its library's text without loading it.

`torch.cuda.get_arch_list()` gives the macro CUDA_ARCH_FLAGS of torch/csrc/cuda/Module.cpp, which is compiled into
libtorch_python.so as one text: `sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120`.
"""

from __future__ import annotations

import re

from probes.reading.files import Unreadable, read_start

LIBRARY = "torch/lib/libtorch_python.so"
CAP_BYTES = 64 << 20
"""The library is about 30 MB; reading and searching so much took 0.03 s."""
FLAGS = re.compile(rb"(?:sm|compute)_\d{2,3}[af]?(?: (?:sm|compute)_\d{2,3}[af]?)*\0")
ARCHITECTURE = re.compile(r"(?P<kind>sm|compute)_(?P<major>\d+)(?P<minor>\d)(?P<only>[af]?)")


def read_architectures(packages: str) -> tuple[str, ...]:
    """Read the architectures that the PyTorch in a site-packages folder was built for; empty where it does not say."""
    try:
        start, _ = read_start(f"{packages}/{LIBRARY}", (packages,), CAP_BYTES)
    except Unreadable:
        return ()
    return parse_architectures(start)


def parse_architectures(library: bytes) -> tuple[str, ...]:
    """Find the longest list of architectures in a library; empty for none."""
    best, place = b"", library.find(b"sm_")
    while place >= 0:
        match = FLAGS.match(library, place)
        best = max(best, match.group() if match else b"", key=len)
        place = library.find(b"sm_", match.end() if match else place + 1)
    return tuple(best.rstrip(b"\0").decode().split())


def has_code(capability: float, architectures: tuple[str, ...]) -> bool:
    """Tell whether compiled code for this GPU is among them: same major version, and not newer than the GPU."""
    return any(_fits(capability, architecture, "sm") for architecture in architectures)


def has_ptx(capability: float, architectures: tuple[str, ...]) -> bool:
    """Tell whether there is PTX, which the driver can compile for this GPU when it first runs."""
    return any(_fits(capability, architecture, "compute") for architecture in architectures)


def _fits(capability: float, architecture: str, kind: str) -> bool:
    found = ARCHITECTURE.fullmatch(architecture)
    if not found or found["kind"] != kind:
        return False
    major, minor = int(found["major"]), int(found["minor"])
    here = int(capability), round(capability * 10) % 10
    if found["only"] == "a":  # code for one GPU architecture alone
        return here == (major, minor)
    return (here[0] == major and here[1] >= minor) or (kind == "compute" and not found["only"] and here[0] > major)
