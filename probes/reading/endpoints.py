"""Asks one engine what it is, whether it is well, and how loaded it is: GETs that generate nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from probes.reading.http import Address, Path, Reason, Reply, Unanswered, get
from probes.reading.metrics import Page, parse_page
from probes.reading.window import Window

BUDGET_SECONDS = 3.6
"""All probes of an answer share 5 s, and the GPU is asked after this."""
REQUEST_SECONDS = 1.7
BETWEEN_SECONDS = 0.7
OWNERS = ("vllm", "sglang")
# Of what SGLang tells of itself; its server arguments hold an API key, so the rest is not kept.
TOLD = (
    *("max_running_requests", "chunked_prefill_size", "max_total_num_tokens", "context_length", "mem_fraction_static"),
    *("tp_size", "dp_size", "enable_metrics", "schedule_conservativeness", "disaggregation_mode"),
)

NoPage = Literal["", "absent", "empty", "foreign", "refused", "too-large", "unanswered"]


@dataclass(frozen=True, slots=True)
class Model:
    """A served model. `max_model_len` is in tokens."""

    id: str
    max_model_len: int | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What one address answered.

    `failed` says why the first request got no answer, and `connected` whether anybody took the connection. `pages` are
    the scrapes, `between_seconds` apart; `no_page` says why there are none.
    """

    address: Address
    engine: str = ""
    release: str = ""
    connected: bool = True
    failed: Reason | None = None
    status: int | None = None
    """The HTTP status of /v1/models."""
    health: int | None = None
    """The HTTP status of vLLM's /health; SGLang's generates a token, so it is not asked."""
    models: tuple[Model, ...] = ()
    told: dict[str, Any] = field(default_factory=dict)
    pages: tuple[Page, ...] = ()
    no_page: NoPage = ""
    between_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def window(self) -> Window | None:
        """The last page, and what happened before it; None without a page."""
        return Window(self.pages[0], self.pages[-1], self.between_seconds) if self.pages else None


def read_endpoint(address: Address, budget_seconds: float = BUDGET_SECONDS) -> Endpoint:
    """Ask one address, for at most `budget_seconds` in all."""
    started = time.monotonic()
    ask = _Asker(address, started + budget_seconds)
    try:
        models = ask("/v1/models")
    except Unanswered as error:
        seconds = time.monotonic() - started
        engine = address.server.engine if address.server else ""
        return Endpoint(address, engine, connected=error.connected, failed=error.reason, seconds=seconds)
    first, no_page = _scrape(ask)
    scraped = time.monotonic()
    engine = _engine(address, models, first)
    release, told, health = _identify(ask, engine)
    pages: tuple[Page, ...] = (first,) if first else ()
    if first:
        time.sleep(max(0.0, min(scraped + BETWEEN_SECONDS, ask.deadline) - time.monotonic()))
        second, _ = _scrape(ask)
        pages += (second,) if second else ()
    return Endpoint(
        address,
        engine,
        release,
        status=models.status,
        health=health,
        models=parse_models(models),
        told=told,
        pages=pages,
        no_page=no_page,
        between_seconds=time.monotonic() - scraped if len(pages) == 2 else 0.0,
        seconds=time.monotonic() - started,
    )


def parse_models(reply: Reply) -> tuple[Model, ...]:
    """Parse /v1/models; nothing for an answer of another form."""
    return tuple(
        Model(str(card["id"]), card["max_model_len"] if isinstance(card.get("max_model_len"), int) else None)
        for card in _cards(reply)
        if card.get("id")
    )


def parse_told(answer: Any) -> dict[str, Any]:
    """Keep of SGLang's /server_info what a judgement needs; what its scheduler says goes before what it was given."""
    if not isinstance(answer, Mapping):
        return {}
    states = answer.get("internal_states")
    state = states[0] if isinstance(states, list) and states and isinstance(states[0], Mapping) else {}
    told = {name: answer[name] for name in TOLD if isinstance(answer.get(name), int | float | str | bool)}
    running = state.get("effective_max_running_requests_per_dp")
    if isinstance(running, int):
        told["max_running_requests"] = running
    return told


class _Asker:
    """Asks one address, each path for a share of the time and all of them until one deadline."""

    def __init__(self, address: Address, deadline: float) -> None:
        self.address, self.deadline = address, deadline

    def __call__(self, path: Path) -> Reply:
        return get(self.address, path, min(self.deadline, time.monotonic() + REQUEST_SECONDS))

    def json(self, path: Path) -> Any:
        """The JSON of a path; None for any other answer, and for none."""
        try:
            reply = self(path)
        except Unanswered:
            return None
        return reply.json() if reply.status == 200 else None


def _scrape(ask: _Asker) -> tuple[Page | None, NoPage]:
    try:
        reply = ask("/metrics")
        if reply.status in (301, 302, 307, 308):  # vLLM before 0.4 has its page one slash further
            reply = ask("/metrics/")
    except Unanswered as error:
        return None, "too-large" if error.reason == "too-large" else "unanswered"
    if reply.status != 200:
        return None, "refused" if reply.status in (401, 403) else "absent"
    if not reply.text.strip():
        return None, "empty"
    page = parse_page(reply.text)
    return page, "" if page else "foreign"


def _engine(address: Address, models: Reply, page: Page | None) -> str:
    if page:
        return page.engine
    owners = [str(card.get("owned_by", "")) for card in _cards(models)]
    if any(owner in OWNERS for owner in owners):
        return next(owner for owner in owners if owner in OWNERS)
    return address.server.engine if address.server and models.status in (200, 401, 403, 503) else ""


def _cards(reply: Reply) -> list[Mapping[str, Any]]:
    answer = reply.json() if reply.status == 200 else None
    cards = answer.get("data") if isinstance(answer, Mapping) else None
    return [card for card in cards if isinstance(card, Mapping)] if isinstance(cards, list) else []


def _identify(ask: _Asker, engine: str) -> tuple[str, dict[str, Any], int | None]:
    """Ask for the release, for what a SGLang server tells of itself, and for vLLM's health."""
    if engine == "sglang":
        answer = ask.json("/server_info") or ask.json("/get_server_info")
        release = str(answer.get("version") or "") if isinstance(answer, Mapping) else ""
        return release, parse_told(answer), None
    if engine != "vllm":
        return "", {}, None
    answer = ask.json("/version")
    release = str(answer.get("version") or "")[:40] if isinstance(answer, Mapping) else ""
    try:
        return release, {}, ask("/health").status
    except Unanswered:
        return release, {}, None
