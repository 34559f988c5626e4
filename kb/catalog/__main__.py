"""`python -m kb.catalog add vllm==0.34.0`: read a release and add it to kb/data/flags."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from kb.catalog.history import DATA, ENGINES, History, parse
from kb.catalog.merge import merge, unfold, written
from kb.catalog.snapshot import snapshot_of

WHEEL = re.compile(r"^(?P<engine>[a-z]+)-(?P<release>[^-]+)")


def text_of(history: History) -> str:
    """A history as its file's text."""
    flags = {name: unfold(history, entry) for name in history.flags if (entry := history.entry(name))}
    variables = {name: unfold(history, entry) for name in history.variables if (entry := history.entry(name))}
    return written(history.engine, history.releases, flags, variables)


def named(requirement: str | None, path: Path | None) -> tuple[str, str]:
    """Engine and release from `vllm==0.33.0`, or from the wheel's file name; ValueError where neither says."""
    found = re.fullmatch(r"(?P<engine>[a-z]+)==(?P<release>\S+)", requirement or "") or (
        WHEEL.match(path.name) if path else None
    )
    if not found or found["engine"] not in ENGINES:
        raise ValueError(f"say which release: `python -m kb.catalog add ENGINE==RELEASE` with {' or '.join(ENGINES)}")
    return found["engine"], found["release"].partition("+")[0]


def add(requirement: str | None, path: Path | None, folder: Path = DATA) -> str:
    """Add one release to the data in a folder; returns a line that says what changed."""
    engine, release = named(requirement, path)
    before = parse((folder / f"{engine}.json").read_text("utf-8"))
    snapshot = snapshot_of(engine, release, path)
    after = merge(before, snapshot)
    (folder / f"{engine}.json").write_text(text_of(after), "utf-8")
    new = len(after.flags.keys() - before.flags.keys()), len(after.variables.keys() - before.variables.keys())
    names, variables = len(snapshot.names), len(snapshot.variables)
    return f"{engine} {release}: {names} flags ({new[0]} never seen before), {variables} variables ({new[1]} never seen before)"


def main(arguments: list[str] | None = None) -> int:
    """The command line; 64 for a request that cannot be understood, 1 when the release could not be read."""
    parser = argparse.ArgumentParser(prog="python -m kb.catalog", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("add", help="add a release, or read a recorded one anew")
    one.add_argument("requirement", nargs="?", help="vllm==0.34.0 or sglang==0.5.24; not needed with --wheel")
    one.add_argument("--wheel", type=Path, help="a wheel, sdist or unpacked folder, instead of asking pip")
    one.add_argument("--data", type=Path, default=DATA, help="the folder of the catalogue (default: the shipped one)")
    given = parser.parse_args(arguments)
    try:
        sys.stdout.write(add(given.requirement, given.wheel, given.data) + "\n")
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 64
    except FileNotFoundError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
