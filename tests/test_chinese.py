"""Everything that the flag record and the memory arithmetic say has its Chinese sentence."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from kb.catalog.history import ENGINES, load
from kb.catalog.notes import all_notes
from kb.catalog.status import Status
from kb.chinese import STATUSES, TABLE, in_chinese, translated
from kb.flags import check_command, releases_of
from kb.sizing.plan import plan
from kb.sizing.setup import GIB, Setup
from kb.sizing.tables import known_model

ROOT = Path(__file__).parent.parent
HAN = re.compile(r"[\u4e00-\u9fff]")
COMMANDS = [path.read_text("utf-8") for path in sorted((ROOT / "tests/fixtures/commands").iterdir())] + [
    "vllm serve m --task foo --max-model 5 --enable-overlap-schedule --mem-fraction-static 0.5 --tp 2 --swap-space 4",
    "vllm serve m --kv-cache-dtype fp9 --quantization squeezellm --device cpu HF_TOKEN=x --compilation-config.level 3",
    "python -m sglang.launch_server --model-path m --enable --kv-cache-dtype fp8 --a.b 1 --schedule-conservativenes 1",
]


def test_statuses_are_all_there() -> None:
    assert set(STATUSES) == set(Status.__args__)


@pytest.mark.parametrize("engine", ENGINES)
def test_notes_are_all_there(engine: str) -> None:
    missing = {note.text for note in all_notes(engine) if note.text and translated(note.text) is None}
    assert not missing


@pytest.mark.parametrize(
    "release", ["", "0.4.0", "0.2.0", "0.6.5", "0.8.5", "0.8.99", "0.11.0", "0.20.2", "0.33.0", "9.9.9"]
)
def test_what_is_said_of_real_commands_is_all_there(release: str) -> None:
    said = {status.note for command in COMMANDS for status in check_command(command, "", release) if status.note}
    assert not {each for each in said if translated(each) is None or not HAN.search(in_chinese(each))}


def test_defaults_are_all_there() -> None:
    lines = json.loads((ROOT / "kb/data/flags/notes.json").read_text("utf-8"))["defaults"]["vllm"]
    texts = {value for line in lines for _, value in line["changes"]} | {
        line["note"] for line in lines if "note" in line
    }
    assert not {each for each in texts if re.search(r"[a-z]{3}", each) and not HAN.search(in_chinese(each))}


def sentences(path: Path) -> set[str]:
    """What a module raises as Unmodelled, with a made-up word in each gap."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Unmodelled" and node.args:
            parts = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
            found.add("".join(str(part.value) if isinstance(part, ast.Constant) else "zzz" for part in parts))
    return found - {"zzz"}


def test_reasons_for_no_number_are_all_there() -> None:
    said = {each for path in sorted((ROOT / "kb/sizing").glob("*.py")) for each in sentences(path)}
    assert len(said) > 20 and not {each for each in said if translated(each) is None}


@pytest.mark.parametrize("release", ["", "0.6.3", "0.8.5", "0.20.2"])
@pytest.mark.parametrize(
    "model",
    [
        "Qwen/Qwen3-8B",
        "deepseek-ai/DeepSeek-V3",
        "google/gemma-3-27b-it",
        "openai/gpt-oss-20b",
        "Qwen/Qwen2.5-32B-Instruct-AWQ",
    ],
)
@pytest.mark.parametrize("tensor", [1, 2, 3])
def test_the_arithmetic_is_all_there(model: str, release: str, tensor: int) -> None:
    known = known_model(model)
    assert known is not None
    for engine in ENGINES:
        chosen = release if engine == "vllm" or not release else "0.5.3"
        size = plan(
            known.config, Setup(engine=engine, release=chosen, tensor=tensor, gpus=tensor, gpu_memory_bytes=80 * GIB)
        )
        said = [
            *size.assumptions,
            *(text for f in size.figures.values() for text in (f.how, f.error, f.reason) if text),
        ]
        assert not {each for each in said if translated(each) is None}


def test_the_table_has_each_sentence_once_and_in_chinese() -> None:
    rows = [line.split("\t") for line in TABLE.read_text("utf-8").splitlines()]
    assert all(len(row) == 2 and row[1].strip() for row in rows) and len({row[0] for row in rows}) == len(rows)
    for english, chinese in rows:
        assert english.count("{}") == len(set(re.findall(r"\{\d\}", chinese))), english


def test_what_is_not_there_stays_as_it_is() -> None:
    assert (
        in_chinese("a sentence of tomorrow") == "a sentence of tomorrow"
        and translated("a sentence of tomorrow") is None
    )
    assert all(load(engine).releases == releases_of(engine) for engine in ENGINES)
