"""A language model's text held against what was read: what nothing accounts for is found, then struck out visibly.

Commands, addresses and images in what is struck out are not shown at all. Where the core of the text fails, it cannot be shown.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from assistant.claims import (
    DOMAIN,
    HTML,
    IMAGE,
    INLINE,
    LINK,
    URL,
    Claim,
    Piece,
    claims_of,
    looks_like_command,
    pieces,
)
from assistant.grounding import CITATION
from assistant.sources import Sources, is_accounted
from kb.types import Language

MOST_WRONG = 0.5
"""The share of the prose that may be struck out before the rest is not worth showing."""
FEW_WORDS = 8
FEW_TOKENS = 4
LABEL_CHARACTERS = 30  # shorter ones, as "Risk: restarts the server", may well come again
CHINESE = re.compile(r"[\u3400-\u9fff]")
RELATED = 0.4
"""The share of a sentence's words that the diagnosis or what it cites must have."""
CLOSE = 0.5
"""That share for a sentence whose paragraph cites nothing, and stands under one that does. Of Chinese, whose bigrams cross words, half of either."""
REPEATS = 3
"""So often may a sentence stand in a text before the model is going round in circles."""
Failure = Literal["", "empty", "echo", "commands", "repeats", "mostly", "uncited", "language"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A piece of text with what in it is not accounted for."""

    piece: Piece
    wrong: tuple[Claim, ...]


def review(text: str, sources: Sources) -> list[Finding]:
    """Every sentence and line of code in which something is not accounted for."""
    sources = replace(sources, cited=tuple(dict.fromkeys(CITATION.findall(text))))
    findings = []
    for piece in pieces(text):
        wrong = [c for c in claims_of(piece) if not is_accounted(c, piece, sources)]
        if not wrong and piece.kind == "prose":
            wrong = loose(piece, sources)
        if wrong:
            findings.append(Finding(piece, tuple(dict.fromkeys(wrong))))
    return findings


def loose(piece: Piece, sources: Sources) -> list[Claim]:
    """A sentence that says much and cites nothing, or that speaks of something else than all that was read."""
    from kb.tokens import tokenize

    said = CITATION.sub(" ", piece.text)
    if len(said.split()) + len(CHINESE.findall(said)) / 2 <= FEW_WORDS or said.rstrip().endswith((":", ":")):
        return []
    cites, share = (piece.cites, RELATED) if piece.cites else (piece.above, CLOSE)
    if not cites and sources.evidence:
        return [Claim("uncited", said.strip())]
    if CHINESE.search(said):
        share /= 2
    tokens = {t for t in tokenize(INLINE.sub(" ", said)) if not t[0].isdigit()}
    if len(tokens) >= FEW_TOKENS and len(tokens & sources.tokens(cites)) < share * len(tokens):
        return [Claim("unrelated", said.strip())]
    return []


def struck(text: str, findings: Sequence[Finding], left_out: str) -> str:
    """The text with its findings struck out. Commands, addresses and images in them are gone; `left_out` stands for a command."""
    for finding in sorted(findings, key=lambda f: -f.piece.start):
        piece = finding.piece
        if piece.kind == "code":
            new = f"# {left_out}"
        elif text[: piece.start].rpartition("\n")[2].strip() == "" and piece.text.lstrip().startswith("|"):
            new = ""
        else:
            new = f"~~{defused(piece.text, finding.wrong)}~~"
        text = text[: piece.start] + new + text[piece.end :]
    repeated = re.escape(f"# {left_out}")
    return re.sub(rf"(?:{repeated}\n)+(?={repeated})", "", text)


def defused(sentence: str, wrong: Sequence[Claim]) -> str:
    """A sentence to show struck out: nothing in it can be clicked, loaded or copied as a command."""
    sentence = unicodedata.normalize("NFKC", sentence)
    for claim in wrong:
        if claim.kind == "command":
            sentence = sentence.replace(claim.text, "…")
    sentence = LINK.sub(r"\1", IMAGE.sub("…", sentence))
    for pattern in (URL, HTML, DOMAIN):
        sentence = pattern.sub("…", sentence)
    sentence = INLINE.sub(lambda m: "…" if looks_like_command(m[2]) else m[0], sentence)
    return sentence.replace("~~", "").strip() or "…"


def failure(text: str, findings: Sequence[Finding], needs_citation: bool, lang: Language) -> Failure:
    """Why a text cannot be shown even with its findings struck out; empty where it can."""
    prose = [p for p in pieces(text) if p.kind == "prose"]
    if not prose:
        return "empty"
    if any(c.kind == "command" for f in findings for c in f.wrong):
        return "commands"
    if not is_in(text, lang):
        return "language"
    bad = sum(len(f.piece.text) for f in findings if f.piece.kind == "prose")
    if bad > MOST_WRONG * sum(len(p.text) for p in prose):
        return "mostly"
    if any(count >= REPEATS for count in Counter(p.text for p in prose if len(p.text) > LABEL_CHARACTERS).values()):
        return "repeats"
    sound = {(p.start, p.end) for p in prose} - {(f.piece.start, f.piece.end) for f in findings}
    if needs_citation and not any(p.cites for p in prose if (p.start, p.end) in sound):
        return "uncited"
    return ""


def is_in(text: str, lang: Language) -> bool:
    """Whether the prose is in the language: of its letters, code aside, Chinese has at least a quarter, English at most that."""
    said = " ".join(INLINE.sub(" ", p.text) for p in pieces(text) if p.kind in ("prose", "heading"))
    chinese, words = len(CHINESE.findall(said)), len(re.findall(r"[A-Za-z]{2,}", said))
    share = chinese / max(chinese + words, 1)
    return share >= 0.25 if lang == "zh" else share <= 0.25
