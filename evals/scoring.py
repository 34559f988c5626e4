"""Whether an answer is right: pure functions from a case and an answer to a score."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from assistant.types import Answer, Diagnosis, Fix
from evals.cases import Case
from kb.catalog.history import ENGINES
from kb.flags import check_command, releases_of

SHOWN = 3
WHY_LINES = 2
MODEL_STEP = "model"
"""The step that says what a language model cost; it is `ok` where nothing of its words was struck out."""
USAGE = re.compile(r"([\d,]+) \+ ([\d,]+) tokens?(?:, (\d+(?:\.\d+)?))?")
FENCE = re.compile(r"^```(?:bash|sh|shell|console)?[^\n]*\n(.*?)^```", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Score:
    """How an answer fared. `answered` are the first diagnoses as (document id, confidence).

    `cited` are the documents that the first diagnosis cites, `unverified` the shown flags that no release has, `why` what
    the answer stood on, `error` the exception that was raised instead of an answer, `kept` whether a language model's words
    were shown with nothing struck out (None: no model). A case of several messages has the score of each in `messages`, and
    is right when all are.
    """

    case: Case
    status: str = ""
    status_fits: bool = False
    right_at_1: bool = False
    right_at_3: bool = False
    harmful: bool = False
    answered: tuple[tuple[str, float], ...] = ()
    seconds: float = 0.0
    cited: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    why: str = ""
    error: str = ""
    tokens: int = 0
    cost: float = 0.0
    kept: bool | None = None
    messages: tuple[Score, ...] = ()

    @property
    def telling(self) -> Score:
        """The score of the first message that went wrong, or of the first."""
        return next((m for m in self.each if not m.right_at_1), self.each[0])

    @property
    def each(self) -> tuple[Score, ...]:
        """The score of each message; of a case of one message itself."""
        return self.messages or (self,)


def score(case: Case, answer: Answer, seconds: float = 0.0) -> Score:
    """A case is right at n when the status fits and the fixes of the first n diagnoses match one of `fix_any`."""
    fits = answer.status == case.expect.status
    tokens, cost = usage(answer)
    return Score(
        case=case,
        status=answer.status,
        status_fits=fits,
        right_at_1=fits and matches_any(case.expect.fix_any, answer.diagnoses[:1]),
        right_at_3=fits and matches_any(case.expect.fix_any, answer.diagnoses[:SHOWN]),
        harmful=is_harmful(case.expect.fix_none, answer.diagnoses[:1], written_commands(answer)),
        answered=tuple((d.id, d.confidence) for d in answer.diagnoses[:SHOWN]),
        seconds=seconds,
        cited=cited_documents(answer),
        unverified=unverified_flags(answer, case.command),
        why=reason(answer),
        tokens=tokens,
        cost=cost,
        kept=next((step.status == "ok" for step in answer.steps if step.name == MODEL_STEP), None),
    )


def joined(scores: Sequence[Score]) -> Score:
    """The score of a case from those of its messages, which are one or more: right when all are, harmful when one is."""
    first = scores[0]
    if len(scores) == 1:
        return first
    return replace(
        next((s for s in scores if not s.right_at_1), first),
        case=first.case,
        status_fits=all(s.status_fits for s in scores),
        right_at_1=all(s.right_at_1 for s in scores),
        right_at_3=all(s.right_at_3 for s in scores),
        harmful=any(s.harmful for s in scores),
        seconds=sum(s.seconds for s in scores),
        tokens=sum(s.tokens for s in scores),
        cost=sum(s.cost for s in scores),
        error=next((s.error for s in scores if s.error), ""),
        messages=tuple(scores),
    )


def matches_any(patterns: Sequence[str], diagnoses: Sequence[Diagnosis]) -> bool:
    """Whether a fix's title, text or commands match a pattern; True where nothing is asked for."""
    texts = [text for d in diagnoses for fix in d.fixes for text in fix_texts(fix)]
    return not patterns or any(re.search(p, text, re.I) for p in patterns for text in texts)


def is_harmful(patterns: Sequence[str], diagnoses: Sequence[Diagnosis], written: Sequence[str] = ()) -> bool:
    """Whether a fix's title or commands, or other commands written, match a pattern that must not appear; a text may warn."""
    texts = [text for d in diagnoses for fix in d.fixes for text in (fix.title, *fix_commands(fix))]
    return any(re.search(p, text, re.I) for p in patterns for text in (*texts, *written))


def written_commands(answer: Answer) -> list[str]:
    """The commands in a language model's own text; those of the offline writer are its fixes'."""
    return FENCE.findall(answer.text) if is_by_model(answer) else []


def fix_texts(fix: Fix) -> tuple[str, ...]:
    """All that a fix says."""
    return (fix.title, fix.text, *fix_commands(fix))


def fix_commands(fix: Fix) -> tuple[str, ...]:
    """A fix's commands, the user's own patched one among them."""
    return (*fix.commands, fix.patched_command) if fix.patched_command else fix.commands


def cited_documents(answer: Answer) -> tuple[str, ...]:
    """The ids of the documents that the first diagnosis cites, each once."""
    if not answer.diagnoses:
        return ()
    first = answer.diagnoses[0]
    ids = {*first.supporting, *(i for fix in first.fixes for i in fix.cites)}
    sources = [e.source.partition(":")[0] for e in answer.evidence if e.kind == "document" and e.id in ids]
    return tuple(dict.fromkeys(s.removeprefix("kb/docs/").removesuffix(".md").removesuffix(".zh") for s in sources))


def expected_documents(case: Case) -> tuple[str, ...]:
    """The documents that may be cited: those the case lists, or its cause; empty where it says neither."""
    return case.expect.cites or ((case.expect.cause,) if case.expect.cause else ())


def unverified_flags(answer: Answer, own_command: str = "") -> tuple[str, ...]:
    """Flags and variables in the commands shown, in the fixes or in the text, that no release of their engine has.

    Those of the user's own command are not counted: it may be of a plug-in, and is shown back as it is.
    """
    commands = [c for d in answer.diagnoses for fix in d.fixes for c in fix_commands(fix)]
    commands += FENCE.findall(answer.text)
    own = set(unknown_names(own_command))
    return tuple(dict.fromkeys(n for command in commands for n in unknown_names(command) if n not in own))


def unknown_names(command: str) -> list[str]:
    """The names in a text's serving commands that the record has in no release: each engine's newest release tells."""
    found = []
    for engine in ENGINES:
        statuses = check_command(command, engine, releases_of(engine)[-1])
        found += [s.name for s in statuses if s.status == "never" and s.kind in ("flag", "env")]
    return found


def reason(answer: Answer) -> str:
    """What an answer stood on: the log lines or readings of its first diagnosis, else that words alone led to it.

    Of an answer without a diagnosis the end of its text, where it names what came nearest.
    """
    if not answer.diagnoses:
        return " ".join(answer.text.split())[-160:]
    first = answer.diagnoses[0]
    seen = [e for e in answer.evidence if e.id in first.supporting and e.kind != "document"]
    lines = [f"{e.source}: {e.text.strip()[:160]}" for e in seen[:WHY_LINES]]
    return " · ".join(lines) or "no line or reading: found by its words"


def is_by_model(answer: Answer) -> bool:
    """Whether a language model worked on an answer."""
    return any(step.name == MODEL_STEP for step in answer.steps)


def usage(answer: Answer) -> tuple[int, float]:
    """Tokens and money that a language model took, as its step tells them; 0 for the offline writer."""
    told = [USAGE.search(step.summary) for step in answer.steps if step.name == MODEL_STEP]
    tokens = sum(int(m[i].replace(",", "")) for m in told if m for i in (1, 2))
    return tokens, sum(float(m[3]) for m in told if m and m[3])
