"""Incident cases: what a person asked, what the machine printed, and what an answer must contain."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from kb.errors import InputError

Kind = Literal["diagnose", "howto", "healthy", "insufficient", "out_of_scope"]
SUFFIXES = (".yaml", ".yml", ".jsonl")
STATUS_OF: dict[str, str] = {kind: kind for kind in get_args(Kind)} | {"diagnose": "diagnosed"}


@dataclass(frozen=True, slots=True)
class Expect:
    """What an answer must be: its status, and patterns that its fixes must or must not match."""

    status: str
    cause: str = ""
    fix_any: tuple[str, ...] = ()
    fix_none: tuple[str, ...] = ()
    cites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One incident. `logs` are texts by name; `host` are recorded probe results, or None; `turns` are follow-up messages."""

    id: str
    kind: Kind
    lang: str
    question: str
    expect: Expect
    source: str = "own"
    engine: str = ""
    engine_version: str = ""
    logs: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    host: Mapping[str, Any] | None = None
    turns: tuple[Case, ...] = ()
    tags: tuple[str, ...] = ()


def load_cases(path: Path) -> list[Case]:
    """The cases of a .yaml or .jsonl file, or of all such files in a folder and below it, by id; raises InputError."""
    cases = [parse_case(item, where) for where, item in read_items(path)]
    if not cases:
        raise InputError(f"no cases in {path}: give a folder of .yaml files or a .jsonl file.")
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise InputError(f"two cases are called {case.id!r} in {path}.")
        seen.add(case.id)
    return sorted(cases, key=lambda c: c.id)


def read_items(path: Path) -> Iterator[tuple[str, Any]]:
    """Each case as it stands in its file, with where it stands."""
    files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file()) if path.is_dir() else [path]
    for file in files:
        yield from read_lines(file) if file.suffix == ".jsonl" else [(str(file), read_yaml(file))]


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The cases of a .jsonl file. Only a line feed ends a line: JSON lets U+2028 and U+0085 stand in a text."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield f"{path}:{number}", parse_json(line, f"{path}:{number}")


def read_yaml(path: Path) -> Any:
    """The one case of a YAML file; raises InputError."""
    import yaml

    try:
        return yaml.load(read_text(path), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {str(error).splitlines()[0]}.") from error


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with a byte order mark or without; raises InputError where it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: byte {error.start}.") from error
    except OSError as error:
        raise InputError(f"cannot read the cases {path}: {error.strerror}.") from error


def parse_json(line: str, where: str) -> Any:
    """One line of a .jsonl file; raises InputError."""
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not JSON: {error.msg}.") from error


def parse_case(item: Any, where: str) -> Case:
    """A case from its mapping; raises InputError, naming the place and the field, where it is not one."""
    if not isinstance(item, dict):
        raise InputError(f"{where} is not a case: a mapping is needed.")
    missing = [name for name in ("id", "kind") if not item.get(name)]
    if missing:
        raise InputError(f"{where} has no {missing[0]}.")
    if item["kind"] not in STATUS_OF:
        raise InputError(f"{where}: unknown kind {item['kind']!r}, one of {', '.join(STATUS_OF)}.")
    logs = {str(k): str(v) for k, v in (item.get("logs") or {}).items()}
    if item.get("log"):
        logs = {"log": str(item["log"]), **logs}
    return Case(
        id=str(item["id"]),
        kind=item["kind"],
        lang=str(item.get("lang") or "en"),
        question=str(item.get("question") or ""),
        expect=parse_expect(item.get("expect") or {}, item["kind"], where),
        source=str(item.get("source") or "own"),
        engine=str(item.get("engine") or ""),
        engine_version=str(item.get("engine_version") or ""),
        logs=logs,
        command=str(item.get("command") or ""),
        host=item.get("host"),
        turns=tuple(parse_turn(turn, item, i, where) for i, turn in enumerate(item.get("turns") or (), 2)),
        tags=listed(item.get("tags")),
    )


def parse_turn(turn: Any, first: Mapping[str, Any], place: int, where: str) -> Case:
    """A follow-up message as a case of its own, asked in the thread of the first: it repeats nothing that was said before."""
    if not isinstance(turn, dict):
        raise InputError(f"{where}: message {place} is not a mapping.")
    told = {name: first[name] for name in ("kind", "lang", "source", "engine", "engine_version") if first.get(name)}
    return parse_case({**told, **turn, "id": f"{first['id']}#{place}", "turns": None}, f"{where}, message {place}")


def listed(value: Any) -> tuple[str, ...]:
    """The texts of a list; a text alone is a list of one."""
    return (value,) if isinstance(value, str) else tuple(map(str, value or ()))


def parse_expect(item: Mapping[str, Any], kind: str, where: str) -> Expect:
    """The expectations; the status follows from the kind where none is given."""
    lists = {name: listed(item.get(name)) for name in ("fix_any", "fix_none", "cites")}
    for pattern in (*lists["fix_any"], *lists["fix_none"]):
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(f"{where}: {pattern!r} is not a regular expression: {error}.") from error
    return Expect(status=str(item.get("status") or STATUS_OF[kind]), cause=str(item.get("cause") or ""), **lists)
