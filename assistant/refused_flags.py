"""The fix for flags that a release refused: what the catalogue of releases says of each, and the user's command without them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from assistant.signals import Signals
from assistant.types import Fix
from assistant.wording import say
from kb.chinese import in_chinese
from kb.types import ENGINE_NAMES, Language

if TYPE_CHECKING:
    from kb.flags import FlagStatus

DOCUMENT = "unrecognized-arguments"
REFUSED = "unrecognized argument"
NAMED = re.compile(r"(?<!\S)--?[A-Za-z][\w.-]*")
PLACE = -1  # no fix of the document


def refused_names(signals: Signals) -> list[str]:
    """The flags that the log says were not known, in its order."""
    texts = [m.first.text.partition(REFUSED)[2] for m in signals.matches if m.document == DOCUMENT]
    said = [m.groups.get("flag", "") for m in signals.matches if m.document == DOCUMENT]
    names = [name for text in [*texts, *said] for name in NAMED.findall(text)]
    return list(dict.fromkeys(names))


def refused_flags_fix(signals: Signals, engine: str, release: str, lang: Language) -> Fix | None:
    """One fix for all refused flags; None where no engine is known or the catalogue knows nothing better than the document.

    Without a release the newest recorded one is asked, which knows what came and went in all before it.
    """
    from kb.flags import check_name, patched_command, releases_of

    names = refused_names(signals)
    if engine not in ENGINE_NAMES or not names:
        return None
    asked = release or releases_of(engine)[-1]
    statuses = [check_name(engine, asked, name) for name in names]
    told = [(s, sentence(s, engine, lang)) for s in statuses if s.status in ("never", "removed", "renamed", "not-yet")]
    if not told:
        return None
    patched = patched_command(signals.command, engine, asked) if signals.command else ""
    return Fix(
        title=say("refused_title", lang, what="; ".join(action(s, lang) for s, _ in told)),
        text="\n".join(f"- {text}" for _, text in told),
        patched_command=patched if patched and patched != signals.command else None,
        risk="restart",
        flags=tuple(s.name for s, _ in told),
        place=PLACE,
    )


def action(status: FlagStatus, lang: Language) -> str:
    """What to do with one flag, in a few words."""
    if status.status == "not-yet":
        return say("refused_not_yet", lang, name=status.name, since=status.since)
    if status.replacement:
        return say("refused_replace", lang, name=status.name, replacement=status.replacement)
    return say("refused_drop", lang, name=status.name)


def sentence(status: FlagStatus, engine: str, lang: Language) -> str:
    """Where a flag came from and went, as far as the catalogue knows."""
    if status.status == "never":
        span = say("refused_never", lang, name=status.name, engine=ENGINE_NAMES[engine])
    else:
        span = say(
            "refused_span",
            lang,
            name=status.name,
            engine=ENGINE_NAMES[engine],
            since=status.since or "?",
            until=say("refused_until", lang, until=status.until) if status.until else "",
        )
    return f"{span} {in_chinese(status.note) if lang == 'zh' else status.note}".strip()
