"""The language model's answer: started from the offline one, held against what was read, and given up for it where that fails.

The exchange with the model runs in a thread of its own, so that nothing an endpoint does holds up the answer past its deadline.
The diagnoses of the answer stay those of the deterministic core; the model words them, and may look further.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from assistant.claims import pieces, unified
from assistant.fencing import plain
from assistant.model import Endpoint, Limits, Usage, endpoint_of, limits_of
from assistant.prompts import ask_back, facts, named, note, system_prompt
from assistant.review import Failure, Finding, failure, review, struck
from assistant.settings import Settings
from assistant.sources import Sources
from assistant.tools import Stopped, Tools
from assistant.types import Answer, Event, Step
from assistant.wording import say
from assistant.writer import write_fix
from kb.types import Language

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

CHARACTERS_PER_TOKEN: dict[Language, float] = {"en": 3.0, "zh": 1.5}
PROMPT_SHARE = 0.5
SHORT_CHARACTERS = 3000
TICK_SECONDS = 0.1
WRITING_SECONDS = 1.0
AUTHORITY_LINES = 5
AUTHORITY_CHARACTERS = 600


@dataclass(frozen=True)
class Brief:
    """What the model's writer needs beside the offline answer. `history` are earlier turns as (question, answer), oldest first.

    `chat` is a model to use in place of the endpoint of the settings.
    """

    tools: Tools
    history: Sequence[tuple[str, str]] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    chat: BaseChatModel | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A text of the model's with what is wrong in it; `failure` says why it cannot be shown, empty where it can."""

    text: str
    findings: tuple[Finding, ...]
    failure: Failure


@dataclass(frozen=True, slots=True)
class Mishap:
    """Why no draft came: a key of the notes and its values."""

    key: str
    values: dict[str, object] = field(default_factory=dict)


class Exchange:
    """One exchange with a model, in its own thread; what it has to say comes through `news`."""

    def __init__(self, offline: Answer, brief: Brief, endpoint: Endpoint, limits: Limits) -> None:
        self.offline, self.brief, self.endpoint, self.limits = offline, brief, endpoint, limits
        self.news: queue.SimpleQueue[Event | Draft | Mishap | None] = queue.SimpleQueue()
        self.usage = Usage(endpoint.name)
        self.stopped = brief.tools.stopped
        self._told = 0.0

    def run(self) -> None:
        """Draft, ask back once where something is wrong, and end with None. Never raises."""
        try:
            with ExitStack() as stack:
                self._write(stack)
        except Exception as error:  # noqa: BLE001 - whatever an endpoint's words lead to becomes the reason for the offline answer
            self.news.put(self._mishap(error))
        finally:
            self.news.put(None)

    def _write(self, stack: ExitStack) -> None:
        from assistant.agent import Agent, open_chat

        chat = self.brief.chat
        if chat is None:
            chat, client = open_chat(self.endpoint, self.limits)
            stack.callback(client.close)
        offline, brief, tools = self.offline, self.brief, self.brief.tools
        characters = int(CHARACTERS_PER_TOKEN[offline.lang] * PROMPT_SHARE * self.limits.context_tokens)
        system = system_prompt(tools.fence, offline.lang)
        first = facts(tools.question.text, offline, brief.history, list(tools.logs), tools.fence, characters)
        shorter = facts(tools.question.text, offline, (), (), tools.fence, min(SHORT_CHARACTERS, characters // 2))
        agent = Agent(chat, system, tools, self.limits, self.usage, self.stopped, self.news.put, self._written, shorter)
        draft = self._draft(agent.ask(first))
        if draft.findings or draft.failure:
            wrong = [claim for finding in draft.findings for claim in finding.wrong]
            self._draft(agent.ask(ask_back(wrong, draft.failure, offline.lang)))

    def _draft(self, text: str) -> Draft:
        """A text reviewed, and sent."""
        offline = self.offline
        text = tidied(text)
        findings = review(text, sources_of(offline, self.brief))
        needs_citation = bool(offline.evidence)
        echoed = self.brief.tools.fence.mark in text
        draft = Draft(
            text, tuple(findings), "echo" if echoed else failure(text, findings, needs_citation, offline.lang)
        )
        self.news.put(draft)
        return draft

    def _written(self, characters: int) -> None:
        """Say from time to time how much was written; never what, before it is reviewed."""
        now = time.monotonic()
        if now - self._told >= WRITING_SECONDS:
            self._told = now
            self.news.put(Event("step_started", Step("write", "running", 0.0, f"{characters:,}")))

    def _mishap(self, error: Exception) -> Mishap:
        from assistant.agent import Endless, OutOfBudget, reason_of

        if isinstance(error, Stopped):
            return Mishap("cancelled")
        if isinstance(error, OutOfBudget):
            return Mishap("budget", {"tokens": self.limits.tokens})
        if isinstance(error, Endless):
            return Mishap("endless")
        key, reason = reason_of(error)
        return Mishap(key, {"url": self.endpoint.shown, "reason": reason})


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
    from urllib.parse import urlsplit

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
    return "\n".join([text, "", f"### {heading}", "", *write_fix(1, fix, offline.lang)]).rstrip()


def sources_of(offline: Answer, brief: Brief) -> Sources:
    """What may account for the model's words, as far as the exchange has come."""
    tools = brief.tools
    question = tools.question
    words = question.text if is_short(question.text) else ""
    fixes = [f for d in offline.diagnoses for f in d.fixes]
    authority = [question.command, words]
    for fix in fixes:
        authority += [fix.title, fix.text, *fix.commands, fix.patched_command or "", *fix.checks]
    links = {link for d in offline.diagnoses for link in tools.library.get(d.id, offline.lang).sources}
    computed = [c.how for f in fixes for c in f.computed]
    percents = [f"{round(100 * d.confidence)}" for d in offline.diagnoses]
    titles = [d.title for d in offline.diagnoses]
    return Sources(
        {e.id: e for e in tools.ledger.evidence},
        tuple(text for text in authority if text),
        (question.text, *computed, *percents, *titles, *sorted(links), tools.release, *tools.logs),
        offline.text,
        frozenset(links),
        tuple(e.id for e in offline.evidence),
        engine=tools.engine,
        release=tools.release,
    )


def is_short(text: str) -> bool:
    """Whether a question is a person's own words; a longer one has a log pasted into it, which speaks for nobody."""
    return len(text) <= AUTHORITY_CHARACTERS and len(text.strip().splitlines()) <= AUTHORITY_LINES


def tidied(text: str) -> str:
    """The model's text without secrets and invisible characters, citations in one form."""
    from probes.reading.mask import mask

    return unified(mask(plain(text))).strip()


def cost_step(exchange: Exchange, settings: Settings, lang: Any, status: str, seconds: float) -> Step:
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
