"""The facts that probes read, by name: data/facts.yaml says which probe reads which."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from kb.expressions import names_in

FACTS = Path(__file__).parent / "data/facts.yaml"
OPTIONS = ("flag_", "env_")
"""How the names begin of what the user's own command sets: `flag_max_model_len`, `env_VLLM_USE_V1`."""
FROM_LOG = frozenset({"stopped_at"})
"""What is read from a log: `stopped_at`, the stage of a start behind which it says no more, without an error."""
LINE = re.compile(r"^(?P<name>\w+): \{.*?\bprobe: (?P<probe>\w+)", re.M)


@cache
def fact_probes() -> dict[str, str]:
    """Fact → probe. Read by pattern: the file is one fact a line, and a YAML parser costs 34 ms."""
    return {m["name"]: m["probe"] for m in LINE.finditer(FACTS.read_text("utf-8"))}


def probe_of(name: str) -> str | None:
    """The probe that reads a fact; None for a name that is no fact."""
    return fact_probes().get(name)


def probes_of(expression: str) -> list[str]:
    """The probes that read the facts of an expression."""
    return list(dict.fromkeys(p for n in sorted(names_in(expression)) if (p := probe_of(n))))
