"""/webhook: questions from outgoing webhooks of Mattermost, Rocket.Chat or Teams; text in, text out."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from assistant.assistant import Assistant
from assistant.input import check_question
from assistant.types import Question
from kb.errors import InputError
from ui.measures import Measures

TEXT_CHARACTERS = 16_000  # Mattermost takes 16,383
BODY_BYTES = 4 * 1024 * 1024
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.S)
MENTION = re.compile(r"@(?=\w)")


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody said in a chat: the words, the conversation they belong to (empty: none), and whether Teams sent it."""

    text: str
    thread: str
    is_teams: bool = False


def build_router(assistant: Assistant, measures: Measures) -> APIRouter:
    """/webhook; the caller shows the token in its body, as a bearer token, or signs with it as Teams does."""
    router = APIRouter()
    token = assistant.settings.webhook_token

    @router.post("/webhook", include_in_schema=False)
    async def webhook(request: Request) -> dict[str, str]:
        raw = await request.body()
        if len(raw) > BODY_BYTES:
            raise HTTPException(413, "more than 4 MiB: give the log to `crashcart ask --log`.")
        authorization = request.headers.get("authorization", "")
        signed = is_signed(raw, authorization, token)
        body = parse_body(raw, request.headers.get("content-type", ""))
        if not signed and not shows_token(body, authorization, token):
            raise HTTPException(401, "the token is missing or wrong.")
        message = read_message(body)
        text = await run_in_threadpool(reply, assistant, measures, message)
        return {"type": "message", "text": text} if message.is_teams else {"text": text, "response_type": "comment"}

    return router


def reply(assistant: Assistant, measures: Measures, message: Message) -> str:
    """The answer as Markdown, or the sentence that says why there is none."""
    lang: Any = assistant.settings.lang
    question = Question(message.text, lang=lang, thread=message.thread)
    try:
        check_question(question)
    except InputError as error:
        return harmless(str(error))
    *_, last = measures.watched(assistant.ask(question), "webhook")
    assert last.answer is not None, "the stream ends with an answer"
    text = "\n\n".join([*(f"> {w}" for w in last.answer.warnings), last.answer.text])
    return harmless(text)[:TEXT_CHARACTERS]


def parse_body(raw: bytes, kind: str) -> dict[str, Any]:
    """JSON or a form as a mapping; refuses anything else."""
    try:
        text = raw.decode()
        if "x-www-form-urlencoded" in kind:
            return dict(parse_qsl(text))
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is neither JSON nor a form.") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "the body is no JSON object.")
    return body


def shows_token(body: dict[str, Any], authorization: str, token: str) -> bool:
    """Whether the body or the header has the token; the comparison takes the same time for any."""
    shown = [str(body.get("token", "")), authorization.partition(" ")[2] if authorization else ""]
    return any(secrets.compare_digest(each.encode(), token.encode()) for each in shown if each)


def is_signed(raw: bytes, authorization: str, token: str) -> bool:
    """Whether the header is `HMAC …` over the body with the token as its key, in Base64, as Teams signs."""
    scheme, _, signature = authorization.partition(" ")
    if scheme.lower() != "hmac":
        return False
    try:
        key = base64.b64decode(token, validate=True)
    except binascii.Error:
        return False
    wanted = base64.b64encode(hmac.new(key, raw, hashlib.sha256).digest())
    return hmac.compare_digest(wanted, signature.strip().encode())


def read_message(body: dict[str, Any]) -> Message:
    """The words without the word that called us, and the conversation."""
    conversation = body.get("conversation")
    is_teams = isinstance(conversation, dict)
    text = body.get("text")
    said = text if isinstance(text, str) else ""
    if is_teams:
        said = re.sub(r"<at>.*?</at>|</?\w[^>]*>|&nbsp;", " ", said)
        place = str(conversation.get("id", "")) if isinstance(conversation, dict) else ""
    else:
        trigger = body.get("trigger_word")
        if isinstance(trigger, str) and trigger and said.startswith(trigger):
            said = said.removeprefix(trigger)
        root = next((str(body[k]) for k in ("thread", "root_id", "thread_id", "tmid") if body.get(k)), "")
        place = ":".join(str(body.get(k, "")) for k in ("team_id", "channel_id")) + f":{root}" if root else ""
    thread = "webhook:" + re.sub(r"[^\w.:@-]", "-", place, flags=re.A)[:110] if place else ""
    return Message(said.strip(), thread, is_teams)


def harmless(markdown: str) -> str:
    """Markdown in which nobody is called by name and no HTML is read, code left as it is."""
    parts = CODE.split(markdown)
    return "".join(
        part if place % 2 else MENTION.sub("@\u200b", part.replace("<", "&lt;")) for place, part in enumerate(parts)
    )
