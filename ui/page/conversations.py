"""Conversations as the page leads them: asked, stopped, asked again, taken back, rated. The thread kept is the truth.

The page is drawn from what is kept, so that two windows on one thread, a reload, and a server that was stopped in the
middle of an answer all show the same.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from assistant.assistant import Assistant
from assistant.input import check_question
from assistant.threads import NAME, Asked
from assistant.types import Event, Question
from kb.errors import InputError
from kb.types import Language
from probes.reading.mask import mask
from ui.operations import rate
from ui.page.card import plain
from ui.page.messages import Message, history, rated, sentence, streamed, user_message
from ui.page.uploads import check_uploads, without_folders
from ui.page.words import say

LISTED = 500
REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Here:
    """What a browser says of itself: the thread in its address, those that it began, the page's language and whether it
    was chosen (then answers come in it, whatever the question's language), and whether the person, asked once more, would
    rather keep the thread than delete it."""

    thread: str = ""
    threads: tuple[str, ...] = ()
    lang: Language = "en"
    is_chosen: bool = False
    is_kept: bool = False


def here_of(told: Any) -> Here:
    """What a browser sent, taken as far as it makes sense."""
    told = told if isinstance(told, dict) else {}
    thread, threads = told.get("thread"), told.get("threads")
    names = [t for t in threads if isinstance(t, str) and NAME.fullmatch(t)] if isinstance(threads, list) else []
    return Here(
        thread if isinstance(thread, str) else "",
        tuple(names[-LISTED:]),
        "zh" if told.get("lang") == "zh" else "en",
        bool(told.get("chosen")),
        bool(told.get("kept")),
    )


@dataclass(frozen=True, slots=True)
class Sent:
    """A question as it was sent: its words and the files that came with it."""

    text: str
    logs: tuple[str, ...] = ()


class Conversations:
    """What the page can do with threads; a handle for every browser at once."""

    def __init__(self, assistant: Assistant, is_open: Callable[[], bool], uploads: Path) -> None:
        self.assistant = assistant
        self.uploads = uploads
        self._is_open = is_open
        self._running: dict[str, threading.Event] = {}
        self._sent: OrderedDict[str, Sent] = OrderedDict()

    def ask(self, here: Here, sent: Sent, kept_logs: dict[str, str] | None = None) -> Iterator[list[Message]]:
        """The conversation's messages as the answer grows. Bad input is told in one sentence and not kept."""
        question = Question(
            sent.text,
            kept_logs or {},
            sent.logs,
            lang=self._language(here, sent.text),
            thread=here.thread,
        )
        asked = [*self.show(here), user_message(mask(sent.text), [*sent.logs, *question.logs])]
        yield asked
        try:
            if not sent.text.strip() and not sent.logs and not kept_logs:
                raise InputError(say("empty", here.lang))
            check_question(question)
            check_uploads(sent.logs, here.lang)
            self._remember(here.thread, sent)
            yield from ([*asked, *shown] for shown in self._answer(here, question))
        except InputError as error:
            self._drop_unanswered(here)
            yield [*asked, sentence(plain(without_folders(error.told(self._lang_of(question)), self.uploads)))]
            return
        if here.thread and self._is_answered(here.thread):
            yield self.show(here)

    def _drop_unanswered(self, here: Here) -> None:
        """Take back a question that could not be used: asking it again would come to the same."""
        asked = self.asked(here)
        if asked and not asked[-1].turn:
            self.assistant.threads.take_back(here.thread, asked[-1].place)

    def _answer(self, here: Here, question: Question) -> Iterator[list[Message]]:
        cancelled = threading.Event()
        self._running[here.thread] = cancelled
        lang = self._lang_of(question)
        events = self.assistant.ask(question, cancelled)
        is_left = False
        try:
            for shown in streamed(events, lang, self._is_open, self._title):
                yield self._without_folders(shown)
        except GeneratorExit:
            is_left = True
            threading.Thread(target=self._go_on, args=(here.thread, cancelled, events), daemon=True).start()
            raise
        finally:
            if not is_left:
                self._is_over(here.thread, cancelled)

    def _go_on(self, thread: str, cancelled: threading.Event, events: Iterator[Event]) -> None:
        """Answer to the end although nobody looks any more: who comes back finds the answer."""
        try:
            for _ in events:
                if cancelled.is_set():
                    return
        finally:
            self._is_over(thread, cancelled)

    def _is_over(self, thread: str, cancelled: threading.Event) -> None:
        if self._running.get(thread) is cancelled:
            del self._running[thread]

    def show(self, here: Here) -> list[Message]:
        """What is kept of the thread in the address; a sentence where there is no such thread."""
        if not here.thread:
            return []
        asked = self.asked(here)
        if not asked and here.thread not in here.threads:
            return [sentence(say("unknown_thread", here.lang))]
        is_running = here.thread in self._running
        return self._without_folders(history(asked, here.lang, self._title, is_running))

    def asked(self, here: Here) -> tuple[Asked, ...]:
        """Everything kept of the thread; nothing for a name that cannot be one."""
        return self.assistant.threads.read(here.thread) if NAME.fullmatch(here.thread) else ()

    def stop(self, here: Here) -> list[Message]:
        """End the wait for an answer; its question can be asked again."""
        self._cancel(here)
        return self.show(here)

    def _cancel(self, here: Here) -> None:
        if cancelled := self._running.pop(here.thread, None):
            cancelled.set()

    def again(self, here: Here) -> Iterator[list[Message]]:
        """Ask the last question once more, in place of its first answer."""
        self._cancel(here)
        asked = self.asked(here)
        if not asked:
            yield self.show(here)
            return
        last = asked[-1]
        self.assistant.threads.take_back(here.thread, last.place)
        sent = self._sent.get(here.thread)
        if sent and mask(sent.text) == last.text and all(Path(log).is_file() for log in sent.logs):
            yield from self.ask(here, sent)
        else:
            yield from self.ask(here, Sent(last.text), last.turn.logs if last.turn else None)

    def undo(self, here: Here) -> tuple[str, list[Message]]:
        """Take the last question back with its answer: its words, to be changed, and what is left."""
        self._cancel(here)
        asked = self.asked(here)
        if not asked:
            return "", self.show(here)
        self.assistant.threads.take_back(here.thread, asked[-1].place)
        return asked[-1].text, self.show(here)

    def delete(self, here: Here) -> None:
        """Forget the thread."""
        self._cancel(here)
        if NAME.fullmatch(here.thread):
            self.assistant.threads.delete(here.thread)
        self._sent.pop(here.thread, None)

    def rate(self, here: Here, choice: str) -> list[Message]:
        """Keep whether an answer helped (`helped:3`, `failed:3`), and say where the case is."""
        word, _, place = choice.partition(":")
        helped = word == "helped"
        path = rate(self.assistant, here.thread, int(place) if place.isdigit() else None, helped)
        return [*self.show(here), rated(helped, path, here.lang)]

    def listed(self, here: Here) -> list[tuple[str, str]]:
        """The threads that this browser began, newest first: what is shown, and the name."""
        known = {*here.threads, here.thread}
        return [
            (f"{thread.title}\n{self._when(thread.updated, thread.turns, here.lang)}", thread.id)
            for thread in self.assistant.threads.list(LISTED)
            if thread.id in known
        ]

    def _when(self, updated: float, turns: int, lang: Language) -> str:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(updated))
        return say("question" if turns == 1 else "questions", lang, when=when, n=turns)

    def _language(self, here: Here, text: str) -> Language | Literal["auto"]:
        if here.is_chosen:
            return here.lang
        if self.assistant.settings.lang != "auto":
            return "zh" if self.assistant.settings.lang == "zh" else "en"
        return "auto" if text.strip() else here.lang

    def _lang_of(self, question: Question) -> Language:
        from assistant.language import detect_language

        return question.lang if question.lang != "auto" else detect_language(question.text)

    def _is_answered(self, thread: str) -> bool:
        asked = self.assistant.threads.read(thread)
        return bool(asked and asked[-1].turn)

    def _remember(self, thread: str, sent: Sent) -> None:
        """Keep what was sent, so that it can be asked again with its files; the oldest is dropped."""
        if not thread:
            return
        self._sent[thread] = sent
        self._sent.move_to_end(thread)
        while len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)

    def _without_folders(self, shown: Sequence[Message]) -> list[Message]:
        return [m | {"content": without_folders(m["content"], self.uploads)} for m in shown]

    def _title(self, document: str, lang: Language) -> str:
        library = self.assistant.library
        return library.get(document, lang).title if document in library.by_id else document
