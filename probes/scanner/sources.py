"""Opens log files, and only those; and names the rotated files of one log."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from probes.scanner.streams import ByteStream, unpack
from probes.scanner.types import ScanError

_ROTATED = re.compile(r"(?P<base>.+?)(?P<mark>(?:[.-]\d{1,10}(?:[-T]\d{2,6})?)?)(?P<packed>\.(?:gz|xz|zst|bz2))?$")
_SYNTHETIC = ("/proc/", "/sys/")


def open_stream(path: str | os.PathLike[str]) -> ByteStream:
    """The text of a log as an unbuffered stream of bytes, decompressed. Raises ScanError for what is not a log file."""
    name = os.fspath(path)
    try:
        raw = os.fdopen(os.open(name, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_BINARY", 0)), "rb", buffering=0)
    except FileNotFoundError:
        raise ScanError(f"{name} does not exist: see what is there with `ls {_folder(name)}`.") from None
    except PermissionError:
        raise ScanError(f"{name} is not readable for this user: try `sudo cat {name} | crashcart scan -`.") from None
    except IsADirectoryError:
        raise ScanError(_folder_sentence(name)) from None
    except OSError as error:
        raise ScanError(f"{name} cannot be opened ({error.strerror}): see what it is with `ls -l {name}`.") from None
    try:
        _refuse_special(name, os.fstat(raw.fileno()).st_mode)
        return unpack(raw, name)
    except BaseException:
        raw.close()
        raise


def oldest_first(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """The paths, each once, with the members of a rotated set (app.log, app.log.1, app.log.2.gz) from oldest to newest."""
    names = list(dict.fromkeys(os.fspath(p) for p in paths))
    order = {base: i for i, base in reversed(list(enumerate(_ROTATED.match(n)["base"] for n in names)))}  # type: ignore[index]
    return sorted(names, key=lambda name: _age(name, order))


def rotated_set(path: str | os.PathLike[str]) -> list[str]:
    """The files into which a log was rotated, and itself, from oldest to newest."""
    path = Path(path)
    found = [p for p in path.parent.glob(f"{_escape(path.name)}*") if _base(p.name) == path.name and p.is_file()]
    return oldest_first(found or [path])


def _age(name: str, order: dict[str, int]) -> tuple[int, int, int, str]:
    """Where the set was first named; then dates before numbers before the live file; numbers count down."""
    found = _ROTATED.match(name)
    assert found is not None  # every part but one character is optional
    mark = re.sub(r"\D", "", found["mark"])
    if not mark:
        return order[found["base"]], 2, 0, name
    return (order[found["base"]], 0, int(mark), name) if len(mark) >= 6 else (order[found["base"]], 1, -int(mark), name)


def _base(name: str) -> str:
    found = _ROTATED.match(name)
    return found["base"] if found else name


def _escape(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _refuse_special(name: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise ScanError(_folder_sentence(name))
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        raise ScanError(f"{name} is a pipe, not a file: pipe its text in with `crashcart scan - < {name}`.")
    if not stat.S_ISREG(mode):
        raise ScanError(f"{name} is a device, not a log: name a file, as in `crashcart scan /var/log/syslog`.")
    if os.path.realpath(name).startswith(_SYNTHETIC):
        raise ScanError(
            f"{name} is made by the kernel as it is read, not a log: `crashcart checkup` reads what matters there."
        )


def _folder_sentence(name: str) -> str:
    return f"{name} is a folder: name the logs in it, as in `crashcart scan {name.rstrip('/')}/*.log`."


def _folder(name: str) -> str:
    folder = Path(name).absolute().parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return str(folder)
