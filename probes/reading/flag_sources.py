"""Reads which flags an installed engine has, from its Python files as text; nothing is imported or run.

An installation whose files are those of its wheel has the flags of the record; only others are read, which takes longer.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from probes.reading.environments import DIST_INFO, Environment, normalised
from probes.reading.files import Unreadable, read_start, read_text

if TYPE_CHECKING:
    from kb.catalog.installed import Installed

ENGINES = ("vllm", "sglang")
MOST_FILE_BYTES = 4 << 20
RECORD_BYTES = 8 << 20
# The files that say which flags and variables there are, and that kb.catalog.snapshot looks for by name.
DECIDING = {
    "vllm": re.compile(
        r"vllm/(config\.py|config/.+\.py|engine/arg_utils\.py|envs\.py|scripts\.py|utils(/.+)?\.py"
        r"|entrypoints/(.+/)?cli_args\.py|entrypoints/cli/serve\.py)"
    ),
    "sglang": re.compile(r"sglang/srt/(server_args\.py|environ\.py|arg_groups/.+\.py)"),
}
SEARCHED = {"vllm": ("vllm/entrypoints", "vllm/utils", "vllm/utils.py"), "sglang": ()}


@dataclass(frozen=True, slots=True)
class Installation:
    """An engine that is installed somewhere. `root` is the folder that holds its package, `state` what is known of its files.

    `as released`: those of the wheel; `changed`: they differ from it, first in `changed_file`; `built here`: installed from a
    folder or an address, so that its number proves nothing; `unverified`: there is no list of files to compare with.
    """

    engine: str
    release: str
    root: str
    origin: str
    state: str = "unverified"
    changed_file: str = ""


class Files(Mapping[str, str]):
    """The Python files of a package, read when they are asked for; iterated over, only those that must be searched."""

    def __init__(self, root: str, engine: str) -> None:
        self.root, self.engine = root, engine
        # A developer's link to a package elsewhere is followed; a link inside of the package that leads out of it is not.
        self._roots = (root, os.path.realpath(os.path.join(root, engine)))
        self._texts: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self._texts:
            try:
                self._texts[name] = read_text(os.path.join(self.root, name), self._roots, MOST_FILE_BYTES)
            except Unreadable as error:
                raise KeyError(name) from error
        return self._texts[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and os.path.isfile(os.path.join(self.root, name))

    def __iter__(self) -> Iterator[str]:
        for start in SEARCHED[self.engine]:
            if start.endswith(".py"):
                yield from (start,) if start in self else ()
            for folder, _, names in os.walk(os.path.join(self.root, start)):
                paths = (os.path.relpath(os.path.join(folder, name), self.root) for name in sorted(names))
                yield from (path for path in paths if path.endswith(".py") and DECIDING[self.engine].fullmatch(path))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def find_installations(environment: Environment) -> list[Installation]:
    """Find the engines of an environment, and tell whether their files are those that were released."""
    return [
        _installation(environment, engine, environment.packages[engine])
        for engine in ENGINES
        if engine in environment.packages
    ]


def read_installed(found: Installation) -> Installed:
    """Read the flags of an installation by syntax tree and compare them with the recorded release that is nearest.

    Raises ValueError where its parser is not found: a layout that is not known, or files that are not there.
    """
    return _read(found.root, found.engine, found.release, _state_of(found.root, found.engine))


@lru_cache(maxsize=8)
def _read(root: str, engine: str, release: str, state: float) -> Installed:
    from kb.catalog.installed import compared
    from kb.catalog.snapshot import read_snapshot
    from kb.catalog.wheel import Sources

    try:
        with _no_collection():
            return compared(read_snapshot(Sources(Files(root, engine)), engine, release))
    except KeyError as error:
        raise ValueError(f"{error.args[0]} may not be read") from error
    except (SyntaxError, AttributeError, RecursionError) as error:
        raise ValueError(f"its parser could not be followed ({error})") from error


@contextmanager
def _no_collection() -> Iterator[None]:
    """Leave garbage collection for later: of 0.67 s for vLLM 0.33.0 it took 0.24 s, and syntax trees hold no garbage yet."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _state_of(root: str, engine: str) -> float:
    """When the main file of the flags was last changed; a reading of the same state is kept."""
    main = {"vllm": "vllm/engine/arg_utils.py", "sglang": "sglang/srt/server_args.py"}[engine]
    try:
        return os.stat(os.path.join(root, main)).st_mtime
    except OSError:
        return 0.0


def _installation(environment: Environment, engine: str, release: str) -> Installation:
    info = _dist_info(environment.path, engine)
    built = parse_origin(_text(environment.path, f"{info}/direct_url.json", 1 << 16))
    if built is not None:
        root = _source_root(built, engine) or environment.path
        return Installation(engine, release, root, environment.origin, "built here")
    record = parse_record(_text(environment.path, f"{info}/RECORD", RECORD_BYTES), engine)
    if not record:
        return Installation(engine, release, environment.path, environment.origin)
    changed = next((name for name, digest in record.items() if _digest(environment.path, name) != digest), "")
    state = "changed" if changed else "as released"
    return Installation(engine, release, environment.path, environment.origin, state, changed)


def parse_origin(text: str) -> str | None:
    """Parse direct_url.json to the folder of an editable installation, empty for one from another address; None without one.

    pip and uv write that file when a package does not come from an index.
    """
    try:
        found = json.loads(text)
        url = urlsplit(found["url"])
        is_editable = bool(found.get("dir_info", {}).get("editable"))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return unquote(url.path) if is_editable and url.scheme == "file" else ""


def parse_record(text: str, engine: str) -> dict[str, str]:
    """Parse RECORD to the sha256 digests (base64) of the files that decide which flags there are."""
    rows = (line.split(",") for line in text.splitlines() if line.startswith(engine))
    digests = ((row[0], row[1]) for row in rows if len(row) == 3 and row[1].startswith("sha256="))
    return {name: digest[7:] for name, digest in digests if DECIDING[engine].fullmatch(name)}


def _source_root(folder: str, engine: str) -> str:
    """Where an editable installation keeps its package: in the folder itself, or in `python` or `src` of it."""
    places = (folder, os.path.join(folder, "python"), os.path.join(folder, "src"))
    return next((place for place in places if folder and os.path.isdir(os.path.join(place, engine))), "")


def _dist_info(path: str, engine: str) -> str:
    try:
        matches = [DIST_INFO.fullmatch(name) for name in os.listdir(path)]
    except OSError:
        return ""
    return next((match.string for match in matches if match and normalised(match["name"]) == engine), "")


def _digest(root: str, name: str) -> str:
    try:
        content, size = read_start(os.path.join(root, name), (root,), MOST_FILE_BYTES)
    except Unreadable:
        return ""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return digest if size == len(content) else ""


def _text(path: str, name: str, cap_bytes: int) -> str:
    try:
        return read_text(os.path.join(path, name), (path,), cap_bytes)
    except Unreadable:
        return ""
