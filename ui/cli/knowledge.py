"""`crashcart kb …`: add your own runbooks, search, list, check and build the knowledge base."""

from __future__ import annotations

from pathlib import Path

import typer

from kb.errors import InputError
from kb.types import Language
from ui.cli.options import JSON, Group, open_assistant, print_json, settings
from ui.cli.serving_commands import LANG, language

kb_app = typer.Typer(
    cls=Group,
    help="The knowledge base: shipped documents and your own runbooks.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.add_typer(kb_app, name="kb")


@kb_app.command("add")
def add(
    paths: list[Path] = typer.Argument(metavar="PATH…", help="Markdown, text, HTML or PDF files, or folders of them."),
    as_json: bool = JSON,
) -> int:
    """Add your own runbooks; a file added before and unchanged is left alone."""
    from kb.runbooks import add_runbooks
    from probes.reading.mask import mask

    results = add_runbooks(paths, settings().home_folder / "runbooks", mask)
    if as_json:
        print_json(results)
    else:
        for result in results:
            typer.echo(f"{result.outcome:9} {result.path}" + (f": {result.detail}" if result.detail else ""))
    return 64 if results and all(r.outcome == "failed" for r in results) else 0


@kb_app.command("remove")
def remove(name: str = typer.Argument(help="A runbook's name from `crashcart kb list`.")) -> int:
    """Forget one of your own runbooks."""
    from kb.runbooks import remove_runbook

    if not remove_runbook(name, settings().home_folder / "runbooks"):
        raise InputError(f"there is no runbook {name!r}; `crashcart kb list` names them.")
    typer.echo(f"removed {name}")
    return 0


@kb_app.command("list")
def list_documents(as_json: bool = JSON) -> int:
    """Every document: id, title, languages."""
    library = open_assistant(as_json).library
    rows = [
        {
            "id": name,
            "title": library.get(name).title,
            "family": library.get(name).family,
            "languages": sorted(versions),
        }
        for name, versions in library.by_id.items()
    ]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            typer.echo(f"{row['id']:40} {row['title']}")
    return 0


def names_of_documents(incomplete: str) -> list[str]:
    """The documents' names that begin so, for a shell that completes one."""
    from kb.documents import SHIPPED

    return sorted(path.stem for path in SHIPPED.glob(f"{incomplete}*.md") if "." not in path.stem)


@kb_app.command("show")
def show(
    name: str = typer.Argument(
        metavar="ID", help="A document's name, as answers and scans give it.", autocompletion=names_of_documents
    ),
    lang: str = typer.Option(None, "--lang", metavar="auto|en|zh", help="Language [auto: of the environment]."),
    as_json: bool = JSON,
) -> int:
    """Print one document: the fault, its fixes, how to tell it apart."""
    from ui.operations import read_document
    from ui.render import language_of

    assistant = open_assistant(as_json, lang=lang)
    document = read_document(assistant, name, language_of(assistant.settings.lang))
    if as_json:
        print_json(document)
        return 0
    from rich.console import Console

    from ui.render import render_text

    sources = "\n".join(f"- {source}" for source in document["sources"])
    render_text(Console(), f"{document['text']}\n{sources}\n".rstrip() + "\n")
    return 0


@kb_app.command("search")
def search(
    query: str = typer.Argument(help="Words, an error line, a flag."),
    count: int = typer.Option(5, "--count", "-n", min=1, max=50, help="How many documents."),
    mode: str = typer.Option("hybrid", "--mode", metavar="hybrid|lexical|dense", help="Which half of the search."),
    as_json: bool = JSON,
) -> int:
    """Search the documents."""
    from assistant.language import detect_language
    from kb.search import search as find

    if not query.strip():
        raise InputError("the query is empty: crashcart kb search 'max seq len larger than KV cache'.")
    if mode not in ("hybrid", "lexical", "dense"):
        raise InputError(f"there is no mode {mode!r}: hybrid, lexical or dense.")
    assistant = open_assistant(as_json)
    hits = find(assistant.index, query, count, mode, detect_language(query))  # type: ignore[arg-type]
    if as_json:
        print_json(hits)
    else:
        for hit in hits:
            chunk = hit.chunk
            typer.echo(
                f"{hit.score:5.2f}  {hit.document}  {chunk.path}:{chunk.lines[0]}-{chunk.lines[1]}\n       {assistant.library.get(hit.document, detect_language(query)).title}"
            )
    return 0


@kb_app.command("lint")
def lint(
    names: list[str] = typer.Argument(
        None, metavar="[ID|FILE…]", help="Documents, your runbooks, or files to check [all documents and runbooks]."
    ),
    release: str = typer.Option(
        "",
        "--release",
        metavar="ENGINE==VERSION",
        help="Hold runbooks against this release [the image's, else the newest].",
    ),
    lang: str = LANG,
    as_json: bool = JSON,
) -> int:
    """Check documents (form, both languages, signatures, flags, sources, vectors) and runbooks (dead flags, by line)."""
    from kb.lint import lint as check
    from kb.runbooks import list_runbooks

    folder = settings().home_folder / "runbooks"
    kept = {each.name: each.path_in(folder) for each in list_runbooks(folder)}
    files = {name: kept.get(name, Path(name)) for name in names or kept if name in kept or Path(name).is_file()}
    documents = tuple(name for name in names or () if name not in files)
    wrong = check(only=documents) if documents or not names else {}
    wrong |= lint_files(files, release, language(lang))
    if as_json:
        print_json(wrong)
    else:
        for name, sentences in wrong.items():
            typer.echo("\n".join([name, *(f"  - {sentence}" for sentence in sentences)]))
        zh = language(lang) == "zh"
        fine, mend = (
            ("全部没有问题。", "{} 份需要修改。") if zh else ("All documents are in order.", "{} documents to mend.")
        )
        typer.echo(mend.format(len(wrong)) if wrong else fine)
    return 1 if wrong else 0


def lint_files(files: dict[str, Path], release: str, lang: Language) -> dict[str, list[str]]:
    """What is wrong in runbooks, by their names."""
    from kb.runbook_lint import dead_flags
    from ui.cli.flags import describe
    from ui.operations import split_release

    engine, version = split_release(release) if release else ("", "")
    word = {"en": "line {line}, {release}: {said}", "zh": "第 {line} 行，{release}：{said}"}[lang]
    found = {
        name: [
            word.format(
                line=each.line,
                release=each.release,
                said="; ".join(" ".join(part.split()) for part in describe(each.status, lang).split("\n")),
            )
            for each in dead_flags(path, engine, version)
        ]
        for name, path in files.items()
    }
    return {name: sentences for name, sentences in found.items() if sentences}


@kb_app.command("build")
def build(as_json: bool = JSON) -> int:
    """Build the search index now; without this it is built when it is first needed."""
    import time

    start = time.perf_counter()
    assistant = open_assistant(as_json)
    index = assistant.index
    said = {
        "folder": str(index.folder),
        "documents": len(assistant.library.by_id),
        "chunks": len(index.chunks),
        "seconds": round(time.perf_counter() - start, 2),
    }
    if as_json:
        print_json(said)
    else:
        typer.echo(f"{said['documents']} documents, {said['chunks']} chunks, {said['seconds']} s, in {said['folder']}")
    return 0
