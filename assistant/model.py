"""Which language model writes, where it is reached, what it may spend, and what it spent."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from assistant.settings import Settings
from assistant.types import Spent
from kb.errors import InputError

OPENAI = "https://api.openai.com/v1"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible endpoint and the model's name there. The key is sent to this address alone, and never shown."""

    name: str
    url: str = OPENAI
    key: str = field(default="", repr=False)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine; no proxy stands before it then."""
        return urlsplit(self.url).hostname in LOOPBACK

    @property
    def shown(self) -> str:
        """The address without what may be secret in it."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def endpoint_of(settings: Settings, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """The endpoint that `NAME`, or `NAME@BASE_URL`, and the settings name; raises InputError for an address that is none.

    OPENAI_API_KEY is a key for OpenAI: it goes to no other address. For others there is CRASHCART_MODEL_KEY.
    """
    name, at, url = settings.model.partition("@http")
    url = f"http{url}" if at else settings.model_url or OPENAI
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address or not name.strip() or re.search(r"\s", url):
        raise InputError(f"{settings.model!r} is no model: give NAME or NAME@http://HOST:PORT/v1.")
    key = settings.model_key or (environ.get("OPENAI_API_KEY", "") if url.rstrip("/") == OPENAI else "")
    return Endpoint(name.strip(), url.rstrip("/"), key)


@dataclass(slots=True)
class Usage:
    """What an answer has cost so far. Tokens are the endpoint's own count, else a quarter of the characters (`estimated`)."""

    model: str = ""
    model_calls: int = 0
    tool_calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    estimated: bool = False

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    def since(self, before: Usage) -> Spent:
        """What was spent since the usage was as before."""
        return Spent(self.model, self.tokens_in - before.tokens_in, self.tokens_out - before.tokens_out)

    def money(self, price_in: float, price_out: float) -> float:
        """In the currency of the prices, which are per million tokens."""
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6


@dataclass(frozen=True, slots=True)
class Limits:
    """What an answer may spend: wall-clock seconds, tokens in all, tool calls. `context_tokens` is how many the model can read at once."""

    seconds: float = 60.0
    tokens: int = 60_000
    tool_calls: int = 8
    context_tokens: int = 16_384

    @property
    def model_calls(self) -> int:
        """One for each tool call, and two to write and to correct what was written."""
        return self.tool_calls + 3


def limits_of(settings: Settings) -> Limits:
    return Limits(settings.model_seconds, settings.model_tokens, settings.model_calls, settings.model_context)
