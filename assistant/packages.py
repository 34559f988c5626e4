"""The versions of packages that logs list and probes find."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

LISTED = re.compile(
    r"(?m)^\s*(?:\[(?:pip3?|conda)\]\s+)?(?P<name>[A-Za-z][\w.-]*?)"
    r"(?:==|\s*:\s*|\s+(?:version:?\s+)?)(?P<version>\d+\.\d+[\w.+!]*)(?=\s|$)"
)
"""A package in `pip list`, in what collect_env.py prints, in a requirements file."""


def listed_packages(texts: Iterable[str]) -> dict[str, str]:
    """The versions of packages that logs list, by name as package indexes compare it; the first one counts."""
    lines = [(line["name"], line["version"]) for text in texts for line in LISTED.finditer(text)]
    if not lines:
        return {}
    from packaging.utils import canonicalize_name

    from kb.requirements import packages

    found: dict[str, str] = {}
    for name, version in lines:
        found.setdefault(canonicalize_name(name), version)
    return {name: version for name, version in found.items() if name in packages()}


def installed_packages(listed: Mapping[str, str], facts: Mapping[str, Any]) -> dict[str, str]:
    """The versions of packages that logs list, and those that the probes found where no log says."""
    suffix = "_version"
    read = {
        name.removesuffix(suffix).replace("_", "-"): str(value)
        for name, value in facts.items()
        if name.endswith(suffix) and isinstance(value, str)
    }
    return {**read, **listed}
