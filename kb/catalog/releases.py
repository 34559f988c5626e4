"""Release numbers: their order, and ranges of them. Plain tuples, because `packaging` costs 16 ms to import."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache, lru_cache

Key = tuple[int, ...]

_RELEASE = re.compile(r"v?(\d+(?:\.\d+)*)(?:[.\-_]?(dev|a|b|rc|post)[.\-_]?(\d*))?", re.I)
_PHASE = {"dev": -4, "a": -3, "b": -2, "rc": -1, "": 0, "post": 1}


@cache
def release_key(text: str) -> Key:
    """Orders releases as they were published: `0.9.0rc1` < `0.9.0` < `0.9.0.post1` < `0.9.0.1`.

    A leading `v` and what follows `+` or `-` (a local version, an image tag's CUDA) are ignored. Raises ValueError for
    what is not a release, such as `latest`.
    """
    found = _RELEASE.match(text.strip())
    if not found:
        raise ValueError(f"not a release: {text!r}")
    numbers = [int(part) for part in found[1].split(".")][:4]
    phase = (found[2] or "").lower()
    return (*numbers, *[0] * (4 - len(numbers)), _PHASE[phase], int(found[3] or 0))


def is_release(text: str) -> bool:
    """Whether `release_key` takes the text."""
    return bool(_RELEASE.match(text.strip()))


def same_minor(one: str, other: str) -> bool:
    """Whether both belong to one minor line: 0.8.2 and 0.8.5.post1 do."""
    return release_key(one)[:2] == release_key(other)[:2]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a release lies among the recorded ones, as indexes; None where there is no such neighbour."""

    exact: int | None
    before: int | None
    after: int | None


@lru_cache(maxsize=4096)
def place(releases: tuple[str, ...], release: str) -> Place:
    """Find a release among the recorded ones, which are in order."""
    keys = [release_key(each) for each in releases]
    key = release_key(release)
    at = bisect_left(keys, key)
    if at < len(keys) and keys[at] == key:
        return Place(at, at, at)
    before = at - 1 if at else None
    return Place(None, before, at if at < len(keys) else None)


def inside(release: str, ranges: str) -> bool:
    """Whether a release lies in ranges such as `0.4.1..0.8.2 0.33.0..`; both ends belong to it, the empty text holds all."""
    if not ranges:
        return True
    key = release_key(release)
    for span in ranges.split():
        first, dots, last = span.partition("..")
        low = release_key(first) if first else ()
        high = release_key(last) if last else None if dots else low
        if low <= key and (high is None or key <= high):
            return True
    return False
