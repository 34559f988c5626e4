"""What a person sees of a checkup: a verdict, a table to read in ten seconds, progress, and what changed since."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kb.types import Language
from probes.judging import GRAVITY
from probes.registry import worst_status
from probes.types import ProbeResult, Status
from ui.render import STATUS_WORDS, STYLES

if TYPE_CHECKING:
    from assistant.changes import Change

CALM_WIDTH = 40
"""What a calm round's line takes at most."""
MARKS = {"ok": "✓", "warning": "!", "critical": "✗", "unknown": "?"}
WORDS: dict[str, dict[Language, str]] = {
    **STATUS_WORDS,
    "count_critical": {"en": "{n} critical", "zh": "{n} 项严重"},
    "count_warning": {"en": "{n} warning", "zh": "{n} 项警告"},
    "count_unknown": {"en": "{n} could not look", "zh": "{n} 项未能读取"},
    "count_ok": {"en": "{n} ok", "zh": "{n} 项正常"},
    "calm": {"en": "nothing wrong found", "zh": "未发现问题"},
    "probes": {"en": "{n} probes", "zh": "{n} 个探针"},
    "waiting": {"en": "… {n} still looking: {names}", "zh": "… 还有 {n} 个探针在读取：{names}"},
    "unchanged": {"en": "nothing changed", "zh": "没有变化"},
    "colon": {"en": ": ", "zh": "："},
    "comma": {"en": ", ", "zh": "，"},
}


def say(key: str, lang: Language, **values: object) -> str:
    """A few words, with their values put in."""
    return WORDS[key][lang].format(**values)


def summary_of(result: ProbeResult, lang: Language) -> str:
    """A probe's sentence."""
    return result.summary_zh if lang == "zh" and result.summary_zh else result.summary


def advice_of(result: ProbeResult, lang: Language) -> tuple[str, ...]:
    """What a probe says to do."""
    return result.advice_zh if lang == "zh" and result.advice_zh else result.advice


def verdict(results: Sequence[ProbeResult], lang: Language) -> Text:
    """The first line: the worst status, and how many probes gave which."""
    worst = worst_status(results)
    counts: list[tuple[Status, int]] = [(status, sum(r.status == status for r in results)) for status in GRAVITY]
    said = [say(f"count_{status}", lang, n=n) for status, n in counts if n]
    if worst in ("ok", "unknown"):
        said.insert(0, say("calm", lang))
    text = Text(say(worst, lang), style=STYLES[worst])
    return text.append(say("colon", lang) + say("comma", lang).join(said), style="bold")


def render_checkup(results: Sequence[ProbeResult], lang: Language, everything: bool = False) -> None:
    """The verdict, then worst first; the calm ones in one line unless `everything` is to be said."""
    console = Console()
    console.print(verdict(results, lang))
    console.print()
    table = _table()
    for status in GRAVITY:
        alike = sorted((r for r in results if r.status == status), key=lambda r: r.probe)
        for names, said in _rows(alike, status, lang, everything):
            table.add_row(Text(say(status, lang), style=STYLES[status]), names, said)
    console.print(table)


def render_probe(result: ProbeResult, lang: Language) -> None:
    """One probe in full."""
    console = Console()
    heading = f"{say(result.status, lang)}  {result.probe}  ({result.seconds:.3f} s)"
    console.print(Text(heading, style=STYLES[result.status]))
    console.print(said(result, lang))
    for name, value in result.facts.items():
        console.print(Text(f"  {name} = {value}"))


def render_changes(changes: Sequence[Change], lang: Language, time: str) -> None:
    """One line a change, under the time of the round that saw it. A calm round's line is written over by the next."""
    console = Console()
    if not changes:
        console.print(Text(f"{time}  {say('unchanged', lang)}", style="dim"), end="\r" if console.is_terminal else "\n")
        return
    if console.is_terminal:
        console.print(" " * CALM_WIDTH, end="\r")
    table = _table()
    for change in changes:
        table.add_row(Text(time, style="dim"), change.result.probe, _changed(change, lang))
    console.print(table)


@contextmanager
def progress(names: Sequence[str], lang: Language) -> Iterator[Callable[[ProbeResult], object] | None]:
    """Show, on a terminal's standard error, each probe's line as it comes in; it vanishes when the table is printed."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    from rich.console import Group
    from rich.live import Live

    seen: list[ProbeResult] = []

    def shown() -> Group:
        missing = [name for name in names if name not in {result.probe for result in seen}]
        lines = [_line(f"{MARKS[r.status]} {r.probe}  {summary_of(r, lang)}", STYLES[r.status]) for r in seen]
        waiting = say("waiting", lang, n=len(missing), names=", ".join(missing))
        return Group(*lines, *([_line(waiting, "dim")] if missing else []))

    with Live(shown(), console=console, transient=True, auto_refresh=False) as live:

        def came(result: ProbeResult) -> None:
            seen.append(result)
            live.update(shown(), refresh=True)

        live.refresh()
        yield came


def said(result: ProbeResult, lang: Language) -> Text:
    """A probe's sentence, and under it what to do."""
    text = Text(summary_of(result, lang))
    for line in advice_of(result, lang):
        text.append(f"\n→ {line}", style="cyan")
    return text


def _rows(alike: list[ProbeResult], status: Status, lang: Language, everything: bool) -> Iterator[tuple[Text, Text]]:
    """The rows of one status: calm probes folded into one, those that could not look grouped by why, the rest one by one."""
    if status == "ok" and alike and not everything:
        yield Text(say("probes", lang, n=len(alike))), Text(", ".join(result.probe for result in alike), style="dim")
        return
    for group in _groups(alike) if status == "unknown" else [[result] for result in alike]:
        yield Text("\n".join(result.probe for result in group)), said(group[0], lang)


def _groups(results: Iterable[ProbeResult]) -> list[list[ProbeResult]]:
    """Results with the same sentence and the same advice together."""
    groups: dict[tuple[object, ...], list[ProbeResult]] = {}
    for result in results:
        groups.setdefault((result.summary, result.advice), []).append(result)
    return list(groups.values())


def _changed(change: Change, lang: Language) -> Text:
    if change.kind == "fact":
        return Text(f"{change.name}: {_shown(change.before)} → {_shown(change.after)}")
    if change.kind == "advice":
        return said(change.result, lang)
    arrow = f"{say(change.before, lang)} → {say(change.after, lang)}"
    return Text(arrow, style=STYLES[change.after]).append("\n").append(said(change.result, lang))


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _line(text: str, style: str) -> Text:
    return Text(text.replace("\n", " "), style=style, no_wrap=True, overflow="ellipsis")


def _table() -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table
