"""Recall@1, recall@3 and MRR over evals/queries.tsv: hybrid against each half alone, with and without distractors.

python -m evals.benchmarks.retrieval [--distractors 2000]
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import inspect
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kb.index import Index, open_index
from kb.library import load_library
from kb.search import Mode, search

QUERIES = Path(__file__).parent.parent / "queries.tsv"
MODES: tuple[Mode, ...] = ("hybrid", "lexical", "dense")


@dataclass(frozen=True)
class Query:
    """A question, its language, and the documents that answer it."""

    answers: tuple[str, ...]
    lang: str
    text: str


def load_queries(path: Path = QUERIES) -> list[Query]:
    """The labelled queries."""
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return [Query(tuple(answers.split("|")), lang, text) for answers, lang, text in rows]


def rank(index: Index, query: Query, mode: Mode) -> int | None:
    """The place of the first right document among ten, from 1."""
    found = [hit.document for hit in search(index, query.text, 10, mode)]
    return next((i for i, name in enumerate(found, 1) if name in query.answers), None)


def scores(ranks: Sequence[int | None]) -> tuple[float, float, float]:
    """Recall@1, recall@3, mean reciprocal rank."""
    n = len(ranks)
    return (
        sum(r == 1 for r in ranks) / n,
        sum(r is not None and r <= 3 for r in ranks) / n,
        sum(1 / r for r in ranks if r) / n,
    )


def distractor_runbooks(folder: Path, count: int) -> None:
    """Runbooks of other people's technical prose: the docstrings of the packages that are installed beside this one."""
    folder.mkdir(parents=True)
    site = Path(chromadb_folder()).parent
    texts: list[str] = []
    for path in sorted(site.glob("*/**/*.py")):
        if len(texts) >= count:
            break
        texts += [t for t in docstrings(path) if 200 <= len(t) <= 900]
    for start in range(0, count, 20):
        parts = [
            f"## Note {start + j}\n\n{inspect.cleandoc(t)}" for j, t in enumerate(texts[start : min(start + 20, count)])
        ]
        (folder / f"note-{start}.md").write_text(f"# Notes {start}\n\n" + "\n\n".join(parts))


def docstrings(path: Path) -> list[str]:
    """The docstrings of a module and what is in it; none where it does not parse."""
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return []
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [text for node in ast.walk(tree) if isinstance(node, holders) and (text := ast.get_docstring(node))]


def chromadb_folder() -> str:
    """Where packages are installed."""
    spec = importlib.util.find_spec("chromadb")
    assert spec is not None and spec.origin is not None, "chromadb is installed"
    return str(Path(spec.origin).parent)


def report(index: Index, queries: Sequence[Query], title: str) -> None:
    print(f"\n{title}: {len(index.chunks)} chunks, {len(queries)} queries\n{'':22}recall@1 recall@3    MRR")
    for mode in MODES:
        ranks = [rank(index, q, mode) for q in queries]
        for lang in ("", "en", "zh"):
            part = [r for r, q in zip(ranks, queries, strict=True) if lang in ("", q.lang)]
            print(f"{mode:10}{lang or 'both':10}  " + "".join(f"{s:9.3f}" for s in scores(part)))
    for query in queries:
        place = rank(index, query, "hybrid")
        if place != 1:
            print(
                f"   {place or '-'}  {'|'.join(query.answers)}: {query.text}  →  {search(index, query.text, 1)[0].document}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--distractors", type=int, default=2000)
    options = parser.parse_args()
    queries = load_queries()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        library = load_library(home / "cache")
        report(open_index(home / "index", library), queries, "Shipped documents")
        if options.distractors:
            from kb.runbooks import add_runbooks

            distractor_runbooks(home / "notes", options.distractors)
            add_runbooks([home / "notes"], home / "runbooks", str)
            crowded = load_library(home / "cache", home / "runbooks")
            report(open_index(home / "index", crowded), queries, f"With {options.distractors} distractors")


if __name__ == "__main__":
    main()
