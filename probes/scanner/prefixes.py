"""Takes a log line apart: what a container, a process and a logger put before the text, and the text itself."""

from __future__ import annotations

import re
from typing import NamedTuple

_CLOCK = r"\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?"
_ISO = rf"\d{{4}}-\d\d-\d\d[T ]{_CLOCK}(?:Z|[+-]\d\d:?\d\d)?"
_NAMES = "(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL)"
_LEVEL = rf"(?P<level>{_NAMES})"

_ENVELOPE = re.compile(
    rf"(?P<name>[A-Za-z0-9][\w.-]*) {{0,40}}\| (?=.)"  # docker compose: "vllm-1  | "
    rf"|\d{{4}}-\d\d-\d\dT{_CLOCK}(?:Z|[+-]\d\d:?\d\d) (?:std(?:out|err) [FP] )?"  # Kubernetes, docker logs -t
    rf"|{_ISO} \| (?!{_NAMES}\b)"
    rf"|\[{_ISO}\] (?=\[)"
    r"|(?:> ?)+"  # quoted in Markdown
    r"|\[pod/(?P<pod>[^\]]+)\] "
    rf"|[A-Z][a-z]{{2}} [ \d]\d {_CLOCK} \S+ (?P<unit>[\w.@/-]+(?:\[\d+\])?): "  # journald, syslog
)
_COLOUR = r"(?:\[\d[\d;]*m)?"
_PROCESS = re.compile(
    rf"{_COLOUR}\((?P<process>[^()]*\bpid=\d+[^()]*|raylet[^()]*)\){_COLOUR} ?|\[(?P<rank>rank\d+\]:|Stage-\d+\]) ?"
)
_LOGGERS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_LEVEL} (?P<time>\d\d-\d\d {_CLOCK}) (?:\[(?P<at>[^\]\s]+:\d+)\]|(?P<old>\S+:\d+)\]) ?",  # vLLM
        rf"\[(?P<time>{_ISO})(?P<ranks>(?: [A-Z][A-Za-z_]{{0,12}}\d+)*)\] (?:{_LEVEL}:? +)?",  # SGLang
        r"(?P<short>[IWEFC])(?P<time>\d{4} \d\d:\d\d:\d\d\.\d+) +\d+ (?P<at>\S+:\d+)\] ?",  # torch, glog
        rf"\[(?P<time>{_ISO}) (?P<short>[IWEFC]) \d+ \d+\] (?:\(\w+\) )?(?P<at>\S+:\d+): ",  # ray
        rf"\[?(?P<time>{_ISO})\]?[\s|,-]+(?:[\w.\[\]]+ ?[|-]+ ?)?\[?{_LEVEL}\]?(?:[ \t]*(?:\||--?|:))?[ \t]?(?:(?P<at>[\w.:<>\[\]/-]+) (?:\||--?) )?",
        rf"{_LEVEL}:(?:(?P<at>[\w.]+):(?! ))? *",  # uvicorn, logging's default
        rf"(?P<time>{_ISO}) ",
    )
)
_GROUP = re.compile(r" {2,}[|+](?: |$)|^ *(?=\+-[+-]+ )")
_TIME = re.compile(
    rf"{_ISO}|\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d+)?|[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d|\d\d/[A-Z][a-z]{{2}}/\d{{4}}:\d\d:\d\d:\d\d"
    r"|^\[ *\d+\.\d{6}\]|\b[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+"
)
_SHORT = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "FATAL", "C": "CRITICAL"}


class Line(NamedTuple):
    """A line's text without its prefixes. `container`, `process` and `logger` tell apart what is printed interleaved.

    `logger` is the place in the source that logs, "log" where a logger does not say, "" for what was just printed.
    """

    text: str
    container: str = ""
    process: str = ""
    logger: str = ""
    level: str = ""


def parse_line(line: str) -> Line:
    """Take the prefixes off a line; indentation behind them stays."""
    container, at = "", 0
    for _ in range(3):
        found = _ENVELOPE.match(line, at)
        if not found:
            break
        container = found["name"] or found["pod"] or found["unit"] or container
        at = found.end()
    process = []
    while found := _PROCESS.match(line, at):
        process.append(found["process"] or found["rank"].strip("]:"))
        at = found.end()
    logger = level = ""
    for pattern in _LOGGERS if line[at : at + 1] in _STARTS else ():
        if found := pattern.match(line, at):
            values = found.groupdict()
            level = values.get("level") or _SHORT.get(values.get("short") or "", "")
            logger = values.get("at") or values.get("old") or "log"
            process += (values.get("ranks") or "").split()
            at = found.end()
            break
    if found := _PROCESS.match(line, at):
        process.append(found["process"] or found["rank"].strip("]:"))
        at = found.end()
    return Line(line[at:], container, " ".join(process), logger, level)


def time_in(line: str) -> str | None:
    """The first timestamp in the first 160 characters of a line, as it is printed there."""
    found = _TIME.search(line, 0, 160)
    return found.group() if found else None


def without_group_bars(text: str) -> str:
    """A line of an exception group without the bars that show its nesting."""
    while found := _GROUP.match(text):
        if found.end() == 0:
            break
        text = text[found.end() :]
    return text


_STARTS = frozenset("TDINWEFC[0123456789")
