"""Reads what a checkpoint's files say of themselves: safetensors headers, the index of shards, pointers in place of files.

Only headers are read, never a tensor: a shard of 5 GB costs a few hundred kilobytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from kb.sizing.tensors import BITS, Tensor
from probes.reading.files import Unreadable, read_start

LENGTH_BYTES = 8
MOST_HEADER_BYTES = 100_000_000
"""The cap of the safetensors library itself: it refuses a longer header."""
FIRST_READ_BYTES = 1 << 17
POINTER = b"version https://git-lfs"
POINTER_BYTES = 1024
JSON_BYTES = 32 << 20


class BadHeader(ValueError):
    """A header that is not one of a safetensors file. The message is the end of a sentence about the file."""


@dataclass(frozen=True, slots=True)
class Header:
    """The tensors of a file by name, and the bytes that their values take in it."""

    tensors: Mapping[str, Tensor]
    data_bytes: int


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of weights. `fault` is empty, `missing`, `pointer`, `truncated`, `damaged`, or `unreadable`; `why` says more.

    `expected_bytes` is what the header asks for, None where no header was read.
    """

    name: str
    size_bytes: int = 0
    fault: str = ""
    why: str = ""
    expected_bytes: int | None = None
    header: Header | None = field(default=None, repr=False)

    @property
    def header_bytes(self) -> int:
        """The bytes of its header, 0 where none was read."""
        return self.expected_bytes - self.header.data_bytes if self.header and self.expected_bytes else 0


def parse_header(text: bytes) -> Header:
    """Parse the JSON of a header. Raises BadHeader where it is no JSON, or its tensors do not lie one after the other."""
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadHeader("its header is not JSON") from error
    if not isinstance(entries, dict):
        raise BadHeader("its header is no JSON object")
    entries.pop("__metadata__", None)
    spans = sorted(_span(name, entry) for name, entry in entries.items())
    reached = 0
    for begin, end, name in spans:
        if begin != reached or end < begin:
            raise BadHeader(f"tensor {name} lies at {begin}..{end}, where {reached} was expected")
        reached = end
    tensors = {name: Tensor(str(entry["dtype"]), tuple(entry["shape"])) for name, entry in entries.items()}
    for begin, end, name in spans:
        if tensors[name].dtype in BITS and tensors[name].size_bytes != end - begin:
            raise BadHeader(f"tensor {name} has {end - begin} bytes, and its shape needs {tensors[name].size_bytes}")
    return Header(tensors, reached)


def _span(name: str, entry: Any) -> tuple[int, int, str]:
    """Where a tensor lies. Raises BadHeader for an entry that is none."""
    try:
        begin, end = entry["data_offsets"]
        sizes = [*entry["shape"], begin, end]
        if isinstance(entry["dtype"], str) and all(type(size) is int and size >= 0 for size in sizes):
            return begin, end, name
    except (TypeError, KeyError, ValueError):
        pass
    raise BadHeader(f"tensor {name[:100]} is described in another form")


def parse_length(start: bytes) -> int:
    """Parse the first eight bytes of a file to the length of its header. Raises BadHeader for one that cannot be."""
    if len(start) < LENGTH_BYTES:
        raise BadHeader("it is shorter than the length of a header")
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if not 2 <= length <= MOST_HEADER_BYTES:
        raise BadHeader("it does not begin with the length of a header")
    return length


def is_pointer(start: bytes, size_bytes: int) -> bool:
    """Tell a git-LFS pointer, a text file of some hundred bytes that stands where the real file should be."""
    return size_bytes <= POINTER_BYTES and start.startswith(POINTER)


def parse_pointer(start: bytes) -> int | None:
    """Tell the size in bytes of the file that a git-LFS pointer stands for."""
    words = start.decode("utf-8", "replace").split()
    size = words[words.index("size") + 1] if "size" in words[:-1] else ""
    return int(size) if size.isdigit() else None


def parse_index(text: str) -> tuple[dict[str, str], int | None]:
    """Parse `*.safetensors.index.json` to the shard of each tensor, and the bytes of all tensors where it says so.

    Raises BadHeader.
    """
    try:
        found = json.loads(text)
        shards = found["weight_map"]
        total = (found.get("metadata") or {}).get("total_size")
        return {str(name): str(shard) for name, shard in shards.items()}, int(total) if total else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadHeader("it is not an index of shards") from error


def read_shard(folder: str, name: str, roots: Iterable[str], most_header_bytes: int = MOST_HEADER_BYTES) -> Shard:
    """Read one safetensors file's header and compare it with the file's size; a header above the cap is left unread."""
    roots = tuple(roots)
    path = f"{folder}/{name}"
    try:
        start, size = read_start(path, roots, FIRST_READ_BYTES)
    except Unreadable as error:
        return Shard(name, 0, "missing" if "does not exist" in str(error) else "unreadable", str(error))
    if is_pointer(start, size):
        return Shard(name, size, "pointer", "it is a git-LFS pointer", parse_pointer(start))
    if not size:
        return Shard(name, 0, "truncated", "it is empty")
    try:
        length = parse_length(start)
        if LENGTH_BYTES + length > size:
            return Shard(name, size, "truncated", "it ends inside its header", LENGTH_BYTES + length)
        if length > most_header_bytes:
            return Shard(name, size)
        if LENGTH_BYTES + length > len(start):
            start, size = read_start(path, roots, LENGTH_BYTES + length)
        header = parse_header(start[LENGTH_BYTES : LENGTH_BYTES + length])
    except Unreadable as error:
        return Shard(name, size, "unreadable", str(error))
    except BadHeader as error:
        return Shard(name, size, "damaged", str(error))
    return judged(Shard(name, size, "", "", LENGTH_BYTES + length + header.data_bytes, header))


def judged(shard: Shard) -> Shard:
    """A shard with the verdict of its size: it must be what its header asks for, no less and no more."""
    wanted = shard.expected_bytes or 0
    if shard.size_bytes == wanted:
        return shard
    fault = "truncated" if shard.size_bytes < wanted else "damaged"
    why = f"it has {shard.size_bytes:,} bytes and its header asks for {wanted:,}"
    return Shard(shard.name, shard.size_bytes, fault, why, wanted, shard.header)


def conflicts(shards: Iterable[Shard], index: Mapping[str, str]) -> list[str]:
    """Sentences about tensors that stand in two shards, or not in the shard that the index names."""
    shards = [shard for shard in shards if shard.header]
    places: dict[str, list[Shard]] = {}
    for shard in shards:
        for tensor in shard.header.tensors if shard.header else ():
            places.setdefault(tensor, []).append(shard)
    found = []
    for tensor, holding in places.items():
        if len(holding) > 1:
            found.append(f"{tensor} is in {' and '.join(shard.name for shard in holding)}")
    names = {shard.name for shard in shards}
    found += [
        f"{tensor} is not in {shard}, where the index puts it"
        for tensor, shard in index.items()
        if shard in names and shard not in {each.name for each in places.get(tensor, ())}
    ]
    return found


def bytes_by_dtype(shards: Iterable[Shard]) -> dict[str, dict[str, int]]:
    """Values and bytes of all tensors whose headers were read, by type, most bytes first."""
    sums: dict[str, dict[str, Any]] = {}
    for shard in shards:
        for tensor in shard.header.tensors.values() if shard.header else ():
            entry = sums.setdefault(tensor.dtype, {"tensors": 0, "values": 0, "bytes": 0})
            entry["tensors"] += 1
            entry["values"] += prod(tensor.shape)
            entry["bytes"] += tensor.size_bytes if tensor.dtype in BITS else 0
    return dict(sorted(sums.items(), key=lambda item: -item[1]["bytes"]))
