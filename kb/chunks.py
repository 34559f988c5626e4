"""A shipped document's chunks: its opening, and each part and fix, cited by the lines it stands on."""

from __future__ import annotations

import re
from pathlib import Path

from kb.documents import SHIPPED, outline, split_front_matter
from kb.types import Chunk, Document


def document_chunks(document: Document, folder: Path = SHIPPED) -> list[Chunk]:
    """The chunks of a shipped document's own file; the opening's text leads with title, aliases and symptoms."""
    text = (folder / document.path).read_text("utf-8").replace("\r\n", "\n")
    _, body, offset = split_front_matter(text, document.path)
    lines = body.split("\n")
    marks = [h for h in outline(body).headings if h[0] in (2, 3)]
    spans: list[tuple[tuple[str, ...], int, int]] = [((), 0, marks[0][2] if marks else len(lines))]
    parent = ""
    for i, (level, title, line) in enumerate(marks):
        parent = title if level == 2 else parent
        end = marks[i + 1][2] if i + 1 < len(marks) else len(lines)
        spans.append(((title,) if level == 2 else (parent, title), line, end))
    chunks: list[Chunk] = []
    for heading, start, end in spans:
        first, last = _trimmed(lines, start + bool(heading), end)
        span = "\n".join(lines[first:last])
        if not heading:
            span = opening(document)
        if span.strip():
            name = "/".join((document.id, document.language, *heading))
            twice = any(chunk.id == name for chunk in chunks)
            chunks.append(
                Chunk(
                    id=f"{name}/{offset + first + 1}" if twice else name,
                    document=document.id,
                    title=document.title,
                    language=document.language,
                    heading=heading,
                    text=span,
                    path=f"kb/docs/{document.path}",
                    lines=(offset + first + 1, max(offset + last, offset + first + 1)),
                )
            )
    return chunks


def opening(document: Document) -> str:
    """What a person would call the fault, then the summary."""
    return "\n".join([document.title, "; ".join(document.aliases), *document.symptoms, document.summary])


def _trimmed(lines: list[str], start: int, end: int) -> tuple[int, int]:
    while start < end and not lines[start].strip():
        start += 1
    while end > start and not lines[end - 1].strip():
        end -= 1
    return start, end


def index_text(chunk: Chunk, document: Document) -> str:
    """What search reads of a chunk: under its title, with the document's example lines at the opening."""
    examples = [s.example for s in document.signatures] if not chunk.heading else []
    prose = re.sub(r"^Risk:.*$", "", chunk.text, flags=re.M)
    return "\n".join([document.title, " > ".join(chunk.heading), prose, *examples])
