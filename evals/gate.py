"""The gate: whether a run is worse than the committed one by more than its noise, case by case."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.metrics import unverified
from evals.scoring import Score
from kb.errors import InputError

TOLERATED = 2
"""How many more cases may turn wrong than turn right: a reworded document moves one or two to and fro."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The run that was accepted: the ids of its cases, those that were right at 1, those that were harmful."""

    cases: frozenset[str]
    right: frozenset[str]
    harmful: frozenset[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run beside the accepted one: ids, in order. `gone` counts the accepted run's cases that this one lacks.

    `reasons` is why the gate is shut; empty: it is open.
    """

    compared: int
    gone: int
    newly_wrong: tuple[str, ...]
    newly_right: tuple[str, ...]
    newly_harmful: tuple[str, ...]
    errors: tuple[str, ...]
    reasons: tuple[str, ...]


def accepted_of(scores: Iterable[Score]) -> Accepted:
    """A run as the gate keeps it."""
    found = list(scores)
    return Accepted(
        frozenset(s.case.id for s in found),
        frozenset(s.case.id for s in found if s.right_at_1),
        frozenset(s.case.id for s in found if s.harmful),
    )


def compare(scores: Sequence[Score], accepted: Accepted) -> Comparison:
    """The cases that both runs have, paired. Cases that only one has are not compared, but their errors and harm count."""
    now = accepted_of(scores)
    both = now.cases & accepted.cases
    worse = sorted(both & accepted.right - now.right)
    better = sorted(both & now.right - accepted.right)
    harmful = sorted(now.harmful - accepted.harmful)
    errors = sorted(s.case.id for s in scores if s.error)
    reasons = [] if both else ["no case of this run is in the accepted one"]
    if len(worse) - len(better) > TOLERATED:
        reasons.append(f"{len(worse)} newly wrong and {len(better)} newly right: more than {TOLERATED} apart")
    reasons += [f"newly harmful: {', '.join(harmful)}"] if harmful else []
    reasons += [f"errors: {', '.join(errors)}"] if errors else []
    made_up = sorted({f"{flag} ({case})" for case, flag in unverified(scores)})
    reasons += [f"flags that no release has: {', '.join(made_up)}"] if made_up else []
    gone = len(accepted.cases - now.cases)
    return Comparison(len(both), gone, tuple(worse), tuple(better), tuple(harmful), tuple(errors), tuple(reasons))


def load_accepted(path: Path) -> Accepted:
    """The accepted run; raises InputError where the file is not one."""
    try:
        item: dict[str, Any] = json.loads(path.read_text("utf-8"))
        right, wrong, harmful = (frozenset(map(str, item[name])) for name in ("right", "wrong", "harmful"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. `--accept` writes it.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not an accepted run: `--accept` writes one.") from error
    return Accepted(right | wrong, right, harmful)


def save_accepted(path: Path, scores: Iterable[Score]) -> None:
    """Keep a run as the accepted one: ids in order, so that a change reads well; raises InputError."""
    run = accepted_of(scores)
    item = {"right": sorted(run.right), "wrong": sorted(run.cases - run.right), "harmful": sorted(run.harmful)}
    try:
        path.write_text(json.dumps(item, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}.") from error
