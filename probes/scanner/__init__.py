"""Scans logs of any size for every signature of the knowledge base, for tracebacks, and for the exception that started it."""

from probes.scanner.follow import Follower
from probes.scanner.scan import ends_of, open_log, scan_files, scan_stream, scan_text
from probes.scanner.sources import rotated_set
from probes.scanner.types import (
    FileRead,
    Hit,
    Link,
    Match,
    RootException,
    ScanError,
    ScanReport,
    Traceback,
    match_json,
    to_json,
)

__all__ = [
    "FileRead",
    "Follower",
    "Hit",
    "Link",
    "Match",
    "RootException",
    "ScanError",
    "ScanReport",
    "Traceback",
    "ends_of",
    "match_json",
    "open_log",
    "rotated_set",
    "scan_files",
    "scan_stream",
    "scan_text",
    "to_json",
]
