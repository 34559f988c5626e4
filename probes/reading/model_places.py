"""Finds where models are kept on this machine: the operator's folders, the Hugging Face cache, and what servers name.

A path in a server's command line is only followed under those folders.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from probes.reading.files import Unreadable, read_text, resolve
from probes.reading.servers import Server

MOST_MODELS = 32
MOST_FOLDERS = 400
MOST_NAMES = 5_000
DEEPEST = 3
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
MODEL_FILES = frozenset({"config.json", "params.json", "adapter_config.json"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model lies. `origin` says how it was found; `wanted` that a running server or the operator names it."""

    name: str
    path: str
    origin: str
    wanted: bool = False
    blobs: str = ""
    """In the Hugging Face cache, the folder of the downloads."""


def find_models(
    directories: Iterable[str], hubs: Iterable[str] = (), servers: Iterable[Server] = ()
) -> tuple[list[Place], list[str], tuple[str, ...]]:
    """Find models, those that servers name first; the sentences for what may not be read; and the folders allowed.

    `hubs` are Hugging Face caches, such as /root/.cache/huggingface/hub.
    """
    directories, hubs = tuple(directories), tuple(dict.fromkeys(hubs))
    roots = (*directories, *hubs)
    places: dict[str, Place] = {}
    refused: list[str] = []
    for place in _all_places(directories, hubs, servers):
        try:
            real = str(resolve(place.path, roots))
        except Unreadable as error:
            refused.append(f"{place.origin}: {error}" if place.wanted else str(error))
            continue
        if os.path.isdir(real) and len(places) < MOST_MODELS:
            places.setdefault(real, place)
    return list(places.values()), list(dict.fromkeys(refused)), roots


def model_of(command: str) -> str:
    """Tell the model that a serving command names; empty where it names none."""
    from kb.catalog.command import calls_in

    for call in calls_in(command):
        for option in call.options:
            if option.name.replace("_", "-") in ("--model", "--model-path"):
                return option.inline or (option.trail[0].text if option.trail else "")
        if call.serving and call.leading:
            return call.leading[0].text
    return ""


def snapshot_of(hub: str, name: str) -> str:
    """Give the folder of a model's newest snapshot in the Hugging Face cache: that of `main`, else the last made; or nothing."""
    folder = os.path.join(hub, "models--" + name.replace("/", "--"))
    try:
        commit = read_text(os.path.join(folder, "refs/main"), (hub,), 256).strip()
    except Unreadable:
        commit = ""
    snapshots = os.path.join(folder, "snapshots")
    if re.fullmatch(r"[\w-]+", commit) and os.path.isdir(os.path.join(snapshots, commit)):
        return os.path.join(snapshots, commit)
    made = [entry for entry in entries_of(snapshots) if entry.is_dir()]
    return max(made, key=lambda entry: entry.stat().st_mtime).path if made else ""


def entries_of(folder: str) -> list[os.DirEntry[str]]:
    """List a folder, at most its first MOST_NAMES entries; nothing where it may not be read."""
    try:
        with os.scandir(folder) as found:
            return [entry for entry, _ in zip(found, range(MOST_NAMES), strict=False)]
    except OSError:
        return []


def _all_places(directories: tuple[str, ...], hubs: tuple[str, ...], servers: Iterable[Server]) -> Iterator[Place]:
    for server in servers:
        named, origin = model_of(server.command), f"running {server.engine} (pid {server.pid})"
        if named.startswith("/"):
            yield Place(named, named, origin, True)
        elif HUB_NAME.fullmatch(named):
            found = ((hub, snapshot_of(hub, named)) for hub in hubs)
            yield from (Place(named, path, origin, True, _blobs(hub, named)) for hub, path in found if path)
    for directory in directories:
        yield from _below(directory)
    for hub in hubs:
        yield from _cached(hub, "model cache", False)


def _cached(hub: str, origin: str, wanted: bool) -> Iterator[Place]:
    for entry in sorted(entries_of(hub), key=lambda entry: entry.name):
        if entry.name.startswith("models--"):
            name = entry.name.removeprefix("models--").replace("--", "/", 1)
            if path := snapshot_of(hub, name):
                yield Place(name, path, origin, wanted, _blobs(hub, name))


def _below(directory: str) -> Iterator[Place]:
    """Find models in an operator's folder: itself, or folders in it; what is a model is not searched further."""
    waiting, seen = [(directory, 0)], 0
    while waiting and seen < MOST_FOLDERS:
        folder, depth = waiting.pop(0)
        seen += 1
        entries = entries_of(folder)
        names = {entry.name for entry in entries}
        if names & MODEL_FILES or any(name.endswith((".safetensors", ".gguf")) for name in names):
            name = os.path.relpath(folder, directory) if depth else os.path.basename(folder.rstrip("/"))
            yield Place(name, folder, "model directory", True)
        elif any(name.startswith("models--") for name in names):
            yield from _cached(folder, "model directory", True)
        elif depth < DEEPEST:
            below = sorted(entry.path for entry in entries if not entry.name.startswith(".") and entry.is_dir())
            waiting += [(path, depth + 1) for path in below]


def _blobs(hub: str, name: str) -> str:
    return os.path.join(hub, "models--" + name.replace("/", "--"), "blobs")
