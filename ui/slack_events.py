"""What Slack's requests say: who asks, where, and what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from assistant.settings import Settings
from ui.mrkdwn import unescape


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an answer goes: a thread of a channel, or the one who typed a slash command (`response_url`)."""

    team: str
    channel: str
    ts: str
    response_url: str = ""

    @property
    def thread(self) -> str:
        """The name of the conversation."""
        return re.sub(r"[^\w.:@-]", "-", f"{self.team}:{self.channel}:{self.ts}", flags=re.A)[:128]


def is_question(event: dict[str, Any]) -> bool:
    """Whether a person says something to us: a mention, or a message in a direct conversation."""
    if event.get("bot_id") or event.get("subtype") not in (None, "file_share") or "ts" not in event:
        return False
    return event.get("type") == "app_mention" or (event.get("type") == "message" and event.get("channel_type") == "im")


def question_text(text: str, own: str) -> str:
    """The words of a message without the mention of us."""
    return unescape(
        re.sub(rf"<@{re.escape(own)}(?:\|[^>]*)?>" if own else r"^\s*<@\w+(?:\|[^>]*)?>", " ", text)
    ).strip()


def team_of(body: dict[str, Any]) -> str:
    """The workspace that a request is from."""
    team = body.get("team")
    return str(body.get("team_id") or (team or {}).get("id") or "T")


def own_id(body: dict[str, Any]) -> str:
    """Who we are in the workspace that an event is from."""
    return next(
        (str(a["user_id"]) for a in body.get("authorizations") or () if a.get("is_bot") and a.get("user_id")), ""
    )


def spot_of(body: dict[str, Any]) -> Spot:
    """Where the answer to a click goes: into the thread of the message, or to the one who clicked where only he sees it."""
    container, message = body.get("container") or {}, body.get("message") or {}
    url = str(body.get("response_url", "")) if container.get("is_ephemeral") else ""
    channel = str(container.get("channel_id") or (body.get("channel") or {}).get("id") or "")
    ts = str(message.get("thread_ts") or container.get("thread_ts") or container.get("message_ts") or "")
    return Spot(team_of(body), channel, ts, url)


def is_configured(settings: Settings) -> bool:
    """Whether there is a Slack to talk to."""
    return bool(settings.slack_bot_token and (settings.slack_signing_secret or settings.slack_app_token))
