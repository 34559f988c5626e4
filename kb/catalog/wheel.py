"""The Python files of one release, read from its wheel or folder without importing or unpacking any of it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from kb.syntax import parse

PLATFORMS = ("manylinux1", "manylinux2014", "manylinux_2_28", "manylinux_2_31", "manylinux_2_34", "manylinux_2_35")


class Module:
    """One file: its top-level names, and where imported names come from."""

    def __init__(self, name: str, text: str, package: bool) -> None:
        self.name = name
        self.package = package
        self.tree = parse(text)
        self.assigned: dict[str, ast.expr] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self.functions: dict[str, ast.FunctionDef] = {}
        self.imported: dict[str, tuple[str, str]] = {}
        self.starred: list[str] = []
        self._collect(self.tree.body)

    def _collect(self, body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                self.classes.setdefault(node.name, node)
            elif isinstance(node, ast.FunctionDef):
                self.functions.setdefault(node.name, node)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.assigned.setdefault(node.targets[0].id, node.value)
            elif isinstance(node, ast.AnnAssign):
                if isinstance(node.target, ast.Name) and node.value is not None:
                    self.assigned.setdefault(node.target.id, node.value)
            elif isinstance(node, ast.ImportFrom):
                self._collect_import(node)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    self.imported.setdefault(alias.asname or alias.name.partition(".")[0], (alias.name, ""))
            elif isinstance(node, (ast.If, ast.Try)):
                self._collect(node.body)
                self._collect(node.orelse)

    def _collect_import(self, node: ast.ImportFrom) -> None:
        parts = self.name.split(".")
        kept = len(parts) - node.level + (1 if self.package else 0) if node.level else 0
        origin = ".".join([*parts[:kept], *([node.module] if node.module else [])])
        for alias in node.names:
            if alias.name == "*":
                self.starred.append(origin)
            else:
                self.imported.setdefault(alias.asname or alias.name, (origin, alias.name))

    def defines(self, name: str) -> bool:
        """Whether the name is one of the module's own or imported top-level names."""
        return any(name in names for names in (self.assigned, self.classes, self.functions, self.imported))


class Sources:
    """All modules of a release by dotted name; each file is parsed when it is first asked for."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = files
        self._modules: dict[str, Module | None] = {}

    def module(self, name: str) -> Module | None:
        """The module of that dotted name, or None where the release has none."""
        if name not in self._modules:
            path = name.replace(".", "/")
            found = next((p for p in (f"{path}.py", f"{path}/__init__.py") if p in self.files), None)
            self._modules[name] = Module(name, self.files[found], found.endswith("__init__.py")) if found else None
        return self._modules[name]

    def origin(self, module: Module, name: str) -> tuple[str, str] | None:
        """The module that a name is imported from, and its name there (empty for a module); None for a module's own name."""
        if name in module.imported:
            return module.imported[name]
        stars = (self.module(each) for each in module.starred) if not module.defines(name) else ()
        return next(((each.name, name) for each in stars if each is not None and each.defines(name)), None)

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Every Python file, sorted."""
        return tuple(sorted(self.files))


def read_sources(path: Path, package: str) -> Sources:
    """The `.py` files of `package` in a wheel, an sdist or a folder that holds the package."""
    if path.is_dir():
        found = {
            str(p.relative_to(path)): p.read_text("utf-8", "replace") for p in sorted((path / package).rglob("*.py"))
        }
    elif path.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(path) as archive:
            found = {n: archive.read(n).decode("utf-8", "replace") for n in archive.namelist() if n.endswith(".py")}
    else:
        with tarfile.open(path) as archive:
            members = [m for m in archive.getmembers() if m.isfile() and m.name.endswith(".py")]
            found = {m.name.partition("/")[2]: _text(archive, m) for m in members}
    files = {re.sub(r"^(python|src)/", "", name): text for name, text in found.items()}
    files = {name: text for name, text in files.items() if name.startswith(f"{package}/")}
    if not files:
        raise FileNotFoundError(f"{path}: no Python files of {package} in it")
    return Sources(files)


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = archive.extractfile(member)
    return stream.read().decode("utf-8", "replace") if stream else ""


@contextmanager
def downloaded(package: str, release: str) -> Iterator[Path]:
    """Fetch one wheel with pip into a temporary folder (up to 500 MB) and delete it afterwards.

    Raises FileNotFoundError when the index has no wheel of that release.
    """
    wanted = [option for tag in PLATFORMS for option in ("--platform", f"{tag}_x86_64")]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-cache-dir",
            "--only-binary",
            ":all:",
        ]
        command += ["--python-version", "3.11", *wanted, "--platform", "any", "--dest", folder, f"{package}=={release}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(folder).glob("*.whl"))
        if not wheels:
            raise FileNotFoundError(f"pip found no wheel of {package} {release}: {done.stderr.strip()[-300:]}")
        yield wheels[0]
