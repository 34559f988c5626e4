"""Crashcart in Slack: mentions, direct messages, assistant threads, a slash command and buttons, over HTTP or Socket Mode.

Slack wants its requests acknowledged within three seconds: what takes longer is done in threads of our own.
"""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from slack_bolt import Ack, App, BoltRequest, BoltResponse
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_bolt.adapter.starlette.handler import to_starlette_response
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.errors import SlackClientError

from assistant.assistant import Assistant
from assistant.input import check_question
from assistant.language import detect_language
from assistant.settings import Settings
from assistant.threads import Asked, ThreadError
from assistant.types import Answer, Question
from kb.errors import InputError
from kb.types import Language
from ui import operations
from ui.measures import Measures
from ui.mrkdwn import escape, unescape
from ui.slack_blocks import (
    PREFIX,
    PROMPTS,
    Post,
    answer_post,
    evidence_post,
    note,
    plain_post,
    rated_blocks,
    say,
)
from ui.slack_events import Spot, is_question, own_id, question_text, spot_of, team_of
from ui.slack_files import read_files
from ui.slack_poster import LOG, Poster, reason, web_client

WORKERS = 8  # answers at once
ACKS = 8  # short work of bolt's: acknowledging
BODY_BYTES = 1 << 20
EARLIER_MESSAGES = 20
RECONNECT_SECONDS = (1, 2, 5, 15, 60)
ALL = re.compile(r".*", re.S)


class Seen:
    """Events that were taken on, in this process and in all that share the database of threads."""

    def __init__(self, claim: Callable[[str], bool]) -> None:
        self._claim = claim
        self._here: dict[str, None] = {}
        self._lock = threading.Lock()

    def is_first(self, key: str) -> bool:
        """Whether nobody took this on before; where the database cannot tell, what this process knows counts."""
        with self._lock:
            if key in self._here:
                return False
            self._here[key] = None
            if len(self._here) > 10_000:
                del self._here[next(iter(self._here))]
        try:
            return self._claim(key)
        except ThreadError as error:
            LOG.warning("%s", error)
            return True


class SlackBot:
    """Takes Slack's requests, answers in the background, and posts what it found."""

    def __init__(self, assistant: Assistant, measures: Measures) -> None:
        settings = assistant.settings
        self.assistant, self._measures = assistant, measures
        self.poster = Poster(settings.slack_bot_token, settings.slack_base_url)
        self._seen = Seen(assistant.threads.claim)
        self._work = ThreadPoolExecutor(WORKERS, "slack")
        self._acks = ThreadPoolExecutor(ACKS, "slack-ack")
        self._closing = threading.Event()
        self.app = self._build_app(settings)

    def _build_app(self, settings: Settings) -> App:
        """The bolt app: it checks signatures; who we are is said by Slack's events, so that nothing is asked before an answer."""
        app = App(
            name="crashcart",
            logger=LOG,
            signing_secret=settings.slack_signing_secret,
            client=web_client(settings.slack_base_url),
            authorize=lambda: AuthorizeResult(
                enterprise_id=None, team_id=None, bot_token=settings.slack_bot_token or None
            ),
            listener_executor=self._acks,
        )
        app.use(self.drop_repeated)
        app.event(ALL)(self.on_event)
        app.command(ALL)(self.on_command)
        app.action(ALL)(self.on_action)
        return app

    def drop_repeated(self, body: dict[str, Any], next: Callable[[], BoltResponse]) -> BoltResponse:
        """Acknowledge at once an event that was sent before: Slack repeats what it thinks was lost."""
        event = body.get("event_id")
        if event and not self._seen.is_first(f"slack:{event}"):
            return BoltResponse(status=200, body="")
        return next()

    def on_event(self, body: dict[str, Any], event: dict[str, Any]) -> None:
        """Anything that happens in Slack; what is not meant for us is only acknowledged."""
        if event.get("type") == "assistant_thread_started":
            self._later(lambda: self.greet(event))
        elif is_question(event):
            spot = Spot(team_of(body), event["channel"], event.get("thread_ts") or event["ts"])
            if self._seen.is_first(
                f"slack:{spot.team}:{spot.channel}:{event['ts']}"
            ):  # a mention and a message are one
                self._later(lambda: self.answer_message(spot, event, own_id(body)))

    def on_command(self, ack: Ack, body: dict[str, Any]) -> None:
        """`/crashcart QUESTION`: answered to the one who asks, by the address that Slack gave for it."""
        text = unescape(str(body.get("text", ""))).strip()
        lang = self._language(text)
        if text.lower() in ("", "help"):
            ack(say("usage", lang))
            return
        ack(f"Crashcart {say('working', lang)}")
        trigger = str(body.get("trigger_id", ""))
        spot = Spot(team_of(body), str(body.get("channel_id", "")), trigger, str(body.get("response_url", "")))
        self._later(lambda: self.answer(spot, Question(text, lang=self._lang, thread=spot.thread), []))

    def on_action(self, ack: Ack, body: dict[str, Any]) -> None:
        """A button under an answer."""
        ack()
        action = body["actions"][0]
        name, (thread, _, place) = str(action.get("action_id", "")), str(action.get("value", "")).rpartition(" ")
        if name.startswith(PREFIX) and place.isdigit():
            self._later(lambda: self.act(name.removeprefix(PREFIX), thread, int(place), body))

    def act(self, name: str, thread: str, place: int, body: dict[str, Any]) -> None:
        """Do what a button says with the answer at a place of a thread."""
        spot = spot_of(body)
        asked = next((a for a in self.assistant.threads.read(thread) if a.place == place and a.turn), None)
        if asked is None or asked.turn is None:
            self.poster.post(spot, plain_post(say("gone", "en")))
            return
        lang = asked.turn.answer.lang
        if name in ("helped", "not_helped"):
            operations.rate(self.assistant, thread, place, name == "helped")
            blocks = rated_blocks(body.get("message", {}).get("blocks", []), name == "helped", lang)
            text = body.get("message", {}).get("text", "")
            self.poster.respond(str(body.get("response_url", "")), Post(text, blocks), replace=True)
        elif name == "evidence":
            self.poster.post(spot, evidence_post(asked.turn.answer.evidence, lang))
        elif name == "deeper":
            self.check_deeper(spot, thread, asked)

    def check_deeper(self, spot: Spot, thread: str, asked: Asked) -> None:
        """Run every passive probe, say what each found, and answer the question anew with all of it."""
        assert asked.turn is not None
        turn, lang = asked.turn, asked.turn.answer.lang
        host = operations.run_checkup(self.assistant)
        key = "summary_zh" if lang == "zh" else "summary"
        lines = [f"• *{name}* {r['status']}: {escape(r.get(key) or r['summary'])}" for name, r in host.items()]
        self.poster.post(spot, plain_post("\n\n".join([say("checked", lang), *lines])))
        question = Question(asked.text, turn.logs, command=turn.signals.command, host=host, lang=lang, thread=thread)
        self.answer(spot, question, [])

    def greet(self, event: dict[str, Any]) -> None:
        """A new assistant thread: what can be asked."""
        thread = event["assistant_thread"]
        channel, ts = thread["channel_id"], thread["thread_ts"]
        lang: Language = "zh" if self._lang == "zh" else "en"
        self.poster.client.chat_postMessage(channel=channel, thread_ts=ts, text=say("greeting", lang))
        prompts = [{"title": title, "message": message} for title, message in PROMPTS[lang]]
        self.poster.client.assistant_threads_setSuggestedPrompts(channel_id=channel, thread_ts=ts, prompts=prompts)

    def answer_message(self, spot: Spot, event: dict[str, Any], own: str) -> None:
        """Answer a mention or a direct message, with its files; where a thread is joined, with what was said before."""
        text = question_text(str(event.get("text", "")), own)
        lang = self._language(text)
        self.poster.status(spot, say("working", lang))
        earlier, files = self._earlier(spot, event, lang)
        settings = self.assistant.settings
        logs, troubles = read_files(
            [*event.get("files", ()), *files], settings.slack_bot_token, settings.slack_base_url, lang
        )
        if not (text or logs or earlier):
            self.poster.post(spot, plain_post("\n\n".join([say("usage", lang), *map(escape, troubles)])))
            return
        self.answer(spot, Question(text, earlier | logs, lang=self._lang, thread=spot.thread), troubles)

    def _earlier(
        self, spot: Spot, event: dict[str, Any], lang: Language
    ) -> tuple[dict[str, str], list[dict[str, Any]]]:
        """What people wrote and attached in a thread before we were called into it; nothing where we may not read it."""
        if not event.get("thread_ts") or event.get("channel_type") == "im" or self.assistant.threads.read(spot.thread):
            return {}, []
        try:
            found = self.poster.client.conversations_replies(channel=spot.channel, ts=spot.ts, limit=EARLIER_MESSAGES)
        except (SlackClientError, OSError):
            return {}, []
        messages: list[dict[str, Any]] = found.get("messages", [])
        said = [m for m in messages if m.get("ts") != event["ts"] and not m.get("bot_id")]
        text = "\n".join(unescape(str(m.get("text", ""))) for m in said).strip()
        return ({say("from_thread", lang): text} if text else {}), [f for m in said for f in m.get("files", ())]

    def answer(self, spot: Spot, question: Question, troubles: list[str]) -> None:
        """Ask, show what is being done, and post the answer."""
        try:
            check_question(question)
        except InputError as error:
            self.poster.post(spot, plain_post(escape(str(error))))
            return
        answer: Answer | None = None
        for event in self._measures.watched(self.assistant.ask(question), "slack"):
            if event.kind == "step_started" and event.step and event.step.name.startswith("probe "):
                name = event.step.name.removeprefix("probe ")
                self.poster.status(spot, say("probing", self._language(question.text), name=name))
            answer = event.answer or answer
        assert answer is not None, "the stream ends with an answer"
        place = self._place(question.thread, answer)
        links = {s for d in answer.diagnoses for s in self._sources(d.id) if s.startswith("https://")}
        post = answer_post(answer, f"{question.thread} {place}" if place else "", links)
        post = Post(post.text, [*(note(f":warning: {escape(t)}") for t in troubles), *post.blocks], post.is_whole)
        self.poster.post(spot, post, answer.text)

    def _place(self, thread: str, answer: Answer) -> int:
        """Where the thread keeps this answer, from 1; 0 where it does not."""
        try:
            kept = [
                a.place for a in self.assistant.threads.read(thread) if a.turn and a.turn.answer.text == answer.text
            ]
        except ThreadError:
            return 0
        return kept[-1] if kept else 0

    def _sources(self, document: str) -> tuple[str, ...]:
        known = self.assistant.library.by_id.get(document)
        return next(iter(known.values())).sources if known else ()

    @property
    def _lang(self) -> Any:
        return self.assistant.settings.lang

    def _language(self, text: str) -> Language:
        return detect_language(text) if self._lang == "auto" else self._lang

    def _later(self, work: Callable[[], None]) -> None:
        """Do it in the background; what goes wrong there is logged, and the rest goes on."""
        if not self._closing.is_set():
            self._work.submit(work).add_done_callback(log_failure)

    @asynccontextmanager
    async def living(self, _: object) -> AsyncIterator[None]:
        """Socket Mode is connected while the server lives."""
        token = self.assistant.settings.slack_app_token
        handler: Any = SocketModeHandler(self.app, token, logger=LOG) if token else None
        if handler:
            threading.Thread(target=self._connect, args=(handler,), name="slack-connect", daemon=True).start()
        try:
            yield
        finally:
            self._closing.set()
            self._work.shutdown(wait=False, cancel_futures=True)
            self._acks.shutdown(wait=False, cancel_futures=True)
            if handler:
                handler.close()

    def _connect(self, handler: Any) -> None:
        """Connect, again and again until Slack answers; once connected, bolt keeps it so."""
        for attempt in range(1_000_000):
            try:
                handler.connect()
                return
            except (SlackClientError, OSError) as error:
                LOG.warning("Socket Mode is not connected: %s", reason(error))
            if self._closing.wait(RECONNECT_SECONDS[min(attempt, len(RECONNECT_SECONDS) - 1)]):
                return


def build_router(assistant: Assistant, measures: Measures) -> APIRouter:
    """/slack/events, where a signing secret is set, and Socket Mode, where an app token is."""
    bot = SlackBot(assistant, measures)
    router = APIRouter(lifespan=bot.living)
    if assistant.settings.slack_signing_secret:

        @router.post("/slack/events", include_in_schema=False)
        async def events(request: Request) -> Response:
            body = await request.body()
            if len(body) > BODY_BYTES:
                return Response(status_code=413)
            if not request.headers.get("x-slack-request-timestamp", "").isdigit():  # bolt would fail at it
                return Response(status_code=401)
            try:
                asked = BoltRequest(body=body.decode(), query=str(request.query_params), headers=dict(request.headers))
            except ValueError:  # no UTF-8, no JSON
                return Response(status_code=400)
            return to_starlette_response(await run_in_threadpool(bot.app.dispatch, asked))

    return router


def log_failure(done: Future[None]) -> None:
    """A line for what Slack refused or could not be reached for, a traceback for anything else."""
    error = None if done.cancelled() else done.exception()
    if isinstance(error, SlackClientError | OSError | InputError):
        LOG.error("an answer was lost: %s", reason(error))
    elif error:
        LOG.error("an answer was lost", exc_info=error)
