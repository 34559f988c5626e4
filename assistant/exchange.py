"""One exchange with a language model in a thread of its own: a draft, held against what was read, and asked back once."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from assistant.claims import unified
from assistant.fencing import plain
from assistant.model import Endpoint, Limits, Usage
from assistant.prompts import ask_back, facts, system_prompt
from assistant.review import Failure, Finding, failure, review
from assistant.sources import Sources
from assistant.tools import Stopped, Tools
from assistant.types import Answer, Event, Step
from kb.types import Language

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

CHARACTERS_PER_TOKEN: dict[Language, float] = {"en": 3.0, "zh": 1.5}
PROMPT_SHARE = 0.5
SHORT_CHARACTERS = 3000
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
        from assistant.agent import Endless, OutOfBudget
        from assistant.refusals import reason_of

        if isinstance(error, Stopped):
            return Mishap("cancelled")
        if isinstance(error, OutOfBudget):
            return Mishap("budget", {"tokens": self.limits.tokens})
        if isinstance(error, Endless):
            return Mishap("endless")
        key, reason = reason_of(error)
        return Mishap(key, {"url": self.endpoint.shown, "reason": reason})


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
