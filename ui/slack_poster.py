"""Says things in Slack: in a thread, or to the one who typed a command; with the limits and the moods of Slack's Web API."""

from __future__ import annotations

import logging
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry.builtin_handlers import (
    ConnectionErrorRetryHandler,
    RateLimitErrorRetryHandler,
    ServerErrorRetryHandler,
)
from slack_sdk.webhook import WebhookClient

from assistant.language import detect_language
from ui.slack_blocks import NOTICE_CHARACTERS, Post, note, say
from ui.slack_events import Spot

LOG = logging.getLogger("crashcart.slack")
TRIES = 3
SECONDS = 15


class Poster:
    """Posts messages, files and states under a bot token."""

    def __init__(self, token: str, base_url: str) -> None:
        self.client = web_client(base_url, token)

    def post(self, spot: Spot, post: Post, whole: str = "") -> None:
        """Send a message; what does not fit follows as a file, and as text alone where Slack refuses the blocks."""
        if spot.response_url:
            self.respond(spot.response_url, post)
            return
        send: dict[str, Any] = {
            "channel": spot.channel,
            "thread_ts": spot.ts,
            "unfurl_links": False,
            "unfurl_media": False,
        }
        is_whole = post.is_whole
        try:
            self.client.chat_postMessage(**send, text=post.text, blocks=post.blocks)
        except SlackApiError as error:
            if "block" not in str(error.response.get("error")) and error.response.get("error") != "msg_too_long":
                raise
            self.client.chat_postMessage(**send, text=post.text)
            is_whole = False
        if not is_whole and whole:
            self._upload(spot, whole)

    def _upload(self, spot: Spot, text: str) -> None:
        """The whole answer as a file in the thread."""
        try:
            self.client.files_upload_v2(
                channel=spot.channel, thread_ts=spot.ts, filename="answer.md", title="answer.md", content=text
            )
        except (SlackClientError, OSError) as error:
            LOG.warning("the whole answer could not be uploaded (files:write): %s", reason(error))
            self.client.chat_postMessage(
                channel=spot.channel, thread_ts=spot.ts, text=say("cut", detect_language(text))
            )

    def respond(self, url: str, post: Post, replace: bool = False) -> None:
        """Send to the address of a command or a click, which Slack gave and only the asker sees."""
        blocks = post.blocks if post.is_whole else [*post.blocks, note(say("cut", "en"))]
        sent = WebhookClient(url, timeout=SECONDS, retry_handlers=retries()).send(
            text=post.text, blocks=blocks, response_type="ephemeral", replace_original=replace
        )
        if sent.status_code != 200:
            LOG.warning("Slack did not take an answer to a command: %s %s", sent.status_code, sent.body[:100])

    def status(self, spot: Spot, text: str) -> None:
        """What is being done, under the thread, where Slack shows such a thing."""
        if spot.response_url:
            return
        try:
            self.client.assistant_threads_setStatus(channel_id=spot.channel, thread_ts=spot.ts, status=text)
        except (SlackClientError, OSError) as error:
            LOG.debug("no status was shown: %s", reason(error))


def web_client(base_url: str, token: str | None = None) -> WebClient:
    """A client of the Web API at that address, which slack_sdk wants to end in a slash."""
    return WebClient(token, base_url=base_url.rstrip("/") + "/", timeout=SECONDS, logger=LOG, retry_handlers=retries())


def retries() -> list[Any]:
    """Slack asks to wait (429), fails (500, 503) or hangs up: tried again, a bounded number of times."""
    return [
        ConnectionErrorRetryHandler(max_retry_count=TRIES),
        RateLimitErrorRetryHandler(max_retry_count=TRIES),
        ServerErrorRetryHandler(max_retry_count=TRIES),
    ]


def reason(error: Exception) -> str:
    """Why Slack did not take something, on one line and without what was sent."""
    if isinstance(error, SlackApiError):
        return str(error.response.get("error") or error.response.status_code)
    return f"{type(error).__name__}: {error}".splitlines()[0][:NOTICE_CHARACTERS]
