"""What every surface offers beside asking, as plain JSON values: flags, scans, probes, documents, threads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kb.errors import InputError

if TYPE_CHECKING:
    from assistant.assistant import Assistant
    from kb.flags import FlagStatus
    from kb.types import Document, Language

SHOWN_LIMIT = 20
CAUSES: dict[Language, str] = {"en": "Causes", "zh": "原因"}


@dataclass(frozen=True, slots=True)
class CheckedCommand:
    """A command against a release: what is known of each name in it, and the command as that release takes it."""

    release: str | None
    items: tuple[FlagStatus, ...]
    patched_command: str


def check_flags(command: str, release: str = "") -> CheckedCommand:
    """Every flag, choice and variable of a serving command against a release; the command, secrets masked, as it should be.

    `release` reads `vllm==0.11.0`; empty means the command's image tag. Raises InputError for what is no serving command.
    """
    from kb.flags import check_command, engine_of, patched_command, release_of
    from probes.reading.mask import mask

    command = mask(command)
    if engine_of(command) is None:
        raise InputError(
            "no serving command of vLLM or SGLang in this: crashcart flags check 'vllm serve MODEL --max-model-len 8192'."
        )
    engine, version = split_release(release) if release else (engine_of(command) or "", release_of(command) or "")
    items = tuple(check_command(command, engine, version))
    return CheckedCommand(f"{engine}=={version}" if version else None, items, patched_command(command, engine, version))


def split_release(text: str) -> tuple[str, str]:
    """`vllm==0.11.0` as its two parts; raises InputError for another form or engine."""
    engine, _, version = text.partition("==")
    if engine not in ("vllm", "sglang") or not version[:1].isdigit():
        raise InputError(f"{text!r} is not a release: write vllm==0.11.0 or sglang==0.5.3.")
    return engine, version


def scan_logs(assistant: Assistant, logs: Mapping[str, str]) -> dict[str, Any]:
    """What the scanner finds in texts by name, in the form of `scan --json`."""
    from probes.scanner import scan_text, to_json

    reports = [to_json(scan_text(text, assistant.library.signatures, name=name)) for name, text in logs.items()]
    return {
        "files": [file for report in reports for file in report["files"]],
        "matches": [match for report in reports for match in report["matches"]],
        "root": next((report["root"] for report in reports if report["root"]), None),
    }


def size_model(
    assistant: Assistant,
    model: str,
    flags: Sequence[str] = (),
    gpu: str = "",
    gpus: int = 1,
    gpu_memory_bytes: int = 0,
    release: str = "",
) -> dict[str, Any]:
    """What a model takes and what fits, in the form of `size --json`. Of paths, only those under the operator's model folders.

    Raises InputError for a model or GPU that is not known.
    """
    from pathlib import Path

    from assistant.sizing import find_checkpoint, setup_of
    from kb.sizing.plan import plan
    from probes.reading.files import Unreadable, resolve
    from ui.cli.size import as_contract, command_of, with_gpu

    if Path(model).expanduser().exists():
        try:
            resolve(Path(model).expanduser(), assistant.target.model_directories)
        except Unreadable as error:
            raise InputError(str(error)) from error
    command, setup = command_of(model, "", list(flags), gpus, release)
    setup, _, notes = setup_of(command, setup)
    checkpoint = find_checkpoint(model)
    setup = with_gpu(setup, gpu, gpu_memory_bytes)
    found = plan(checkpoint.config, setup, checkpoint.tensors)
    found.assumptions += [*([checkpoint.note] if checkpoint.note else []), *notes]
    return as_contract(found, checkpoint, setup)


def run_checkup(assistant: Assistant) -> dict[str, Any]:
    """Every passive probe, in the form of `checkup --json`."""
    from probes.registry import checkup, record

    return record(checkup(assistant.target, assistant.settings.probe_seconds))


def run_one_probe(assistant: Assistant, name: str) -> dict[str, Any]:
    """One passive probe's result; raises InputError for a name that there is not, or a probe that loads the server."""
    from probes.registry import load_probe, run_probe, to_json

    if not load_probe(name).passive:
        raise InputError(f"the probe {name} puts load on the server: run `crashcart checkup --active` on the host.")
    return to_json(run_probe(name, assistant.target, assistant.settings.probe_seconds))


def search_documents(assistant: Assistant, query: str, lang: Language | None, limit: int) -> list[dict[str, Any]]:
    """The nearest documents: `{"document", "title", "text", "path", "lines", "score"}` each, best first."""
    from kb.search import search

    if not query.strip():
        raise InputError("the query is empty: say what to search for.")
    hits = search(assistant.index, query, min(limit, SHOWN_LIMIT), language=lang)
    return [
        {
            "document": hit.document,
            "title": hit.chunk.title,
            "text": hit.chunk.text,
            "path": hit.chunk.path,
            "lines": list(hit.chunk.lines),
            "score": round(hit.score, 4),
        }
        for hit in hits
    ]


def list_documents(assistant: Assistant, lang: Language) -> list[dict[str, Any]]:
    """Every document by id, title, kind and engines."""
    named = [assistant.library.get(name, lang) for name in sorted(assistant.library.by_id)]
    return [{"id": d.id, "title": d.title, "kind": d.kind, "engines": list(d.engines)} for d in named]


def read_document(assistant: Assistant, name: str, lang: Language) -> dict[str, Any]:
    """One document whole, its fixes with the releases that they hold for; raises InputError for an unknown id."""
    if name not in assistant.library.by_id:
        raise InputError(f"there is no document {name!r}: `crashcart kb list` names them.")
    document = assistant.library.get(name, lang)
    return {
        "id": document.id,
        "title": document.title,
        "lang": document.language,
        "summary": document.summary,
        "text": as_markdown(document),
        "sources": list(document.sources),
        "verified": dict(document.verified),
    }


def as_markdown(document: Document) -> str:
    """A document's prose and fixes as Markdown."""
    parts = [f"# {document.title}", document.summary]
    for fix in document.fixes:
        commands = [
            f"```bash\n# {c.releases}\n{c.text}\n```" if c.releases else f"```bash\n{c.text}\n```" for c in fix.commands
        ]
        parts += [f"## {fix.title}", fix.text, *commands]
    parts += [f"## {heading(name, document.language)}\n\n{text}" for name, text in document.sections.items()]
    return "\n\n".join(part for part in parts if part.strip()) + "\n"


def heading(section: str, lang: Language) -> str:
    """What stands over a document's section."""
    from assistant.wording import say

    return CAUSES[lang] if section == "causes" else say(section, lang)


def rate(assistant: Assistant, thread: str, place: int | None, helped: bool) -> str:
    """Keep whether an answer helped, and the exchange as a case that a person can label; gives the case's path.

    Without a place the last answer is meant. Raises InputError for an unknown thread or place.
    """
    from dataclasses import replace

    from assistant.cases import case_of_turn, write_case

    answered = [asked for asked in assistant.threads.read(thread) if asked.turn]
    meant = [asked for asked in answered if place in (None, asked.place)]
    if not meant:
        raise InputError(f"there is no such answer in the thread {thread[:40]!r}.")
    asked = replace(meant[-1], helped=helped)
    assistant.threads.rate(thread, asked.place, helped)
    name = f"{re.sub(r'[^A-Za-z0-9.-]', '-', thread)}-{asked.place}"
    path = assistant.settings.home_folder / "cases" / f"{name}.yaml"
    write_case(path, case_of_turn(asked, name))
    return str(path)
