"""Everything known, in memory: the shipped documents and the user's runbooks, compiled once and kept in a cache.

Reading 300 Markdown files takes seconds, the compiled form tens of milliseconds. The cache is keyed by the name, size and
time of each source file, so that it is never older than what it was made from.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kb.documents import SHIPPED
from kb.types import Document, Language, Signature

FORMAT = 1  # raise when Document, Signature or their parsing changes
KEPT = 2


@dataclass(frozen=True)
class Library:
    """Documents by id and language. `fingerprint` changes with any source file."""

    documents: tuple[Document, ...]
    fingerprint: str

    @cached_property
    def by_id(self) -> dict[str, dict[str, Document]]:
        found: dict[str, dict[str, Document]] = {}
        for document in self.documents:
            found.setdefault(document.id, {})[document.language] = document
        return found

    @cached_property
    def signatures(self) -> tuple[Signature, ...]:
        """Each document's signatures once, whatever its languages."""
        return tuple(s for versions in self.by_id.values() for s in next(iter(versions.values())).signatures)

    def get(self, document_id: str, language: Language = "en") -> Document:
        """The document in that language, or in the one it has; raises KeyError for an unknown id."""
        versions = self.by_id[document_id]
        return versions.get(language) or next(iter(versions.values()))


def source_files(runbooks: Path | None, shipped: Path = SHIPPED) -> list[Path]:
    """The Markdown files that make up the library."""
    files = sorted(shipped.glob("*.md"))
    return files + (sorted(runbooks.rglob("*.md")) if runbooks and runbooks.is_dir() else [])


def fingerprint(files: list[Path]) -> str:
    """16 hex digits over the name, size and time of each file, and the format of the cache."""
    digest = hashlib.sha256(f"{FORMAT}".encode())
    for path in files:
        stat = path.stat()
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def load_library(cache: Path, runbooks: Path | None = None, shipped: Path = SHIPPED, *, keep: bool = True) -> Library:
    """The library, compiled anew where a source changed; raises DocumentError naming a corrupt document.

    With `keep` false nothing is written.
    """
    import msgspec

    mark = fingerprint(source_files(runbooks, shipped))
    kept = cache / f"library-{mark}.json"
    try:
        return Library(msgspec.json.decode(kept.read_bytes(), type=tuple[Document, ...]), mark)
    except (OSError, msgspec.DecodeError):
        library = Library(compile_documents(runbooks, shipped), mark)
        if keep:
            write_cache(kept, msgspec.json.encode(library.documents))
        return library


def compile_documents(runbooks: Path | None, shipped: Path = SHIPPED) -> tuple[Document, ...]:
    """Shipped documents, then the user's."""
    from kb.documents import load_documents

    documents = load_documents(shipped)
    if runbooks and runbooks.is_dir():
        from kb.runbooks import runbook_documents

        documents += runbook_documents(runbooks)
    return tuple(documents)


def write_cache(path: Path, content: bytes) -> None:
    """Write beside, then rename; where the folder cannot be written, go on without a cache."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.tmp")
        beside.write_bytes(content)
        beside.replace(path)
        for old in sorted(path.parent.glob("library-*.json"), key=lambda p: p.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError:
        return
