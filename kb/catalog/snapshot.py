"""Read one release: where its parser is built, and what that and its environment variables come to."""

from __future__ import annotations

import re
from pathlib import Path

from kb.catalog.history import ENGINES
from kb.catalog.merge import Snapshot
from kb.catalog.parsers import read_options
from kb.catalog.variables import read_variables
from kb.catalog.wheel import Sources, downloaded, read_sources

PAIRED = '"--enable-": "--disable-"'


def parser_entries(sources: Sources, engine: str) -> list[tuple[str, str]]:
    """Module and function of everything that adds options to the serving command of a release."""
    if engine == "sglang":
        return [("sglang.srt.server_args", "ServerArgs.add_cli_args")]
    makers = [p for p in sources.paths if re.match(r"vllm/entrypoints/.*\bcli_args\.py$", p)]
    found = [(_dotted(path), "make_arg_parser") for path in makers if "def make_arg_parser" in sources.files[path]]
    if "add_parser" in sources.files.get("vllm/scripts.py", ""):
        found.append(("vllm.scripts", "main"))
    if "vllm/entrypoints/cli/serve.py" in sources.files:
        found.append(("vllm.entrypoints.cli.serve", "ServeSubcommand.subparser_init"))
    return found


def _dotted(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def read_snapshot(sources: Sources, engine: str, release: str) -> Snapshot:
    """The options and variables of a release. Raises ValueError when no parser was found: a new layout, most likely."""
    paired = any(PAIRED in sources.files[path] for path in sources.paths if path.startswith("vllm/utils"))
    options = read_options(sources, parser_entries(sources, engine), boolean_pairs=paired)
    if not options:
        raise ValueError(f"{engine} {release}: no parser found; has its code moved? See kb/catalog/snapshot.py")
    return Snapshot(engine, release, options, frozenset(read_variables(sources, engine)))


def snapshot_of(engine: str, release: str, path: Path | None = None) -> Snapshot:
    """Read a release from a wheel, sdist or folder, or from the wheel that pip fetches when no path is given."""
    if engine not in ENGINES:
        raise ValueError(f"{engine!r} is not one of {', '.join(ENGINES)}")
    if path is not None:
        return read_snapshot(read_sources(path, engine), engine, release)
    with downloaded(engine, release) as wheel:
        return read_snapshot(read_sources(wheel, engine), engine, release)
