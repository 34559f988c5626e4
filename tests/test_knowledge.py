"""The documents as one body: each error line leads to its own document, and no line of a healthy run leads to any."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from assistant.assistant import Assistant
from assistant.hypotheses import Hypothesis, propose
from assistant.settings import Settings
from assistant.signals import read_signals
from assistant.types import Question
from kb.documents import load_documents
from kb.library import Library
from kb.types import Signature
from probes.scanner import scan_text

HEALTHY = sorted((Path(__file__).parent / "fixtures" / "healthy").glob("*.log"))
# Healthy, but with lines that say ERROR: no fault is named, yet the status may be an honest "not enough".
SPEAKING_OF_ERRORS = ("vllm_0_18_triton_kernels_missing", "vllm_without_compiled_module")
LIBRARY = Library(tuple(load_documents()), "shipped")
CAUSES = {
    name: [s for s in versions["en"].signatures if s.role == "cause"]
    for name, versions in LIBRARY.by_id.items()
    if any(s.role == "cause" for s in versions["en"].signatures)
}
PREFIXES = (
    "(EngineCore_DP0 pid=123) ERROR 11-01 12:00:00 [core.py:790] ",
    "[2025-03-17 08:11:02 TP0] ",
    "vllm-1  | ",
    "启动报错：",
)


@functools.cache
def hypotheses(log: str) -> list[Hypothesis]:
    """What a log leads to, without search and without probes."""
    signals = read_signals("", {"server.log": log}, [scan_text(log, LIBRARY.signatures, name="server.log")])
    return propose(LIBRARY, signals, ())


def lines_of(path: Path) -> list[str]:
    """A log's lines without the comments that say where they come from."""
    return [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("# ")]


def owns(signature: Signature) -> bool:
    """Whether the signature's line leads to its document, or to a more specific one that explains it."""
    first = hypotheses(signature.example)[0]
    return signature.document in (first.document.id, *first.folded)


COMPILED = [(s, re.compile(s.pattern)) for s in LIBRARY.signatures]  # `re` itself keeps 512 patterns: 7 minutes


@pytest.mark.parametrize("name", CAUSES)
def test_a_line_that_names_a_fault_leads_to_its_document(name: str) -> None:
    assert [s.name for s in CAUSES[name] if not owns(s)] == []


@pytest.mark.parametrize("name", CAUSES)
def test_a_line_is_found_behind_any_prefix(name: str) -> None:
    missed = [(p, s.name) for s in CAUSES[name] for p in PREFIXES if not re.search(s.pattern, p + s.example)]
    assert missed == []


def test_two_documents_claim_a_line_only_where_one_explains_the_other() -> None:
    unsettled = []
    for signature in (s for signatures in CAUSES.values() for s in signatures):
        claims = {s.document for s, pattern in COMPILED if s.role == "cause" and pattern.search(signature.example)}
        first = hypotheses(signature.example)[0]
        unsettled += [(signature.name, *sorted(claims))] if claims - {first.document.id, *first.folded} else []
    assert unsettled == []


def test_no_document_explains_its_own_explanation() -> None:
    explains = {name: set(versions["en"].explains) for name, versions in LIBRARY.by_id.items()}
    assert [(a, b) for a in explains for b in explains[a] if a == b or a in explains[b]] == []


@pytest.mark.parametrize("path", HEALTHY, ids=lambda p: p.stem)
def test_no_line_of_a_healthy_run_names_a_fault(path: Path) -> None:
    causes = [(s, pattern) for s, pattern in COMPILED if s.role != "context"]
    assert [(s.document, s.name, line) for line in lines_of(path) for s, p in causes if p.search(line)] == []


@pytest.fixture(scope="module")
def lexical(tmp_path_factory: pytest.TempPathFactory) -> Assistant:
    """An assistant whose index needs no vectors."""
    home = tmp_path_factory.mktemp("lexical")
    return Assistant(Settings(home=str(home), embedder="sentence-transformers:/none"))


@pytest.mark.parametrize("path", [p for p in HEALTHY if p.stem not in SPEAKING_OF_ERRORS], ids=lambda p: p.stem)
@pytest.mark.parametrize("question", ["Is this log fine?", "这个日志正常吗？"])
def test_a_healthy_log_is_called_healthy(lexical: Assistant, path: Path, question: str) -> None:
    log = "\n".join(lines_of(path))
    assert lexical.answer(Question(question, {path.name: log}, use_probes=False)).status == "healthy"
