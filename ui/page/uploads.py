"""What is attached: shown by the names that people know, and stopped early where a packed file swells beyond any log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from kb.errors import InputError
from kb.types import Language
from ui.page.words import say

MOST_BYTES = 4 << 30
BOMB_BYTES = 64 << 20
BOMB_TIMES = 400  # logs pack 10 to 40 times smaller, a file of one repeated line 200 times
PACKED = (b"\x1f\x8b", b"\xfd7zXZ\x00", b"BZh", b"\x28\xb5\x2f\xfd")
PIECE_BYTES = 1 << 20


def shown_name(path: str) -> str:
    """A file's own name."""
    return Path(path).name


def without_folders(text: str, uploads: Path) -> str:
    """A text with uploaded files by their names: where the page put them says nothing to anyone."""
    return re.sub(rf"{re.escape(str(uploads))}/[0-9a-f]{{8,}}/", "", text)


def check_uploads(paths: Iterable[str], lang: Language) -> None:
    """Raises InputError for a packed file that unpacks to more than a page reads; ScanError for one that is damaged."""
    for path in paths:
        with Path(path).open("rb") as file:
            packed = file.read(6).startswith(PACKED)
        if packed:
            check_swelling(path, Path(path).stat().st_size, lang)


def check_swelling(path: str, packed_bytes: int, lang: Language) -> None:
    """Raises InputError where a packed file grows beyond any log."""
    from probes.scanner.sources import open_stream
    from probes.scanner.streams import DamagedError

    stream, unpacked = open_stream(path), 0
    try:
        while piece := stream.read(PIECE_BYTES):
            unpacked += len(piece)
            times = unpacked // max(packed_bytes, 1)
            if unpacked > BOMB_BYTES and times > BOMB_TIMES:
                raise InputError(say("no_log", lang, name=shown_name(path), times=f"{times:,}+"))
            if unpacked > MOST_BYTES:
                raise InputError(say("swells", lang, name=shown_name(path), gib=MOST_BYTES >> 30))
    except DamagedError:
        return  # the scanner tells what can be read of it
    finally:
        stream.close()
