"""An answer as a card: badges, the text with its diffs, evidence that opens, what was ruled out.

The card is Markdown with some HTML of its own. Whatever else an answer holds (lines of logs, a model's words, names of
files) is escaped, so that it is shown as it stands.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable

from assistant.editing import word_difference
from assistant.types import Answer, Evidence, Fix
from assistant.wording import RISKS
from assistant.wording import say as say_answer
from assistant.writer import changes_of_file, own_command, patched_block
from kb.types import Language
from ui.page.words import say

TitleOf = Callable[[str, Language], str]
"""The title of a document by its id."""

LIKELY = 0.5  # below it the answer itself says that it is no finding, or only a possibility
MARKS = re.compile(r"[\\`*_\[\]<>#|~$&]")
CODE = re.compile(r"(?ms)^[ >]*(?P<fence>```+|~~~+).*?(?:^[ >]*(?P=fence)[^\n]*$|\Z)|(?P<tick>`+)[^`\n]+(?P=tick)(?!`)")
CITATION = re.compile(r"\[([KPLC]\d{1,3})\]")


def plain(text: str) -> str:
    """Text as it stands, where Markdown is read: its marks escaped."""
    return MARKS.sub(r"\\\g<0>", text)


def answer_card(answer: Answer, title_of: TitleOf) -> str:
    """The whole card as Markdown."""
    warnings = "\n>\n".join(f"> ⚠ {plain(warning)}" for warning in answer.warnings)
    parts = [badges(answer), warnings, body(answer), others(answer), evidence(answer), ruled_out(answer, title_of)]
    return "\n\n".join(part for part in parts if part)


def badges(answer: Answer) -> str:
    """What kind of answer this is; of a fault how sure it is and what the first fix costs."""
    first = answer.diagnoses[0] if answer.diagnoses else None
    if answer.status == "diagnosed" and first and first.confidence < LIKELY:
        said = [badge(say("possible", answer.lang), "possible")]
    else:
        said = [badge(say(answer.status, answer.lang), answer.status)]
    if answer.status == "diagnosed" and first:
        said.append(badge(say("sure", answer.lang, percent=round(100 * first.confidence)), "sure"))
        said += [risk_badge(fix.risk, answer.lang) for fix in first.fixes[:1]]
    return f'<div class="badges">{"".join(said)}</div>'


def badge(text: str, kind: str) -> str:
    """A few words on a coloured ground."""
    return f'<span class="badge {kind}">{html.escape(text)}</span>'


def risk_badge(risk: str, lang: Language) -> str:
    """What a fix costs."""
    return badge(RISKS[risk][lang], f"risk-{risk}")


def body(answer: Answer) -> str:
    """The answer's text: escaped, its risks as badges, its citations as links to the evidence, its commands with diffs."""
    text = harmless(answer.text, lambda prose: with_links(with_risks(prose, answer.lang), answer.evidence))
    old = own_command(answer.evidence)
    for place, fix in enumerate(answer.diagnoses[0].fixes if answer.diagnoses and old else ()):
        text = with_diff(text, fix, old, answer.lang, is_first=place == 0)
    return text


def harmless(text: str, marked: Callable[[str], str] = str) -> str:
    """Markdown that brings no HTML and no images. What stands in code is left as it is; `marked` adds to the rest."""
    done, rest = [], 0
    for code in CODE.finditer(text):
        done += [marked(escaped(text[rest : code.start()])), code[0]]
        rest = code.end()
    return "".join([*done, marked(escaped(text[rest:]))])


def escaped(prose: str) -> str:
    """Markdown's prose without tags and images."""
    return prose.replace("<", "&lt;").replace("![", "!\\[")


def with_risks(prose: str, lang: Language) -> str:
    """Each fix's risk as a badge."""
    for risk, words in RISKS.items():
        prose = prose.replace(f" · {say_answer('risk', lang, risk=words[lang])}", f" {risk_badge(risk, lang)}")
    return prose


def with_links(prose: str, known: Iterable[Evidence]) -> str:
    """Each citation as a link that opens its evidence."""
    ids = {e.id for e in known}
    return CITATION.sub(lambda m: f'<a class="cite" href="#{m[1]}">{m[1]}</a>' if m[1] in ids else m[0], prose)


def with_diff(text: str, fix: Fix, old: str, lang: Language, is_first: bool) -> str:
    """The text with what changes in the user's command, above the command to copy; of a file its changed lines alone. To a
    text that shows no such command (a model's), the first fix's is added."""
    if not fix.patched_command:
        return text
    block = "\n".join(patched_block(old, fix.patched_command))
    new = "\n".join(line for line in fix.patched_command.splitlines() if not line.startswith("#"))
    shown = block if block.startswith("```diff") else f"{diff(old, new)}\n\n{block}"
    if block not in text:
        return f"{text}\n\n{say_answer('patched', lang)}:\n\n{shown}" if is_first else text
    return text.replace(block, shown, 1)


def diff(old: str, new: str) -> str:
    """A command's change, word by word, as HTML on one line."""
    tags = {"-": "del", "+": "ins"}
    pieces = [
        f"<{tags[sign]}>{one_line(text)}</{tags[sign]}>" if sign in tags else one_line(text)
        for sign, text in word_difference(old, new)
    ]
    return f'<pre class="diff">{"".join(pieces)}</pre>'


def others(answer: Answer) -> str:
    """The fixes of the other candidates, each of which opens: the first is not always the right one."""
    rest, old = [d for d in answer.diagnoses[1:] if d.fixes], own_command(answer.evidence)
    rows = [
        group(f"{d.title} · {round(100 * d.confidence)} %", fixes(d.fixes, old, answer.lang), "other") for d in rest
    ]
    return group(say("others", answer.lang, n=len(rows)), "".join(rows)) if rows else ""


def fixes(listed: Iterable[Fix], old: str, lang: Language) -> str:
    """Fixes as HTML on one line: title with its risk, text, commands; of the user's own command what it becomes, of a file
    that holds it what changes there."""
    items = []
    for fix in listed:
        risk = "" if fix.risk == "read-only" else f" {risk_badge(fix.risk, lang)}"
        patched = fix.patched_command and (changes_of_file(old, fix.patched_command) or fix.patched_command)
        commands = [patched] if patched else fix.commands
        shown = "".join(f"<pre>{one_line(command)}</pre>" for command in commands)
        items.append(f"<li><b>{html.escape(fix.title)}</b>{risk}<p>{one_line(fix.text)}</p>{shown}</li>")
    return f"<ol>{''.join(items)}</ol>"


def evidence(answer: Answer) -> str:
    """Every piece of evidence that the text cites, with its source; the whole text opens."""
    cited = set(CITATION.findall(answer.text))
    shown = [e for e in answer.evidence if e.id in cited]
    rows = [opening(f"<b>{e.id}</b> {html.escape(e.source)}", e.text, f"evidence {e.id}") for e in shown]
    return group(say("evidence", answer.lang, n=len(rows)), "".join(rows)) if rows else ""


def ruled_out(answer: Answer, title_of: TitleOf) -> str:
    """What was considered and is not the cause, with the reading that rules it out."""
    out = answer.diagnoses[0].ruled_out if answer.diagnoses else ()
    rows = [
        say("ruled_out_why", answer.lang, title=html.escape(title_of(o.id, answer.lang)), why=code(o.why)) for o in out
    ]
    items = "".join(f"<li>{row}</li>" for row in rows)
    return group(say("ruled_out", answer.lang, n=len(rows)), f"<ul>{items}</ul>") if rows else ""


def group(title: str, inner: str, kind: str = "more") -> str:
    """Something that opens; a blank line would end it, so there is none."""
    return f'<details class="{kind}"><summary>{html.escape(title)}</summary>{inner}</details>'


def opening(title: str, text: str, kind: str) -> str:
    """A text that opens under its title."""
    return f'<details class="{kind}"><summary>{title}</summary><pre>{one_line(text)}</pre></details>'


def code(text: str) -> str:
    """An expression."""
    return f"<code>{html.escape(text)}</code>"


def one_line(text: str) -> str:
    """Text for HTML inside Markdown, where a blank line would end the HTML: its line breaks written as entities."""
    return html.escape(text).replace("\n", "&#10;")
