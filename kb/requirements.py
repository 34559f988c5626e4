"""Which packages a release of an engine requires, by the table kb/data/requirements.tsv.

A row: engine, package (in the form that package indexes compare), the first and the last recorded release of a run, and what every
release of the run requires. Read from the metadata of the releases' own wheels, as they are installed on Linux with an x86
processor; of SGLang also what its extras `srt` and `all` ask for. A package without a version is left out.

    python -m kb.requirements vllm-0.34.0-cp38-abi3-manylinux1_x86_64.whl

adds a recorded release (`python -m kb.catalog add` comes first), or reads it anew.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).parent / "data" / "requirements.tsv"
EXTRAS = {"vllm": ("",), "sglang": ("", "srt", "all")}
MACHINE = {"platform_machine": "x86_64", "platform_system": "Linux", "sys_platform": "linux", "python_version": "3.12"}


class Unmet(NamedTuple):
    """An installed package of a version that the engine's release does not take."""

    package: str
    installed: str
    required: str


@cache
def _table() -> dict[tuple[str, str], tuple[tuple[str, str, str], ...]]:
    """By engine and package the runs of releases: first, last, what they require."""
    runs: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for line in TABLE.read_text("utf-8").splitlines()[1:]:
        engine, package, first, last, specifier = line.split("\t")
        runs.setdefault((engine, package), []).append((first, last, specifier))
    return {key: tuple(value) for key, value in runs.items()}


@cache
def packages() -> frozenset[str]:
    """Every package that some release asks for in some version."""
    return frozenset(package for _, package in _table())


def required(engine: str, release: str, package: str) -> str:
    """What a recorded release requires of a package, as `>=4.55.2,<5`; "" where it asks for nothing or is not recorded."""
    from packaging.utils import canonicalize_name

    from kb.catalog.history import ENGINES, shipped

    if engine not in ENGINES:
        return ""
    releases = shipped(engine).releases
    if release not in releases:
        return ""
    place = {name: at for at, name in enumerate(releases)}
    runs = _table().get((engine, canonicalize_name(package)), ())
    return next((said for first, last, said in runs if place[first] <= place[release] <= place[last]), "")


def unmet(engine: str, release: str, installed: Mapping[str, str]) -> tuple[Unmet, ...]:
    """The installed packages that the release does not take; a version that cannot be read says nothing.

    What follows a plus sign (2.8.0+cu128) is how a package was built, and no other version.
    """
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion, Version

    found = []
    for package, version in installed.items():
        said = required(engine, release, package)
        try:
            fits = not said or SpecifierSet(said).contains(Version(version).public, prereleases=True)
        except InvalidVersion:
            continue
        if not fits:
            found.append(Unmet(package, version, said))
    return tuple(found)


def specifiers_of(metadata: str, engine: str) -> dict[str, str]:
    """What a wheel's METADATA requires of each package, on a machine of the kind that the table is about."""
    from packaging.markers import Marker
    from packaging.metadata import parse_email
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    def asked(marker: Marker | None) -> bool:
        return marker is None or any(marker.evaluate({**MACHINE, "extra": extra}) for extra in EXTRAS[engine])

    found: dict[str, str] = {}
    for line in parse_email(metadata)[0].get("requires_dist", []):
        try:
            said = Requirement(line)
        except InvalidRequirement:
            continue
        if said.specifier and asked(said.marker):
            found.setdefault(canonicalize_name(said.name), str(said.specifier))
    return found


def table_of(by_release: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    """The table as text, from engine → release (in their order) → package → specifier; equal neighbours are one run."""
    rows = []
    for engine, releases in by_release.items():
        for package in sorted({name for said in releases.values() for name in said}):
            run: list[str] = []
            for release, said in releases.items():
                specifier = said.get(package, "")
                if run and run[4] == specifier:
                    run[3] = release
                    continue
                rows += [run] if run and run[4] else []
                run = [engine, package, release, release, specifier]
            rows += [run] if run and run[4] else []
    return "\n".join("\t".join(row) for row in [["engine", "package", "first", "last", "requires"], *rows]) + "\n"


def by_release(engine: str) -> dict[str, dict[str, str]]:
    """What each recorded release of an engine requires, from the table: release → package → specifier."""
    from kb.catalog.history import shipped

    return {
        release: {name: said for name in sorted(packages()) if (said := required(engine, release, name))}
        for release in shipped(engine).releases
    }


def add(wheels: list[Path]) -> str:
    """The table with what these wheels require. Raises ValueError for a release that the catalogue does not have."""
    from kb.catalog.history import ENGINES

    known: dict[str, dict[str, dict[str, str]]] = {engine: by_release(engine) for engine in ENGINES}
    for wheel in wheels:
        engine, release = wheel.name.split("-")[:2]
        if release not in known.get(engine, {}):
            raise ValueError(f"{wheel.name}: add it first with `python -m kb.catalog add {engine}=={release}`.")
        known[engine][release] = specifiers_of(metadata_in(wheel), engine)
    return table_of(known)


def metadata_in(wheel: Path) -> str:
    """A wheel's METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return archive.read(name).decode("utf-8")


if __name__ == "__main__":
    TABLE.write_text(add([Path(name) for name in sys.argv[1:]]), "utf-8")
