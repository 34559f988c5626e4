"""What a scan of logs finds: files read, signatures matched, tracebacks, and the exception that started it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from kb.errors import InputError
from kb.types import Role
from probes.scanner.prefixes import parse_line

Origin = Literal["engine", "process", "line", "request", "secondary", "noise"]
"""Where an exception comes from, best root first: an engine or worker process; any other process; a line without a
traceback; one request; a wrapper or the echo of another process's failure; shutdown chatter."""


class ScanError(InputError):
    """A log that cannot be read. The message is one sentence: what, where, and what to do instead."""


@dataclass(frozen=True, slots=True)
class FileRead:
    """A log that was read: `bytes` of text (after decompression) and `lines`."""

    path: str
    bytes: int
    lines: int


@dataclass(frozen=True, slots=True)
class Hit:
    """One line: its number (from 1), its timestamp as printed, its masked text (at most 2,000 characters), its neighbours."""

    path: str
    line: int
    time: str | None
    text: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """A signature that was seen: `count` lines, the first and the last of them, and the values of its named groups.

    A count of 10,000 or more of a `context` signature means "at least": so many are counted, then only the last is kept.
    """

    document: str
    signature: str
    role: Role
    count: int
    first: Hit
    last: Hit
    groups: dict[str, str] = field(default_factory=dict)
    last_groups: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Link:
    """One exception of a chain; `line` is where its `Name: message` stands."""

    exception: str
    message: str
    line: int


@dataclass(frozen=True, slots=True)
class Traceback:
    """A traceback without log prefixes. `links` runs from the exception that started it to the one that ended it.

    `process` is the label it was printed under ("EngineCore_DP0 pid=123", "TP1", ""); `count` how often it was seen.
    """

    path: str
    line: int
    end_line: int
    process: str
    origin: Origin
    links: tuple[Link, ...]
    text: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class RootException:
    """The exception that everything else followed from, where it is printed."""

    exception: str
    message: str
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class ScanReport:
    """All that a scan found; `matches` in the order of their first lines. `warnings` are sentences about what was not read."""

    files: tuple[FileRead, ...] = ()
    matches: tuple[Match, ...] = ()
    root: RootException | None = None
    tracebacks: tuple[Traceback, ...] = ()
    warnings: tuple[ScanError, ...] = ()

    def traceback_around(self, hit: Hit) -> Traceback | None:
        """The traceback in which a hit stands, or None."""
        inside = [t for t in self.tracebacks if t.path == hit.path and t.line <= hit.line <= t.end_line]
        said = parse_line(hit.text).text.strip()
        return next((t for t in inside if said in t.text), inside[0] if inside else None)


def to_json(report: ScanReport) -> dict[str, Any]:
    """The report as `scan --json` prints it."""
    root = report.root
    return {
        "files": [{"path": f.path, "bytes": f.bytes, "lines": f.lines} for f in report.files],
        "matches": [match_json(m) for m in report.matches],
        "root": root and {"exception": root.exception, "message": root.message, "path": root.path, "line": root.line},
    }


def match_json(match: Match) -> dict[str, Any]:
    """One signature that was seen, as `scan --json` prints it."""
    return {
        "document": match.document,
        "signature": match.signature,
        "role": match.role,
        "count": match.count,
        "first": _hit_json(match.first),
        "last": _hit_json(match.last),
    }


def _hit_json(hit: Hit) -> dict[str, Any]:
    return {"path": hit.path, "line": hit.line, "time": hit.time, "text": hit.text}
