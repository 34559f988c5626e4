"""What the assistant is compared with: itself, with parts taken away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assistant.assistant import Assistant
from assistant.parts import Parts
from assistant.settings import Settings
from evals.cases import Case
from evals.run import Done, run_cases
from evals.scoring import Score


@dataclass(frozen=True, slots=True)
class Baseline:
    """The parts that are left, and whether a recorded host is shown."""

    parts: Parts
    with_host: bool = False


BASELINES: dict[str, Baseline] = {
    "BM25 alone": Baseline(Parts(signatures=False, search="lexical", verdict=False)),
    "dense alone": Baseline(Parts(signatures=False, search="dense", verdict=False)),
    "hybrid, no signatures": Baseline(Parts(signatures=False, verdict=False), with_host=True),
    "signatures alone": Baseline(Parts(search=None)),
    "all without probes": Baseline(Parts()),
}
"""The three retrievals answer with the first document that they find and never abstain, as plain retrieval does."""


def run_baselines(settings: Settings, cases: Sequence[Case], done: Done = lambda: None) -> dict[str, tuple[Score, ...]]:
    """Every baseline over the same cases, each by the offline writer."""
    return {
        name: run_cases(Assistant(settings, parts=each.parts), cases, each.with_host, done)
        for name, each in BASELINES.items()
    }
