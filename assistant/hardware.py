"""The GPU that a person or a log speaks of, and what follows from its name."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import kb

TABLE = Path(kb.__file__).parent / "data/gpus.tsv"


@cache
def _gpus() -> list[tuple[re.Pattern[str], float]]:
    rows = [line.split("\t") for line in TABLE.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return [(re.compile(pattern, re.I), float(capability)) for pattern, capability in rows]


def capability_said(texts: list[str]) -> float | None:
    """The compute capability of the one kind of GPU that the first telling text names; None for none or several kinds."""
    for text in texts:
        found = {capability for pattern, capability in _gpus() if pattern.search(text)}
        if found:
            return found.pop() if len(found) == 1 else None
    return None
