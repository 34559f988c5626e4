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

from kb.errors import InputError
from kb.types import Language
from ui.slack_blocks import say

FILE_BYTES = 32 * 1024 * 1024
FILES = 5
SECONDS = 30.0  # for one file
HEAD_BYTES, TAIL_BYTES = 8 * 1024 * 1024, 8 * 1024 * 1024
NAME_CHARACTERS = 100
ITS_NAMES: dict[Language, str] = {"en": "it", "zh": "它"}
TOO_MANY: dict[Language, str] = {"en": f"only {FILES} files at a time", "zh": f"一次最多 {FILES} 个文件"}
NOT_LOGS = ("image/", "video/", "audio/", "application/pdf")


class Refused(InputError):
    """A file that is not read; the sentence is why."""


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
            troubles.append(say("refused_file", lang, name=name, why=error.told(lang)))
    for file in files[FILES:]:
        troubles.append(say("refused_file", lang, name=name_of(file, logs), why=TOO_MANY[lang]))
    return logs, troubles


def name_of(file: dict[str, Any], taken: dict[str, str]) -> str:
    """A file's own name, numbered where another has it too."""
    name = Path(str(file.get("name") or "log")).name[:NAME_CHARACTERS] or "log"
    return name if name not in taken else f"{len(taken) + 1}-{name}"


def read_file(file: dict[str, Any], token: str, base_url: str) -> str:
    """The text of one file, unpacked and masked; of a long one its beginning and end. Raises Refused."""
    from probes.scanner import ScanError, open_log

    if str(file.get("mimetype", "")).startswith(NOT_LOGS):
        raise Refused("it is no text", "不是文本")
    url = str(file.get("url_private_download") or file.get("url_private") or "")
    if not is_slacks(url, base_url):
        raise Refused("it does not lie at Slack", "不在 Slack 上")
    if int(file.get("size") or 0) > FILE_BYTES:
        raise Refused(f"it is larger than {FILE_BYTES >> 20} MiB", f"大于 {FILE_BYTES >> 20} MiB")
    with tempfile.TemporaryDirectory(prefix="crashcart-") as folder:
        path = os.path.join(folder, "log")
        with open(path, "wb") as kept:
            for piece in fetched(url, token):
                kept.write(piece)
        try:
            return open_log(path, HEAD_BYTES, TAIL_BYTES)
        except ScanError as error:
            why, why_zh = (error.told(lang).replace(path, it) for lang, it in ITS_NAMES.items())
            raise Refused(why.partition(":")[0], why_zh.partition("：")[0]) from error


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
                raise Refused(
                    f"Slack did not give it (status {response.status_code}): the app needs files:read",
                    f"Slack 没有给出它（状态 {response.status_code}）：应用需要 files:read 权限",
                )
            for piece in response.iter_bytes():
                read += len(piece)
                if read > FILE_BYTES or time.monotonic() > end:
                    raise Refused(
                        f"it is larger than {FILE_BYTES >> 20} MiB, or took longer than {SECONDS:g} s",
                        f"大于 {FILE_BYTES >> 20} MiB，或下载超过 {SECONDS:g} 秒",
                    )
                yield piece
    except httpx.HTTPError as error:
        raise Refused(
            f"Slack did not give it ({type(error).__name__})", f"Slack 没有给出它（{type(error).__name__}）"
        ) from error
