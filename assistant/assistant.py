"""The way of a question, from what was said to a grounded answer: one stream of events for every surface."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from assistant.composition import compose, known_engine
from assistant.conversation import Memory, Turn, after_tried, exhausted, preface, query_of, recall, remember
from assistant.diagnosis import Topic, Verdict, complains, decisive, first_found, judge
from assistant.fixes import Engine
from assistant.hypotheses import Hypothesis, alarmed, propose, weigh
from assistant.language import detect_language
from assistant.parts import ALL, Parts
from assistant.settings import Settings
from assistant.signals import Signals, options_of, read_signals
from assistant.target import target_of
from assistant.threads import ThreadError, Threads
from assistant.types import Answer, Event, Question, Step
from assistant.wording import say
from kb.index import Index, Progress, open_index
from kb.library import Library, load_library
from kb.search import Hit
from kb.types import Language, Signature
from probes.scanner import Match, ScanReport
from probes.types import ProbeResult, Target

T = TypeVar("T")
HEAD_BYTES, TAIL_BYTES = 512 * 1024, 128 * 1024
ROOT_CHARACTERS, WRAPPED_CHARACTERS = 200, 2000
LONGEST_WORDS, WORDS_KEPT = 64 * 1024, 4 * 1024  # characters
KEPT_BYTES = 32 * 1024  # of each end of a log, in a thread
CANDIDATES = 8
CALM_PROBES = 3  # of a host, before a look at it may be called calm


class Assistant:
    """Opened once, asked often. Opening reads nothing; the library loads with the first question, the index when search is needed."""

    def __init__(self, settings: Settings, progress: Progress | None = None, parts: Parts = ALL) -> None:
        self.settings = settings
        self.parts = parts
        self._progress = progress

    @cached_property
    def library(self) -> Library:
        home = self.settings.home_folder
        return load_library(home / "cache", home / "runbooks")

    @cached_property
    def index(self) -> Index:
        home = self.settings.home_folder / "index"
        return open_index(home, self.library, self.settings.embedder, self.settings.chroma_url, self._progress)

    @cached_property
    def target(self) -> Target:
        """Where probes may look: the operator's settings, nothing else."""
        return target_of(self.settings)

    @cached_property
    def threads(self) -> Threads:
        """Where conversations are kept."""
        url = self.settings.threads_url
        return Threads(url) if url else Threads.in_folder(self.settings.home_folder)

    def answer(self, question: Question) -> Answer:
        """The answer alone."""
        *_, last = self.ask(question)
        assert last.answer is not None, "the stream ends with an answer"
        return last.answer

    def ask(self, question: Question, cancelled: threading.Event | None = None) -> Iterator[Event]:
        """Steps as they happen, then the text, then the answer. In a thread, what was said before counts, and this is kept.

        Setting `cancelled`, from any thread, ends the wait for a language model: the offline answer is given.
        """
        events, endpoint = self.events(question, cancelled), self.settings.otlp_endpoint
        if not endpoint:
            return events
        from assistant.tracing import traced

        return traced(events, endpoint)

    def events(self, question: Question, cancelled: threading.Event | None) -> Generator[Event, None, None]:
        """What `ask` gives, with nobody looking on."""
        question = masked(question)
        memory, place, trouble = Memory(), 0, ""
        if question.thread:
            try:
                memory = remember(self.threads.turns(question.thread), question)
                place = self.threads.begin(question.thread, question.text)
            except ThreadError as error:
                trouble = str(error)
        answer, signals, results, logs = yield from self.investigate(question, memory, cancelled)
        if place:
            try:
                self.threads.finish(question.thread, place, turn_of(question, memory, signals, results, answer, logs))
            except ThreadError as error:
                trouble = str(error)
        if trouble:
            answer = replace(answer, warnings=(*answer.warnings, say("not_kept", answer.lang, why=trouble)))
        yield Event("answer", answer=answer)

    def investigate(
        self, question: Question, memory: Memory, cancelled: threading.Event | None = None
    ) -> Generator[Event, None, tuple[Answer, Signals, list[ProbeResult], dict[str, str]]]:
        """The way of one question, given what its conversation remembers: its answer, and what was read for it; of logs their ends."""
        steps: list[Step] = []
        lang = question.lang if question.lang != "auto" else detect_language(question.text)
        told, logs = yield from run_step(
            steps, "scan", lambda: self.scan(question), lambda read: f"{len(read[0].matches)} signatures"
        )
        signals = self.known(recall(memory, told)) if memory.turns else told
        words = query_of(memory, question.text)
        hypotheses = propose(self.library, signals, ())
        hits: list[Hit] = []
        covered: dict[str, float] = {}
        if self.parts.search and not decisive(hypotheses, signals.root) and memory.kind != "solved":
            hits, covered = yield from run_step(
                steps, "search", lambda: self.search(words, signals, lang), lambda found: f"{len(found[0])} documents"
            )
            hypotheses = propose(self.library, signals, hits, covered)
        topic = self.topic(words, bool(hits))
        results = yield from self.look(question, hypotheses, steps, memory, signals, topic)
        facts = {**{k: v for r in results for k, v in r.facts.items() if v is not None}, **signals.values}
        hypotheses = alarmed(self.library, hypotheses, results, signals.values)
        hypotheses, ruled_out = weigh(hypotheses, facts, {r.probe: r.status for r in results})
        hypotheses = after_tried(hypotheses, memory)
        if hits:
            more = [h.document.id for h in hypotheses if h.document.id not in covered]
            covered |= self.coverage(search_query(words, signals), more)
        coverages = [covered.get(h.document.id, 0.0) for h in hypotheses]
        verdict = self.verdict(words, signals, hypotheses, coverages, results, memory, topic)
        with installed_flags(results):
            read = replace(question, logs=logs, log_paths=())
            answer = compose(self.library, read, signals, verdict, results, ruled_out, facts, lang, memory)
        if before := preface(memory, signals, results, self.library, lang):
            answer = replace(answer, text=f"{before}\n{answer.text}".strip())
        if hits and self.index.limits:
            answer = replace(answer, warnings=(*answer.warnings, say("lexical_only", lang, why=self.index.limits)))
        answer = replace(answer, steps=tuple(steps), thread=question.thread)
        if self.settings.model in ("", "none") or answer.status == "out_of_scope":
            yield Event("text", text=answer.text)
        else:
            answer = yield from self.reword(answer, question, known_engine(signals, facts), results, memory, cancelled)
        return answer, signals, results, logs

    def reword(
        self,
        offline: Answer,
        question: Question,
        engine: Engine,
        results: Sequence[ProbeResult],
        memory: Memory,
        cancelled: threading.Event | None,
    ) -> Generator[Event, None, Answer]:
        """The language model's answer in place of the offline one."""
        from assistant.exchange import Brief
        from assistant.model_writer import write
        from assistant.tools import Tools, ledger_of

        tools = Tools(
            library=self.library,
            open_index=lambda: self.index,
            target=self.target,
            question=question,
            ledger=ledger_of(offline.evidence),
            lang=offline.lang,
            engine=engine.name,
            release=engine.release,
            results=results,
            earlier=[turn.logs for turn in reversed(memory.turns)],
            probe_seconds=self.settings.probe_seconds,
        )
        history = [(turn.text, turn.answer.text) for turn in memory.turns]
        return (yield from write(offline, Brief(tools, history), self.settings, cancelled))

    def coverage(self, query: str, documents: Sequence[str]) -> dict[str, float]:
        """How much of the query each document covers, by its id."""
        from kb.search import coverage

        return coverage(self.index, query, documents) if documents else {}

    def known(self, signals: Signals) -> Signals:
        """The signals without lines of documents that were removed since they were read."""
        names = {(s.document, s.name) for s in self.library.signatures}
        return replace(signals, matches=tuple(m for m in signals.matches if (m.document, m.signature) in names))

    def scan(self, question: Question) -> tuple[Signals, dict[str, str]]:
        """Signatures and values in the words and in every log, and the logs' ends by name."""
        from probes.scanner import scan_files, scan_text

        signatures = self.library.signatures if self.parts.signatures else ()
        reports = [scan_files([path], signatures) for path in question.log_paths]
        reports += [scan_text(text, signatures, name=name) for name, text in question.logs.items()]
        reports.append(scan_text(question.text, signatures, name="question"))
        reports = [with_wrapped_messages(report, signatures) for report in reports]
        logs = log_ends(question)
        return read_signals(question.text, logs, reports, question.command), logs

    def search(self, text: str, signals: Signals, lang: Language) -> tuple[list[Hit], dict[str, float]]:
        """The nearest documents to the words and the root exception, and how much of the words each covers."""
        from kb.search import search

        query = search_query(text, signals)
        sought = f"{query}\n{' '.join(options_of(signals.command))}".strip() if signals.root else query
        hits = search(self.index, sought, CANDIDATES, self.parts.search or "hybrid", lang)
        return hits, self.coverage(query, [h.document for h in hits])

    def look(
        self,
        question: Question,
        hypotheses: Sequence[Hypothesis],
        steps: list[Step],
        memory: Memory,
        signals: Signals,
        topic: Topic,
    ) -> Generator[Event, None, list[ProbeResult]]:
        """The recorded host's readings, or the probes that the leading hypotheses ask for, in parallel under one deadline.

        A follow-up reads again what was read before, so that the two can be compared.
        """
        if question.host is not None:
            from probes.registry import replay

            return list(replay(question.host).values())
        ours = bool(topic.terms) or signals.has_log or bool(signals.command) or complains(question.text)
        in_doubt = signals.has_errors or complains(question.text)
        names = wanted_probes(hypotheses, in_doubt) if question.use_probes and ours else []
        if question.use_probes and memory.follows:
            from probes.registry import probe_names

            names = sorted({*names, *memory.last.readings} & {*probe_names()})
        if not names:
            return []
        from probes.registry import run_probes

        for name in names:
            yield Event("step_started", Step(f"probe {name}", "running", 0.0))
        results = run_probes(names, self.target, self.settings.probe_seconds)
        for result in results:
            told = (result.summary, result.summary_zh)
            steps.append(Step(f"probe {result.probe}", result.status, result.seconds, *told))
            yield Event("step_finished", steps[-1])
        return results

    def verdict(
        self,
        words: str,
        signals: Signals,
        hypotheses: Sequence[Hypothesis],
        coverages: Sequence[float],
        results: Sequence[ProbeResult],
        memory: Memory,
        topic: Topic,
    ) -> Verdict:
        """What it comes to. A fault whose every fix was tried is not named again as if nothing had been said."""
        if memory.kind == "solved":
            return Verdict("healthy")
        if not self.parts.verdict:
            return first_found(hypotheses)
        statuses = [r.status for r in results]
        ailing, calm = "critical" in statuses or "warning" in statuses, statuses.count("ok") >= CALM_PROBES
        found = judge(words, signals, hypotheses, coverages, topic, ailing, calm and not ailing)
        if found.ranked and exhausted(found.ranked[0][0], memory):
            return Verdict("insufficient", found.ranked, "every fix was tried")
        return found

    def topic(self, text: str, searched: bool) -> Topic:
        """What the words are about; words that no document holds are foreign."""
        from kb.glossary import domain_terms, is_of_another_field, specific_terms
        from kb.search import unknown_words

        foreign = is_of_another_field(text) or (searched and len(unknown_words(self.index, text)) > 1)
        return Topic(tuple(domain_terms(text)), tuple(specific_terms(text)), foreign)


def with_wrapped_messages(report: ScanReport, signatures: Sequence[Signature]) -> ScanReport:
    """The report with what its exceptions' messages say once their lines are joined: people and forms wrap them."""
    from probes.scanner import scan_text

    seen = {(m.document, m.signature) for m in report.matches}
    found: list[Match] = []
    for traceback in report.tracebacks:
        for link in traceback.links:
            if "\n" in link.message.strip():
                line = f"{link.exception}: {' '.join(link.message[:WRAPPED_CHARACTERS].split())}"
                matches = scan_text(line, signatures, name=traceback.path).matches
                found += [at_line(m, link.line) for m in matches if (m.document, m.signature) not in seen]
                seen |= {(m.document, m.signature) for m in matches}
    return replace(report, matches=(*report.matches, *found)) if found else report


def at_line(match: Match, line: int) -> Match:
    """A match where its message begins in the log."""
    return replace(match, first=replace(match.first, line=line), last=replace(match.last, line=line))


def search_query(text: str, signals: Signals) -> str:
    """What to look for: the root exception and the words."""
    return f"{signals.root.exception}: {signals.root.message[:ROOT_CHARACTERS]}\n{text}" if signals.root else text


@contextmanager
def installed_flags(results: Sequence[ProbeResult]) -> Iterator[None]:
    """Flags are checked against what is installed where a probe found it to differ from the recorded release."""
    engines = [e for r in results if r.probe == "engine_flags" for e in r.data.get("engines", ())]
    differences = [e["differences"] for e in engines if e.get("differences")]
    if not differences:
        yield
        return
    from kb.flags import with_installed

    with with_installed(differences):
        yield


def turn_of(
    question: Question,
    memory: Memory,
    signals: Signals,
    results: Sequence[ProbeResult],
    answer: Answer,
    logs: dict[str, str],
) -> Turn:
    """An exchange as its thread keeps it; of the logs' ends that were read, shorter ones."""
    from probes.registry import record
    from probes.scanner import ends_of

    kept = {Path(name).name: ends_of(text, KEPT_BYTES, KEPT_BYTES) for name, text in logs.items()}
    return Turn(question.text, answer, signals, record(results), kept, tuple(sorted(memory.tried)))


def masked(question: Question) -> Question:
    """The question with the secrets in its words and its command masked; logs are masked as they are scanned.

    Words longer than any person's are a pasted log: they are read as one, and their beginning and end as words.
    """
    from probes.reading.mask import mask

    text = mask(question.text)
    if len(text) > LONGEST_WORDS:
        question = replace(question, logs={**question.logs, "question.txt": text})
        text = f"{text[:WORDS_KEPT]}\n{text[-WORDS_KEPT:]}"
    return replace(question, text=text, command=mask(question.command))


def run_step(
    steps: list[Step], name: str, work: Callable[[], T], summary: Callable[[T], str]
) -> Generator[Event, None, T]:
    """Do one piece of work between its started and finished events."""
    yield Event("step_started", Step(name, "running", 0.0))
    start = time.perf_counter()
    value = work()
    steps.append(Step(name, "ok", time.perf_counter() - start, summary(value)))
    yield Event("step_finished", steps[-1])
    return value


def wanted_probes(hypotheses: Sequence[Hypothesis], in_doubt: bool) -> list[str]:
    """The probes whose facts the three leading documents name, and the installed versions; all that may run unasked where
    something is wrong and no line says what."""
    from kb.expressions import names_in
    from kb.facts import probe_of

    if in_doubt and not any(h.is_cause for h in hypotheses):
        from probes.registry import checkup_names

        return list(checkup_names(Target()))
    wanted = {"versions"}
    for hypothesis in hypotheses[:3]:
        expressions = [r.when for r in hypothesis.document.readings] + [
            f.when for f in hypothesis.document.fixes if f.when
        ]
        wanted |= {probe for e in expressions for name in names_in(e) if (probe := probe_of(name))}
    return sorted(wanted)


def log_ends(question: Question, head_bytes: int = HEAD_BYTES, tail_bytes: int = TAIL_BYTES) -> dict[str, str]:
    """The beginning and the end of every log, pasted or named, where banners and the failure stand: masked, by its name.

    The scanner reads them whole; all other reading of 10 MB took 17 s.
    """
    from probes.scanner import ends_of, open_log

    pasted = {name: ends_of(text, head_bytes, tail_bytes) for name, text in question.logs.items()}
    return pasted | {path: open_log(path, head_bytes, tail_bytes) for path in question.log_paths}
