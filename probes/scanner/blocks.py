"""Cuts a stream into blocks of whole lines, ready to be searched: colours gone, JSON records opened, long lines cut.

A block's `text` has every carriage return turned into a line end, so that each state of a progress bar is a line of its
own; `numbered` has the same bytes with the carriage returns in place, and its line ends are those of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from probes.scanner.streams import ByteStream
from probes.scanner.types import ScanError

BLOCK_BYTES = 1 << 19
SEARCHERS = 3
"""Threads that search blocks: one searches 0.6 GB/s, and all else about a block takes half of that time."""
BLOCKS_AHEAD = SEARCHERS + 1
"""How many blocks may be read before one is used; one more, the last used, stays valid."""
_BUFFERS = BLOCKS_AHEAD + 4
_NEWLINE, _ESCAPE_BYTE, _ARROW_BYTE = 10, 0x1B, 0xE2
LINE_BYTES = 1 << 16
"""Longer lines are cut here."""

_ESCAPE = re.compile(
    rb"\x1b(?:\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[@-Z\\^_])|\xe2\x86\x90\[[0-9;]*m"
)
_MESSAGES = ("log", "message", "msg", "MESSAGE", "text", "event")
_TIMES = ("time", "timestamp", "ts", "@timestamp", "asctime")
_ERRORS = ("exc_info", "exception", "stack_trace", "traceback", "stack")


class Block(NamedTuple):
    """`end` bytes of whole lines, each with its end; `raw` is how many bytes of the file they were."""

    text: bytes | bytearray
    numbered: bytes | bytearray
    end: int
    raw: int

    def copy(self) -> Block:
        """A block that stays valid."""
        text = bytes(self.text[: self.end])
        numbered = text if self.numbered is self.text else bytes(self.numbered[: self.end])
        return Block(text, numbered, self.end, self.raw)


def read_blocks(stream: ByteStream, name: str) -> Iterator[Block]:
    """Blocks of about 512 KiB, in buffers that are used in turns. Raises ScanError for what is not text."""
    cleaner: Cleaner | None = None
    skipped = 0
    for data, end, raw in _whole_lines(stream):
        if cleaner is None:
            text = bytes(data[:end]).lstrip(b"\0")
            if not text:  # a hole: the log was emptied while its writer kept its place in it
                skipped += raw
                continue
            _refuse_binary(text, name)
            cleaner = Cleaner(is_json_lines(text))
            yield cleaner.block(text, len(text), raw + skipped)
        else:
            yield cleaner.block(data, end, raw)


def is_json_lines(text: bytes) -> bool:
    """Whether the first line is a JSON object with a message in it, as in Docker's own log files."""
    first = text.lstrip().partition(b"\n")[0]
    return first.startswith(b"{") and _open_record(first) is not first


class Cleaner:
    """Makes blocks of one log: remembers the colour codes seen, and whether its lines are JSON."""

    def __init__(self, json_lines: bool) -> None:
        self._json_lines = json_lines
        self._codes: set[bytes] = set()

    def block(self, data: bytes | bytearray, end: int, raw: int) -> Block:
        if self._json_lines:
            data = b"\n".join(map(_open_record, bytes(data[:end]).split(b"\n")))
            end = len(data)
        if data.find(_ESCAPE_BYTE, 0, end) >= 0 or data.find(_ARROW_BYTE, 0, end) >= 0:
            data = self._without_colours(bytes(data[:end]))
            end = len(data)
        if _has_long_line(data, end):
            data = b"\n".join(map(_cut, bytes(data[:end]).split(b"\n")))
            end = len(data)
        text = data.replace(b"\r", b"\n") if data.find(b"\r", 0, end) >= 0 else data
        return Block(text, data, end, raw)

    def _without_colours(self, data: bytes) -> bytes:
        """A log uses few codes: taking one out by name costs 0.5 ms a block (`replace` 1.0), all by pattern 4.6."""
        if b"\x1b" not in data and b"\xe2\x86\x90[" not in data:
            return data
        for code in self._codes:
            data = b"".join(data.split(code))
        if b"\x1b" not in data and b"\xe2\x86\x90[" not in data:
            return data
        if len(self._codes) < 16:
            self._codes.update(_ESCAPE.findall(data, 0, LINE_BYTES))
        return _ESCAPE.sub(b"", data)


def _whole_lines(stream: ByteStream) -> Iterator[tuple[bytearray, int, int]]:
    """The buffer, how much of it is whole lines, and how many bytes of the stream were read since the last."""
    buffers = [bytearray(BLOCK_BYTES + LINE_BYTES)]
    turn = held = raw = 0
    overlong = False
    while True:
        buffer = buffers[turn]
        view = memoryview(buffer)
        size = _fill(stream, view[held:])
        ended = size < len(view) - held
        raw += size
        total = held + size
        if ended and total and buffer[total - 1] != _NEWLINE:
            buffer[total] = _NEWLINE
            total += 1
        if not size:
            if total:
                yield buffer, total, raw
            return
        if overlong:
            at = buffer.find(b"\n", held, total)
            if at < 0:
                continue
            view[held : held + total - at] = bytes(view[at:total])
            total, overlong = held + total - at, False
        whole = total if ended else buffer.rfind(b"\n", 0, total) + 1
        if not whole and total > LINE_BYTES:
            whole = buffer.rfind(b"\r", 0, total) + 1  # the row of states of a progress bar
        held = total - whole
        if whole:
            turn = (turn + 1) % _BUFFERS
            if turn == len(buffers):
                buffers.append(bytearray(BLOCK_BYTES + LINE_BYTES))
            buffers[turn][:held] = view[whole:total]
            yield buffer, whole, raw
            raw = 0
        if held > LINE_BYTES:
            held, overlong = LINE_BYTES, True


def _fill(stream: Any, view: memoryview) -> int:
    """Read until the view is full or the stream ends; what came before an error is kept, the next call meets it again."""
    readinto = getattr(stream, "readinto", None)
    size = 0
    while size < len(view):
        try:
            if readinto:
                got = readinto(view[size:]) or 0
            else:
                piece = stream.read(len(view) - size) or b""
                got = len(piece)
                view[size : size + got] = piece
        except OSError:
            if size:
                return size
            raise
        if not got:
            break
        size += got
    return size


def _refuse_binary(text: bytes, name: str) -> None:
    if text[257:262] == b"ustar":
        raise ScanError(f"{name} is a tar archive: unpack it with `tar xf {name}` and scan the logs in it.")
    if b"\0" in text:
        raise ScanError(f"{name} looks binary: not a log; see what it is with `file {name}`.")


def _has_long_line(data: bytes | bytearray, end: int) -> bool:
    start = 0
    while end - start > LINE_BYTES:
        line_end = data.rfind(b"\n", start, start + LINE_BYTES + 1)
        if line_end < 0:
            return True
        start = line_end + 1
    return False


def _cut(line: bytes) -> bytes:
    """A line with each of its states (between carriage returns) cut."""
    if len(line) <= LINE_BYTES:
        return line
    return b"\r".join(state[:LINE_BYTES] for state in line.split(b"\r"))


def _open_record(line: bytes) -> bytes:
    """The message of a JSON record behind its time, line ends in it as carriage returns; any other line as it is."""
    if not line.startswith(b"{"):
        return line
    import json

    try:
        record = json.loads(line)
    except ValueError:
        return line
    message = next((record[key] for key in _MESSAGES if isinstance(record.get(key), str)), None)
    if message is None:
        return line
    time = next((record[key] for key in _TIMES if isinstance(record.get(key), str)), "")
    error = next((record[key] for key in _ERRORS if isinstance(record.get(key), str)), "")
    text = f"{time} {message.rstrip()}" if time else message.rstrip()
    if error and error not in message:
        text += "\n" + error.rstrip()
    return text.replace("\n", "\r").encode("utf-8", "replace")
