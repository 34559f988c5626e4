"""What a person sees in a terminal: steps as they happen, the answer, what a scan found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from kb.types import Language, Role

if TYPE_CHECKING:
    from assistant.types import Answer, Event
    from kb.library import Library
    from probes.scanner import Hit, Match, ScanReport

STYLES = {"ok": "green", "warning": "yellow", "critical": "bold red", "unknown": "dim"}
STATUS_WORDS: dict[str, dict[Language, str]] = {
    "ok": {"en": "ok", "zh": "正常"},
    "warning": {"en": "warning", "zh": "警告"},
    "critical": {"en": "critical", "zh": "严重"},
    "unknown": {"en": "unknown", "zh": "未知"},
}
HOW_TO_READ: dict[Language, str] = {
    "en": "A document that is named above is read with: crashcart kb show {document}",
    "zh": "上面提到的文档可这样阅读：crashcart kb show {document}",
}
SCAN_WORDS: dict[str, dict[Language, str]] = {
    "fault": {"en": "1 known fault in {names} ({lines} lines, {bytes} bytes)", "zh": "{names} 中有 1 个已知故障（{lines} 行，{bytes} 字节）"},
    "faults": {"en": "{n} known faults in {names} ({lines} lines, {bytes} bytes)", "zh": "{names} 中有 {n} 个已知故障（{lines} 行，{bytes} 字节）"},
    "calm": {"en": "No known fault in {names} ({lines} lines, {bytes} bytes)", "zh": "{names} 中没有已知故障（{lines} 行，{bytes} 字节）"},
    "logs": {"en": "{n} logs", "zh": "{n} 个日志"},
    "root": {"en": "came first", "zh": "最初异常"},
    "cause": {"en": "cause", "zh": "原因"},
    "consequence": {"en": "consequence", "zh": "后果"},
    "context": {"en": "context", "zh": "相关"},
    "last": {"en": "last", "zh": "末次"},
    "next": {"en": "→ crashcart ask 'what is wrong?' --log {path}", "zh": "→ crashcart ask '哪里出了问题？' --log {path}"},
}  # fmt: skip


def language_of(setting: str) -> Language:
    """The language of a table: the one set, or with auto the environment's."""
    return environment_language() if setting == "auto" else "zh" if setting == "zh" else "en"


def environment_language() -> Language:
    """zh where the environment's locale is Chinese."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if locale.lower().startswith("zh") else "en"


def render_stream(events: Iterator[Event], lang: Language) -> Answer:
    """Print steps to standard error, in a language, and the answer to standard output as they come; gives the answer back."""
    from ui.steps import step_summary, step_title

    out, aside = Console(), Console(stderr=True)
    answer: Answer | None = None
    for event in events:
        if event.kind == "step_finished" and event.step and aside.is_terminal:
            step = event.step
            mark = {"ok": "✓", "unknown": "?"}.get(step.status, "!")
            aside.print(
                Text(
                    f"{mark} {step_title(step, lang)} ({step.seconds:.2f} s)  {step_summary(step, lang)}",
                    style=STYLES.get(step.status, "dim"),
                ),
                soft_wrap=True,
            )
        elif event.kind == "text":
            render_text(out, event.text)
        elif event.kind == "answer":
            answer = event.answer
    assert answer is not None, "the stream ends with an answer"
    if answer.diagnoses and aside.is_terminal:
        aside.print(Text(HOW_TO_READ[lang].format(document=answer.diagnoses[0].id), style="dim"), soft_wrap=True)
    for warning in answer.warnings:
        aside.print(Text(f"! {warning}", style="yellow"), soft_wrap=True)
    return answer


def render_text(console: Console, markdown: str) -> None:
    """Markdown set for a terminal, and as it stands for a file or a pipe, where importing its parser costs 40 ms in vain."""
    if not console.is_terminal:
        console.print(Text(markdown), soft_wrap=True)
        return
    from rich.markdown import Markdown

    console.print(Markdown(markdown))


def render_scan(report: ScanReport, library: Library, lang: Language) -> None:
    """The verdict, the exception that came first, causes before consequences; lines that only give context are named."""
    console = Console()
    console.print(Text(scan_verdict(report, lang), style="bold"), soft_wrap=True)
    if report.root:
        root = report.root
        said = f"{root.exception}: {root.message}".partition("\n")[0]
        _row(console, SCAN_WORDS["root"][lang], f"{said}  ({root.path}:{root.line})", "bold")
    for role in ("cause", "consequence"):
        for match in lines_once(report, role):
            title = library.get(match.document, lang).title
            style = "red" if role == "cause" else ""
            _row(console, SCAN_WORDS[role][lang], f"{match.count:,}× {title}  [{match.document}]", style)
            _row(console, "", _place(match.first), "dim")
            if match.count > 1:
                _row(console, "", f"{SCAN_WORDS['last'][lang]} {_place(match.last)}", "dim")
    context = dict.fromkeys(m.document for m in report.matches if m.role == "context")
    if context:
        _row(console, SCAN_WORDS["context"][lang], ", ".join(context), "dim")
    path = next((m.first.path for m in report.matches if m.role == "cause"), "<stdin>")
    if path != "<stdin>":
        console.print(Text(SCAN_WORDS["next"][lang].format(path=path), style="cyan"), soft_wrap=True)
    if known := [match.document for match in report.matches if match.role == "cause"]:
        console.print(Text(f"→ crashcart kb show {known[0]}", style="cyan"), soft_wrap=True)
    aside = Console(stderr=True)
    for warning in report.warnings:
        aside.print(Text(f"! {warning.told(lang)}", style="yellow"), soft_wrap=True)


def render_sighting(match: Match, library: Library, lang: Language) -> None:
    """One known line of a log that is being written, and how often it was seen; lines that only give context are left out."""
    if match.role != "context":
        console = Console()
        title = library.get(match.document, lang).title
        style = "red" if match.role == "cause" else ""
        _row(console, SCAN_WORDS[match.role][lang], f"{match.count:,}× {title}  [{match.document}]", style)
        _row(console, "", _place(match.last), "dim")


def lines_once(report: ScanReport, role: Role) -> list[Match]:
    """The matches of a role; where several signatures of a document know the same line, one of them."""
    once: dict[tuple[str, str, int], Match] = {}
    for match in report.matches:
        if match.role == role:
            once.setdefault((match.document, match.first.path, match.first.line), match)
    return list(once.values())


def scan_verdict(report: ScanReport, lang: Language) -> str:
    """How many known faults stand in how many lines of which logs."""
    causes = {m.document for m in report.matches if m.role == "cause"}
    lines, size = sum(f.lines for f in report.files), sum(f.bytes for f in report.files)
    names = report.files[0].path if len(report.files) == 1 else SCAN_WORDS["logs"][lang].format(n=len(report.files))
    key = "faults" if len(causes) > 1 else "fault" if causes else "calm"
    return SCAN_WORDS[key][lang].format(n=len(causes), names=names, lines=f"{lines:,}", bytes=f"{size:,}")


def _row(console: Console, label: str, text: str, style: str) -> None:
    """A label of fixed width and a line that is never wrapped, so that it can be searched and copied."""
    width = 13 - sum(1 for character in label if character > "\u2e7f")
    console.print(Text(f"{label:{width}}{text}", style=style), soft_wrap=True)


def _place(hit: Hit) -> str:
    return f"{hit.path}:{hit.line}: {hit.text.strip()[:200]}"
