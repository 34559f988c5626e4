"""An answer's parts put together: evidence numbered, diagnoses with their fixes, the text written and grounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assistant import refused_flags
from assistant.conversation import Memory, exhausted, untried
from assistant.diagnosis import Verdict
from assistant.fixes import NOTHING_GIVEN, Engine, fixes_for, release_sentence
from assistant.grounding import ground
from assistant.hypotheses import Hypothesis
from assistant.packages import installed_packages
from assistant.refused_flags import refused_flags_fix
from assistant.required_packages import required_packages_fix
from assistant.signals import Signals, model_in
from assistant.types import Answer, ComputedValue, Diagnosis, Evidence, EvidenceKind, Question, RuledOut
from assistant.wording import say
from assistant.writer import write_diagnosis, write_insufficient, write_others, write_sources
from kb.library import Library
from kb.types import Document, Language, Reading
from probes.types import ProbeResult

FIRST = Memory()
MEMORY = "memory"  # the family of faults whose remedy is a number
DIAGNOSES = 3
LEAST_OTHER = 0.3
LETTERS: dict[EvidenceKind, str] = {"document": "K", "probe": "P", "log": "L", "command": "C"}


@dataclass
class Ledger:
    """Evidence as it is numbered: the same source and text get the same id."""

    items: dict[tuple[EvidenceKind, str, str], Evidence] = field(default_factory=dict)

    def cite(self, kind: EvidenceKind, source: str, text: str) -> str:
        """The id of a piece of evidence, given now or before."""
        key = (kind, source, text)
        if key not in self.items:
            place = 1 + sum(k == kind for k, _, _ in self.items)
            self.items[key] = Evidence(f"{LETTERS[kind]}{place}", kind, source, text)
        return self.items[key].id

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        return tuple(self.items.values())


def compose(
    library: Library,
    question: Question,
    signals: Signals,
    verdict: Verdict,
    results: Sequence[ProbeResult],
    ruled_out: Sequence[tuple[Hypothesis, Reading]],
    facts: Mapping[str, Any],
    lang: Language,
    memory: Memory = FIRST,
) -> Answer:
    """The answer that a verdict comes to, by itself; what goes before it is for the conversation to say."""
    ledger = Ledger()
    if signals.command:
        ledger.cite("command", say("command_source", lang), signals.command)
    engine = known_engine(signals, facts)
    probes = {
        r.probe: ledger.cite("probe", r.probe, probe_text(r, lang))
        for r in results
        if r.status != "unknown" or verdict.status == "insufficient"
    }
    if verdict.status in ("diagnosed", "howto"):
        return compose_diagnosed(
            library, question, signals, verdict, probes, ruled_out, facts, engine, ledger, lang, memory
        )
    if memory.kind == "solved":
        text = ""
    elif verdict.ranked and exhausted(verdict.ranked[0][0], memory):
        text = say("all_tried", lang)
    elif verdict.status == "insufficient":
        text = write_insufficient(needs(signals, results, lang), candidate_titles(library, verdict, lang), lang)
    else:
        text = (
            say(verdict.status, lang)
            + "\n\n"
            + "\n".join(f"- [{i}] {probe_text(r, lang)}" for r in results if (i := probes.get(r.probe)))
        )
    return Answer(verdict.status, lang, evidence=ledger.evidence, warnings=unknowns(results, lang), text=text.strip())


def compose_diagnosed(
    library: Library,
    question: Question,
    signals: Signals,
    verdict: Verdict,
    probes: Mapping[str, str],
    ruled_out: Sequence[tuple[Hypothesis, Reading]],
    facts: Mapping[str, Any],
    engine: Engine,
    ledger: Ledger,
    lang: Language,
    memory: Memory = FIRST,
) -> Answer:
    """Diagnosed or how-to: the leading document in full, up to two others in a line each."""
    ranked = [
        r for i, r in enumerate(verdict.ranked[:DIAGNOSES]) if i == 0 or r[1] >= LEAST_OTHER or verdict.why == "closest"
    ]
    model = model_in(signals.command)
    sizes = sizes_of(question, signals, facts) if ranked[0][0].document.family == MEMORY else NOTHING_GIVEN
    diagnoses = [
        untried(
            diagnose(
                library.get(h.document.id, lang),
                h,
                sure,
                probes,
                facts,
                engine,
                model,
                ledger,
                lang,
                signals.command,
                sizes if h.document.family == MEMORY else NOTHING_GIVEN,
            ),
            memory,
        )
        for h, sure in ranked
    ]
    diagnoses[0] = with_sizes(diagnoses[0], sizes)
    diagnoses[0] = with_refused_flags(diagnoses[0], signals, engine, ledger, lang)
    installed = installed_packages(signals.packages, facts)
    diagnoses = [with_required_packages(d, library.get(d.id), engine, installed, ledger, lang) for d in diagnoses]
    out = tuple(RuledOut(h.document.id, f"{r.when}") for h, r in ruled_out)
    diagnoses[0] = replace(diagnoses[0], ruled_out=out)
    top, document = ranked[0][0], library.get(ranked[0][0].document.id, lang)
    folded = [library.get(name, lang).title for name in top.folded]
    unknown = unknown_line(signals, lang) if verdict.why == "closest" else ""
    parts = [
        unknown,
        write_diagnosis(diagnoses[0], document, ledger.evidence, folded, lang, verdict.status == "howto"),
        write_others(diagnoses[1:], lang),
        release_sentence(engine, lang) + "\n",
        write_sources([e for e in ledger.evidence if e.id in diagnoses[0].supporting], document.sources, lang),
    ]
    brought = [question.text, signals.command, *question.logs.values(), *document.sources, engine.release]
    brought += [c.how for d in diagnoses for f in d.fixes for c in f.computed]
    brought += [
        text for d in diagnoses for f in d.fixes for text in (f.title, f.text, *f.commands, f.patched_command or "")
    ]
    text, struck = ground("\n".join(parts), {e.id: f"{e.source}\n{e.text}" for e in ledger.evidence}, brought)
    warnings = [say("struck", lang, what=", ".join(struck))] if struck else []
    return Answer(verdict.status, lang, tuple(diagnoses), ledger.evidence, tuple(warnings), text=text.strip())


def sizes_of(question: Question, signals: Signals, facts: Mapping[str, Any]) -> Mapping[str, ComputedValue]:
    """What the user's model takes and what fits, where model and memory are known."""
    from assistant.sizing import sized

    return sized(signals, facts, log="\n".join(question.logs.values()))


def with_sizes(diagnosis: Diagnosis, sizes: Mapping[str, ComputedValue]) -> Diagnosis:
    """The diagnosis with what fits beside its first fix, where the fix's own commands do not hold it."""
    if not sizes or not diagnosis.fixes:
        return diagnosis
    first = diagnosis.fixes[0]
    lengths = (
        ("sized_model_len", "sized_kv_tokens") if any(c.name == "fitting_model_len" for c in first.computed) else ()
    )
    more = tuple(c for name, c in sizes.items() if name.startswith("sized_") and name not in lengths)
    return replace(diagnosis, fixes=(replace(first, computed=(*first.computed, *more)), *diagnosis.fixes[1:]))


def with_refused_flags(
    diagnosis: Diagnosis, signals: Signals, engine: Engine, ledger: Ledger, lang: Language
) -> Diagnosis:
    """The diagnosis of a refused flag, first of all with what the catalogue of releases says of that flag."""
    fix = (
        refused_flags_fix(signals, engine.name, engine.release, lang)
        if diagnosis.id == refused_flags.DOCUMENT
        else None
    )
    if fix is None:
        return diagnosis
    cite = ledger.cite("document", f"kb/data/flags/{engine.name}.json", f"{fix.title}\n{fix.text}")
    rest = (replace(each, patched_command=None) for each in diagnosis.fixes)  # these would keep the refused flags
    return replace(diagnosis, fixes=(replace(fix, cites=(cite,)), *rest))


def with_required_packages(
    diagnosis: Diagnosis,
    document: Document,
    engine: Engine,
    installed: Mapping[str, str],
    ledger: Ledger,
    lang: Language,
) -> Diagnosis:
    """The diagnosis with the versions that this release requires: before its other fixes where an installed one is known not to
    fit, else behind them."""
    found = required_packages_fix(document, engine, installed, lang) if document.requires else None
    if found is None:
        return diagnosis
    cite = ledger.cite("document", "kb/data/requirements.tsv", f"{found.fix.title}\n{found.fix.text}")
    own = (replace(found.fix, cites=(cite,)),)
    return replace(diagnosis, fixes=(*own, *diagnosis.fixes) if found.is_unmet else (*diagnosis.fixes, *own))


def unknown_line(signals: Signals, lang: Language) -> str:
    """What is said before the nearest documents to an error or a complaint that none of them names."""
    lines = [f"> {say('closest' if signals.has_errors else 'closest_words', lang)}"]
    if stage := signals.values.get("stopped_at"):
        lines += [">", f"> {say('stopped', lang, stage=say(f'stage {stage}', lang))}"]
    if signals.root:
        text = " ".join(f"{signals.root.exception}: {signals.root.message}".replace("`", "'").split())[:300]
        lines += [">", f"> {say('root', lang, text=f'`{text}`', place=f'{signals.root.path}:{signals.root.line}')}"]
    return "\n".join([*lines, ""])


def diagnose(
    document: Document,
    hypothesis: Hypothesis,
    sure: float,
    probes: Mapping[str, str],
    facts: Mapping[str, Any],
    engine: Engine,
    model: str,
    ledger: Ledger,
    lang: Language,
    user_command: str = "",
    given: Mapping[str, ComputedValue] = NOTHING_GIVEN,
) -> Diagnosis:
    """One hypothesis as a diagnosis, its evidence entered in the ledger; `given` see `assistant.fixes.adapt`."""
    path = Path(document.path).name if document.id.startswith("user/") else f"kb/docs/{document.path}"
    supporting = [
        ledger.cite(
            "document", path, "\n".join([document.title, document.summary, *(t for t in document.sections.values())])
        )
    ]
    for _, match in hypothesis.matches:
        where = say("question_line", lang) if match.first.path == "question" else match.first.path
        supporting.append(ledger.cite("log", f"{where}:{match.first.line}", match.first.text))
    from kb.facts import probes_of

    supporting += [probes[p] for r in hypothesis.supporting for p in probes_of(r.when) if p in probes]
    contradicting = [probes[p] for r in hypothesis.contradicting for p in probes_of(r.when) if p in probes]
    cites = {
        i: ledger.cite(
            "document",
            f"{path}:{fix.lines[0]}-{fix.lines[1]}",
            "\n".join([fix.title, fix.text, *(c.text for c in fix.commands)]),
        )
        for i, fix in enumerate(document.fixes)
    }
    fixes = fixes_for(document, engine, facts, model, lang, cites, user_command, hypothesis.document.fixes, given)
    return Diagnosis(
        document.id,
        document.title,
        sure,
        tuple(dict.fromkeys(supporting)),
        tuple(dict.fromkeys(contradicting)),
        fixes=fixes,
    )


def known_engine(signals: Signals, facts: Mapping[str, Any]) -> Engine:
    """What the log, the command or the question says; else what is installed here."""
    if signals.release:
        return Engine(signals.engine, signals.release)
    for name in ("vllm", "sglang"):
        if signals.engine in ("", name) and facts.get(f"{name}_version"):
            return Engine(name, str(facts[f"{name}_version"]))
    return Engine(signals.engine)


def probe_text(result: ProbeResult, lang: Language) -> str:
    """A probe's one sentence."""
    return result.summary_zh if lang == "zh" and result.summary_zh else result.summary


def unknowns(results: Sequence[ProbeResult], lang: Language) -> tuple[str, ...]:
    """What could not be read."""
    return tuple(f"{r.probe}: {probe_text(r, lang)}" for r in results if r.status == "unknown")


def needs(signals: Signals, results: Sequence[ProbeResult], lang: Language) -> list[str]:
    """What would settle it, of what was not given."""
    wanted = [] if signals.has_log else [say("send_log", lang)]
    wanted += [] if signals.command else [say("send_command", lang)]
    wanted += [] if signals.release else [say("send_versions", lang)]
    return wanted + [
        say("send_probe", lang, probe=r.probe) for r in results if r.status == "unknown" and r.probe != "versions"
    ]


def candidate_titles(library: Library, verdict: Verdict, lang: Language) -> list[str]:
    """The nearest faults, by title."""
    return [library.get(h.document.id, lang).title for h, _ in verdict.ranked if h.document.kind == "fault"][:DIAGNOSES]
