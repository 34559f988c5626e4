"""Opens log files, and only those; and names the rotated files of one log."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from io import FileIO
from pathlib import Path

from probes.scanner.streams import ByteStream, unpack
from probes.scanner.types import ScanError

_ROTATED = re.compile(
    r"(?P<base>.+?)"
    r"(?P<mark>(?:\.\d{1,3}|[.-]\d{8}(?:[-T_]?\d{2,6})?|[.-]\d{4}-\d\d-\d\d(?:_\d\d(?:-\d\d)*)?|-\d{9,10})?)"
    r"(?P<packed>\.(?:gz|xz|zst|bz2))?$",
    re.DOTALL,
)
_SYNTHETIC = ("/proc/", "/sys/")


def open_stream(path: str | os.PathLike[str]) -> ByteStream:
    """The text of a log as an unbuffered stream of bytes, decompressed. Raises ScanError for what is not a log file."""
    raw = open_file(path)
    try:
        return unpack(raw, os.fspath(path))
    except BaseException:
        raw.close()
        raise


def open_file(path: str | os.PathLike[str]) -> FileIO:
    """A log file as it is, unbuffered. Raises ScanError for what is not a file that can be read."""
    name = os.fspath(path)
    try:
        raw = FileIO(os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    except FileNotFoundError:
        raise ScanError(
            f"{name} does not exist: see what is there with `ls {_folder(name)}`.",
            f"{name} 不存在：用 `ls {_folder(name)}` 看看那里有什么。",
        ) from None
    except PermissionError:
        raise ScanError(
            f"{name} is not readable for this user: try `sudo cat {name} | crashcart scan -`.",
            f"当前用户无权读取 {name}：请试 `sudo cat {name} | crashcart scan -`。",
        ) from None
    except IsADirectoryError:
        raise _folder_error(name) from None
    except OSError as error:
        raise ScanError(
            f"{name} cannot be opened ({error.strerror}): see what it is with `ls -l {name}`.",
            f"无法打开 {name}（{error.strerror}）：用 `ls -l {name}` 看看它是什么。",
        ) from None
    try:
        _refuse_special(name, os.fstat(raw.fileno()).st_mode)
    except ScanError:
        raw.close()
        raise
    return raw


def oldest_first(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """The paths, each once, with the members of a rotated set (app.log, app.log.1, app.log.2.gz) from oldest to newest."""
    names = list(dict.fromkeys(os.fspath(p) for p in paths))
    places = {_parts(name)[0]: i for i, name in reversed(list(enumerate(names)))}
    return sorted(names, key=lambda name: _age(name, places))


def rotated_set(path: str | os.PathLike[str]) -> list[str]:
    """The files into which a log was rotated, and itself, from oldest to newest."""
    path = Path(path)
    found = [p for p in path.parent.glob(f"{_escape(path.name)}*") if _parts(p.name)[0] == path.name and p.is_file()]
    return oldest_first(found or [path])


def _age(name: str, places: dict[str, int]) -> tuple[int, int, int, str]:
    """Where the set was first named; then dates before numbers before the live file; numbers count down."""
    base, mark = _parts(name)
    if not mark:
        return places[base], 2, 0, name
    return (places[base], 0, 0, mark) if len(mark) >= 6 else (places[base], 1, -int(mark), name)


def _parts(name: str) -> tuple[str, str]:
    """The name of the live file, and the digits that a rotated one has behind it."""
    found = _ROTATED.match(name)
    return (found["base"], re.sub(r"\D", "", found["mark"])) if found else (name, "")


def _escape(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _refuse_special(name: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise _folder_error(name)
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        raise ScanError(
            f"{name} is a pipe, not a file: pipe its text in with `crashcart scan - < {name}`.",
            f"{name} 是管道，不是文件：用 `crashcart scan - < {name}` 把内容送进来。",
        )
    if not stat.S_ISREG(mode):
        raise ScanError(
            f"{name} is a device, not a log: name a file, as in `crashcart scan /var/log/syslog`.",
            f"{name} 是设备，不是日志：请指定文件，例如 `crashcart scan /var/log/syslog`。",
        )
    if os.path.realpath(name).startswith(_SYNTHETIC):
        raise ScanError(
            f"{name} is made by the kernel as it is read, not a log: `crashcart checkup` reads what matters there.",
            f"{name} 由内核在读取时生成，不是日志：其中重要的内容由 `crashcart checkup` 读取。",
        )


def _folder_error(name: str) -> ScanError:
    logs = f"crashcart scan {name.rstrip('/')}/*.log"
    return ScanError(
        f"{name} is a folder: name the logs in it, as in `{logs}`.", f"{name} 是目录：请指定其中的日志，例如 `{logs}`。"
    )


def _folder(name: str) -> str:
    folder = Path(name).absolute().parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return str(folder)
