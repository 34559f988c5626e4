"""Hybrid search: BM25 and dense scores of the same chunks, each scaled to 0…1, then weighed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from kb.embed import EmbedderUnavailable
from kb.index import Index
from kb.types import Chunk, Language

Mode = Literal["hybrid", "lexical", "dense"]
LEXICAL_WEIGHT, DENSE_WEIGHT = (
    0.6,
    0.4,
)  # over evals/queries.tsv recall@1 .89; 0.4 and 0.6 .83, either half alone .82 and .68
EXPANDED_WEIGHT = 0.25  # of terms that the glossary added; lexical MRR .91, with 0.5 .89
POOL = 60
EXACT = re.compile(
    r"--[a-z][a-z0-9-]+|\b[A-Z][A-Z0-9]+_[A-Z0-9_]+\b|\b(?:vllm|sglang):\w+|\bXid\s*:?\s*\d+|\b\w+(?:Error|Exception)\b"
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A document found: its best chunk, and what each part of the search gave it."""

    document: str
    chunk: Chunk
    score: float
    lexical: float
    dense: float


def search(
    index: Index, query: str, count: int = 5, mode: Mode = "hybrid", language: Language | None = None
) -> list[Hit]:
    """The best documents for a query, best first; `language` prefers chunks of that language for citing."""
    pool = search_chunks(index, query, mode)
    best: dict[str, Hit] = {}
    for hit in pool:
        have = best.get(hit.document)
        if have is None:
            best[hit.document] = hit
        elif language and have.chunk.language != language == hit.chunk.language:
            best[hit.document] = replace(have, chunk=hit.chunk)
    return sorted(best.values(), key=lambda h: -h.score)[:count]


def search_chunks(index: Index, query: str, mode: Mode = "hybrid") -> list[Hit]:
    """Every chunk that either half of the search brings up, best first."""
    lexical = lexical_scores(index, query) if mode != "dense" else {}
    dense = dense_scores(index, query) if mode != "lexical" and index.embedder else {}
    scaled_lexical, scaled_dense = scaled(lexical), scaled(dense)
    codes = {code.lower() for code in EXACT.findall(query)}
    hits = []
    for chunk_id in scaled_lexical.keys() | scaled_dense.keys():
        chunk = index.chunks[chunk_id]
        weight = (LEXICAL_WEIGHT, DENSE_WEIGHT) if dense and lexical else (1.0, 1.0)
        score = weight[0] * scaled_lexical.get(chunk_id, 0.0) + weight[1] * scaled_dense.get(chunk_id, 0.0)
        if mode != "dense" and codes:
            text = chunk.text.lower()
            score += 0.1 * sum(code in text for code in codes) / len(codes)
        hits.append(
            Hit(
                chunk.document, replace(chunk, score=score), score, lexical.get(chunk_id, 0.0), dense.get(chunk_id, 0.0)
            )
        )
    return sorted(hits, key=lambda h: (-h.score, h.chunk.id))


def lexical_scores(index: Index, query: str) -> dict[str, float]:
    """BM25 of the best chunks, the query widened by the field's terms in the other language."""
    import numpy as np

    from kb.glossary import expand
    from kb.tokens import tokenize

    known = index.lexical.vocab_dict
    words = [t for t in tokenize(query) if t in known]
    more = [t for term in expand(query) for t in tokenize(term) if t in known]
    if not words and not more:
        return {}
    scores = np.zeros(len(index.order), dtype=np.float32)
    for tokens, weight in ((words, 1.0), (more, EXPANDED_WEIGHT)):
        if tokens:
            scores += weight * index.lexical.get_scores(tokens)
    best = np.argsort(-scores)[:POOL]
    return {index.order[i]: float(scores[i]) for i in best if scores[i] > 0}


def dense_scores(index: Index, query: str) -> dict[str, float]:
    """Cosine similarity of the nearest chunks."""
    if index.embedder is None:
        return {}
    try:
        vector = index.embedder.queries([query])[0]
    except EmbedderUnavailable:  # an endpoint that does not answer now: the other half of the search goes on alone
        return {}
    return dict(index.reader.nearest(vector, min(POOL, len(index.order))))


def scaled(scores: dict[str, float]) -> dict[str, float]:
    """Scores scaled to 0…1 over this pool."""
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    return {key: (value - low) / (high - low) if high > low else 1.0 for key, value in scores.items()}


def coverage(index: Index, query: str, documents: Sequence[str]) -> dict[str, float]:
    """For each document the share (0…1) of the query that it holds: of its words, rare words counting more, or the mean of
    that and the share of the field's terms, where a term counts as held under any of its names in either language.

    A word that no document holds counts as the rarest: an unrelated question is covered by nothing.
    """
    from kb.glossary import synonyms
    from kb.tokens import tokenize

    holders = _holders(index)
    rarest = math.log(1 + len(index.order))
    weights = {t: math.log(1 + len(index.order) / len(h)) if (h := holders(t)) else rarest for t in tokenize(query)}
    terms = [[tokenize(name) for name in names] for names in synonyms(query)]
    places: dict[str, set[int]] = {name: set() for name in documents}
    for i, chunk_id in enumerate(index.order):
        name = index.chunks[chunk_id].document
        if name in places:
            places[name].add(i)
    found = {}
    for name, where in places.items():
        words = sum(w for t, w in weights.items() if holders(t) & where) / (sum(weights.values()) or 1.0)
        held = sum(any(tokens and all(holders(t) & where for t in tokens) for tokens in term) for term in terms)
        found[name] = max(words, (words + held / len(terms)) / 2) if terms else words
    return found


def unknown_words(index: Index, text: str) -> list[str]:
    """The words of a text that no document holds; of Chinese, whose bigrams cross words, those that begin a word."""
    from kb.tokens import tokenize

    known = index.lexical.vocab_dict
    return [t for t in dict.fromkeys(tokenize(text)) if t not in known]


def _holders(index: Index) -> Callable[[str], frozenset[int]]:
    """A token's chunks, by place."""
    known = index.lexical.vocab_dict

    @cache
    def holders(token: str) -> frozenset[int]:
        return frozenset(index.lexical.get_scores([token]).nonzero()[0].tolist()) if token in known else frozenset()

    return holders
