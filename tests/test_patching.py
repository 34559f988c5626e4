"""A fix put into somebody's own serving command: the new value in place, everything else byte for byte."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from pathlib import Path

import pytest

from assistant.assistant import Assistant
from assistant.fixes import Engine, applies
from assistant.intention import Intention
from assistant.patching import apply_fix, right_for
from assistant.serving import key_of, model_of, number_of, serving_calls, settings_of
from assistant.types import Question
from kb.catalog.history import load
from kb.flags import check_command

LENGTH = "vllm serve MODEL --max-model-len 20304"
KV = "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in KV cache (20304). Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."
PLACEHOLDER = re.compile(r"\{\{[^{}|]*\|?([^{}]*)\}\}")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("vllm serve Q/x --max-model-len 131072 --port 8000", "vllm serve Q/x --max-model-len 20304 --port 8000"),
        ("vllm serve Q/x --max-model-len=131072", "vllm serve Q/x --max-model-len=20304"),
        ("vllm serve Q/x --max_model_len 131072", "vllm serve Q/x --max_model_len 20304"),
        ("vllm serve Q/x --max_model_len=131072", "vllm serve Q/x --max_model_len=20304"),
        ('vllm serve "$MODEL" --max-model-len "131072"', 'vllm serve "$MODEL" --max-model-len 20304'),
        ("vllm serve --max-model-len 131072 Q/x", "vllm serve --max-model-len 20304 Q/x"),
        (
            "vllm serve Q/x --max-model-len 4096 --max-model-len 131072",
            "vllm serve Q/x --max-model-len 4096 --max-model-len 20304",
        ),
    ],
)
def test_a_value_is_changed_where_it_stands(command: str, expected: str) -> None:
    assert apply_fix(command, LENGTH, "vllm", "0.11.0") == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("vllm serve Q/x", "vllm serve Q/x --max-model-len 20304"),
        ("vllm serve Q/x --port 8000  # ours", "vllm serve Q/x --port 8000 --max-model-len 20304  # ours"),
        ("vllm serve Q/x 2>&1 | tee log", "vllm serve Q/x --max-model-len 20304 2>&1 | tee log"),
        ("vllm serve Q/x > log 2>&1 &", "vllm serve Q/x --max-model-len 20304 > log 2>&1 &"),
        ("nohup vllm serve Q/x && echo", "nohup vllm serve Q/x --max-model-len 20304 && echo"),
        ("$ vllm serve Q/x\n", "$ vllm serve Q/x --max-model-len 20304\n"),
        ("vllm serve Q/x \\\n  --port 8000\n", "vllm serve Q/x \\\n  --port 8000 \\\n  --max-model-len 20304\n"),
        ("bash -lc 'vllm serve Q/x'", "bash -lc 'vllm serve Q/x --max-model-len 20304'"),
        (
            "docker run --gpus all -p 8000:8000 vllm/vllm-openai:v0.11.0 --model Q/x",
            "docker run --gpus all -p 8000:8000 vllm/vllm-openai:v0.11.0 --model Q/x --max-model-len 20304",
        ),
        (
            "vllm serve Q/x --max-model-len 1024 &\nvllm serve Q/y --max-model-len 131072 &",
            "vllm serve Q/x --max-model-len 20304 &\nvllm serve Q/y --max-model-len 131072 &",
        ),
        (
            "python -m sglang.launch_server --model-path Q/x\nvllm serve Q/x",
            "python -m sglang.launch_server --model-path Q/x\nvllm serve Q/x --max-model-len 20304",
        ),
    ],
)
def test_a_new_option_goes_to_the_end_of_the_first_call_of_the_engine(command: str, expected: str) -> None:
    assert apply_fix(command, LENGTH, "vllm", "0.11.0") == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("vllm serve Q/x -tp 8", "vllm serve Q/x -tp 4"),
        ("vllm serve Q/x -tp=8", "vllm serve Q/x -tp=4"),
        ("python -m vllm.entrypoints.openai.api_server --model Q/x --tensor_parallel_size 8", None),
    ],
)
def test_an_alias_keeps_the_name_that_was_written(command: str, expected: str | None) -> None:
    expected = expected or command.replace("8", "4")
    assert apply_fix(command, "vllm serve MODEL --tensor-parallel-size 4") == expected


def test_sglang_reads_its_own_aliases() -> None:
    command = "python3 -m sglang.launch_server --model Q/x --tp 8 --mem-fraction-static=0.9"
    fix = "python -m sglang.launch_server --model-path MODEL --tp-size 4 --mem-fraction-static 0.8"
    assert apply_fix(command, fix) == command.replace("--tp 8", "--tp 4").replace("=0.9", "=0.8")


@pytest.mark.parametrize(
    ("command", "fix", "expected"),
    [
        ("--enable-prefix-caching --port 1", "--no-enable-prefix-caching", "--no-enable-prefix-caching --port 1"),
        ("--no-enable-prefix-caching", "--enable-prefix-caching", "--enable-prefix-caching"),
        ("--enable-chunked-prefill=False", "--enable-chunked-prefill", "--enable-chunked-prefill"),
        ("--enable-chunked-prefill=False", "--no-enable-chunked-prefill", None),
        ("--enable-chunked-prefill", "--enable-chunked-prefill", None),
        ("--enforce-eager", "--enforce-eager --port 1", "--enforce-eager --port 1"),
    ],
)
def test_the_newer_of_a_switch_and_its_negation_wins(command: str, fix: str, expected: str | None) -> None:
    result = apply_fix(f"vllm serve Q/x {command}", f"vllm serve MODEL {fix}")
    assert result == (f"vllm serve Q/x {expected}" if expected else None)


@pytest.mark.parametrize(
    ("held", "fix", "expected"),
    [
        ("""--hf-overrides '{"a": 1}'""", """--hf-overrides '{"b": {"c": 2}}'""", {"a": 1, "b": {"c": 2}}),
        ("""--hf-overrides='{"a":{"x":1,"y":2}}'""", """--hf-overrides '{"a": {"y": 3}}'""", {"a": {"x": 1, "y": 3}}),
        ("""--limit-mm-per-prompt image=4""", """--limit-mm-per-prompt '{"image": 1}'""", {"image": 1}),
        (
            """--speculative-config '{"method": "eagle", "model": "a/b", "num_speculative_tokens": 5}'""",
            """--speculative-config '{"method": "ngram", "num_speculative_tokens": 3}'""",
            {"method": "ngram", "num_speculative_tokens": 3},
        ),
    ],
)
def test_json_objects_merge_unless_they_are_of_different_kinds(
    held: str, fix: str, expected: dict[str, object]
) -> None:
    result = apply_fix(f"vllm serve Q/x {held} --port 1", f"vllm serve MODEL {fix}", "vllm", "")
    assert result and result.endswith(" --port 1")
    option = serving_calls(result, "vllm")[0].options[0]
    assert held.startswith(option.name + (" " if option.inline is None else "="))
    assert json.loads(option.inline or option.trail[0].text) == expected


def test_equal_json_in_another_order_or_spacing_is_left_alone() -> None:
    held = """vllm serve Q/x --hf-overrides '{"b":2,"a":1}'"""
    assert apply_fix(held, """vllm serve MODEL --hf-overrides '{"a": 1, "b": 2}'""") is None


def test_keys_after_a_dot_stay_keys_after_a_dot() -> None:
    held = "vllm serve Q/x --compilation-config.level 3 --compilation-config.backend=eager"
    fix = """vllm serve MODEL --compilation-config '{"level": 0, "backend": "inductor", "use_inductor": false}'"""
    assert apply_fix(held, fix) == (
        "vllm serve Q/x --compilation-config.level 0 --compilation-config.backend=inductor"
        " --compilation-config.use_inductor false"
    )
    held = """vllm serve Q/x --structured-outputs-config '{"backend": "auto", "disable_any_whitespace": true}'"""
    assert apply_fix(held, "vllm serve MODEL --structured-outputs-config.backend guidance") == held.replace(
        "auto", "guidance"
    )


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("vllm serve Q/x", "NCCL_DEBUG=INFO vllm serve Q/x"),
        ("A=1 vllm serve Q/x", "NCCL_DEBUG=INFO A=1 vllm serve Q/x"),
        ("NCCL_DEBUG=WARN vllm serve Q/x", "NCCL_DEBUG=INFO vllm serve Q/x"),
        ("cd /x && nohup vllm serve Q/x &", "cd /x && NCCL_DEBUG=INFO nohup vllm serve Q/x &"),
        ("export NCCL_DEBUG=WARN\nvllm serve Q/x", "export NCCL_DEBUG=INFO\nvllm serve Q/x"),
        ("sudo -E vllm serve Q/x", "sudo -E env NCCL_DEBUG=INFO vllm serve Q/x"),
        ("docker exec -d box vllm serve Q/x", "docker exec -d box env NCCL_DEBUG=INFO vllm serve Q/x"),
        ("docker run vllm/vllm-openai --model Q/x", "docker run -e NCCL_DEBUG=INFO vllm/vllm-openai --model Q/x"),
        (
            "docker run -e NCCL_DEBUG=WARN vllm/vllm-openai --model Q/x",
            "docker run -e NCCL_DEBUG=INFO vllm/vllm-openai --model Q/x",
        ),
        (
            "docker run --env=NCCL_DEBUG=WARN vllm/vllm-openai --model Q/x",
            "docker run --env=NCCL_DEBUG=INFO vllm/vllm-openai --model Q/x",
        ),
        ("NCCL_DEBUG=INFO vllm serve Q/x", None),
    ],
)
def test_a_variable_is_set_where_the_server_gets_it(command: str, expected: str | None) -> None:
    assert apply_fix(command, "NCCL_DEBUG=INFO vllm serve MODEL") == expected


@pytest.mark.parametrize(
    "command",
    [
        "vllm serve Q/x --served-model-name 'my model'",
        "bash -c 'vllm serve Q/x --served-model-name \"my model\"'",
        "bash -c \"vllm serve Q/x --served-model-name 'my model'\"",
        "sudo vllm serve Q/x \\\n  --served-model-name my\\ model \\\n  --port 8000 > /dev/stderr  # ours",
        "export NOTE=old; nohup vllm serve Q/x --served-model-name my' 'model",
    ],
)
def test_a_shell_hands_on_what_was_meant(command: str, tmp_path: Path) -> None:
    """The changed command is run, with a `vllm` that prints what it is given and a `sudo` that drops the environment."""
    stubs = {
        "vllm": '#!/bin/sh\nprintf "%s\\n" "NOTE=$NOTE" "$@" >&2\n',
        "sudo": '#!/bin/sh\nexec env -i PATH="$PATH" "$@"\n',
    }
    for name, body in stubs.items():
        (tmp_path / name).write_text(body)
        (tmp_path / name).chmod(0o755)
    fix = """NOTE="it's \\$5" vllm serve MODEL --hf-overrides '{"a b": "it is \\"$5\\""}' --max-num-seqs 64"""
    changed = apply_fix(command, fix)
    assert changed
    path = f"{tmp_path}:{os.environ['PATH']}"
    run = subprocess.run(["bash", "-c", changed], env={"PATH": path}, capture_output=True, text=True, timeout=20)
    lines = run.stderr.splitlines() + run.stdout.splitlines()
    assert lines[:4] == ["NOTE=it's $5", "serve", "Q/x", "--served-model-name"]
    assert lines[4] == "my model"
    assert lines[lines.index("--hf-overrides") + 1] == '{"a b": "it is \\"$5\\""}'
    assert lines[lines.index("--max-num-seqs") + 1] == "64"


@pytest.mark.parametrize(
    ("fix", "engine"),
    [
        ("pip install -U vllm", "vllm"),
        ("nvidia-smi -L\nunset CUDA_VISIBLE_DEVICES", "vllm"),
        ("vllm bench serve --model MODEL", "vllm"),
        ("vllm serve --help=all", "vllm"),
        ("vllm serve MODEL", "vllm"),
        ("vllm serve Q/x --port 8000", "vllm"),
        ("vllm serve MODEL-AWQ --max-model-len 4096", "vllm"),
        ("vllm serve Q/x-AWQ --max-model-len 4096", "vllm"),
        ("python -m sglang.launch_server --model-path MODEL --context-length 4096", ""),
        ("vllm serve MODEL --port 8000\nvllm serve MODEL --port 8001", "vllm"),
        ("nsys profile -o report vllm serve MODEL --enforce-eager", "vllm"),
        ("docker run --ipc=host -e HOME=/tmp vllm/vllm-openai --model MODEL", "vllm"),
        ("vllm serve MODEL --max-model-len 4096", "sglang"),
    ],
)
def test_nothing_is_offered_where_nothing_would_be_right(fix: str, engine: str) -> None:
    assert apply_fix("vllm serve Q/x --port 8000", fix, engine) is None


@pytest.mark.parametrize("command", ["", "what is this?", "vllm bench serve --model Q/x", "pip install vllm"])
def test_text_without_a_server_gives_nothing(command: str) -> None:
    assert apply_fix(command, LENGTH) is None


def test_the_users_model_is_never_replaced() -> None:
    assert apply_fix("vllm serve Q/x", "vllm serve Q/x --port 1") == "vllm serve Q/x --port 1"
    module = "python -m vllm.entrypoints.openai.api_server --model MODEL --port 1"
    assert apply_fix("vllm serve Q/x", module) == "vllm serve Q/x --port 1"
    assert apply_fix("vllm serve ./x --tokenizer Q/x", "vllm serve MODEL --tokenizer BASE_MODEL") is None


def test_dead_flags_of_the_users_command_go_too() -> None:
    command = "vllm serve Q/x --disable-log-requests --num-scheduler-steps 8 --max-model-len 131072"
    changed = apply_fix(command, LENGTH, "vllm", "0.11.0")
    assert changed == "vllm serve Q/x --disable-log-requests --max-model-len 20304"
    assert apply_fix(command, LENGTH) == command.replace("131072", "20304")


def test_a_command_that_would_lose_its_model_or_its_quotes_is_not_made_right_for_the_release() -> None:
    command = "bash -c 'vllm serve Q/x --speculative-model a/b --num-speculative-tokens 5'"
    changed = apply_fix(command, LENGTH, "vllm", "0.11.0")
    assert changed is not None
    assert [model_of(call) for call in serving_calls(changed, "vllm")] == ["Q/x"]
    command = "python -m sglang.launch_server --model Q/x"
    assert apply_fix(command, f"{command} --port 1", "sglang", "0.4.6") == f"{command} --port 1"


@pytest.mark.parametrize(
    ("title", "held", "expected"),
    [
        ("Lower `--max-model-len` to what fits", "131072", "20304"),
        ("Lower `--max-model-len` to what fits", "20304", None),
        ("Lower `--max-model-len` to what fits", "8192", None),
        ("Lower `--max-model-len` to what fits", "8k", None),
        ("Lower `--max-model-len` to what fits", "auto", "20304"),
        ("Raise `--max-model-len`", "8192", "20304"),
        ("Raise `--max-model-len`", "131072", None),
        ("Set `--max-model-len`", "8192", "20304"),
        ("Keep more free: `--max-model-len` lower, or `--tensor-parallel-size` higher", "8192", None),
        ("把 `--max-model-len` 调大", "131072", None),
    ],
)
def test_a_number_only_moves_the_way_that_the_title_says(title: str, held: str, expected: str | None) -> None:
    result = apply_fix(f"vllm serve Q/x --max-model-len {held}", LENGTH, "vllm", "0.11.0", title)
    assert result == (f"vllm serve Q/x --max-model-len {expected}" if expected else None)


def test_a_default_that_is_already_there_is_not_moved_the_wrong_way() -> None:
    seqs = "vllm serve MODEL --max-num-seqs 256"
    assert apply_fix("vllm serve Q/x", seqs, "vllm", "0.11.0", "Raise `--max-num-seqs`") is None
    assert apply_fix("vllm serve Q/x", seqs, "vllm", "0.11.0", "Lower `--max-num-seqs`")
    assert apply_fix("vllm serve Q/x", seqs, "vllm", "", "Raise `--max-num-seqs`")


def test_keys_and_variables_move_the_same_way() -> None:
    held = """VLLM_RPC_TIMEOUT=200000 vllm serve Q/x --limit-mm-per-prompt '{"image": 1, "video": 4}'"""
    fix = """VLLM_RPC_TIMEOUT=100000 vllm serve MODEL --limit-mm-per-prompt '{"image": 2, "video": 0}'"""
    changed = apply_fix(held, fix, title="Limit images and video with `--limit-mm-per-prompt`")
    assert changed == held.replace('"video": 4', '"video": 0').replace("200000", "100000")
    assert apply_fix(held, fix, title="Raise `VLLM_RPC_TIMEOUT` and `--limit-mm-per-prompt`") == held.replace(
        '"image": 1', '"image": 2'
    )


def test_what_only_makes_a_command_complete_is_left_out() -> None:
    fix = "NCCL_P2P_DISABLE=1 vllm serve MODEL --tensor-parallel-size 2 --port 8001 --max-num-seqs 8"
    command = "vllm serve Q/x -tp 8 --max-num-seqs 64"
    assert apply_fix(command, fix, title="Try without P2P: `NCCL_P2P_DISABLE=1`") == f"NCCL_P2P_DISABLE=1 {command}"
    assert apply_fix(command, fix, title="Use `--tensor-parallel-size` and `NCCL_P2P_DISABLE=1`") == (
        "NCCL_P2P_DISABLE=1 vllm serve Q/x -tp 2 --max-num-seqs 64"
    )
    assert (
        apply_fix(command, "vllm serve MODEL --tensor-parallel-size 2", title="Spread the weights over more GPUs")
        is None
    )


def test_examples_do_not_take_the_place_of_what_the_user_has() -> None:
    fix = "vllm serve MODEL --enable-lora --lora-modules NAME=/models/ADAPTER"
    words = "Serve a LoRA adapter with --enable-lora and --lora-modules"
    held = "vllm serve Q/x --lora-modules mine=/data/mine"
    assert apply_fix(held, fix, title=words) == f"{held} --enable-lora"
    assert (
        apply_fix("vllm serve Q/x", fix, title=words)
        == "vllm serve Q/x --enable-lora --lora-modules NAME=/models/ADAPTER"
    )


def test_a_title_that_removes_an_option_removes_it() -> None:
    held = "vllm serve Q/x \\\n  --enforce-eager \\\n  --port 8000"
    assert apply_fix(held, "vllm serve MODEL", title="Remove `--enforce-eager`") == "vllm serve Q/x \\\n  --port 8000"
    kept = apply_fix(held, "vllm serve MODEL", title="Remove the flag; for long prompts use `--enforce-eager`")
    assert kept is None


def test_a_title_about_a_flag_is_for_those_who_have_it() -> None:
    fix, title = "vllm serve MODEL --runner pooling --convert embed", "--task: use --runner and --convert"
    assert apply_fix("vllm serve Q/x", fix, title=title) is None
    assert (
        apply_fix("vllm serve Q/x --task embed", fix, title=title) == "vllm serve Q/x --runner pooling --convert embed"
    )


def test_names_count_as_one_in_all_spellings() -> None:
    history = load("vllm")
    newest = len(history.releases) - 1
    assert {key_of(history, newest, each) for each in ("-tp", "--tensor_parallel_size", "--tensor-parallel-size")} == {
        ("--tensor-parallel-size", False)
    }
    spelt = [key_of(history, newest, each) for each in ("--enable-lora", "--no-enable-lora", "--disable-lora")]
    assert spelt == [("--lora", False), ("--lora", True), ("--lora", True)]


@pytest.mark.parametrize(
    ("value", "number"), [("8192", 8192), ("0.9", 0.9), ("32k", 32000), ("4G", 2**32), ("-1", None), ("auto", None)]
)
def test_numbers_are_read_as_the_engines_read_them(value: str, number: float | None) -> None:
    assert number_of(value) == number


def test_a_verb_counts_for_what_it_stands_before() -> None:
    history = load("vllm")
    title = "Multimodal: raise `--max-model-len` or lower `--limit-mm-per-prompt` and `--max-num-seqs`"
    intention = Intention(history, len(history.releases) - 1, title)
    assert [intention.direction(each) for each in ("--max-model-len", "--limit-mm-per-prompt", "--max-num-seqs")] == [
        "raise",
        "lower",
        "lower",
    ]


def made_commands(count: int) -> list[tuple[str, str]]:
    """Serving commands put together at random from what people write, with the engine of each."""
    chance = random.Random(7)
    options = {
        "vllm": [
            "--max-model-len 131072",
            "--max_model_len=32768",
            "-tp 8",
            '--served-model-name "my model"',
            "--gpu-memory-utilization 0.97",
            "--enforce-eager",
            "--no-enable-prefix-caching",
            """--speculative-config '{"method": "ngram", "num_speculative_tokens": 5}'""",
            "--max-num-seqs=512",
            "--quantization awq",
            "--dtype 'float16'",
            "--lora-modules a=/x b=/y",
        ],
        "sglang": [
            "--tp 8",
            "--mem-fraction-static 0.93",
            "--context-length=131072",
            "--disable-radix-cache",
            '--served-model-name "my model"',
            "--attention-backend fa3",
        ],
    }
    starts = {
        "vllm": [
            "vllm serve Q/x",
            "nohup vllm serve Q/x",
            "A=b python3 -m vllm.entrypoints.openai.api_server --model Q/x",
            "docker run --gpus all -e HF_TOKEN=x --ipc=host vllm/vllm-openai:v0.11.0 --model Q/x",
            "sudo vllm serve Q/x",
        ],
        "sglang": ["python -m sglang.launch_server --model-path Q/x", "python3 -m sglang.launch_server --model Q/x"],
    }
    found = []
    for _ in range(count):
        engine = chance.choice(["vllm", "vllm", "sglang"])
        gap = chance.choice([" ", "  ", " \\\n    "])
        picked = chance.sample(options[engine], chance.randint(0, 5))
        tail = chance.choice(["", " # note", " 2>&1 | tee 'a log'", " > log &", "\n"])
        found.append((engine, gap.join([chance.choice(starts[engine]), *picked]) + tail))
    return found


@pytest.mark.parametrize("releases", [{"vllm": "0.11.0", "sglang": "0.5.5"}, {"vllm": "0.8.5", "sglang": "0.4.6"}])
def test_every_documented_fix_goes_into_any_command(assistant: Assistant, releases: dict[str, str]) -> None:
    """Changed once and for all, right for the release, and untouched options stay as they are and in their order."""
    documents = [versions["en"] for versions in assistant.library.by_id.values() if "en" in versions]
    tried = 0
    for place, (engine, command) in enumerate(made_commands(len(documents))):
        release, history = releases[engine], load(engine)
        command = right_for(command, engine, release)
        before = settings_of(history, release, serving_calls(command, engine)[0])
        for fix in documents[place].fixes:
            for each in fix.commands:
                if applies(each, Engine(engine, release)) is False or fix.risk != "restart":
                    continue
                text = PLACEHOLDER.sub(r"\1", each.text)
                changed = apply_fix(command, text, engine, release, fix.title, fix.text)
                if changed is None:
                    continue
                tried += 1
                assert apply_fix(changed, text, engine, release, fix.title, fix.text) is None, changed
                call = serving_calls(changed, engine)[0]
                after = settings_of(history, release, call)
                assert model_of(call) == "Q/x", (command, text, changed)
                wanted = {s.key for c in serving_calls(text, engine) for s in settings_of(history, release, c)}
                wanted |= Intention(history, 0, fix.title).removed
                assert [command[s.start : s.end] for s in before if s.key not in wanted] == [
                    changed[s.start : s.end] for s in after if s.key not in wanted
                ]
                bad = ("never", "removed", "renamed", "not-yet")
                dead = {s.name for s in check_command(changed, engine, release) if s.status in bad}
                assert dead <= {s.name for s in check_command(command, engine, release)}, changed
                assert command.partition("#")[2] == changed.partition("#")[2]
    assert tried > 100


def test_a_commands_own_options_change_nothing() -> None:
    for engine, command in made_commands(60):
        call = serving_calls(command, engine)[0]
        start = "vllm serve MODEL" if engine == "vllm" else "python -m sglang.launch_server --model-path MODEL"
        own = " ".join(command[s.start : s.end] for s in settings_of(load(engine), "", call))
        assert apply_fix(command, f"{start} {own.replace('--model Q/x', '').replace('--model-path Q/x', '')}") is None


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_answer_shows_the_changed_command(assistant: Assistant, lang: str) -> None:
    command = "vllm serve Qwen/Qwen2.5-7B-Instruct --max-model-len 131072 --gpu-memory-utilization 0.95"
    log = f"INFO [api_server.py:1896] vLLM API server version 0.10.2\n{KV}"
    question = Question(text="why?", logs={"vllm.log": log}, command=command, use_probes=False, lang=lang)  # type: ignore[arg-type]
    answer = assistant.answer(question)
    fixes = {fix.title: fix.patched_command for fix in answer.diagnoses[0].fixes}
    assert next(iter(fixes.values())) == command.replace("131072", "20304")
    assert next(new for title, new in fixes.items() if "gpu-memory-utilization" in title) is None
    assert next(new for title, new in fixes.items() if "fp8" in title) == f"{command} --kv-cache-dtype fp8"
    for new in fixes.values():
        assert new is None or f"```bash\n{new}\n```" in answer.text
    assert not answer.warnings


def test_without_a_command_there_is_none_to_change(assistant: Assistant) -> None:
    answer = assistant.answer(Question(text="why?", logs={"vllm.log": KV}, use_probes=False))
    assert {fix.patched_command for fix in answer.diagnoses[0].fixes} == {None}


def test_where_the_release_is_not_known_the_changed_command_says_for_which_it_is(assistant: Assistant) -> None:
    question = Question(text="why?", logs={"a.log": KV}, command="vllm serve Q/x", use_probes=False)
    first = assistant.answer(question).diagnoses[0].fixes[0].patched_command
    assert first == "# vLLM >= 0.5.2\nvllm serve Q/x --max-model-len 20304"


def test_of_a_file_that_holds_the_command_an_answer_shows_what_changes_there() -> None:
    from assistant.writer import patched_block

    own = "services:\n  llm:\n    image: vllm/vllm-openai:v0.11.0\n    command: --model m --max-model-len 131072\n    shm_size: 8g\n"
    patched = own.replace("131072", "20304")
    block = patched_block(own, patched)
    assert block[0] == "```diff" and "+    command: --model m --max-model-len 20304" in block
    assert patched_block("vllm serve m", "vllm serve m --tp 2") == ["```bash", "vllm serve m --tp 2", "```"]
