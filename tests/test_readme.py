"""What both READMEs say holds: commands, options, folders, settings, targets, and the answers that they show."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import fields
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import typer

from assistant.settings import Settings
from kb.catalog.history import load
from kb.convert import KINDS
from probes.registry import STATUSES, Probe
from probes.types import Target
from tests.serving import serving
from ui.cli import app

Run = Callable[..., tuple[int, str, str]]

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh-CN.md")
FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<kind>\w+)\n(?P<text>.*?)^(?P=ticks)$", re.M | re.S)
LEFT_OUT = "…"

both = pytest.mark.parametrize("name", READMES)


class Fence(NamedTuple):
    """A block of code: `bash`, `python`, `text` (the tree) or `console` (a command and what it printed)."""

    kind: str
    text: str


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def fences(name: str) -> list[Fence]:
    return [Fence(found["kind"], found["text"]) for found in FENCE.finditer(read(name))]


def of_kind(name: str, kind: str) -> list[str]:
    return [fence.text for fence in fences(name) if fence.kind == kind]


def prose(name: str) -> str:
    return FENCE.sub("", read(name))


def inline(name: str) -> list[str]:
    return [found.replace("\\|", "|") for found in re.findall(r"`([^`\n]+)`", prose(name))]


def command_lines(name: str) -> Iterator[str]:
    """Every `crashcart …` that is shown, up to a redirection or another command."""
    shown = inline(name)
    for text in of_kind(name, "bash"):
        shown += text.splitlines()
    for text in of_kind(name, "console"):
        shown += [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
    for line in shown:
        for part in re.split(r" [|>] ", line):
            if part.startswith("crashcart "):
                yield part


def rows(name: str, first: str) -> list[list[str]]:
    """The cells of the table lines that begin with the given text."""
    lines = [line for line in prose(name).splitlines() if line.startswith(f"| {first}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def resolve(words: list[str]) -> tuple[list[str], Any]:
    """The part of the words that names a command, and that command; None where a group has no such command."""
    found: Any = typer.main.get_command(app)
    path: list[str] = []
    for word in words:
        if not hasattr(found, "commands") or word.startswith("-"):
            break
        found = found.commands.get(word)
        path.append(word)
    return path, found


def same_shape(fence: Fence) -> tuple[str, ...]:
    """What must be equal in both languages: commands, code, the names in the tree, options of a shown question."""
    if fence.kind == "text":
        return tuple(line[: len(line) - len(line.lstrip())] + line.split()[0] for line in fence.text.splitlines())
    if fence.kind == "console":
        return tuple(word for word in shlex.split(fence.text.splitlines()[0]) if " " not in word)
    return tuple(fence.text.splitlines())


def folders() -> set[str]:
    """The top-level folders of the project, without hidden and ignored ones."""
    ignored = [line.rstrip("/") for line in read(".gitignore").splitlines()]
    names = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    return {name for name in names if not any(fnmatch(name, pattern) for pattern in ignored)}


@both
def test_every_command_shown_exists_with_its_options(name: str) -> None:
    lines = list(command_lines(name))
    assert len(lines) > 20
    for line in lines:
        words = shlex.split(line)[1:]
        path, command = resolve(words)
        assert command is not None, f"there is no `{line}`"
        known = {"--help", *(option for parameter in command.params for option in parameter.opts)}
        assert {word for word in words if word.startswith("--")} <= known, line
        assert path or words[0].startswith("--"), f"`{line}` names no command"


@both
def test_every_command_shown_has_help(crashcart: Run, name: str) -> None:
    for path in {tuple(resolve(shlex.split(line)[1:])[0]) for line in command_lines(name)} - {()}:
        code, out, _ = crashcart(*path, "--help")
        assert code == 0, path
        assert path[-1] in out


@both
def test_the_table_has_every_command_with_an_example(name: str) -> None:
    table = [row for row in rows(name, "`crashcart ") if len(row) == 3]
    assert [row[0].strip("`").split()[1] for row in table] == [row[2].strip("`").split()[1] for row in table]
    commands = cast(Any, typer.main.get_command(app)).commands
    assert {row[0].strip("`").split()[1] for row in table} == set(commands)


@both
def test_the_tree_names_the_top_level_folders(name: str) -> None:
    (tree,) = of_kind(name, "text")
    lines = tree.splitlines()
    assert sorted(line.split("/")[0] for line in lines if not line.startswith(" ")) == sorted(folders())
    top = ""
    for line in lines:
        folder, *words = line.split()
        top = top if line.startswith(" ") else folder
        assert (ROOT / (top + folder if line.startswith(" ") else folder)).is_dir(), line
        assert words, line


@both
def test_the_settings_table_is_that_of_the_settings(name: str) -> None:
    table = [(row[0].strip("`"), row[1].strip("`")) for row in rows(name, "`CRASHCART_")]
    assert table == [(f"CRASHCART_{field.name.upper()}", str(field.default)) for field in fields(Settings)]


@both
def test_make_targets_and_modules_shown_exist(name: str) -> None:
    shown = "\n".join([*of_kind(name, "bash"), *inline(name)])
    targets = set(re.findall(r"\bmake (\w+)", shown))
    assert {"chat", "test"} <= targets <= set(re.findall(r"^(\w+):", read("Makefile"), re.M))
    for module in re.findall(r"python -m ([\w.]+)", shown):
        assert importlib.util.find_spec(module), module


@both
def test_files_named_exist(name: str) -> None:
    named = set(re.findall(r"\]\(([^):]+)\)", prose(name)))
    named |= {
        word for text in inline(name) for word in text.split() if re.match(r"(?:kb|probes|evals|tests|\.ci)/", word)
    }
    named |= set(re.findall(r"\bevals/benchmarks/\w+\.py", prose(name)))
    for word in named:
        assert re.search(r"\b(?:ID|NAME)\b", word) or (ROOT / word).exists(), word


@both
def test_the_answer_shown_is_what_is_printed(crashcart: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each line in its order; `…` stands for what is left out. Where this fails, paste the answer anew."""
    monkeypatch.chdir(ROOT)
    (shown,) = of_kind(name, "console")
    command, *lines = shown.splitlines()
    code, out, _ = crashcart(*shlex.split(command.removeprefix("$ "))[1:])
    assert code == 2
    printed = iter(out.splitlines())
    for line in lines:
        if line and line != LEFT_OUT:
            assert line in printed, f"not printed, or not in this place: {line}"


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl on this machine")
def test_every_call_shown_is_answered(home: Path) -> None:
    """Each `curl …` line of the English page, which the Chinese one repeats, against a server that wants both tokens."""
    calls = [line for text in of_kind("README.md", "bash") for line in text.splitlines() if "curl " in line]
    assert len(calls) > 4
    with serving(home, token="right", webhook_token="TOKEN") as url:
        for call in calls:
            environment = os.environ | {"CRASHCART_TOKEN": "right"}
            line = call.replace("localhost:7860", url.removeprefix("http://"))
            done = subprocess.run(
                ["bash", "-c", line], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=150
            )
            assert done.returncode == 0 and done.stdout, (call, done.stderr)
            if "/stream" in call:
                assert "event: step_started" in done.stdout and "event: answer" in done.stdout
                continue
            answer = json.loads(done.stdout)
            assert "detail" not in answer, (call, answer)
            if "/ask" in call:
                assert answer["status"] == "diagnosed", call


@both
def test_the_probe_shown_is_a_probe(name: str) -> None:
    (code,) = of_kind(name, "python")
    module: dict[str, Any] = {"__name__": "probes.load_average"}
    exec(compile(code, name, "exec"), module)
    found = module["load_average"]
    assert isinstance(found, Probe)
    assert found(Target()).status in STATUSES
    assert [module["judge"](wanting, 4).status for wanting in (1.0, 9.0)] == ["ok", "warning"]


def test_every_kind_of_runbook_is_named() -> None:
    words = {"text": "text", "html": "HTML", "pdf": "PDF", "docx": "Word"}
    assert all(words[kind] in prose("README.md") for kind in KINDS.values())


@both
@pytest.mark.parametrize(("engine", "title"), [("vllm", "vLLM"), ("sglang", "SGLang")])
def test_the_releases_of_the_record_are_counted(name: str, engine: str, title: str) -> None:
    releases = load(engine).releases
    (line,) = [line for line in prose(name).splitlines() if releases[-1] in line and title in line]
    assert re.search(rf"\b{len(releases)} (?:个 )?{title}\b.*?{releases[0]}\D+{releases[-1]}", line)


def test_both_languages_have_the_same_parts() -> None:
    headings = [re.findall(r"^(#+) ", prose(name), re.M) for name in READMES]
    assert headings[0] == headings[1]
    tables = [[line.count("|") for line in prose(name).splitlines() if line.startswith("|")] for name in READMES]
    assert tables[0] == tables[1]
    items = [len(re.findall(r"^(?:- |\d+\. )", prose(name), re.M)) for name in READMES]
    assert items[0] == items[1]


def test_both_languages_have_the_same_code() -> None:
    english, chinese = (fences(name) for name in READMES)
    assert [fence.kind for fence in english] == [fence.kind for fence in chinese]
    assert [same_shape(fence) for fence in english] == [same_shape(fence) for fence in chinese]


def test_both_languages_give_the_same_figures() -> None:
    def figures(name: str) -> list[str]:
        return sorted(re.findall(r"\d+(?:\.\d+)+", prose(name)))

    assert figures(READMES[0]) == figures(READMES[1])


@both
def test_every_fence_is_closed(name: str) -> None:
    assert "```" not in prose(name)
