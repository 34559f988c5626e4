"""What a person sees of a checklist: what does not hold first, then what to tick, and the way to the cause of slowness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from assistant.checklists import Answered, Checklist, Node, Turn, Words, answer, walk
from kb.types import Language

MARKS = {"no": ("✗", "bold red"), "ask": ("☐", "yellow"), "yes": ("✓", "green"), "moot": ("–", "dim")}
WORDS: dict[str, dict[Language, str]] = {
    "verdict": {
        "en": "{title}: {no} failing, {ask} to tick, {yes} in order",
        "zh": "{title}：{no} 项不符合，{ask} 项待确认，{yes} 项符合",
    },
    "yes": {"en": "yes", "zh": "是"},
    "no": {"en": "no", "zh": "否"},
    "open": {"en": "not read here", "zh": "此处未读到"},
    "if_yes": {"en": "if so", "zh": "若是"},
    "if_no": {"en": "if not", "zh": "若否"},
    "documents": {"en": "documents: {names}", "zh": "文档：{names}"},
    "tree": {"en": "Where to look", "zh": "从哪里查起"},
}


def say(key: str, lang: Language, **values: object) -> str:
    """A few words, with their values put in."""
    return WORDS[key][lang].format(**values)


def render_checklist(checklist: Checklist, values: Mapping[str, Any], lang: Language) -> None:
    """A verdict, the sections, and the way to a cause where the checklist has one."""
    console = Console()
    sections = answer(checklist, values)
    replies = [answered.reply for _, items in sections for answered in items]
    counts = {reply: replies.count(reply) for reply in ("no", "ask", "yes")}
    title = checklist.zh if lang == "zh" else checklist.en
    console.print(Text(say("verdict", lang, title=title, **counts), style="bold"))
    for section, items in sections:
        console.print(Text(f"\n{section.zh if lang == 'zh' else section.en}", style="bold"))
        table = _table()
        for answered in sorted(items, key=lambda a: list(MARKS).index(a.reply)):
            mark, style = MARKS[answered.reply]
            table.add_row(Text(mark, style=style), _item(answered, lang))
        console.print(table)
    if checklist.tree:
        console.print(Text(f"\n{say('tree', lang)}", style="bold"))
        turns, end = walk(values)
        _render_way(console, turns, end, lang)


def _item(answered: Answered, lang: Language) -> Text:
    """The statement, what it was decided by, and what to do unless it holds."""
    item = answered.item
    text = Text(item.zh if lang == "zh" else item.en)
    if answered.readings:
        text.append(f"  {_readings(answered.readings)}", style="dim")
    hint = item.moot or (item.how if answered.reply != "yes" else None)
    if hint:
        text.append(f"\n→ {_words(hint, lang)}", style="cyan").append(f"  [{item.document}]", style="dim")
    return text


def _render_way(console: Console, turns: list[Turn], end: Node | None, lang: Language) -> None:
    """The questions that were decided, then the end; or the first open question with both ways from it."""
    table = _table()
    for turn in turns:
        mark, style = MARKS["ask" if turn.yes is None else "moot"]
        reply = say("open" if turn.yes is None else "yes" if turn.yes else "no", lang)
        text = Text(_words(turn.node.ask, lang)).append(f"  {reply}", style="bold")
        if turn.readings:
            text.append(f"  {_readings(turn.readings)}", style="dim")
        table.add_row(Text(mark, style=style), text)
    console.print(table)
    if end:
        console.print(Padding(_end(end, lang), (0, 0, 0, 4)))
    else:
        _render_branches(console, turns[-1].node, lang, 4)


def _render_branches(console: Console, node: Node, lang: Language, indent: int) -> None:
    """Both ways from an open question, down to their ends."""
    for key, branch in (("if_yes", node.if_yes), ("if_no", node.if_no)):
        if branch is None:
            continue
        lead = Text(f"{say(key, lang)}: ", style="bold")
        console.print(
            Padding(lead + (Text(_words(branch.ask, lang)) if branch.ask else _end(branch, lang)), (0, 0, 0, indent))
        )
        _render_branches(console, branch, lang, indent + 2)


def _end(node: Node, lang: Language) -> Text:
    text = Text(f"→ {_words(node.go, lang)}", style="cyan")
    return text.append(f"  {say('documents', lang, names=', '.join(node.documents))}", style="dim")


def _readings(readings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in readings.items())


def _words(words: Words | None, lang: Language) -> str:
    return "" if words is None else words.zh if lang == "zh" else words.en


def _table() -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table
