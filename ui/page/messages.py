"""The messages of a conversation: what the user sent, each step, the answer's card, what can be pressed under it."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from assistant.threads import Asked
from assistant.types import Answer, Event, Step
from kb.types import Language
from ui.page.card import TitleOf, answer_card, harmless, plain
from ui.page.uploads import shown_name
from ui.page.words import say
from ui.steps import step_summary, step_title

Message = dict[str, Any]
"""A message as a chat takes it: `role`, `content`, and of a step `metadata`, of an answer `options`."""


def user_message(text: str, logs: Iterable[str]) -> Message:
    """What the user sent, as it stands: nothing in it is read as Markdown or HTML."""
    lines = [*(f"📎 {shown_name(log)}" for log in logs), text.strip()]
    said = html.escape("\n".join(filter(None, lines)) or "…")
    return {"role": "user", "content": f'<pre class="said">{said}</pre>'}


def sentence(text: str, options: Sequence[Message] = ()) -> Message:
    """Something said that is no answer."""
    return {"role": "assistant", "content": text, **({"options": list(options)} if options else {})}


def step_message(step: Step, lang: Language, index_is_open: bool = True) -> Message:
    """A step as a message that opens: what is done, how long it took, how it went; its one sentence inside."""
    metadata: dict[str, Any] = {"title": step_title(step, lang)}
    if step.status == "running":
        waiting = step.name == "search" and not index_is_open
        content = say("first_search", lang) if waiting else "…"
        return {"role": "assistant", "content": content, "metadata": metadata | {"status": "pending"}}
    went = "" if step.status == "ok" else say(step.status, lang)
    metadata |= {"status": "done", "duration": round(step.seconds, 3), "log": went}
    return {"role": "assistant", "content": plain(step_summary(step, lang)) or "…", "metadata": metadata}


def placed(steps: Sequence[Step], step: Step) -> list[Step]:
    """The steps with this one: in the place of its own start, or last."""
    for i, other in enumerate(steps):
        if other.name == step.name and other.status == "running":
            return [*steps[:i], step, *steps[i + 1 :]]
    return [*steps, step]


def streamed(
    events: Iterable[Event], lang: Language, index_is_open: Callable[[], bool], title_of: TitleOf
) -> Iterator[list[Message]]:
    """The assistant's messages after each event: the steps, then the text as it grows, then the card."""
    steps: list[Step] = []
    text = ""
    for event in events:
        if event.answer:
            yield answered(event.answer, title_of, steps)
            return
        if event.step:
            steps = placed(steps, event.step)
        text += event.text
        shown = [step_message(step, lang, index_is_open()) for step in steps]
        yield [*shown, sentence(harmless(text))] if text else shown


def answered(answer: Answer, title_of: TitleOf, steps: Sequence[Step] = (), name: str = "now") -> list[Message]:
    """The messages of an answer: its steps in one line, and its card."""
    return [*folded(answer.steps or steps, answer.lang, name), sentence(answer_card(answer, title_of))]


def folded(steps: Sequence[Step], lang: Language, name: str) -> list[Message]:
    """Steps that are over, in one line that opens, so that the diagnosis comes first; the line says the worst they found.

    `name` tells this answer's line from those of the conversation's other answers.
    """
    if not steps:
        return []
    worst = next((status for status in ("critical", "warning") if any(s.status == status for s in steps)), "")
    title = say("step" if len(steps) == 1 else "steps", lang, n=len(steps))
    metadata = {"title": title, "id": name, "status": "done", "log": f"· {say(worst, lang)}" if worst else ""}
    shown = [step_message(step, lang) for step in steps]
    inside = [message | {"metadata": message["metadata"] | {"parent_id": name}} for message in shown]
    return [{"role": "assistant", "content": say("only_read", lang), "metadata": metadata}, *inside]


def history(asked: Sequence[Asked], lang: Language, title_of: TitleOf, is_running: bool = False) -> list[Message]:
    """A kept conversation. Its last answer can be rated, its last question asked again where no answer came."""
    shown: list[Message] = []
    for each in asked:
        shown.append(user_message(each.text, each.turn.logs if each.turn else ()))
        if each.turn:
            shown += answered(each.turn.answer, title_of, name=str(each.place))
            shown[-1] |= rating(each, lang)
        elif is_running and each is asked[-1]:
            shown.append(sentence(say("in_progress", lang)))
        else:
            shown.append(sentence(say("no_answer", lang), [option("again", lang)]))
    return shown


def rating(asked: Asked, lang: Language) -> Message:
    """What can be pressed under an answer; nothing where it was rated."""
    if asked.helped is not None:
        return {}
    return {"options": [option(f"{word}:{asked.place}", lang) for word in ("helped", "failed")]}


def rated(helped: bool, path: str, lang: Language) -> Message:
    """What is said to a rating."""
    said = say("is_helped" if helped else "is_failed", lang)
    return sentence(f"✓ {said} {say('case_kept', lang, path=path.replace('`', ''))}")


def option(value: str, lang: Language) -> Message:
    """Something to press: `helped:3`, `failed:3` (for the third question), `again`."""
    return {"value": value, "label": say(value.partition(":")[0], lang)}
