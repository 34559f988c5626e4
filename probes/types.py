"""What a probe is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warning", "critical", "unknown"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where probes may look. Set by the operator or discovered on the machine; never by a model or by text in a log."""

    urls: tuple[str, ...] = ()
    log_paths: tuple[str, ...] = ()
    log_roots: tuple[str, ...] = ("/var/log",)
    model_directories: tuple[str, ...] = ()
    home: str = ""
    """Crashcart's own folder, where the compiled knowledge base is kept; empty: it is compiled anew."""
    environments: tuple[str, ...] = ()
    """site-packages folders whose installed packages count; empty: those of the Python on PATH and of running engines."""
    engine_api_key: str = field(default="", repr=False)
    """Sent as a bearer token to `urls`, and nowhere else."""
    hub_url: str = ""
    """The model hub that may be connected to, to see whether it can be reached; empty: no connection is made."""
    active: bool = False
    """Whether probes may put load on a server: the operator's word, for this one look."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One look at the machine. `unknown` when it could not look; no status claims more than was read.

    `facts` holds values under the names of kb/data/facts.yaml; `data` the readings in full (JSON values, base units).
    """

    probe: str
    status: Status
    summary: str
    summary_zh: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    seconds: float = 0.0
    advice: tuple[str, ...] = ()
    """What to do, worst first, as short imperative sentences; empty when ok."""
    advice_zh: tuple[str, ...] = ()
