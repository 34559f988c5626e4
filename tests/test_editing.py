"""A command with options set and taken out: only what is named changes, and it reads back as it was meant."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.editing import difference, set_in_command, word_difference, words_of
from kb.errors import InputError

Run = Callable[..., tuple[int, str, str]]

DOCKER = """docker run --rm --gpus all \\
  -e HF_TOKEN=$HF_TOKEN \\
  -v ~/.cache:/root/.cache \\
  vllm/vllm-openai:v0.8.5 \\
  --model "Qwen/Qwen3-8B" \\
  --max-model-len 4096 # short on purpose"""


@pytest.mark.parametrize(
    ("command", "wanted", "unwanted", "result"),
    [
        ("vllm serve m --max-model-len 4096", ["max_model_len=8192"], [], "vllm serve m --max-model-len 8192"),
        ("vllm serve m --max_model_len=4096", ["--max-model-len=8192"], [], "vllm serve m --max_model_len=8192"),
        ("vllm serve m -tp 2", ["tensor-parallel-size=4"], [], "vllm serve m -tp 4"),
        (
            "vllm serve m --port 1  --dtype half",
            ["enforce-eager"],
            [],
            "vllm serve m --port 1  --dtype half --enforce-eager",
        ),
        ("vllm serve m --enforce-eager --port 1", [], ["enforce-eager"], "vllm serve m --port 1"),
        (
            "vllm serve m --enable-prefix-caching",
            ["no-enable-prefix-caching"],
            [],
            "vllm serve m --no-enable-prefix-caching",
        ),
        ("A=1 vllm serve m", ["A=2", "VLLM_USE_V1=0"], [], "VLLM_USE_V1=0 A=2 vllm serve m"),
        ("A=1 B=2 vllm serve m", [], ["A"], "B=2 vllm serve m"),
        ("vllm serve m", ["model=other/model"], [], "vllm serve other/model"),
        ("vllm serve m", ["download-dir=/data/my models"], [], "vllm serve m --download-dir '/data/my models'"),
        (
            "bash -c 'vllm serve m'",
            ["chat-template=it is"],
            [],
            "bash -c 'vllm serve m --chat-template '\\''it is'\\'''",
        ),
        (
            """vllm serve m --speculative-config '{"method":"ngram"}'""",
            ["speculative-config.num_speculative_tokens=4"],
            [],
            """vllm serve m --speculative-config '{"method": "ngram", "num_speculative_tokens": 4}'""",
        ),
        (
            "vllm serve m --compilation-config.mode 3",
            ["compilation-config.cudagraph_mode=NONE"],
            [],
            "vllm serve m --compilation-config.mode 3 --compilation-config.cudagraph_mode NONE",
        ),
        (
            "python3 -m sglang.launch_server --model-path m --tp 2",
            ["tp-size=4"],
            [],
            "python3 -m sglang.launch_server --model-path m --tp 4",
        ),
        (DOCKER, ["max-model-len=8192"], [], DOCKER.replace("4096", "8192")),
        (DOCKER, ["max-model-len=4096"], ["enforce-eager"], DOCKER),
        ("# don't stop\nvllm serve m --port 1\n", ["port=2"], [], "# don't stop\nvllm serve m --port 2\n"),
    ],
)
def test_only_what_is_named_changes(command: str, wanted: list[str], unwanted: list[str], result: str) -> None:
    assert set_in_command(command, wanted, unwanted) == result


def test_a_release_makes_the_rest_right_too() -> None:
    found = set_in_command("vllm serve m --swap-space 4", ["max-model-len=100"], [], "vllm", "0.20.2")
    assert found == "vllm serve m --max-model-len 100"


@pytest.mark.parametrize(
    ("command", "wanted", "says"),
    [
        ("ls -l", ["x=1"], "no serving command"),
        ("vllm serve 'm", ["x=1"], "quotes"),
        ("vllm serve m", ["=1"], "no option or variable"),
        ("vllm serve m", ["a b=1"], "no option or variable"),
    ],
)
def test_what_cannot_be_changed_is_one_sentence(command: str, wanted: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        set_in_command(command, wanted, [])


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
def test_any_value_reads_back_as_it_was_given(value: str) -> None:
    for command in ("vllm serve m --port 8000", "vllm serve m --served-model-name old --port 8000"):
        result = set_in_command(command, [f"served-model-name={value}"], [])
        words = shlex.split(result)
        if f"--served-model-name={value}" not in words:  # the form of a value that looks like an option
            assert value in words[words.index("--served-model-name") + 1 :]
        assert words[:3] == ["vllm", "serve", "m"] and "8000" in words


def test_words_and_differences() -> None:
    old, new = "vllm serve m --port 1", "vllm serve m --port 2"
    assert words_of("A=1 vllm serve 'my model' --port 1") == ["A=1", "vllm", "serve", "my model", "--port", "1"]
    assert difference(old, old) == "" and "+vllm serve m --port 2" in difference(old, new)
    assert word_difference(old, new) == [(" ", "vllm serve m --port "), ("-", "1"), ("+", "2")]
    assert "".join(text for sign, text in word_difference(old, new) if sign != "+") == old


def test_the_command_line_prints_the_contracts_form(crashcart: Run) -> None:
    code, out, err = crashcart("patch", "vllm serve m --port 1", "--set", "port=2", "--unset", "dtype", "--json")
    found = json.loads(out)
    assert (code, err) == (0, "") and found.keys() == {"command", "argv", "diff"}
    assert found["command"] == "vllm serve m --port 2" and found["argv"][-1] == "2"


def test_the_command_line_shows_the_change(crashcart: Run) -> None:
    code, out, _ = crashcart("patch", "vllm serve m --port 1", "--set", "port=2")
    assert code == 0 and out == "vllm serve m --port 2\n\nvllm serve m --port [-1-]{+2+}\n"


def test_a_flag_that_the_release_lacks_is_said(crashcart: Run) -> None:
    code, out, err = crashcart("patch", "vllm serve m", "--set", "no-such-flag=1", "--release", "vllm==0.11.0")
    assert code == 2 and "--no-such-flag 1" in out and "--no-such-flag is never in vllm 0.11.0" in err
