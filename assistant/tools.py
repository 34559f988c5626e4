"""What a language model may do to dig further: search, run a passive probe, read an attached log, check flags.

Names are all that it gives. Where probes look, which logs there are and which releases count is set before it begins; what it
asks for outside of that is refused in a sentence. Whatever a tool gives back becomes evidence that may be cited.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from assistant.composition import Ledger
from assistant.fencing import Fence, plain
from assistant.sources import RECORD
from assistant.types import Evidence, EvidenceKind, Question
from kb.index import Index
from kb.library import Library
from kb.types import Language
from probes.types import ProbeResult, Target

FOUND = 4
QUERY_CHARACTERS = 400
COMMAND_CHARACTERS = 4000
SHOWN_CHARACTERS = 2500
SHOWN_LINES = 12
LINE_CHARACTERS = 400
TAIL_LINES = 25
HEAD_BYTES, TAIL_BYTES = 512 * 1024, 128 * 1024
RELEASE = re.compile(r"\d+\.\d+[\w.]{0,20}")


class Stopped(Exception):
    """The answer was given up: nothing more is run for it."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A log that can be read: the file at `path`, or where that is empty, the text that was given under a name."""

    path: str = ""
    name: str = ""
    text: str = ""

    @property
    def source(self) -> str:
        return self.path or self.name


@dataclass
class Tools:
    """The tools of one answer, and the evidence that they add to. Safe to call from several threads at once."""

    library: Library
    open_index: Callable[[], Index]
    target: Target
    question: Question
    ledger: Ledger
    lang: Language = "en"
    engine: str = ""
    release: str = ""
    results: Sequence[ProbeResult] = ()
    earlier: Sequence[Mapping[str, str]] = ()
    """The logs of the conversation's earlier questions by name, newest question first: what its thread keeps of them."""
    probe_seconds: float = 5.0
    fence: Fence = field(default_factory=Fence)
    stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def probes(self) -> dict[str, str]:
        """The probes that may be run, with what they read; of a recorded host those that it has. None where probes are not wanted."""
        from probes.registry import load_probe, probe_names

        if self.question.host is not None:
            return {r.probe: r.source for r in self._recorded.values()}
        if not self.question.use_probes:
            return {}
        passive = [p for name in probe_names() if (p := load_probe(name)).passive]
        return {p.name: p.title for p in passive}

    @cached_property
    def logs(self) -> dict[str, Attached]:
        """The attached logs, then those of earlier questions. A name is the last part of a path, numbered where two are alike."""
        given = [Attached(path) for path in self.question.log_paths]
        given += [Attached(name=name, text=text) for name, text in self.question.logs.items()]
        kept = [
            Attached(name=f"earlier-{Path(n).name}", text=text) for logs in self.earlier for n, text in logs.items()
        ]
        found: dict[str, Attached] = {}
        for log in (*given, *dict.fromkeys(kept)):
            base = re.sub(r"[^\w.-]+", "-", Path(log.source).name)[:80] or "log"
            found[base if base not in found else f"{base}-{len(found) + 1}"] = log
        return found

    @cached_property
    def _recorded(self) -> Mapping[str, ProbeResult]:
        from probes.registry import replay

        return replay(self.question.host or {})

    def search_knowledge(self, query: str) -> str:
        """The passages of the knowledge base nearest to a few words: known faults, how-tos, the user's runbooks."""
        self._check()
        from kb.search import search

        words = plain(query)[:QUERY_CHARACTERS].strip()
        if not words:
            return "Nothing was searched: the query is empty."
        with self._lock:  # opening the index builds it where it is missing
            hits = search(self.open_index(), words, FOUND, language=self.lang)
        if not hits:
            return "No document holds any of these words."
        shown = []
        for hit in hits:
            chunk = hit.chunk
            text = f"{chunk.title}\n{' > '.join(chunk.heading)}\n{chunk.text}"
            folder = "kb/docs/" if chunk.origin == "shipped" else "runbooks/"
            shown.append(self._show("document", f"{folder}{chunk.path}:{chunk.lines[0]}-{chunk.lines[1]}", text))
        return "\n".join(shown)

    def run_probe(self, name: str) -> str:
        """One look at the serving host by the name of a probe."""
        self._check()
        if name not in self.probes:
            return refusal("probe", name, self.probes)
        return self._show("probe", name, reading(self._result(name), self.lang))

    def scan_log(self, name: str, contains: str = "") -> str:
        """The known error lines, the first exception and the end of a log that the person attached; or its lines that hold a text."""
        self._check()
        if name not in self.logs:
            return refusal("log", name, self.logs)
        from probes.reading.mask import mask

        log = self.logs[name]
        if not contains.strip():
            return self._show("log", log.path or name, self._scanned(log))
        lines = [line for line in mask(ends_of(log)).splitlines() if contains.strip() in line][:SHOWN_LINES]
        found = "\n".join(line[:LINE_CHARACTERS] for line in lines)
        return self._show("log", log.path or name, found) if lines else "No line of what was read of this log holds it."

    def check_flags(self, command: str, release: str = "") -> str:
        """Whether every flag and variable of a serving command exists in a release; without one, in the release that serves."""
        self._check()
        from kb.flags import check_command, engine_of

        engine = engine_of(command[:COMMAND_CHARACTERS]) or self.engine
        release = release.strip().removeprefix(f"{engine}==") or self.release
        if engine not in ("vllm", "sglang") or not release:
            return "Nothing was checked: give a whole serving command and a release."
        if not RELEASE.fullmatch(release):
            return f"Nothing was checked: {plain(release)[:40]!r} is not a release such as 0.11.0."
        rows = [
            f"{s.name}: {s.status}"
            + (f"; use {s.replacement}" if s.replacement else "")
            + (f" ({s.note})" if s.note else "")
            for s in check_command(command[:COMMAND_CHARACTERS], engine, release)
        ]
        return self._show("document", f"{RECORD} {engine} {release}", "\n".join(rows) or "no flags and no variables")

    def _show(self, kind: EvidenceKind, source: str, text: str) -> str:
        """Enter what was read as evidence and show it, fenced, with the id to cite it by."""
        from probes.reading.mask import mask

        with self._lock:
            name = self.ledger.cite(kind, plain(source), mask(plain(text)).strip())
        return self.fence.around(f"[{name}] {source}", text, SHOWN_CHARACTERS)

    def _result(self, name: str) -> ProbeResult:
        """The reading of this answer where there is one, else a new one."""
        have = {r.probe: r for r in self.results} | (dict(self._recorded) if self.question.host is not None else {})
        if name in have:
            return have[name]
        from probes.registry import run_probe

        result = run_probe(name, self.target, self.probe_seconds)
        self.results = (*self.results, result)
        return result

    def _scanned(self, log: Attached) -> str:
        """What the scanner finds in a log, the traceback of the first exception, and the last lines."""
        from probes.reading.mask import mask
        from probes.scanner import scan_files, scan_text

        signatures = self.library.signatures
        report = scan_files([log.path], signatures) if log.path else scan_text(log.text, signatures, log.name)
        lines = [
            f"{m.count}x {m.document}, line {m.first.line}: {m.first.text.strip()[:LINE_CHARACTERS]}"
            for m in report.matches
        ]
        if report.root:
            lines.append(
                f"first exception, line {report.root.line}: {report.root.exception}: {report.root.message[:LINE_CHARACTERS]}"
            )
            trace = next((t for t in report.tracebacks if t.line <= report.root.line <= t.end_line), None)
            lines += trace.text.splitlines()[-SHOWN_LINES:] if trace else []
        ending = mask(ends_of(log)).splitlines()[-TAIL_LINES:]
        return "\n".join([*lines, "the last lines:", *(line[:LINE_CHARACTERS] for line in ending)])

    def _check(self) -> None:
        """Raises Stopped where the answer was given up."""
        if self.stopped.is_set():
            raise Stopped


def ends_of(log: Attached) -> str:
    """A log's beginning and end, where it is long."""
    from probes.scanner import open_log

    return open_log(log.path, HEAD_BYTES, TAIL_BYTES) if log.path else log.text


def ledger_of(evidence: Sequence[Evidence]) -> Ledger:
    """The ledger that an answer's evidence came from, to be continued."""
    return Ledger({(e.kind, e.source, e.text): e for e in evidence})


def refusal(what: str, name: str, known: Mapping[str, Any]) -> str:
    """What is said of a name that is none of those offered."""
    offered = ", ".join(known) or "none"
    return f"There is no {what} {plain(name)[:60]!r} here. Those that may be asked for: {offered}."


def reading(result: ProbeResult, lang: Language) -> str:
    """A probe's result in words and facts."""
    summary = result.summary_zh if lang == "zh" and result.summary_zh else result.summary
    advice = result.advice_zh if lang == "zh" and result.advice_zh else result.advice
    facts = [f"{name} = {value}" for name, value in result.facts.items() if value is not None]
    return "\n".join([f"{result.status}: {summary}", *facts, *advice])
