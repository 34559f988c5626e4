"""Finds Python environments (site-packages folders) and what is installed in them, without starting a Python.

A listing of `*.dist-info` names tells name and version; opening metadata is left to the few packages that need it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from probes.reading.files import PROC, Unreadable, read_kernel_file, read_text
from probes.reading.processes import Process, engines

PACKAGES_FOLDER = re.compile(r"(/[^\0\n]*?/(?:site|dist)-packages)/")
DIST_INFO = re.compile(r"(?P<name>[A-Za-z0-9._]+)-(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_]*)\.dist-info")
PYTHON_FOLDER = re.compile(r"/python(\d+\.\d+)/(?:site|dist)-packages$")
MAPS_CAP_BYTES = 1 << 22
METADATA_CAP_BYTES = 1 << 18
MOST_ENVIRONMENTS = 12


@dataclass(frozen=True, slots=True)
class Environment:
    """A site-packages folder: versions by normalised package name. `origin` says how it was found."""

    path: str
    origin: str
    python: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    torch_cuda: str | None = None
    """CUDA that torch was built for; "" for a build without CUDA; None where torch/version.py does not say."""
    torch_hip: str = ""
    requirements: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The Requires-Dist lines of a package that is checked."""


def read_environments(
    given: Iterable[str], processes: Mapping[int, Process], variables: Mapping[str, str], checked: Iterable[str] = ()
) -> tuple[Environment, ...]:
    """Read the environments given, or else those found, in the order in which they count.

    `checked` are packages whose requirements are read too.
    """
    places = [(path, "given") for path in given] or list(find_environments(processes, variables))
    found: dict[str, Environment] = {}
    for path, origin in places:
        real = os.path.realpath(path)
        if real not in found and len(found) < MOST_ENVIRONMENTS and os.path.isdir(real):
            found[real] = read_environment(path, origin, tuple(checked))
    return tuple(found.values())


def find_environments(processes: Mapping[int, Process], variables: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Find site-packages folders: of running engines, of the activated environment, of this Python, of python3 on PATH."""
    for pid, engine in engines(processes).items():
        for path in _of_process(pid, processes[pid].argv):
            yield path, f"running {engine} (pid {pid})"
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if variables.get(name):
            yield from ((path, name) for path in _under(variables[name]))
    for folder in variables.get("PATH", "").split(":"):
        if folder.startswith("/") and os.path.exists(os.path.join(folder, "python3")):
            prefixes = (
                os.path.dirname(folder),
                os.path.dirname(os.path.dirname(os.path.realpath(folder + "/python3"))),
            )
            yield from ((path, "python3 on PATH") for prefix in prefixes for path in _under(prefix))
    yield from ((path, "current folder") for name in (".venv", "venv") for path in _under(os.path.abspath(name)))
    yield from ((path, "the Python that runs Crashcart") for path in _under(sys.prefix))
    for prefix in ("/usr/local", "/usr"):
        yield from ((path, "system Python") for path in _under(prefix))
    yield from (
        (path, "user packages") for path in _under(os.path.join(variables.get("HOME", "/nonexistent"), ".local"))
    )


def read_environment(path: str, origin: str, checked: tuple[str, ...] = ()) -> Environment:
    """Read what is installed in a site-packages folder."""
    packages = parse_listing(_names(path))
    cuda, hip = parse_torch_version(_text(path, "torch/version.py")) if "torch" in packages else (None, "")
    requirements = {name: _requirements(path, name) for name in checked if name in packages}
    return Environment(path, origin, _python(path), packages, cuda, hip, requirements)


def parse_listing(names: Iterable[str]) -> dict[str, str]:
    """Parse the names in a site-packages folder to versions by package name, normalised as pip does."""
    found = (DIST_INFO.fullmatch(name) for name in names)
    return {normalised(match["name"]): match["version"] for match in found if match}


def normalised(name: str) -> str:
    """Write a package name as pip compares it: flashinfer_python is flashinfer-python."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_torch_version(text: str) -> tuple[str | None, str]:
    """Parse torch/version.py to CUDA (None: not said, "": built without) and HIP ("": built without)."""
    cuda = re.search(r"^cuda(?:\s*:[^=\n]+)?\s*=\s*(?:'([\d.]+)'|\"([\d.]+)\"|None)", text, re.MULTILINE)
    hip = re.search(r"^hip(?:\s*:[^=\n]+)?\s*=\s*['\"]([^'\"]+)", text, re.MULTILINE)
    return (cuda.group(1) or cuda.group(2) or "") if cuda else None, hip.group(1) if hip else ""


def parse_requirements(metadata: str) -> tuple[str, ...]:
    """Parse a METADATA file to its Requires-Dist lines; what follows its first empty line is the package's page."""
    header = metadata.replace("\r\n", "\n").partition("\n\n")[0]
    lines = (line.partition(":") for line in header.splitlines())
    return tuple(value.strip() for name, _, value in lines if name == "Requires-Dist")


def parse_maps(maps: str) -> str:
    """Find the site-packages folder of a running Python in /proc/PID/maps; empty for none.

    The folder that most mapped libraries lie in is the one that counts: an environment may borrow from another.
    """
    counts: dict[str, int] = {}
    for folder in PACKAGES_FOLDER.findall(maps):
        counts[folder] = counts.get(folder, 0) + 1
    return max(counts, key=lambda folder: counts[folder]) if counts else ""


def _of_process(pid: int, argv: tuple[str, ...]) -> list[str]:
    try:
        mapped = parse_maps(read_kernel_file(f"{pid}/maps", PROC, MAPS_CAP_BYTES))
    except Unreadable:
        mapped = ""
    programs = [word for word in argv[:2] if word.startswith("/") and "/bin/" in word]
    return [mapped] if mapped else [path for word in programs for path in _under(word.rpartition("/bin/")[0])]


def _under(prefix: str) -> list[str]:
    """List the site-packages folders that a Python installed under `prefix` uses."""
    pattern = [(lib, kind) for lib in ("lib", "lib64") for kind in ("site-packages", "dist-packages")]
    return [
        str(path) for lib, kind in pattern for path in sorted(Path(prefix, lib).glob(f"python3*/{kind}"), reverse=True)
    ]


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _text(path: str, name: str, cap_bytes: int = 1 << 16) -> str:
    try:
        return read_text(Path(path, name), (path,), cap_bytes)
    except Unreadable:
        return ""


def _requirements(path: str, package: str) -> tuple[str, ...]:
    matches = (DIST_INFO.fullmatch(name) for name in _names(path))
    folder = next((match.string for match in matches if match and normalised(match["name"]) == package), "")
    return parse_requirements(_text(path, f"{folder}/METADATA", METADATA_CAP_BYTES))


def _python(path: str) -> str:
    """Tell an environment's Python: in full from pyvenv.cfg, else as the folder is called (3.12)."""
    prefix = str(Path(path).parents[2]) if len(Path(path).parents) > 2 else "/"
    stated = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+(?:\.\d+)?)", _config(prefix), re.MULTILINE)
    named = PYTHON_FOLDER.search(path)
    return stated.group(1) if stated else named.group(1) if named else ""


def _config(prefix: str) -> str:
    return _text(prefix, "pyvenv.cfg", 1 << 14)
