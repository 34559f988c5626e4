"""How well the reader of wheels agrees with the recorded flag catalogue, release by release.

    python -m evals.benchmarks.catalog_agreement vllm==0.8.5 sglang==0.5.9

Fetches each wheel with pip (up to 500 MB, deleted at once), reads it anew, and compares names, deprecations, values and
defaults with the record. `--against FILE` compares with another history instead: JSON `{engine: {"versions": […], "flags": {name:
{"present": [[first, last]], …}}, "env": …}}`. `--folder DIR` takes unpacked releases `DIR/ENGINE/RELEASE` where they are there. Exits 1
when a name differs. Without releases it goes through seven of vLLM and six of SGLang, spread over the years.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from kb.catalog.history import load
from kb.catalog.merge import Snapshot
from kb.catalog.snapshot import snapshot_of

RELEASES = (
    *(f"vllm=={v}" for v in ("0.4.0.post1", "0.6.1.post2", "0.8.5", "0.10.2", "0.14.1", "0.20.2", "0.33.0")),
    *(f"sglang=={v}" for v in ("0.1.17", "0.3.6", "0.4.6", "0.5.9", "0.5.16", "0.5.23")),
)


def recorded_names(engine: str, release: str, against: Path | None) -> tuple[set[str], set[str]]:
    """Flags and variables that the record, or another history, has for a release."""
    if against is None:
        history = load(engine)
        at = history.index(release)
        return set(history.names(at)), {name for name in history.variables if history.has(name, at)}
    other: dict[str, Any] = json.loads(against.read_text("utf-8"))[engine]
    versions = other["versions"]
    at = versions.index(release)

    def held(names: dict[str, Any]) -> set[str]:
        spans = {name: raw["present"] for name, raw in names.items()}
        return {n for n, s in spans.items() if any(versions.index(a) <= at <= versions.index(b) for a, b in s)}

    return held(other["flags"]), held(other["env"])


def differing_values(snapshot: Snapshot) -> tuple[int, int, int]:
    """Options whose deprecation, default and choices differ from the record's."""
    history = load(snapshot.engine)
    at = history.index(snapshot.release)
    counts = [0, 0, 0]
    for option in snapshot.options:
        entry = history.entry(option.names[0])
        main = history.entry(entry.alias) if entry and entry.alias else entry
        if entry is None or main is None:
            continue
        choices = None if option.choices is None else frozenset(option.choices)
        different = (
            entry.is_deprecated(at) != option.deprecated,
            main.default(at) != option.default,
            main.accepted(at) != choices,
        )
        counts = [count + each for count, each in zip(counts, different, strict=True)]
    return counts[0], counts[1], counts[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("releases", nargs="*", default=RELEASES, metavar="ENGINE==RELEASE")
    parser.add_argument("--against", type=Path)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    print(
        "release                 flags  missing  extra  variables  missing  extra  deprecated  defaults  choices  seconds"
    )
    wrong = 0
    for requirement in given.releases:
        engine, _, release = requirement.partition("==")
        unpacked = given.folder / engine / release if given.folder else None
        start = time.perf_counter()
        snapshot = snapshot_of(engine, release, unpacked if unpacked and unpacked.is_dir() else None)
        seconds = time.perf_counter() - start
        flags, variables = recorded_names(engine, release, given.against)
        differences = [
            flags - snapshot.names,
            snapshot.names - flags,
            variables - snapshot.variables,
            snapshot.variables - variables,
        ]
        wrong += sum(map(len, differences))
        counts = [len(each) for each in differences]
        values = differing_values(snapshot)
        row = (
            f"{requirement:22}",
            f"{len(flags):6}",
            f"{counts[0]:8}",
            f"{counts[1]:6}",
            f"{len(variables):10}",
            f"{counts[2]:8}",
        )
        print(*row, f"{counts[3]:6}", f"{values[0]:11}", f"{values[1]:9}", f"{values[2]:8}", f"{seconds:8.1f}")
        for what, names in zip(("missing", "extra", "missing", "extra"), differences, strict=True):
            if names:
                print(f"    {what}: {' '.join(sorted(names)[:12])}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
