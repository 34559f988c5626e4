"""Which documents may explain what was seen, and how strongly: signatures first, search beside them, readings last."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assistant.signals import Signals
from kb.expressions import evaluate, names_in
from kb.facts import FROM_LOG, OPTIONS, probes_of
from kb.library import Library
from kb.search import Hit
from kb.types import Document, Reading, Signature
from probes.scanner import Match
from probes.types import ProbeResult, Status

# Weights of what speaks for a document. A cause that is the root exception, alone, comes to 0.9; a document that only
# search brought up stays under 0.5. Found on our own cases; no single one moves a decision by itself.
SPECIFIC, ROOT, EARLY, SEARCH, READING, CONTRADICTED, FOREIGN = 0.45, 0.30, 0.10, 0.15, 0.06, 0.20, 0.30
CONSEQUENCE, CONTEXT = 0.25, 0.10
OWN = 0.05  # a user's runbook that copies a shipped document's line stands behind it
ALARMS = {"critical": 0.5, "warning": 0.3}
OPTION_ALARM, STOP_ALARM = 0.2, 0.3
NO_STATUSES: Mapping[str, Status] = {}
# What a machine is, wrong or not: a reading of these alone brings no document up.
STANDING = frozenset(
    [
        "gpu_count",
        "gpu_total_gib",
        "gpu_name",
        "gpu_compute_capability",
        "gpu_mig",
        "gpu_process_count",
        "gpu_across_sockets",
        "gpu_mixed_models",
        "gpu_nvlink_active",
        "model_has_chat_template",
        "model_needs_own_code",
        "model_quantization",
        "model_dtype",
        "model_rope_scaling",
        "model_architecture",
        "model_max_position_embeddings",
        "in_container",
        "cpu_limit",
        "locked_memory_unlimited",
        "infiniband_ports_active",
        "nccl_socket_ifname",
        "proxy_set",
        "hub_offline",
    ]
)
NEAR_LINES = 80  # a traceback of vLLM has 20 to 60 frames


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A document under consideration. `folded` are documents whose fault is only its consequence."""

    document: Document
    score: float
    matches: tuple[tuple[Signature, Match], ...] = ()
    hit: Hit | None = None
    supporting: tuple[Reading, ...] = ()
    contradicting: tuple[Reading, ...] = ()
    folded: tuple[str, ...] = ()
    alarm: float = 0.0
    """How much weighs that a probe's warning, an option of the command or the end of a log speaks for it: 0 where none does."""
    measured: bool = False
    """Whether it is a probe's own warning."""

    @property
    def is_cause(self) -> bool:
        """Whether a line names this fault itself."""
        return any(s.role == "cause" for s, _ in self.matches)

    @property
    def is_consequence(self) -> bool:
        """Whether the only lines seen are those that follow some other fault."""
        roles = {s.role for s, _ in self.matches}
        return "consequence" in roles and "cause" not in roles


def specificity(pattern: str) -> float:
    """0…1 by how much fixed text a pattern asks for: 12 characters 0.38, 40 characters 0.80."""
    import re

    fixed = re.sub(r"\(\?P<\w+>|\\[dDwWsSbB]|\[[^\]]*\]|[()?*+.|^$\\{}]", "", pattern)
    return 1 - math.exp(-len(fixed) / 25)


def propose(
    library: Library, signals: Signals, hits: Sequence[Hit], coverage: Mapping[str, float] | None = None
) -> list[Hypothesis]:
    """Every document that a signature or the search brought up, scored without readings, best first.

    `coverage` is the share (0…1) of the question that each found document holds.
    """
    signatures = {(s.document, s.name): s for s in library.signatures}
    by_document: dict[str, list[tuple[Signature, Match]]] = {}
    for match in signals.matches:
        by_document.setdefault(match.document, []).append((signatures[match.document, match.signature], match))
    found = {h.document: h for h in hits}
    order = {d: i for i, d in enumerate(by_document)}
    hypotheses = []
    for name in {**by_document, **found}:
        matches = tuple(by_document.get(name, ()))
        document = library.get(name)
        early = EARLY * (1 - order[name] / len(order)) if name in order else 0.0
        score = (
            match_score(matches, signals) + early + search_score(found.get(name), hits, (coverage or {}).get(name, 0.0))
        )
        score -= OWN if name.startswith("user/") else 0.0
        if document.engines and signals.engine and signals.engine not in document.engines:
            score -= FOREIGN
        hypotheses.append(Hypothesis(document, score, matches, found.get(name)))
    return fold(sorted(hypotheses, key=rank))


def rank(hypothesis: Hypothesis) -> tuple[bool, float, str]:
    """Sorts best first: a document whose own line was seen stands before all that only follow or resemble."""
    return (not hypothesis.is_cause, -hypothesis.score, hypothesis.document.id)


def match_score(matches: Sequence[tuple[Signature, Match]], signals: Signals) -> float:
    """The strongest cause among the matches, more where its line is the root exception's."""
    causes = [(s, m) for s, m in matches if s.role == "cause"]
    if not causes:
        roles = {s.role for s, _ in matches}
        return CONSEQUENCE if "consequence" in roles else CONTEXT if "context" in roles else 0.0
    best = max(specificity(s.pattern) for s, _ in causes)
    return SPECIFIC * best + (ROOT if any(is_root(m, signals) for _, m in causes) else 0.0)


def is_root(match: Match, signals: Signals) -> bool:
    """Whether a match is the line of the root exception, or says what that exception says."""
    root = signals.root
    if root is None:
        return False
    same_line = match.first.path == root.path and match.first.line == root.line
    message = root.message.strip()[:60]
    return same_line or (len(message) > 12 and message in match.first.text)


def search_score(hit: Hit | None, hits: Sequence[Hit], covered: float) -> float:
    """0…SEARCH by the hit's share of the best score and by how much of the question it covers, half each."""
    return SEARCH * (hit.score / max(hits[0].score, 1e-9) + covered) / 2 if hit and hits else 0.0


def fold(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    """Take out what another matched document explains; it is named there, and its score counts for its explainer."""
    by_id = {h.document.id: h for h in hypotheses}
    leading = next((h.document.id for h in hypotheses if h.is_cause), None)
    wrappers = [h.document.id for h in hypotheses if h.is_consequence]
    explained: dict[str, str] = dict.fromkeys(wrappers, leading) if leading else {}
    for hypothesis in hypotheses:
        for name in hypothesis.document.explains:
            folded = by_id.get(name)
            if (
                folded
                and folded.matches
                and explained.get(hypothesis.document.id) != name
                and accounts_for(hypothesis, folded)
            ):
                explained.setdefault(name, hypothesis.document.id)
    kept = []
    for hypothesis in hypotheses:
        name = hypothesis.document.id
        if name in explained:
            continue
        folded_names = tuple(n for n, by in explained.items() if _explainer(n, explained) == name)
        scores = [by_id[n].score for n in folded_names if by_id[n].is_cause]
        stands_on = tuple(m for n in folded_names if by_id[n].is_cause for m in by_id[n].matches)
        matches = hypothesis.matches if hypothesis.is_cause else (*hypothesis.matches, *stands_on)
        kept.append(replace(hypothesis, score=max([hypothesis.score, *scores]), matches=matches, folded=folded_names))
    return sorted(kept, key=rank)


def accounts_for(explainer: Hypothesis, folded: Hypothesis) -> bool:
    """Whether a document that may explain another does so here.

    A cause does. A document seen only by context lines (the frames of a phase) does where they stand right above the other's line.
    """
    if explainer.is_cause:
        return True
    places = [m.first for s, m in folded.matches if s.role == "cause"]
    contexts = [m.last for s, m in explainer.matches if s.role == "context"]
    return any(c.path == p.path and 0 <= p.line - c.line <= NEAR_LINES for c in contexts for p in places)


def _explainer(name: str, explained: Mapping[str, str]) -> str:
    """The end of a chain of explanations; a circle ends where it began."""
    seen = {name}
    while name in explained and explained[name] not in seen:
        name = explained[name]
        seen.add(name)
    return name


def alarmed(
    library: Library, hypotheses: Sequence[Hypothesis], results: Sequence[ProbeResult], values: Mapping[str, Any]
) -> list[Hypothesis]:
    """The hypotheses, and every fault for which a probe speaks that itself found something wrong, or an option of the user's
    own command, whatever the words were."""
    known = {h.document.id for h in hypotheses}
    facts = {name: value for name, value in values.items() if name.startswith(OPTIONS) or name in FROM_LOG}
    facts |= {name: value for r in results if r.status in ALARMS for name, value in r.facts.items()}
    more = []
    for name in library.by_id if facts else ():
        document = library.get(name)
        if name not in known and document.kind == "fault" and any(speaks(r, facts) for r in document.readings):
            more.append(Hypothesis(document, 0.0))
    return [*hypotheses, *more]


def speaks(reading: Reading, facts: Mapping[str, Any]) -> bool:
    """Whether a reading speaks for its document by more than what the machine is."""
    return reading.speaks == "for" and not names_in(reading.when) <= STANDING and evaluate(reading.when, facts) is True


def told_alarm(telling: Sequence[Reading]) -> float:
    """What weighs of a log's end and of the command's options, where such a reading speaks for a document."""
    stops = [STOP_ALARM for r in telling if names_in(r.when) & FROM_LOG]
    options = [OPTION_ALARM for r in telling if all(name.startswith(OPTIONS) for name in names_in(r.when))]
    return max(stops + options, default=0.0)


def weigh(
    hypotheses: Sequence[Hypothesis], facts: Mapping[str, Any], statuses: Mapping[str, Status] = NO_STATUSES
) -> tuple[list[Hypothesis], list[tuple[Hypothesis, Reading]]]:
    """Scores with the readings for and against; and what a reading ruled out. `statuses` are the probes' by name."""
    kept, ruled_out = [], []
    for hypothesis in hypotheses:
        held = [r for r in hypothesis.document.readings if evaluate(r.when, facts) is True]
        against = next((r for r in held if r.speaks == "rules-out"), None)
        if against and not hypothesis.is_cause:
            ruled_out.append((hypothesis, against))
            continue
        supporting = tuple(r for r in held if r.speaks == "for")
        contradicting = tuple(r for r in held if r.speaks != "for")
        score = hypothesis.score + READING * min(len(supporting), 2) - CONTRADICTED * min(len(contradicting), 2)
        telling = [r for r in supporting if hypothesis.document.kind == "fault" and not names_in(r.when) <= STANDING]
        warned = max((ALARMS.get(statuses.get(p, "ok"), 0.0) for r in telling for p in probes_of(r.when)), default=0.0)
        kept.append(
            replace(
                hypothesis,
                score=score,
                supporting=supporting,
                contradicting=contradicting,
                alarm=max(warned, told_alarm(telling)),
                measured=warned > 0,
            )
        )
    return sorted(kept, key=rank), ruled_out
