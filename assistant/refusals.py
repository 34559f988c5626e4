"""What an endpoint's errors mean: whether to try again, to ask for less, or to give up with which reason."""

from __future__ import annotations

import re

import httpx

from assistant.fencing import plain

TRANSIENT = (408, 409, 425, 429, 500, 502, 503, 504)
LOST = frozenset(
    ["APIConnectionError", "APITimeoutError", "RemoteProtocolError", "ReadError", "JSONDecodeError", "CutOff"]
)
CONTEXT_IS_SHORT = re.compile(
    r"(?i)context[ _](?:length|window|size)|maximum context|too many tokens|too long|exceeds? (?:the )?(?:available|maximum)|n_ctx"
)
TOOLS_ARE_UNKNOWN = re.compile(r"(?i)\btools?\b|tool_choice|function call")
BAD_REQUESTS = (400, 404, 413, 422, 501)


def is_refused(error: Exception) -> bool:
    """Whether the endpoint does not take the request as it is, and might take another."""
    return getattr(error, "status_code", None) in BAD_REQUESTS


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed a moment later. A refused connection does not count: nothing listens there."""
    status = getattr(error, "status_code", None)
    if status is not None:
        return status in TRANSIENT
    return is_lost(error) and type(error.__cause__).__name__ not in ("ConnectError", "ConnectTimeout")


def is_lost(error: Exception) -> bool:
    """Whether the connection is to blame, by the name of the class: openai has another home."""
    return not LOST.isdisjoint(each.__name__ for each in type(error).__mro__)


def reason_of(error: Exception) -> tuple[str, str]:
    """Why a model gave nothing: a key of the notes, and one line about it without secrets."""
    from probes.reading.mask import mask

    status = getattr(error, "status_code", None)
    root = error
    while root.__cause__ is not None and isinstance(root.__cause__, Exception):
        root = root.__cause__
    line = (plain(mask(str(root))).strip().splitlines() or [type(root).__name__])[0][:160]
    if status is not None:
        return "refused", f"{status}" if str(status) in line else f"{status}: {line}"
    if is_lost(error) or isinstance(root, OSError | httpx.HTTPError):
        return "unreachable", line
    return "broken", f"{type(error).__name__}: {line}"
