"""The language model's answer: started from the offline one, held against what was read, and given up for it where that fails.

The exchange with the model runs in a thread of its own, so that nothing an endpoint does holds up the answer past its deadline.
The diagnoses of the answer stay those of the deterministic core; the model words them, and may look further.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from assistant.claims import pieces
from assistant.exchange import Brief, Draft, Exchange, Mishap
from assistant.model import Endpoint, endpoint_of, limits_of
from assistant.prompts import named, note
from assistant.review import struck
from assistant.settings import Settings
from assistant.types import Answer, Event, Step
from assistant.wording import say
from assistant.writer import own_command, write_fix
from kb.types import Language

TICK_SECONDS = 0.1


def write(
    offline: Answer, brief: Brief, settings: Settings, cancelled: threading.Event | None = None
) -> Generator[Event, None, Answer]:
    """Steps while the model works, then its text by paragraphs; gives the answer, the offline one where the model fails.

    `offline` is the finished deterministic answer. It is done at most `model_seconds` after the first event is asked for.
    Raises InputError for a model that cannot be one.
    """
    endpoint, limits = endpoint_of(settings), limits_of(settings)
    exchange = Exchange(offline, brief, endpoint, limits)
    start = time.monotonic()
    threading.Thread(target=exchange.run, name="language model", daemon=True).start()
    steps: list[Step] = []
    draft: Draft | None = None
    mishap: Mishap | None = None
    try:
        for item in awaited(exchange.news, start + limits.seconds, cancelled):
            if isinstance(item, Event):
                if item.step and item.kind == "step_finished":
                    steps.append(item.step)
                yield item
            elif isinstance(item, Draft):
                draft = better(draft, item)
            else:
                mishap = item
    finally:
        exchange.stopped.set()
    if mishap and mishap.key == "deadline":
        mishap = Mishap("deadline", {"seconds": limits.seconds})
    text, warnings, status = settled(offline, draft, mishap, brief, exchange, settings)
    cost = cost_step(exchange, settings, offline.lang, status, time.monotonic() - start)
    yield Event("step_finished", cost)
    answer = replace(
        offline,
        text=text,
        evidence=tuple(brief.tools.ledger.evidence),
        warnings=(*offline.warnings, *warnings),
        steps=(*offline.steps, *steps, cost),
    )
    for paragraph in paragraphs(text):
        yield Event("text", text=paragraph)
    return answer


def awaited(
    news: queue.SimpleQueue[Event | Draft | Mishap | None], until: float, cancelled: threading.Event | None
) -> Iterator[Event | Draft | Mishap]:
    """What comes in until the end, the deadline (monotonic seconds) or the cancelling; the last two are mishaps."""
    while True:
        if cancelled is not None and cancelled.is_set():
            yield Mishap("cancelled")
            return
        left = until - time.monotonic()
        if left <= 0:
            yield Mishap("deadline")
            return
        try:
            item = news.get(timeout=min(left, TICK_SECONDS) if cancelled is not None else left)
        except queue.Empty:
            continue
        if item is None:
            return
        yield item


def better(have: Draft | None, new: Draft) -> Draft:
    """The newer draft, unless it cannot be shown and the older can."""
    return have if have is not None and new.failure and not have.failure else new


def settled(
    offline: Answer,
    draft: Draft | None,
    mishap: Mishap | None,
    brief: Brief,
    exchange: Exchange,
    settings: Settings,
) -> tuple[str, list[str], str]:
    """The text to show, the warnings to go with it, and the status of the model's step."""
    lang = offline.lang
    if draft is not None and not draft.failure and (mishap is None or mishap.key != "cancelled"):
        text = struck(draft.text, draft.findings, note("left_out", lang))
        wrong = [claim for finding in draft.findings for claim in finding.wrong]
        warnings = [note("struck", lang, what=named(wrong, lang))] if wrong else []
        return with_fixes(text, offline), warnings, "warning" if wrong else "ok"
    if mishap is None:
        mishap = Mishap(draft.failure or "empty" if draft is not None else "empty")
    why = note(mishap.key, lang, **mishap.values)
    if mishap.key in ("unreachable", "deadline") and is_diagnosed(exchange.endpoint, brief, settings):
        why += " " + note("is_diagnosed", lang)
    return offline.text, [note("offline_instead", lang, why=why)], "warning"


def is_diagnosed(endpoint: Endpoint, brief: Brief, settings: Settings) -> bool:
    """Whether the model's endpoint is one of the engines that probes look at."""
    mine = urlsplit(endpoint.url)
    return any(
        (urlsplit(url).hostname, urlsplit(url).port) == (mine.hostname, mine.port)
        for url in (*settings.urls.split(","), *brief.tools.target.urls)
        if url
    )


def with_fixes(text: str, offline: Answer) -> str:
    """The text, with the leading diagnosis' first fix as the documents have it where the model left its commands out."""
    fix = next((f for d in offline.diagnoses[:1] for f in d.fixes if f.commands), None)
    if fix is None or offline.status not in ("diagnosed", "howto"):
        return text
    squeezed = "".join(text.split())
    if any("".join(c.split()) in squeezed for c in (*fix.commands, fix.patched_command or "") if c):
        return text
    heading = say("steps" if offline.status == "howto" else "fixes", offline.lang)
    return "\n".join(
        [text, "", f"### {heading}", "", *write_fix(1, fix, offline.lang, own_command(offline.evidence))]
    ).rstrip()


def cost_step(exchange: Exchange, settings: Settings, lang: Language, status: str, seconds: float) -> Step:
    """What the model cost: calls, tokens, and money where prices are set."""
    usage = exchange.usage
    money = usage.money(settings.price_in, settings.price_out)
    summary = note(
        "cost",
        lang,
        name=exchange.endpoint.name,
        calls=usage.model_calls,
        tools=usage.tool_calls,
        about=note("estimated", lang) if usage.estimated else "",
        tokens_in=usage.tokens_in,
        tokens_out=usage.tokens_out,
        money=f", {money:.4f}" if settings.price_in or settings.price_out else "",
    )
    return Step("model", status, seconds, summary)


def paragraphs(text: str) -> Iterator[str]:
    """The text in paragraphs that add up to it; a fence is never parted."""
    inside = {i for p in pieces(text) if p.kind in ("code", "mark") for i in range(p.start, p.end + 1)}
    begin = at = 0
    while (at := text.find("\n\n", at)) >= 0:
        end = at + 2
        while end < len(text) and text[end] == "\n":
            end += 1
        if at + 1 not in inside and text[begin:end].strip():
            yield text[begin:end]
            begin = end
        at = end
    if text[begin:]:
        yield text[begin:]
