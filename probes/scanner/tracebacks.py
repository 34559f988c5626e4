"""Reads Python tracebacks out of logs in which several processes write at once.

Lines are told apart by what stands before them: container, process, and the place that logs. A logger that marks only
a record's first line (SGLang, `logging`) leaves the rest of the traceback bare; such lines go to the traceback that
was opened last and has none of its own.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

from probes.scanner.blocks import Block
from probes.scanner.prefixes import Line, parse_line, without_group_bars
from probes.scanner.types import Link

HEADER = "Traceback (most recent call last)"
MESSAGE_LINES = 6
HEAD_LINES, TAIL_LINES = 24, 96
"""Lines kept of a traceback: the first and the last, where it begins and where it was raised."""
LINES_READ = 200_000
"""Lines of tracebacks read one by one (about 1 s); a log with more is read again from its last 4 MB."""
LINES_OPEN, LINES_WAITED = 2_000, 40
"""Lines of others after which a traceback is given up: while its frames are read; after its exception."""

_NAME = r"(?:[A-Za-z_]\w*\.)+(?:[A-Z]\w*|\w*error)|[A-Z]\w*(?:Error|Exception|Warning|Exit|Interrupt|Iteration|Group|Timeout)"
_EXCEPTION = re.compile(rf"(?P<name>{_NAME})(?P<remote>\([\w.]+\))?(?::\s*(?P<message>.*))?$")
_FRAME = re.compile(r"\s*(?:\| *)?File \"?(?P<file>[^\"\n]+?)\"?, line \d+(?:, in (?P<function>.+))?$")
_CAUSE = "The above exception was the direct cause of the following exception"
_CONTEXT = "During handling of the above exception, another exception occurred"
_GROUP_MEMBER = re.compile(r"\+-[+-]+ (?:\d+|\.\.\.) -+$")
_NOT_MESSAGE = re.compile(
    r"Process \S+:$|Exception in thread |frame #\d+|[+=-]+$|\S+\.py:\d+: \w*Warning|(?:\(\S+\) )?\S+@\S+[:~]\S*[$#]"
    r"|terminate called|Aborted|Killed|Segmentation fault|Fatal Python error|Loading |nanobind: |\*\*\* "
)


class Frame(NamedTuple):
    """Where a traceback passed."""

    file: str
    function: str


@dataclass(slots=True)
class Raised:
    """An exception of a chain while it is read. `relation` says how it came of the one printed before it."""

    name: str
    message: list[str]
    line: int
    relation: Literal["", "cause", "context", "inner"] = ""
    first: Frame | None = None
    last: Frame | None = None

    def link(self) -> Link:
        return Link(self.name, "\n".join(self.message).strip(), self.line)


@dataclass(slots=True)
class RawTraceback:
    """A traceback as read, before it is judged. `preface` is what was printed just before it."""

    path: str
    line: int
    key: Line
    preface: str
    end_line: int = 0
    chain: list[Raised] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    left_out: int = 0

    @property
    def text(self) -> str:
        gap = [f"… {self.left_out} lines …"] if self.left_out else []
        return "\n".join([*self.head, *gap, *self.tail])

    def keep(self, number: int, text: str) -> None:
        self.end_line = number
        if len(self.head) < HEAD_LINES:
            self.head.append(text[:2000])
            return
        self.left_out += len(self.tail) == TAIL_LINES
        self.tail.append(text[:2000])


class _Reading:
    """One traceback being read: its frames, then its exception's message, then what may follow from it."""

    def __init__(self, raw: RawTraceback, text: str) -> None:
        self.raw = raw
        self.state: Literal["frames", "message", "after", "chained"] = "frames"
        self.idle = 0
        self.bare: bool | None = None
        """Whether its lines come without the prefix of its first; not known before the second line."""
        self._relation: Literal["", "cause", "context", "inner"] = ""
        self._first: Frame | None = None
        self._last: Frame | None = None
        self._assertion = ""
        self._current = Raised("", [], 0)
        self._start(raw.line, text)

    def _start(self, number: int, text: str) -> None:
        self.state = "frames"
        self._first = self._last = None
        self._indent = len(text) - len(text.lstrip()) if text.lstrip().startswith(HEADER) else 0
        self.raw.keep(number, text)

    def feed(self, number: int, line: Line) -> bool:
        """Take the line if it belongs to the traceback; False ends it."""
        text = without_group_bars(line.text).rstrip()
        take = {"frames": self._frames, "message": self._message, "after": self._after, "chained": self._after}[
            self.state
        ]
        taken = take(number, text)
        if taken:
            self.idle = 0
        return taken

    def _frames(self, number: int, text: str) -> bool:
        if HEADER in text:
            return False
        self.raw.keep(number, text)
        if text.lstrip().startswith("assert "):
            self._assertion = text.strip()
        if frame := _FRAME.match(text):
            self._last = Frame(frame["file"], frame["function"] or "")
            self._first = self._first or self._last
        elif (found := _EXCEPTION.match(text[self._indent :])) and not text[: self._indent].strip():
            self._raise(number, found)
        return True

    def _raise(self, number: int, found: re.Match[str]) -> None:
        message = found["message"] or (self._assertion if found["name"] == "AssertionError" else "")
        raised = Raised(found["name"], [message], number, self._relation, self._first, self._last)
        if self._relation == "inner":
            self.raw.chain.insert(max(0, len(self.raw.chain) - 1), raised)
        else:
            self.raw.chain.append(raised)
        self._relation = "inner" if found["remote"] or "ray::" in raised.message[0] else ""
        self._current = raised
        self.state = "message"

    def _message(self, number: int, text: str) -> bool:
        if (
            text.startswith("  ") and self._relation == "inner"
        ):  # Ray prints the remote frames behind the local exception
            self._start(number, text)
            return True
        if not text.strip() or self._marks(text):
            return self._after(number, text)
        if ends_message(text):
            return False
        if len(self._current.message) < MESSAGE_LINES:
            self._current.message.append(text)
        self.raw.keep(number, text)
        return True

    def _after(self, number: int, text: str) -> bool:
        if not text.strip():
            self.state = "after" if self.state == "message" else self.state
            return True
        if relation := self._marks(text):
            self._relation = relation
            self.state = "chained"
            self.raw.keep(number, text)
            return True
        if self.state == "chained" and HEADER in text:
            self._start(number, text)
            return True
        return False

    def _marks(self, text: str) -> Literal["", "cause", "context", "inner"]:
        if _CAUSE in text:
            return "cause"
        if _CONTEXT in text:
            return "context"
        return "inner" if _GROUP_MEMBER.match(text.strip()) else ""


class TracebackReader:
    """Reads blocks in order; `found` are the tracebacks that ended in an exception, in the order in which they ended."""

    def __init__(self, lines: int = LINES_READ) -> None:
        self.found: list[RawTraceback] = []
        self.last_line = 0
        self._lines = lines
        self._open: list[_Reading] = []

    @property
    def exhausted(self) -> bool:
        """Whether it has read as many lines as it may."""
        return self._lines <= 0

    @property
    def reading(self) -> bool:
        """Whether a traceback is open, so that the next lines matter."""
        return bool(self._open)

    def feed_block(self, path: str, block: Block, line: int) -> None:
        """Read the tracebacks in a block whose first line has the number `line`."""
        text, end = block.text, block.end
        at = counted = 0
        while at < end and not self.exhausted:
            if not self._open:
                header = text.find(HEADER.encode(), at, end)
                if header < 0:
                    return
                at = text.rfind(b"\n", at, header) + 1 or at
            line += block.numbered.count(b"\n", counted, at)
            counted = at
            stop = text.find(b"\n", at, end)
            stop = stop if stop >= 0 else end
            self.feed(path, line, _decode(text[at:stop]), partial(_lines_before, text, at))
            at = stop + 1

    def feed(self, path: str, number: int, text: str, before: Callable[[], Iterable[str]] = tuple) -> None:
        """Read one line; `before` gives the lines that stood before it, the nearest first."""
        self._lines -= 1
        self.last_line = number
        line = parse_line(text)
        is_header = HEADER in text
        for reading in [r for r in reversed(self._open) if _same_stream(r.raw.key, line)]:
            if reading.bare:
                continue
            if reading.feed(number, line):
                reading.bare = False
                return
            self._end(reading)
        if not line.logger:
            for reading in [r for r in reversed(self._open) if _may_adopt(r, line)]:
                if is_header and reading.state != "chained":
                    continue
                if reading.feed(number, line):
                    reading.bare = True
                    return
                self._end(reading)
        if is_header:
            preface = _preface(line, before())
            raw = RawTraceback(path, number, line, preface)
            self._open.append(_Reading(raw, without_group_bars(line.text)))
        self._wait(line)

    def close(self) -> None:
        """End what is still open, as at the end of a log."""
        for reading in list(self._open):
            self._end(reading)

    def _wait(self, line: Line) -> None:
        """Note in what is open that a line of something else went by."""
        for reading in list(self._open):
            reading.idle += 1
            if line.logger and (reading.bare or not reading.raw.key.logger) and reading.state == "message":
                reading.state = "after"
            if reading.idle > (LINES_OPEN if reading.state == "frames" else LINES_WAITED):
                self._end(reading)

    def _end(self, reading: _Reading) -> None:
        self._open.remove(reading)
        if reading.raw.chain:
            self.found.append(reading.raw)


def ends_message(text: str) -> bool:
    """Whether a line cannot be part of an exception's message: something else begins with it."""
    return HEADER in text or bool(_NOT_MESSAGE.match(text) or _FRAME.match(text)) or _CAUSE in text or _CONTEXT in text


def _same_stream(key: Line, line: Line) -> bool:
    return key.container == line.container and key.process == line.process and key.logger == line.logger


def _may_adopt(reading: _Reading, line: Line) -> bool:
    """Whether a bare line can go on a traceback whose first line had a logger's prefix."""
    key = reading.raw.key
    return (
        reading.bare is not False
        and bool(key.logger)
        and key.container == line.container
        and line.process in ("", key.process)
    )


def _preface(header: Line, before: Iterable[str]) -> str:
    """What is said just before "Traceback", on its line or on the line before it of the same process."""
    said = header.text.partition(HEADER)[0].strip(" :│╭─+")
    if said and said != "Exception Group":
        return said
    for text in before:
        line = parse_line(text)
        if (line.container, line.process) == (header.container, header.process) and line.text.strip():
            return line.text.strip()
    return said


def _lines_before(text: bytes | bytearray, at: int, count: int = 4) -> tuple[str, ...]:
    lines: list[str] = []
    while at > 0 and len(lines) < count:
        start = text.rfind(b"\n", 0, at - 1) + 1
        lines.append(_decode(text[start : at - 1]))
        at = start
    return tuple(lines)


def _decode(line: bytes | bytearray) -> str:
    return line.decode("utf-8", "replace")
