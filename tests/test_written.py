"""Serving commands where people keep them: found in every form of file, and changed there with every other byte kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from assistant.assistant import Assistant
from assistant.editing import changed, set_in_command
from assistant.patching import apply_fix
from assistant.signals import find_command
from assistant.types import Question
from kb.catalog.command import release_in
from kb.catalog.forms import Unchangeable
from kb.catalog.patch import patched
from kb.catalog.written import calls_of, commands_in, file_in, meaning, rewritten, serves, shell_of, words_of
from kb.errors import InputError
from kb.flags import check_command, engine_of, release_of

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "tests/fixtures/commands").iterdir())
NAMES = [path.name for path in FILES]
CASES = [
    (path.stem, str(case["command"]))
    for path in sorted((ROOT / "evals/cases").glob("*.yaml"))
    if serves(str((case := yaml.load(path.read_text("utf-8"), yaml.CSafeLoader)).get("command") or ""))
]
LENGTHS = {"vllm": "max-model-len", "sglang": "context-length"}

COMPOSE = """services:
  chat:
    image: vllm/vllm-openai:${TAG:-v0.8.5}   # pinned
    environment:
      - VLLM_USE_V1=0
      - HF_TOKEN=hf_abcdefghijklmnopqrstuvwxyz0123
    command: >
      --model Qwen/Qwen3-8B --api-key sk-proj-abcdefgh12345678
      --swap-space 4
      --max-model-len 8192
  embed:
    image: vllm/vllm-openai:v0.8.5
    command: ["--model", "BAAI/bge-m3", "--swap-space", "4"]
"""
POD = """apiVersion: v1
kind: Pod
spec:
  containers:
  - name: llm
    image: vllm/vllm-openai:v0.11.0
    args:
    - --model=Qwen/Qwen3-8B
    - --max-model-len=131072   # all of it
    - --gpu-memory-utilization=0.90
    env:
    - name: VLLM_LOGGING_LEVEL
      value: DEBUG
"""


def options(text: str) -> set[tuple[str, ...]]:
    """What a text's options say, without the model, which some forms name in front."""
    found = {tuple(words_of(option)) for call in calls_of(text) for option in call.options}
    return {each for each in found if not each[0].startswith("--model")}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_form_is_found_and_stays_as_it_is(path: Path) -> None:
    text = path.read_text("utf-8")
    (found,) = commands_in(text)
    assert rewritten(text, [(found, found.command)]) == text
    assert len([call for call in found.calls if call.serving]) == 1
    assert engine_of(text) == ("sglang" if "-sgl-" in path.name else "vllm")
    assert (found.form == "shell") == path.name.startswith(("docker-", "script-", "kubectl-"))


def test_all_forms_of_a_command_say_the_same() -> None:
    groups: dict[str, list[Path]] = {}
    for path in FILES:
        slug = next(part for part in SLUGS if f"-{part}" in path.name)
        groups.setdefault(slug, []).append(path)
    for slug, paths in groups.items():
        said = {path.name: options(path.read_text("utf-8")) for path in paths}
        assert len({frozenset(each) for each in said.values()}) == 1, (slug, said)
        releases = {
            release_of(path.read_text("utf-8"))
            for path in paths
            if not path.name.startswith(("unit", "script", "configmap"))
        }
        assert len(releases) == 1, (slug, releases)


SLUGS = sorted(
    {
        n.split(".")[0].split("-", 1)[1].removeprefix(p)
        for n in NAMES
        for p in ("list-", "folded-", "flow-", "shell-", "args-", "sh-")
    },
    key=len,
)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_changed_file_starts_what_was_meant_and_keeps_its_other_lines(path: Path) -> None:
    text = path.read_text("utf-8")
    engine = engine_of(text) or ""
    flag = f"--{LENGTHS[engine]}"
    new = set_in_command(text, [f"{LENGTHS[engine]}=4321", "NCCL_DEBUG=INFO"], [])
    (call,) = (call for call in calls_of(new) if call.serving)
    assert [words_of(option) for option in call.options if option.name == flag] == [[flag, "4321"]]
    assert {variable.name: variable.value for variable in call.variables}["NCCL_DEBUG"] == "INFO"
    assert {each for each in options(new) if each[0] != flag} == {each for each in options(text) if each[0] != flag}
    lines = [line for line in unified_diff(text.splitlines(), new.splitlines(), lineterm="", n=0) if line[0] in "+-"]
    assert len(lines) <= 12, lines
    assert set_in_command(new, [f"{LENGTHS[engine]}=4321", "NCCL_DEBUG=INFO"], []) == new


@pytest.mark.parametrize("path", FILES, ids=NAMES)
@pytest.mark.parametrize(("vllm", "sglang"), [("0.6.3", "0.4.6"), ("0.11.0", "0.5.3"), ("0.33.0", "0.5.23")])
def test_a_file_made_right_for_a_release_holds_no_dead_name(path: Path, vllm: str, sglang: str) -> None:
    text = path.read_text("utf-8")
    release = sglang if engine_of(text) == "sglang" else vllm
    right = patched(text, "", release)
    dead = [
        each for each in check_command(right, "", release) if each.status in ("removed", "renamed", "never", "not-yet")
    ]
    assert not [each for each in dead if each.kind != "choice"]
    assert patched(right, "", release) == right


@pytest.mark.parametrize(("name", "command"), CASES, ids=[name for name, _ in CASES])
def test_commands_of_public_reports_come_back_as_they_were(name: str, command: str) -> None:
    (found,) = commands_in(command)
    assert rewritten(command, [(found, found.command)]) == command
    engine = engine_of(command) or ""
    new = changed(command, 0, [f"{LENGTHS[engine]}=4321"], [], "", "")
    flags = {(name.replace("_", "-"), *values) for name, *values in options(new) - options(command)}
    assert flags <= {(f"--{LENGTHS[engine]}", "4321")}
    assert patched(patched(command, "", "0.33.0"), "", "0.33.0") == patched(command, "", "0.33.0")


def test_there_are_commands_enough() -> None:
    assert len(FILES) + len(CASES) >= 80


VALUES = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], include_characters=" "), min_size=1, max_size=24
)
ONE_OF_EACH = [p for p in FILES if p.name.split("-")[0] not in {q.name.split("-")[0] for q in FILES[: FILES.index(p)]}]


@pytest.mark.parametrize("path", ONE_OF_EACH, ids=[path.name for path in ONE_OF_EACH])
@given(value=VALUES)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_reads_back_from_any_form(path: Path, value: str) -> None:
    assume("%" not in value or path.suffix != ".service")
    text = path.read_text("utf-8")
    new = set_in_command(text, [f"served-model-name=x{value}"], [])
    (call,) = (call for call in calls_of(new) if call.serving)
    assert ["--served-model-name", f"x{value}"] in [words_of(option) for option in call.options]


JSON_VALUES = st.dictionaries(
    st.text("abc_'\" $.", min_size=1, max_size=6),
    st.one_of(st.integers(), st.booleans(), VALUES, st.lists(st.integers(), max_size=3)),
    max_size=3,
)


@pytest.mark.parametrize("path", ONE_OF_EACH, ids=[path.name for path in ONE_OF_EACH])
@given(value=JSON_VALUES)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_json_reads_back_from_any_form(path: Path, value: dict[str, object]) -> None:
    assume("%" not in str(value) or path.suffix != ".service")
    text = path.read_text("utf-8")
    new = set_in_command(text, [f"hf-overrides={json.dumps(value)}"], [])
    (call,) = (call for call in calls_of(new) if call.serving)
    (found,) = [words_of(option) for option in call.options if option.name == "--hf-overrides"]
    assert json.loads(found[1]) == value


SCRIPTS = [
    "vllm serve m {}",
    "bash -c 'vllm serve m {}'",
    'docker run --gpus all vllm/vllm-openai:v0.9.0 bash -lc "cd /x && vllm serve m {}"',
    """sh -c 'vllm serve m --hf-overrides '\\''{{"a": "b c"}}'\\'' {}'""",
    'sh -c "vllm serve m --hf-overrides \\"{{}}\\" {}"',
]


@pytest.mark.parametrize("script", SCRIPTS)
@given(value=VALUES, key=st.sampled_from(["a", "a_b", "x.y"]))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_dotted_options_and_nested_quotes(script: str, value: str, key: str) -> None:
    text = script.format("--port 8000")
    new = set_in_command(text, [f"compilation-config.{key}=x{value}", "port=9"], [])
    (call,) = (call for call in calls_of(new) if call.serving)
    said = [words_of(option) for option in call.options]
    assert [f"--compilation-config.{key}", f"x{value}"] in said and ["--port", "9"] in said


def test_a_fix_goes_into_the_manifest_that_was_pasted() -> None:
    new = apply_fix(POD, "vllm serve MODEL --max-model-len 20304", "vllm", "0.11.0")
    assert new == POD.replace("131072", "20304")
    assert apply_fix(POD, "VLLM_LOGGING_LEVEL=INFO vllm serve MODEL") == POD.replace("DEBUG", "INFO")


def test_a_question_with_a_manifest_is_answered_with_the_manifest(assistant: Assistant) -> None:
    error = (
        "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in "
        "KV cache (20304). Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."
    )
    asked = Question(text=f"Why does this pod not start?\n\n```yaml\n{POD}```\n", logs={"log": error}, use_probes=False)
    answer = assistant.answer(asked)
    fixes = [fix.patched_command for fix in answer.diagnoses[0].fixes if fix.patched_command]
    assert any("--max-model-len=20304   # all of it" in each and "kind: Pod" in each for each in fixes)


@pytest.mark.parametrize(
    ("text", "file"),
    [
        (f"My pod:\n```yaml\n{POD}```\nWhat now?", POD),
        (f"看看这个:\n\n{POD}\n它起不来,为什么?", POD),
        (f"{COMPOSE}\nTraceback (most recent call last):\n  oops: [", COMPOSE),
        (
            "my unit\n[Service]\nExecStart=/v/vllm serve m --port 1\nRestart=always\n\nhelp",
            "[Service]\nExecStart=/v/vllm serve m --port 1\nRestart=always\n",
        ),
        ("vllm serve m --port 1\ncommand: nothing", ""),
    ],
)
def test_a_file_is_found_among_words(text: str, file: str) -> None:
    assert file_in(text).strip() == file.strip()
    assert find_command(text) == (file.strip("\n") or "vllm serve m --port 1")


def test_other_texts_are_no_files() -> None:
    for text in (
        "",
        "command: vllm",
        "args:\n- --model",
        "[Service]\nExecStart=/bin/true vllm",
        "FROM vllm\nCMD [",
        "a: [vllm",
    ):
        assert commands_in(text) == () and shell_of(text) == text


def test_a_release_is_what_an_image_tag_says_and_not_what_it_looks_like() -> None:
    assert [
        release_in(tag) for tag in ("v0.8.5", "0.8.5-cu124", "rocm6.3.1_vllm_0.8.5_20250521", "25.09-py3", "latest")
    ] == [
        "0.8.5",
        "0.8.5",
        "0.8.5",
        "",
        "",
    ]
    assert release_of("docker run nvcr.io/nvidia/vllm:25.09-py3 vllm serve m") is None
    assert release_of("docker run -e A=b vllm/vllm-openai:v0.8.5 bash -c 'vllm serve m'") == "0.8.5"


def test_what_a_form_cannot_hold_is_refused() -> None:
    text = "services:\n  a:\n    image: vllm/vllm-openai\n    entrypoint: vllm serve m --port 1\n    command: --dtype half\n"
    (found,) = commands_in(text)
    with pytest.raises(Unchangeable):
        rewritten(text, [(found, found.command.replace("--port 1", "--port 2"))])
    assert apply_fix(text, "vllm serve MODEL --port 2") is None
    with pytest.raises(InputError, match="by hand"):
        set_in_command(text, ["port=2"], [])


def test_several_commands_are_told_apart(crashcart: Run, tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(COMPOSE)
    code, out, err = crashcart("patch", str(path), "--set", "dtype=half")
    assert code == 64 and "chat 7" in err and "embed 13" in err and not out
    code, out, _ = crashcart("patch", str(path), "--set", "dtype=half", "--at", "embed")
    assert code == 0 and '+    command: ["--model", "BAAI/bge-m3", "--swap-space", "4", "--dtype", "half"]' in out
    code, out, _ = crashcart("patch", str(path), "--set", "dtype=half", "--at", "all", "--json")
    assert json.loads(out)["command"].count("half") == 2


def test_a_file_is_shown_as_a_diff_with_its_secrets_masked(crashcart: Run, tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(COMPOSE)
    for lang in ("en", "zh"):
        for argv in (
            ["patch", "--release", "vllm==0.20.2"],
            ["flags", "check", "--release", "vllm==0.20.2"],
            ["flags", "diff", "--from", "0.8.5", "--to", "0.20.2"],
        ):
            for form in ([], ["--json"]):
                _, out, err = crashcart(*argv, str(path), "--lang", lang, *form)
                assert "hf_abc" not in out + err and "sk-proj" not in out + err and "MASKED-" in out
    _, out, err = crashcart("patch", str(path), "--release", "vllm==0.20.2", "--lang", "en")
    assert [line for line in out.splitlines() if line.startswith("-") and "---" not in line] == [
        "-      - VLLM_USE_V1=0",
        "-      --swap-space 4",
        '-    command: ["--model", "BAAI/bge-m3", "--swap-space", "4"]',
    ]
    assert "keep your own" in err and path.read_text() == COMPOSE


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("compose.yaml", b"services:\n  a: [\n", "not well-formed: line 3"),
        ("unit.service", b"[Service]\nExecStart=/bin/true\n", "no serving command"),
        ("start.sh", b"vllm serve 'm --port 1\n", "quotes"),
        ("start.sh", b"#!/bin/sh\n# don't\nvllm serve \"m --port 1\necho\n", "quotes"),
        ("empty.sh", b"", "is empty"),
        ("blob.sh", b"\x7fELF\0\xff\xfe", "not text"),
        ("null.sh", b"vllm serve m\0", "not text"),
        ("huge.log", b"vllm serve m\n" + b"x" * (50 << 20), "larger than 1 MiB"),
    ],
    ids=["yaml", "unit", "quotes", "script", "empty", "binary", "nul", "huge"],
)
def test_bad_input_is_one_sentence(crashcart: Run, tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for argv in (["patch", str(path), "--set", "port=1"], ["flags", "check", str(path)]):
        code, out, err = crashcart(*argv)
        if argv[0] == "flags" and says == "quotes":
            continue  # checked as far as it can be read
        assert code == 64 and says in err and err.count("\n") == 1 and not out
    assert path.read_bytes() == content


def test_a_file_that_is_not_there_is_said(crashcart: Run) -> None:
    code, _, err = crashcart("patch", "no-such/compose.yaml")
    assert code == 64 and "there is no file" in err


def test_meaning_is_alike_for_both_ways_to_write_a_value() -> None:
    assert meaning("vllm serve m --port=1") == meaning("vllm serve m --port 1") != meaning("vllm serve m --port 2")
