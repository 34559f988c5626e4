"""The last step before an answer is shown, for every writer: what nothing accounts for is taken out, and said so.

Accounted for means: a citation names evidence of this answer; a flag, variable, metric or number stands in the evidence, in
what the user brought, or in a computed value's arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

CITATION = re.compile(r"\[([KPLC]\d+)\]")
NAMES = re.compile(r"--[A-Za-z][\w.-]*|\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b|\b(?:vllm|sglang):[a-z_]+")
NUMBERS = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w]*\d)")
FURNITURE = re.compile(r"\[[KPLC]\d+\]|^\s*(?:\d+\.|#+)\s|confidence \d+ %|置信度 \d+%|^\*\*\d+\. ", re.M)


def unaccounted(line: str, evidence_ids: frozenset[str], known: str) -> list[str]:
    """What in one line has no source: citations, names and numbers. `known` is all text that may be quoted."""
    wrong = [f"[{c}]" for c in CITATION.findall(line) if c not in evidence_ids]
    words = FURNITURE.sub(" ", line)
    wrong += [name for name in NAMES.findall(words) if name.rstrip(".-") not in known]
    plain = known.replace(",", "")
    wrong += [n for n in NUMBERS.findall(words) if n.replace(",", "").rstrip(".") not in plain]
    return wrong


def ground(text: str, evidence: dict[str, str], brought: Iterable[str]) -> tuple[str, list[str]]:
    """The text without the lines that have no source, and what was struck out.

    `evidence` maps ids to text, `brought` is what the user gave and what was computed.
    """
    ids = frozenset(evidence)
    known = "\n".join([*evidence.values(), *brought])
    kept, struck = [], []
    for line in text.splitlines():
        wrong = unaccounted(line, ids, known)
        if wrong:
            struck += wrong
        else:
            kept.append(line)
    return "\n".join(kept), list(dict.fromkeys(struck))
