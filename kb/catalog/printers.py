"""Which engine prints a signature's line: `python -m kb.catalog.printers FOLDER_OF_VLLM FOLDER_OF_SGLANG > kb/data/printers.tsv`.

Each folder holds unpacked releases. A line belongs to an engine when the longest fixed part of its pattern stands in the
sources of that engine alone; most lines of libraries stand in neither.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

KEPT = Path(__file__).parent.parent / "data" / "printers.tsv"
SHORTEST = 14
JOINED = re.compile(r"""["']\s*\n\s*[rf]*["']""")
MARKUP = re.compile(
    r"\(\?P?[<:=!][^)]*?>?|\\[dDwWsSbB][*+?]?|\[[^\]]*\][*+?]?|\{\d+(?:,\d*)?\}|(?<!\\)[()?*+|^$]|(?<!\\)\.[*+]?\??"
)
ESCAPED = re.compile(r"\\(.)")


@cache
def printers() -> dict[tuple[str, str], str]:
    """The engine by document and signature."""
    rows = (line.split("\t") for line in KEPT.read_text("utf-8").splitlines()) if KEPT.is_file() else ()
    return {(document, name): engine for document, name, engine in rows}


def fixed_part(pattern: str) -> str:
    """The longest run of a pattern that is plain text; empty where none is long enough to say anything."""
    parts = (ESCAPED.sub(r"\1", part).strip() for part in MARKUP.split(pattern) if part)
    longest = max(parts, key=len, default="")
    return longest if len(longest) >= SHORTEST else ""


def source_text(folder: Path) -> str:
    """Everything that the releases in a folder say, broken string literals joined."""
    texts = {JOINED.sub("", path.read_text("utf-8", "replace")) for path in folder.rglob("*.py") if path.is_file()}
    return "\n".join(sorted(texts))


def found(folders: dict[str, Path]) -> Iterator[tuple[str, str, str]]:
    """Document, signature and engine of every line that one engine alone prints."""
    from kb.documents import load_documents

    texts = {engine: source_text(folder) for engine, folder in folders.items()}
    for document in load_documents():
        for signature in document.signatures if document.language == "en" else ():
            part = fixed_part(signature.pattern)
            engines = [engine for engine, text in texts.items() if part and part in text]
            if len(engines) == 1:
                yield document.id, signature.name, engines[0]


if __name__ == "__main__":
    for row in found({"vllm": Path(sys.argv[1]), "sglang": Path(sys.argv[2])}):
        sys.stdout.write("\t".join(row) + "\n")
