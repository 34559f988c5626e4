"""What must hold of every shipped document. Each check yields the sentences that say what to mend."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from kb.documents import SHIPPED, DocumentError, localize, read_document
from kb.expressions import names_in
from kb.facts import FROM_LOG, OPTIONS, fact_probes
from kb.types import Document

FAMILIES = (
    "memory",
    "hardware",
    "parallel",
    "software",
    "loading",
    "requests",
    "performance",
    "container",
    "operations",
)
ROLES = ("cause", "consequence", "context")
RISKS = ("read-only", "restart", "reinstall", "reboot", "destructive")
FORBIDDEN = re.compile(r"\(\?[=!<](?![a-z_])|\(\?<[=!]|\(\?P=|\\[1-9]")
PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*(?:\|([^}]*))?\}\}")
LINK = re.compile(r"\[\[([^\]]+)\]\]")


def known_names(document: Document) -> set[str]:
    """What an expression in this document may name: facts, captured groups, computed values."""
    groups = {g for s in document.signatures for g in re.findall(r"\(\?P<(\w+)>", s.pattern)}
    return fact_probes().keys() | FROM_LOG | groups | {c.name for c in document.computed}


def check_form(document: Document) -> Iterator[str]:
    """Required parts, and values out of fixed lists."""
    if document.kind not in ("fault", "howto"):
        yield f"kind is {document.kind!r}: fault or howto"
    if document.family not in FAMILIES:
        yield f"family is {document.family!r}: one of {', '.join(FAMILIES)}"
    if not document.summary:
        yield "no opening paragraph"
    if not document.fixes:
        yield "no '###' under Fixes (how-to: Steps)"
    needed = ("causes", "check") if document.kind == "fault" else ("check",)
    yield from (f"no part {part!r}" for part in needed if not document.sections.get(part))
    if not document.symptoms:
        yield "no symptoms: what does a person see?"
    yield from (
        f"fix {fix.title!r}: risk {fix.risk!r}: one of {', '.join(RISKS)}"
        for fix in document.fixes
        if fix.risk not in RISKS
    )
    titles = [fix.title for fix in document.fixes]
    yield from (f"fix {title!r} stands there twice" for title in dict.fromkeys(titles) if titles.count(title) > 1)
    yield from (f"fix {fix.title!r} has no text" for fix in document.fixes if not fix.text)


def check_signatures(document: Document) -> Iterator[str]:
    """Each compiles, is free of what the scanner cannot do, and finds its own example."""
    names = [s.name for s in document.signatures]
    yield from (f"two signatures are called {name!r}" for name in {n for n in names if names.count(n) > 1})
    for signature in document.signatures:
        where = f"signature {signature.name!r}"
        if signature.role not in ROLES:
            yield f"{where}: role {signature.role!r}: one of {', '.join(ROLES)}"
        try:
            pattern = re.compile(signature.pattern)
        except re.error as error:
            yield f"{where}: not a regular expression ({error})"
            continue
        if FORBIDDEN.search(signature.pattern):
            yield f"{where}: look-around or back-reference"
        if not signature.example.strip():
            yield f"{where}: no example"
        elif "\n" in signature.example.strip():
            yield f"{where}: the example must be one line"
        elif not pattern.search(signature.example):
            yield f"{where}: does not find its example"
        if pattern.search(""):
            yield f"{where}: finds the empty line"


def check_expressions(document: Document) -> Iterator[str]:
    """Formulas and conditions parse, and name only what can be known."""
    known = known_names(document)
    expressions = [("computed " + c.name, c.formula) for c in document.computed]
    expressions += [("reading", r.when) for r in document.readings]
    expressions += [(f"fix {f.title!r}", f.when) for f in document.fixes if f.when]
    for where, expression in expressions:
        try:
            unknown = {n for n in names_in(expression) - known if not n.startswith(OPTIONS)}
        except SyntaxError:
            yield f"{where}: {expression!r} is not an expression"
            continue
        yield from (f"{where}: {name!r} is neither a fact nor a captured group" for name in sorted(unknown))
    yield from (
        f"reading speaks {r.speaks!r}" for r in document.readings if r.speaks not in ("for", "against", "rules-out")
    )


def check_placeholders(document: Document) -> Iterator[str]:
    """A value in a command is known, or has a default."""
    known = known_names(document)
    for fix in document.fixes:
        for command in fix.commands:
            for name, default in PLACEHOLDER.findall(command.text):
                if not default:
                    yield f"line {command.line}: {{{{{name}}}}} needs a default: {{{{{name}|…}}}}"
                if name not in known and not name.startswith(OPTIONS):
                    yield f"line {command.line}: {name!r} is neither a fact, a captured group nor computed"


def check_commands(document: Document) -> Iterator[str]:
    """Every flag, choice and variable exists in all the releases that the fence names."""
    try:
        from kb.flags import missing_in
    except ImportError:
        return

    for fix in document.fixes:
        for command in fix.commands:
            if re.search(r"rm\s+-[a-z]*r[a-z]*f|\|\s*(sudo\s+)?(ba)?sh\b", command.text):
                yield f"line {command.line}: a command that deletes or pipes into a shell"
            yield from (
                f"line {command.line}: {said}" for said in missing_in(command.text, command.releases, document.engines)
            )


def check_sources(document: Document) -> Iterator[str]:
    """Where it was read, and for which releases it holds."""
    if not document.sources:
        yield "no sources"
    if not document.verified:
        yield "no `verified`: for which releases does it hold?"


CHECKS: tuple[Callable[[Document], Iterator[str]], ...] = (
    check_form,
    check_signatures,
    check_expressions,
    check_placeholders,
    check_commands,
    check_sources,
)


def check_languages(english: Document, chinese: Document | None) -> Iterator[str]:
    """The Chinese file is there, holds as many fixes, and really is Chinese."""
    if chinese is None:
        yield f"no Chinese file {english.id}.zh.md"
        return
    if len(chinese.fixes) != len(english.fixes):
        yield f"{chinese.path}: {len(chinese.fixes)} fixes, the English file has {len(english.fixes)}"
    yield from (
        f"{chinese.path}: fix {f.title!r} has commands; they belong in the English file"
        for f in chinese.fixes
        if f.commands
    )
    missing = set(english.sections) - set(chinese.sections)
    yield from (f"{chinese.path}: no part {part!r}" for part in sorted(missing))
    for name, text in {
        "title": chinese.title,
        "opening paragraph": chinese.summary,
        "symptoms": " ".join(chinese.symptoms),
    }.items():
        if not re.search(r"[\u4e00-\u9fff]", text):
            yield f"{chinese.path}: {name} is not Chinese"


def lint(folder: Path = SHIPPED, only: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Document id → what to mend, for each document with a fault; empty when all is well."""
    found: dict[str, list[str]] = {}
    documents: dict[str, Document] = {}
    for path in sorted(folder.glob("*.md")):
        name = path.name.removesuffix(".md")
        base = name.removesuffix(".zh")
        if only and base not in only:
            continue
        if name != base:
            if not (folder / f"{base}.md").exists():
                found.setdefault(base, []).append(f"{path.name}: the English file {base}.md is missing")
            continue
        try:
            document = read_document(path)
            chinese_path = path.with_suffix(".zh.md")
            chinese = read_document(chinese_path) if chinese_path.exists() else None
            said = [s for check in CHECKS for s in check(document)] + list(check_languages(document, chinese))
            documents[document.id] = document if chinese is None else localize(document, chinese)
        except DocumentError as error:
            said = [str(error)]
        if said:
            found[base] = said
    ids = {p.name.removesuffix(".md") for p in folder.glob("*.md")}
    for document in documents.values():
        links = {*document.explains, *LINK.findall((folder / f"{document.id}.md").read_text("utf-8"))}
        for link in sorted(links - ids):
            found.setdefault(document.id, []).append(f"links to {link!r}, which does not exist")
    return found


def lint_vectors() -> list[str]:
    """Whether each shipped chunk has its precomputed vector."""
    from kb.vectors import missing_vectors

    missing = missing_vectors()
    return [f"{missing} chunks have no precomputed vector: run `make vectors`"] if missing else []


if __name__ == "__main__":
    import sys

    wrong = lint(only=tuple(sys.argv[1:]))
    for name, sentences in wrong.items():
        print(name, *(f"  - {sentence}" for sentence in sentences), sep="\n")
    sys.exit(1 if wrong else 0)
