"""Reads what a model's folder holds: configuration, weights, tokenizer, chat template, unfinished downloads."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from probes.reading.checkpoints import (
    JSON_BYTES,
    BadHeader,
    Shard,
    bytes_by_dtype,
    conflicts,
    is_pointer,
    parse_index,
    read_shard,
)
from probes.reading.files import Unreadable, read_end, read_start, read_text
from probes.reading.model_places import Place, entries_of

HEADER_BUDGET_BYTES = 32 << 20
"""Of all models together: JSON of that size takes about half a second to parse. Later models are judged by sizes alone."""
NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(?P<kind>safetensors|bin)")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer.model.v3", "tekken.json", "vocab.json", "vocab.txt")
OTHER_TOKENIZERS = (".tiktoken", "spiece.model", "tiktoken.model", "sentencepiece.bpe.model")
ARCHIVE, ARCHIVE_END = b"PK\x03\x04", b"PK\x05\x06"
"""How a file that torch.save wrote begins, and what stands near its end."""
KINDS = ("safetensors", "bin", "gguf", "pt", "pth")


@dataclass(frozen=True, slots=True)
class Download:
    """A file that is not downloaded to its end, and how long ago it last grew."""

    name: str
    size_bytes: int
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class Model:
    """What a model's folder holds. `*_fault` is empty, or why a file is of no use, as the end of a sentence about it."""

    place: Place
    files: tuple[str, ...] = ()
    config: Mapping[str, Any] | None = None
    config_fault: str = ""
    index_fault: str = ""
    shards: tuple[Shard, ...] = ()
    """Without their headers, of which `dtypes` holds the sums."""
    dtypes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    total_bytes: int | None = None
    """The bytes of all tensors, as the index says."""
    disputes: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()
    pointers: tuple[str, ...] = ()
    """Small files (tokenizer, configuration) that are git-LFS pointers."""
    has_template: bool | None = None
    free_bytes: int | None = None
    formats: tuple[str, ...] = ()
    """The endings of the weight files that lie there, used or not."""

    header_bytes: int = 0
    """What was read of headers."""

    @property
    def weight_bytes(self) -> int:
        """What the weight files take on disk, pointers left out."""
        return sum(shard.size_bytes for shard in self.shards if shard.fault != "pointer")

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """The tokenizer's files."""
        return tuple(name for name in self.files if name in TOKENIZERS or name.endswith(OTHER_TOKENIZERS))


def read_model(place: Place, roots: tuple[str, ...], header_bytes: int = HEADER_BUDGET_BYTES) -> Model:
    """Read one model's folder, at most `header_bytes` of safetensors headers."""
    files = tuple(sorted(entry.name for entry in entries_of(place.path)))
    config, config_fault = _read_config(place.path, files, roots)
    names, index, total_bytes, index_fault = _weights(place.path, files, roots)
    shards = []
    for name in names:
        shard = _read_weights(place.path, name, roots, header_bytes)
        header_bytes -= shard.header_bytes
        shards.append(shard)
    return Model(
        place,
        files,
        config,
        config_fault,
        index_fault,
        tuple(replace(shard, header=None) for shard in shards),
        bytes_by_dtype(shards),
        total_bytes,
        tuple(conflicts(shards, index)),
        tuple(_downloads(place)),
        tuple(name for name in files if _is_small_pointer(place.path, name, roots)),
        _has_template(place.path, files, roots),
        _free_bytes(place.path),
        formats_of(files),
        sum(shard.header_bytes for shard in shards),
    )


def formats_of(files: Iterable[str]) -> tuple[str, ...]:
    """The endings of the weight files among names."""
    return tuple(sorted({kind for name in files if (kind := name.rpartition(".")[2]) in KINDS}))


@dataclass(frozen=True, slots=True)
class Outline:
    """What a configuration says, empty or None where it says nothing; of models with several parts, of the text model."""

    architectures: tuple[str, ...] = ()
    dtype: str = ""
    quantization: str = ""
    max_position_embeddings: int | None = None
    rope_type: str = ""
    own_code: bool = False
    """The model brings Python files that an engine runs only with --trust-remote-code."""


def outline_of(config: Mapping[str, Any]) -> Outline:
    """Pick out of a config.json what decides how a model is served."""
    text = config.get("text_config") or config.get("llm_config") or config.get("language_config")
    parts = [part for part in (config, text) if isinstance(part, Mapping)]

    def first(*names: str) -> Any:
        return next((part[name] for part in parts for name in names if part.get(name) is not None), None)

    architectures = first("architectures")
    quantization = first("quantization_config", "compression_config")
    rope = first("rope_scaling", "rope_parameters")
    length = first("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
    return Outline(
        tuple(map(str, architectures)) if isinstance(architectures, list) else (),
        str(first("torch_dtype", "dtype") or ""),
        str(quantization.get("quant_method") or "unnamed") if isinstance(quantization, Mapping) else "",
        length if type(length) is int else None,
        str(rope.get("rope_type") or rope.get("type") or "unnamed") if isinstance(rope, Mapping) else "",
        bool(first("auto_map")),
    )


def wanted_weights(files: Iterable[str], index: Mapping[str, str]) -> list[str]:
    """Name the weight files that an engine would load: those of the index, else every one of the best format.

    Of numbered files (`model-00001-of-00003`) those that should be there are named too, though they may be missing.
    """
    if index:
        return sorted(set(index.values()))
    files = list(files)
    for kind in KINDS:
        found = [name for name in files if name.endswith(f".{kind}") and not _is_no_weights(name)]
        plain = [name for name in found if not name.startswith("consolidated")]
        if found:
            return sorted({*(plain or found), *_siblings(plain or found)})
    return []


def _siblings(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if match := NUMBERED.fullmatch(name):
            count = min(int(match["count"]), 2_000)
            yield from (f"{match['stem']}-{i:05}-of-{match['count']}.{match['kind']}" for i in range(1, count + 1))


def _is_no_weights(name: str) -> bool:
    return name.endswith((".pt", ".pth", ".bin")) and name.startswith(
        ("training_args", "optimizer", "scheduler", "rng_state", "random_states")
    )


def _read_config(folder: str, files: tuple[str, ...], roots: tuple[str, ...]) -> tuple[Mapping[str, Any] | None, str]:
    if "config.json" not in files:
        return None, "" if {"params.json", "adapter_config.json", "model_index.json"} & {*files} else "it is missing"
    return _read_object(folder, "config.json", roots)


def _read_object(folder: str, name: str, roots: tuple[str, ...]) -> tuple[Mapping[str, Any] | None, str]:
    """Read a JSON object; or why there is none."""
    try:
        start, size = read_start(os.path.join(folder, name), roots, JSON_BYTES)
    except Unreadable as error:
        return None, str(error).removesuffix(".")
    if is_pointer(start, size):
        return None, "it is a git-LFS pointer"
    if not start.strip():
        return None, "it is empty"
    try:
        found = json.loads(start)
    except (ValueError, RecursionError) as error:
        return None, f"it is not JSON ({error})"[:200]
    return (found, "") if isinstance(found, dict) else (None, "it is no JSON object")


def _weights(
    folder: str, files: tuple[str, ...], roots: tuple[str, ...]
) -> tuple[list[str], dict[str, str], int | None, str]:
    """Tell the weight files, the index (empty for none), the bytes that it names, and why an index is of no use."""
    index_name = next((name for name in files if name.endswith(".safetensors.index.json")), "")
    if not index_name:
        return wanted_weights(files, {}), {}, None, ""
    try:
        index, total = parse_index(read_text(os.path.join(folder, index_name), roots, JSON_BYTES))
    except (Unreadable, BadHeader) as error:
        return wanted_weights(files, {}), {}, None, f"{index_name}: {str(error).removesuffix('.')}"
    if any("/" in name or name.startswith(".") for name in index.values()):
        return wanted_weights(files, {}), {}, None, f"{index_name}: it names files outside of its folder"
    return wanted_weights(files, index), index, total, ""


def _read_weights(folder: str, name: str, roots: tuple[str, ...], header_bytes: int) -> Shard:
    if name.endswith(".safetensors"):
        return read_shard(folder, name, roots, max(0, header_bytes))
    try:
        start, size = read_start(os.path.join(folder, name), roots, 1024)
    except Unreadable as error:
        return Shard(name, 0, "missing" if "does not exist" in str(error) else "unreadable", str(error))
    if is_pointer(start, size):
        return Shard(name, size, "pointer", "it is a git-LFS pointer")
    if name.endswith(".gguf") and not start.startswith(b"GGUF"):
        return Shard(name, size, "damaged", "it does not begin with GGUF")
    if start.startswith(ARCHIVE) and ARCHIVE_END not in read_end(os.path.join(folder, name), roots, 1 << 17):
        return Shard(name, size, "truncated", "it is a zip archive without its central directory")
    return Shard(name, size, "" if size else "truncated", "" if size else "it is empty")


def _downloads(place: Place) -> Iterator[Download]:
    """The unfinished downloads of the cache, and of a folder that `hf download --local-dir` fills."""
    for folder in filter(None, (place.blobs, os.path.join(place.path, ".cache/huggingface/download"), place.path)):
        for entry in entries_of(folder):
            if entry.name.endswith((".incomplete", ".aria2", ".part")):
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                yield Download(entry.name, found.st_size, round(max(0.0, time.time() - found.st_mtime), 1))


def _is_small_pointer(folder: str, name: str, roots: tuple[str, ...]) -> bool:
    if name == "config.json":  # told by its own fault
        return False
    if name not in TOKENIZERS and not name.endswith((*OTHER_TOKENIZERS, ".json")):
        return False
    try:
        start, size = read_start(os.path.join(folder, name), roots, 64)
    except Unreadable:
        return False
    return is_pointer(start, size)


def _has_template(folder: str, files: tuple[str, ...], roots: tuple[str, ...]) -> bool | None:
    """Tell whether the tokenizer brings a chat template; None where that could not be read."""
    if {"chat_template.jinja", "chat_template.json"} & {*files}:
        return True
    if "tokenizer_config.json" not in files:
        return False if files else None
    config, fault = _read_object(folder, "tokenizer_config.json", roots)
    return None if fault or config is None else bool(config.get("chat_template"))


def _free_bytes(path: str) -> int | None:
    try:
        space = os.statvfs(path)
    except OSError:
        return None
    return space.f_bavail * space.f_frsize
