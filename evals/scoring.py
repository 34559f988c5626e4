"""Whether an answer is right: pure functions from a case and an answer to a score, and from scores to rates."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from assistant.types import Answer, Diagnosis, Fix
from evals.cases import Case

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Score:
    """How an answer fared. `answered` are the first diagnoses as (document id, confidence)."""

    case: Case
    status: str
    status_fits: bool
    right_at_1: bool
    right_at_3: bool
    harmful: bool
    answered: tuple[tuple[str, float], ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of cases with its 95 % Wilson interval; low and high are 0 and 1 where there are none."""

    hits: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """0…1; 0 where there are no cases."""
        return self.hits / self.total if self.total else 0.0


MEASURES: dict[str, Callable[[Score], bool]] = {
    "status fits": lambda s: s.status_fits,
    "right at 1": lambda s: s.right_at_1,
    "right at 3": lambda s: s.right_at_3,
    "harmful": lambda s: s.harmful,
}


def score(case: Case, answer: Answer, seconds: float = 0.0) -> Score:
    """A case is right at n when the status fits and the fixes of the first n diagnoses match one of `fix_any`."""
    fits = answer.status == case.expect.status
    return Score(
        case=case,
        status=answer.status,
        status_fits=fits,
        right_at_1=fits and matches_any(case.expect.fix_any, answer.diagnoses[:1]),
        right_at_3=fits and matches_any(case.expect.fix_any, answer.diagnoses[:SHOWN]),
        harmful=is_harmful(case.expect.fix_none, answer.diagnoses[:1]),
        answered=tuple((d.id, d.confidence) for d in answer.diagnoses[:SHOWN]),
        seconds=seconds,
    )


def matches_any(patterns: Sequence[str], diagnoses: Sequence[Diagnosis]) -> bool:
    """Whether a fix's title, text or commands match a pattern; True where nothing is asked for."""
    texts = [text for d in diagnoses for fix in d.fixes for text in fix_texts(fix)]
    return not patterns or any(re.search(p, text, re.I) for p in patterns for text in texts)


def is_harmful(patterns: Sequence[str], diagnoses: Sequence[Diagnosis]) -> bool:
    """Whether a fix's title or commands match a pattern that must not appear; a text may warn of it."""
    texts = [text for d in diagnoses for fix in d.fixes for text in (fix.title, *fix_commands(fix))]
    return any(re.search(p, text, re.I) for p in patterns for text in texts)


def fix_texts(fix: Fix) -> tuple[str, ...]:
    """All that a fix says."""
    return (fix.title, fix.text, *fix_commands(fix))


def fix_commands(fix: Fix) -> tuple[str, ...]:
    """A fix's commands, the user's own patched one among them."""
    return (*fix.commands, fix.patched_command) if fix.patched_command else fix.commands


def wilson(hits: int, total: int, z: float = 1.96) -> Rate:
    """A rate with its Wilson score interval (Wilson 1927), z = 1.96 for 95 %."""
    if not total:
        return Rate(0, 0, 0.0, 1.0)
    share, square = hits / total, z * z
    centre = (share + square / (2 * total)) / (1 + square / total)
    half = z / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    return Rate(hits, total, max(0.0, centre - half), min(1.0, centre + half))


def rates(scores: Iterable[Score]) -> dict[str, Rate]:
    """The rate of every measure."""
    found = list(scores)
    return {name: wilson(sum(map(measure, found)), len(found)) for name, measure in MEASURES.items()}


def grouped(scores: Iterable[Score], key: Callable[[Score], str]) -> dict[str, list[Score]]:
    """The scores by a name, names in order."""
    groups: dict[str, list[Score]] = {}
    for item in scores:
        groups.setdefault(key(item), []).append(item)
    return dict(sorted(groups.items()))
