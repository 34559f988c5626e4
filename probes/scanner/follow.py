"""Follows a log while it is written, through rotation, truncation and recreation, or a stream, and tells what is known in it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import FileIO
from typing import Protocol

from kb.types import Signature
from probes.scanner.blocks import LINE_BYTES, Cleaner, is_json_lines
from probes.scanner.scan import Scan
from probes.scanner.sources import open_file
from probes.scanner.types import Match, ScanError, ScanReport

PIECE_BYTES = 1 << 18
POLL_SECONDS = 0.25
_PACKED = (b"\x1f\x8b", b"\xfd7zXZ\x00", b"BZh", b"\x28\xb5\x2f\xfd", b"PK\x03\x04")


class Readable(Protocol):
    """What is asked of a stream that is followed: `read1` returns what is there, and waits only where nothing is."""

    def read1(self, size: int = ..., /) -> bytes: ...


def follow(path: str | os.PathLike[str], signatures: Sequence[Signature]) -> Iterator[Match]:
    """Every known line of a log as it is written, what is already there first; without end. Raises ScanError at once."""
    return Follower(signatures).file(path)


class Follower:
    """Follows one log. `report` tells at any time all that was found, with the exception that came first.

    What is seen is told at its first line, and again when it was seen 10, 100, 1,000 … times.
    """

    def __init__(self, signatures: Sequence[Signature]) -> None:
        self._scan = Scan(signatures)
        self._held = b""
        self._cleaner: Cleaner | None = None
        self._told: dict[tuple[str, str], int] = {}
        self._is_open = False

    def file(self, path: str | os.PathLike[str], until: Callable[[], bool] = lambda: False) -> Iterator[Match]:
        """The known lines of a file from its beginning on, until `until` says so where nothing new is written."""
        name = os.fspath(path)
        file = open_file(name)
        if file.read(6).startswith(_PACKED):
            file.close()
            raise ScanError(
                f"{name} is packed and does not grow: read it with `crashcart scan {name}`.",
                f"{name} 是压缩文件，不会再增长：请用 `crashcart scan {name}` 读取。",
            )
        file.seek(0)
        return self._follow_file(file, name, until)

    def stream(self, stream: Readable, name: str = "<stdin>") -> Iterator[Match]:
        """The known lines of a stream as they come, to its end."""
        self._begin(name)
        while data := stream.read1(PIECE_BYTES):
            yield from self._feed(data)
        yield from self._end()

    def report(self) -> ScanReport:
        """All that was found up to now; what is being read counts as ended."""
        for _ in self._end():
            pass
        return self._scan.report()

    def _follow_file(self, file: FileIO, name: str, until: Callable[[], bool]) -> Iterator[Match]:
        try:
            self._begin(name)
            while True:
                if data := file.read(PIECE_BYTES):
                    yield from self._feed(data)
                elif fresh := _replaced(file, name):
                    yield from self._end()
                    file.close()
                    file = fresh
                    self._begin(name)
                elif until():
                    return
                else:
                    time.sleep(POLL_SECONDS)
        finally:
            file.close()

    def _begin(self, name: str) -> None:
        self._held, self._cleaner, self._is_open = b"", None, True
        self._scan.begin(name)

    def _feed(self, data: bytes) -> Iterator[Match]:
        """Read the whole lines; the rest waits for its end, but not for more than 64 KiB."""
        data = self._held + data.replace(b"\0", b"")
        cut = data.rfind(b"\n") + 1
        if not cut and len(data) > LINE_BYTES:
            cut = data.rfind(b"\r") + 1
        self._held = data[cut:][:LINE_BYTES]
        if cut:
            yield from self._read(data[:cut])

    def _end(self) -> Iterator[Match]:
        if self._held:
            yield from self._read(self._held + b"\n")
        if self._is_open:
            self._scan.end()
        self._held, self._is_open = b"", False

    def _read(self, data: bytes) -> Iterator[Match]:
        self._cleaner = self._cleaner or Cleaner(is_json_lines(data))
        lines: set[tuple[str, int]] = set()
        for match in self._scan.step(self._cleaner.block(data, len(data), len(data))):
            key = (match.document, match.signature)
            if match.count >= self._told.get(key, 1):
                self._told[key] = 10 ** (math.floor(math.log10(match.count)) + 1)
                if (match.document, match.last.line) not in lines:
                    yield match
                lines.add((match.document, match.last.line))


def _replaced(file: FileIO, name: str) -> FileIO | None:
    """The file that is now under the name, where it is another one or was emptied."""
    with suppress(FileNotFoundError, ScanError):
        here, there = os.fstat(file.fileno()), os.stat(name)
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino) or there.st_size < file.tell():
            return open_file(name)
    return None
