"""Does this flag, variable or value exist in that release of vLLM or SGLang, since when, until when, and what replaces it?

A command may be typed, or stand in a shell script, a compose file, a Kubernetes manifest, a systemd unit or a Dockerfile.
Functions return data and print nothing. The records are kb/data/flags; reading one engine's takes about 2 ms, once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kb.catalog.command import Call
from kb.catalog.history import load
from kb.catalog.notes import Default
from kb.catalog.releases import is_release
from kb.catalog.status import DEAD, FlagStatus, Status, Use, status_of
from kb.catalog.uses import default_of, uses_of
from kb.catalog.written import calls_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager
    from typing import Any

    from kb.catalog.comparison import Comparison
    from kb.catalog.installed import Installed

__all__ = [
    "Default",
    "FlagStatus",
    "Status",
    "check_command",
    "check_name",
    "default_of",
    "diff",
    "engine_of",
    "exists_in_all",
    "missing_in",
    "missing_releases",
    "patched_command",
    "release_of",
    "releases_of",
    "with_installed",
]


def check_name(engine: str, release: str, name: str, value: str | None = None) -> FlagStatus:
    """The status of a flag (`--max-model-len`, `-tp`, `--flag=value`), variable or serving command in a release.

    With a value the answer is about the value (kind `choice`) where the flag is there and the value is not accepted.
    A release between recorded ones on which its neighbours disagree, or none at all, gives `unknown-release`.
    Raises ValueError for an engine other than vllm and sglang.
    """
    if name.startswith("-") and "=" in name:
        name, _, inline = name.partition("=")
        value = inline if value is None else value
    if not name.startswith("-") and re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        name = f"--{name}"
    return status_of(engine, release, Use(name, () if value is None else (value,)))


def engine_of(command: str) -> str | None:
    """The engine of the first command of vLLM or SGLang in a text, a serving one before others; None for neither."""
    calls = sorted(calls_of(command), key=lambda call: not call.serving)
    return calls[0].engine if calls else None


def release_of(command: str) -> str | None:
    """The release that a container image's tag names: `0.8.5` of `vllm/vllm-openai:v0.8.5`; None for `latest` and no image."""
    tags = [call.tag for call in calls_of(command) if call.tag and is_release(call.tag)]
    return tags[0].removeprefix("v").partition("-")[0] if tags else None


def check_command(command: str, engine: str, release: str) -> list[FlagStatus]:
    """The status of everything in the serving commands of a text: the form, its variables, its flags and their values.

    An empty engine means that of each command. Commands that start no server give nothing: they are not covered.
    """
    found: list[FlagStatus] = []
    for call in calls_of(command):
        if call.serving and engine in ("", call.engine):
            found += [status_of(call.engine, release, use) for use in uses_of(call, release)]
    return [each for each in found if each.kind != "command" or each.status not in ("ok", "unknown-release")]


def patched_command(command: str, engine: str, release: str) -> str:
    """The text with every serving command of the engine (empty: any) made right for the release.

    Renames with a direct equivalent are applied in place and dead flags and variables without one are dropped with
    their values; everything else is kept byte for byte. Without a known release the text comes back as it is.
    """
    from kb.catalog.patch import patched

    return patched(command, engine, release)


def with_installed(readings: Iterable[Installed | Mapping[str, Any]]) -> AbstractContextManager[None]:
    """Within it, the functions here know installed releases too: `readings` as the probe engine_flags gives them in its data.

    A nightly build is then answered by what it really has, and a changed release by its own flags.
    """
    from kb.catalog import installed

    return installed.with_installed(readings)


def diff(command: str, engine: str, old: str, new: str) -> Comparison:
    """What an upgrade does to a text's serving commands (engine empty: that of the first): names, defaults, the new text.

    Raises ValueError where no engine is given and none can be told from the command.
    """
    from kb.catalog.comparison import compare

    return compare(command, engine, old, new)


def releases_of(engine: str, specifier: str = "") -> tuple[str, ...]:
    """The recorded releases of an engine inside a specifier such as `>=0.8.2,<0.22.0`; all of them for the empty one."""
    from packaging.specifiers import SpecifierSet

    return tuple(SpecifierSet(specifier).filter(load(engine).releases, prereleases=True))


def missing_releases(engine: str, name: str, specifier: str = "", value: str | None = None) -> tuple[str, ...]:
    """The recorded releases inside the specifier in which a name, or this value of it, does not exist."""
    engine_named, bare = split_specifier(specifier)
    wanted = releases_of(engine_named or engine, bare)
    return tuple(each for each in wanted if check_name(engine, each, name, value).status in DEAD)


def exists_in_all(engine: str, name: str, specifier: str = "", value: str | None = None) -> bool:
    """Whether every recorded release inside the specifier has the name; `vllm>=0.8.2` and `>=0.8.2` both do."""
    return not missing_releases(engine, name, specifier, value)


def split_specifier(text: str) -> tuple[str, str]:
    """`vllm>=0.8.2,<0.22.0` as `vllm` and `>=0.8.2,<0.22.0`; an empty engine where it is not named."""
    found = re.match(r"\s*([A-Za-z]*)\s*(.*)", text)
    return (found[1].lower(), found[2].strip()) if found else ("", "")


def missing_in(text: str, releases: str, engines: Sequence[str] = ()) -> Iterator[str]:
    """Sentences about names in a text's serving commands that some release it is said to hold for does not have.

    `releases` is `vllm>=0.8.2,<0.22.0` or empty for all; `{{name|default}}` counts as its default. `engines` are those that
    the text is about, empty for any.
    """
    plain = re.sub(r"\{\{[^{}|]*\|?([^{}]*)\}\}", r"\1", text)
    named, specifier = split_specifier(releases)
    for call in calls_of(plain):
        if not call.serving:
            continue
        if named and named != call.engine:
            yield f"`{call.form}` is {call.engine}'s, and the releases are {named}'s"
            continue
        wanted = releases_of(call.engine, specifier)
        if not wanted:
            yield f"no recorded release of {call.engine} is inside {releases!r}"
        yield from missing_names(call, wanted)


def missing_names(call: Call, wanted: Sequence[str]) -> Iterator[str]:
    """A sentence for each name of a serving command that is missing in one of the releases."""
    missing: dict[str, list[FlagStatus]] = {}
    where: dict[str, list[str]] = {}
    for release in wanted:
        for status in (status_of(call.engine, release, use) for use in uses_of(call, release)):
            if status.kind != "command" and status.status in (*DEAD, "refused"):
                missing.setdefault(status.name, []).append(status)
                where.setdefault(status.name, []).append(release)
    for name, found in missing.items():
        first, last = where[name][0], where[name][-1]
        span = first if first == last else f"{first} to {last}"
        hint = f"; use {found[0].replacement}" if found[0].replacement else ""
        yield f"{name} is {found[0].status} in {call.engine} {span} ({len(found)} of {len(wanted)} releases){hint}"
