"""A document's two Markdown files, read into one `Document` a language. The form is described in kb/WRITING.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.errors import InputError
from kb.types import Command, Computed, Document, Language, Reading, Remedy, Signature

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

SHIPPED = Path(__file__).parent / "docs"

HEADINGS = {
    "causes": ("Causes", "原因"),
    "fixes": ("Fixes", "解决办法"),
    "steps": ("Steps", "步骤"),
    "check": ("Check", "验证"),
    "tell_apart": ("Tell apart", "区分"),
    "old_advice": ("Old advice", "旧说法"),
}
PARTS = {name: part for part, names in HEADINGS.items() for name in names}
COMMAND_FENCES = ("bash", "sh", "shell", "python", "yaml", "text", "json", "dockerfile")
RISK_LINE = re.compile(r"^Risk:\s*(?P<risk>[a-z-]+)(?:\s*·\s*when:\s*(?P<when>.+?))?\s*$", re.M)


class DocumentError(InputError):
    """A document that cannot be read; the message names the file and what to mend."""


def split_front_matter(text: str, path: str) -> tuple[str, str, int]:
    """The front matter as YAML, the Markdown body, and the number of lines before the body."""
    match = re.match(r"---\n(.*?\n)---\n", text, re.S)
    if not match:
        raise DocumentError(f"{path}: no front matter: the file must begin with a block between two '---' lines.")
    return match[1], text[match.end() :], text[: match.end()].count("\n")


def read_front_matter(front: str, path: str) -> dict[str, Any]:
    """The YAML mapping of a front matter."""
    import yaml

    try:
        meta = yaml.load(front, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 2}" if where else ""
        raise DocumentError(
            f"{path}{line}: the front matter is not valid YAML ({getattr(error, 'problem', error)})."
        ) from error
    if not isinstance(meta, dict):
        raise DocumentError(f"{path}: the front matter must be a mapping.")
    return meta


@dataclass(frozen=True, slots=True)
class Outline:
    """A Markdown text's headings (level, title, line) and code fences (info string, content, line); lines count from 0."""

    headings: tuple[tuple[int, str, int], ...]
    fences: tuple[tuple[str, str, int], ...]
    end: int

    def spans(self, level: int, first: int = 0, last: int | None = None) -> Iterator[tuple[str, int, int]]:
        """(title, first line after the heading, line where the part ends) of each heading of that level between two lines."""
        end = self.end if last is None else last
        found = [h for h in self.headings if h[0] <= level and first <= h[2] < end]
        for i, (depth, title, line) in enumerate(found):
            if depth == level:
                yield title, line + 1, found[i + 1][2] if i + 1 < len(found) else end


@lru_cache(maxsize=1024)  # a document's body is outlined when it is parsed, and again when it is chunked
def outline(body: str) -> Outline:
    """The outline of a Markdown text; what looks like a heading inside a fence is none."""
    tokens = _markdown().parse(body)
    headings = [
        (int(token.tag[1]), tokens[i + 1].content, token.map[0])
        for i, token in enumerate(tokens)
        if token.type == "heading_open" and token.map
    ]
    fences = [(t.info.strip(), t.content.rstrip("\n"), t.map[0]) for t in tokens if t.type == "fence" and t.map]
    return Outline(tuple(headings), tuple(fences), body.count("\n") + 1)


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt().disable("inline")  # blocks are all that is asked for


def _remedies(body: str, part: tuple[int, int], offset: int) -> Iterator[Remedy]:
    whole, lines = outline(body), body.split("\n")
    for title, start, end in whole.spans(3, *part):
        text = "\n".join(lines[start:end])
        commands = tuple(
            Command(content, info.partition(" ")[2].strip(), offset + line + 1)
            for info, content, line in whole.fences
            if start <= line < end and info.split(" ")[0] in COMMAND_FENCES
        )
        risk = RISK_LINE.search(text)
        prose = RISK_LINE.sub("", re.sub(r"^(`{3,})[^\n]*\n.*?\n\1\s*$", "", text, flags=re.S | re.M)).strip()
        yield Remedy(
            title=title,
            text=prose,
            risk=risk["risk"] if risk else "restart",  # type: ignore[arg-type]
            when=(risk["when"] or "") if risk else "",
            commands=commands,
            lines=(offset + start, offset + end),
        )


def _strings(meta: dict[str, Any], key: str, path: str) -> tuple[str, ...]:
    value = meta.get(key) or []
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(item, str | int | float) for item in value):
        raise DocumentError(f"{path}: `{key}` must be a list of strings.")
    return tuple(str(item) for item in value)


def _records(meta: dict[str, Any], key: str, kind: type, path: str, **extra: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(**extra, **item) for item in meta.get(key) or ())
    except TypeError as error:
        raise DocumentError(f"{path}: `{key}`: {str(error).replace('__init__() ', '')}.") from error


def parse_document(text: str, path: str) -> Document:
    """One file's `Document`; raises DocumentError naming the file where its form is wrong."""
    stem = Path(path).name.removesuffix(".md")
    language: Language = "zh" if stem.endswith(".zh") else "en"
    name = stem.removesuffix(".zh")
    front, body, offset = split_front_matter(text.replace("\r\n", "\n"), path)
    meta = read_front_matter(front, path)
    if not isinstance(meta.get("title"), str):
        raise DocumentError(f"{path}: `title` is missing.")
    lines = body.split("\n")
    parts = {PARTS.get(title, title): (start, end) for title, start, end in outline(body).spans(2)}
    first = min((start - 1 for start, _ in parts.values()), default=len(lines))
    remedies = next((parts[p] for p in ("fixes", "steps") if p in parts), None)
    return Document(
        id=name,
        title=meta["title"],
        language=language,
        kind=meta.get("kind", "fault"),
        family=meta.get("family", ""),
        section=_strings(meta, "section", path),
        engines=_strings(meta, "engines", path),
        requires=_strings(meta, "requires", path),
        aliases=_strings(meta, "aliases", path),
        symptoms=_strings(meta, "symptoms", path),
        summary="\n".join(lines[:first]).strip(),
        signatures=_records(meta, "signatures", Signature, path, document=name),
        explains=_strings(meta, "explains", path),
        computed=_records(meta, "computed", Computed, path),
        readings=_records(meta, "readings", Reading, path),
        fixes=tuple(_remedies(body, remedies, offset)) if remedies else (),
        sections={p: "\n".join(lines[s:e]).strip() for p, (s, e) in parts.items() if p not in ("fixes", "steps")},
        sources=_strings(meta, "sources", path),
        verified={k: str(v) for k, v in (meta.get("verified") or {}).items()},
        path=path,
    )


def localize(english: Document, other: Document) -> Document:
    """The other language's prose over the English document's facts: signatures, commands, risks, sources."""
    fixes = tuple(
        replace(fix, title=theirs.title, text=theirs.text, lines=theirs.lines)
        for fix, theirs in zip(english.fixes, other.fixes, strict=False)
    )
    return replace(
        english,
        title=other.title,
        language=other.language,
        aliases=other.aliases,
        symptoms=other.symptoms,
        summary=other.summary,
        fixes=fixes + english.fixes[len(fixes) :],
        sections=other.sections,
        path=other.path,
    )


def load_documents(folder: Path = SHIPPED) -> list[Document]:
    """Every document of a folder, English first, then its other languages; raises DocumentError at the first bad file."""
    documents = []
    for path in sorted(folder.glob("*.md")):
        if path.name.endswith(".zh.md"):
            continue
        english = read_document(path)
        documents.append(english)
        chinese = path.with_suffix(".zh.md")
        if chinese.exists():
            documents.append(localize(english, read_document(chinese)))
    return documents


def read_document(path: Path) -> Document:
    """The document of one file, as written there."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path.name}: not UTF-8 (byte {error.start}); save it as UTF-8.") from error
    return parse_document(text, path.name)
