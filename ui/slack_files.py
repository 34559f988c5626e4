"""Logs that people attach in Slack: fetched with the bot token from Slack's own hosts alone, bounded, masked."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from kb.types import Language
from ui.slack_blocks import say

FILE_BYTES = 32 * 1024 * 1024
FILES = 5
SECONDS = 30.0  # for one file
HEAD_BYTES, TAIL_BYTES = 8 * 1024 * 1024, 8 * 1024 * 1024
NAME_CHARACTERS = 100
NOT_LOGS = ("image/", "video/", "audio/", "application/pdf")


class Refused(Exception):
    """A file that is not read; the message is why."""


def read_files(
    files: Sequence[dict[str, Any]], token: str, base_url: str, lang: Language
) -> tuple[dict[str, str], list[str]]:
    """The texts of attached files by name, and a sentence for each that was not read."""
    logs: dict[str, str] = {}
    troubles: list[str] = []
    for file in files[:FILES]:
        name = name_of(file, logs)
        try:
            logs[name] = read_file(file, token, base_url)
        except Refused as error:
            troubles.append(say("refused_file", lang, name=name, why=str(error)))
    for file in files[FILES:]:
        troubles.append(say("refused_file", lang, name=name_of(file, logs), why=f"only {FILES} files at a time"))
    return logs, troubles


def name_of(file: dict[str, Any], taken: dict[str, str]) -> str:
    """A file's own name, numbered where another has it too."""
    name = Path(str(file.get("name") or "log")).name[:NAME_CHARACTERS] or "log"
    return name if name not in taken else f"{len(taken) + 1}-{name}"


def read_file(file: dict[str, Any], token: str, base_url: str) -> str:
    """The text of one file, unpacked and masked; of a long one its beginning and end. Raises Refused."""
    from probes.scanner import ScanError, open_log

    if str(file.get("mimetype", "")).startswith(NOT_LOGS):
        raise Refused("it is no text")
    url = str(file.get("url_private_download") or file.get("url_private") or "")
    if not is_slacks(url, base_url):
        raise Refused("it does not lie at Slack")
    if int(file.get("size") or 0) > FILE_BYTES:
        raise Refused(f"it is larger than {FILE_BYTES >> 20} MiB")
    with tempfile.TemporaryDirectory(prefix="crashcart-") as folder:
        path = os.path.join(folder, "log")
        with open(path, "wb") as kept:
            for piece in fetched(url, token):
                kept.write(piece)
        try:
            return open_log(path, HEAD_BYTES, TAIL_BYTES)
        except ScanError as error:
            raise Refused(str(error).replace(path, "it").partition(":")[0]) from error


def is_slacks(url: str, base_url: str) -> bool:
    """Whether the token may be sent there: a host of slack.com by https, or where the Web API is said to be."""
    parts, api = urlsplit(url), urlsplit(base_url)
    if (parts.scheme, parts.netloc) == (api.scheme, api.netloc):
        return True
    host = (parts.hostname or "").lower()
    return parts.scheme == "https" and (host == "slack.com" or host.endswith(".slack.com"))


def fetched(url: str, token: str) -> Iterator[bytes]:
    """The bytes of a file, following no redirect. Raises Refused."""
    read, end = 0, time.monotonic() + SECONDS
    headers = {"Authorization": f"Bearer {token}"}
    try:
        with httpx.stream("GET", url, headers=headers, timeout=SECONDS / 3, follow_redirects=False) as response:
            if response.status_code != 200 or response.headers.get("content-type", "").startswith("text/html"):
                raise Refused(f"Slack did not give it (status {response.status_code}): the app needs files:read")
            for piece in response.iter_bytes():
                read += len(piece)
                if read > FILE_BYTES or time.monotonic() > end:
                    raise Refused(f"it is larger than {FILE_BYTES >> 20} MiB, or took longer than {SECONDS:g} s")
                yield piece
    except httpx.HTTPError as error:
        raise Refused(f"Slack did not give it ({type(error).__name__})") from error
