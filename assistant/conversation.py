"""What a conversation remembers: what was said, read and tried, and what a follow-up means by "it still fails"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from assistant.hypotheses import Hypothesis
from assistant.signals import Signals
from assistant.types import Answer, Diagnosis, Question
from assistant.wording import say
from kb.library import Library
from kb.types import Language
from probes.types import ProbeResult

Kind = Literal["first", "new", "failed", "solved", "again", "more"]
"""A follow-up: about something else, says that the fix failed, that it worked, asks to look again, or adds to what was said."""
Tried = tuple[str, int]
"""A fix by its document's id and its place there."""

AGAIN = re.compile(
    r"(?i)\b(?:check|look|probe|measure|read|run (?:it|them|the \w+))\s+(?:it\s+|them\s+)?(?:again|once more)\b|\bre-?(?:check|run|probe)\b"
    r"|\bdid (?:it|that|this|the fix) (?:work|help)|\bis (?:it|that|everything) (?:fixed|ok|okay|fine|better|good|healthy)\b"
    r"|再(?:查|看|检查|跑|测|探测)一?(?:遍|下|次)|复查|重新(?:检查|探测|查|看)|(?:修好|好|正常|解决)了(?:吗|没有|没\b)"
)
FAILED = re.compile(
    r"(?i)\bstill\b|\bsame (?:error|problem|issue|thing|result|message|crash)|\b(?:did|does|do)(?:n't| not|nt) (?:help|work|fix|change|solve|do anything)"
    r"|\bno (?:luck|effect|change|difference|improvement)\b|\bnot (?:fixed|solved|working|better)\b|\bto no avail\b|\bnothing changed\b"
    r"|\b(?:tried|did|done|set|added) (?:that|it|this|all|both|everything)\b"
    r"|还是|仍然|仍旧|依然|依旧|没用|没有用|不管用|不起作用|没效果|没有效果|没变化|没有变化|一样的|同样的|无效|没解决|没有解决|试过了?|不行"
)
SOLVED = re.compile(
    r"(?i)\b(?:it|that|this|everything|server)(?:'s| is| has)? (?:now )?(?:works|worked|working|fixed|solved|resolved|helped|did it|up again)\b"
    r"|\b(?:works|working|fixed|solved|resolved) now\b|\bproblem (?:is )?(?:gone|solved|fixed)\b"
    r"|(?:好|解决|可以|正常|搞定|起来|成功|修好)了"
)
POINTS_BACK = re.compile(
    r"(?i)\b(?:it|its|that|this|these|those|he|she|instead|also|then|too|(?:first|second|last) (?:one|fix|step))\b|这个|那个|这样|那样|它|那么|是不是|会不会|也(?:可以|行|要)|不是.{1,12}吗"
)
ALL_TRIED = re.compile(
    r"(?i)\b(?:all|both|each|every(?:thing)?)\b.{0,30}\b(?:fix|fixes|of (?:them|these|those)|steps?|you said)?|都试|全试|全部"
)
ORDINALS = {
    word: place
    for place, words in enumerate(
        (
            ("first", "1", "一"),
            ("second", "2", "二"),
            ("third", "3", "三"),
            ("fourth", "4", "四"),
            ("fifth", "5", "五"),
        )
    )
    for word in words
}
NAMED_FIX = re.compile(
    r"(?i)\b(?:fix|step|option|number|no\.?|#)\s*(?P<number>[1-5])\b|\bthe (?P<word>first|second|third|fourth|fifth)\b|第(?P<zh>[一二三四五1-5])[个条步种]"
)
FLAG = re.compile(r"(?<![\w-])--?[A-Za-z][\w.-]+|\b[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+\b")
CHANGES = 6


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange as it is kept: masked words, what was read of them, what was answered, and what had been tried by then.

    `readings` are probe results as `checkup --json` prints them, `logs` the ends of each attached log.
    """

    text: str
    answer: Answer
    signals: Signals = field(default_factory=Signals)
    readings: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    tried: tuple[Tried, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """A conversation up to a question: its turns, what the question is to them, and the fixes tried by now."""

    turns: tuple[Turn, ...] = ()
    kind: Kind = "first"
    tried: frozenset[Tried] = frozenset()

    @property
    def last(self) -> Turn:
        return self.turns[-1]

    @property
    def follows(self) -> bool:
        """Whether the question is about what was diagnosed before."""
        return self.kind in ("failed", "again", "more", "solved")


def remember(turns: Sequence[Turn], question: Question) -> Memory:
    """The memory that a question meets. A question without earlier turns is the first."""
    if not turns:
        return Memory()
    kind = kind_of(question, turns[-1])
    tried = {(str(d), int(p)) for d, p in turns[-1].tried}
    if kind == "failed":
        tried |= set(tried_of(question.text, turns[-1].answer))
    return Memory(tuple(turns), kind, frozenset(tried))


def kind_of(question: Question, last: Turn) -> Kind:
    """What a message is to the conversation so far."""
    from assistant.diagnosis import COMPLAINT
    from kb.glossary import specific_terms

    text = question.text
    brings_log = bool(question.logs or question.log_paths)
    if AGAIN.search(text):
        return "again"
    if last.answer.diagnoses and FAILED.search(text):
        return "failed"
    if SOLVED.search(text) and not brings_log and not COMPLAINT.search(SOLVED.sub("", text)):
        return "solved"
    return "new" if specific_terms(text) and not brings_log and not POINTS_BACK.search(text) else "more"


def tried_of(text: str, answer: Answer) -> tuple[Tried, ...]:
    """The fixes of the last answer that a person means: those named by number or flag, all of them, or the first."""
    diagnosis = answer.diagnoses[0]
    places = [fix.place for fix in diagnosis.fixes]
    if ALL_TRIED.search(text):
        return tuple((diagnosis.id, place) for place in places)
    named = {ORDINALS[(m["number"] or m["word"] or m["zh"]).lower()] for m in NAMED_FIX.finditer(text)}
    flags = set(FLAG.findall(text))
    meant = [p for i, p in enumerate(places) if i in named or flags & flags_of(diagnosis, i)]
    return tuple((diagnosis.id, place) for place in meant or places[:1])


def flags_of(diagnosis: Diagnosis, place: int) -> set[str]:
    """The flags and variables that one fix names."""
    fix = diagnosis.fixes[place]
    return set(FLAG.findall("\n".join([fix.title, *fix.commands])))


def recall(memory: Memory, signals: Signals) -> Signals:
    """The signals of a follow-up with those of the turns before.

    Engine, release, command, values and packages stay known. Error lines of before count as long as no newer log was given.
    """
    if not memory.turns:
        return signals
    before = memory.last.signals
    same = not signals.engine or signals.engine == before.engine
    told = replace(
        signals,
        engine=signals.engine or before.engine,
        release=signals.release or (before.release if same else ""),
        command=signals.command or before.command,
        values={**before.values, **signals.values},
        packages=before.packages | signals.packages,
    )
    if memory.kind == "new" or signals.has_log or any(m.role == "cause" for m in signals.matches):
        return told
    return replace(
        told,
        matches=(*before.matches, *signals.matches),
        root=signals.root or before.root,
        has_log=before.has_log,
        has_errors=before.has_errors,
        is_up=before.is_up,
    )


def query_of(memory: Memory, text: str) -> str:
    """What to search for: a message that only adds to the conversation is searched with the question before it."""
    if not memory.follows:
        return text
    asked = next((t.text for t in reversed(memory.turns) if t.answer.diagnoses or t.text.strip()), "")
    return f"{asked}\n{text}".strip()


def after_tried(hypotheses: Sequence[Hypothesis], memory: Memory) -> list[Hypothesis]:
    """Causes of which every fix was tried come after all others."""
    return sorted(hypotheses, key=lambda h: exhausted(h, memory))


def exhausted(hypothesis: Hypothesis, memory: Memory) -> bool:
    """Whether every fix that was shown for a document was tried in this conversation."""
    name = hypothesis.document.id
    shown = [d.fixes for turn in memory.turns for d in turn.answer.diagnoses[:1] if d.id == name and d.fixes]
    return any(all((name, fix.place) in memory.tried for fix in fixes) for fixes in shown)


def untried(diagnosis: Diagnosis, memory: Memory) -> Diagnosis:
    """The diagnosis without the fixes that were tried; all of them where none is left."""
    left = tuple(fix for fix in diagnosis.fixes if (diagnosis.id, fix.place) not in memory.tried)
    return replace(diagnosis, fixes=left or diagnosis.fixes)


def preface(memory: Memory, signals: Signals, results: Sequence[ProbeResult], library: Library, lang: Language) -> str:
    """What a follow-up's answer begins with: what was tried, what changed since; empty where there is nothing to say."""
    if not memory.turns or memory.kind == "new":
        return ""
    lines = [say("solved", lang), ""] if memory.kind == "solved" else []
    tried = tried_titles(memory, library, lang)
    if tried and memory.kind != "solved":
        lines += [say("tried", lang, titles="; ".join(f"“{t}”" for t in tried)), ""]
    changed = [*line_changes(memory, signals, library, lang), *reading_changes(memory.last.readings, results, lang)]
    if changed:
        lines += [f"**{say('changed', lang)}**", "", *(f"- {line}" for line in changed), ""]
    elif memory.kind in ("again", "solved") and results:
        lines += [say("unchanged", lang), ""]
    return "\n".join(lines)


def tried_titles(memory: Memory, library: Library, lang: Language) -> list[str]:
    """The titles of the fixes tried, in the order of their documents."""
    titles = []
    for name, place in sorted(memory.tried):
        fixes = library.get(name, lang).fixes if name in library.by_id else ()
        titles += [fixes[place].title] if place < len(fixes) else []
    return titles


def line_changes(memory: Memory, signals: Signals, library: Library, lang: Language) -> list[str]:
    """Which known errors a newer log no longer has, and which it has anew; nothing without a newer log."""
    before = {m.document for m in memory.last.signals.matches if m.role == "cause"}
    now = {m.document for m in signals.matches if m.role == "cause"}
    if not signals.has_log or before == now or signals.matches == memory.last.signals.matches:
        return []
    gone = [say("gone", lang, title=library.get(name, lang).title) for name in sorted(before - now)]
    return gone + [say("appeared", lang, title=library.get(name, lang).title) for name in sorted(now - before)]


def reading_changes(
    before: Mapping[str, Mapping[str, Any]], results: Sequence[ProbeResult], lang: Language
) -> list[str]:
    """What the probes read differently than before: `gpu_memory: warning → ok`, `gpu_free_gib: 0.8 → 22.1`."""
    from assistant.changes import compare
    from kb.expressions import shown
    from probes.registry import replay

    lines = []
    for change in compare(replay(before), results):
        if change.kind == "status":
            lines.append(f"{change.result.probe}: {change.before} → {change.after}")
        elif change.kind == "fact" and change.before is not None and change.after is not None:
            lines.append(f"{change.name}: {shown(change.before)} → {shown(change.after)}")
    return lines[:CHANGES]
