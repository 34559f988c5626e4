"""Whether flags, variables, values and whole command lines are judged and mended as their release would take them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from kb.catalog.command import calls_in
from kb.catalog.history import ENGINES, load
from kb.catalog.notes import all_notes
from kb.catalog.releases import inside
from kb.catalog.status import DEAD, OWN, Status
from kb.flags import (
    FlagStatus,
    check_command,
    check_name,
    default_of,
    diff,
    engine_of,
    exists_in_all,
    missing_in,
    missing_releases,
    patched_command,
    release_of,
    releases_of,
)

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT.parent / "shared" / "reference" / "flag_history.json"
VLLM, SGLANG = load("vllm"), load("sglang")


def short(status: FlagStatus) -> tuple[str, str, str | None]:
    return status.name, status.status, status.replacement


# Agreement with the history that the record was first made from.


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    if not REFERENCE.is_file():
        pytest.skip(
            f"{REFERENCE} is not there: the history that the record was made from is kept outside the repository"
        )
    found: dict[str, Any] = json.loads(REFERENCE.read_text("utf-8"))
    return found


def covered(versions: list[str], ranges: list[list[str]]) -> set[str]:
    return {v for a, b in ranges for v in versions[versions.index(a) : versions.index(b) + 1]}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_name_is_there_exactly_where_the_reference_has_it(engine: str, reference: dict[str, Any]) -> None:
    versions, history = reference[engine]["versions"], load(engine)
    assert set(versions) <= set(history.releases)
    for name, raw in {**reference[engine]["flags"], **reference[engine]["env"]}.items():
        here = {v for v in versions if history.has(name, history.index(v))}
        assert here == covered(versions, raw["present"]), name


@pytest.mark.parametrize("engine", ENGINES)
def test_every_verdict_agrees_with_the_reference(engine: str, reference: dict[str, Any]) -> None:
    versions = reference[engine]["versions"]
    for name, raw in {**reference[engine]["flags"], **reference[engine]["env"]}.items():
        if not name.startswith(("-", *OWN[engine])):
            continue  # CUDA_VISIBLE_DEVICES and the like: others' variables are not judged
        if name in ("--preemption_mode", "--max-seq_len-to-capture", "-O"):
            continue  # typing slips, which later releases read with dashes; -O, which later releases take apart by hand
        alive = {v for v in versions if check_name(engine, v, name).status not in DEAD}
        assert alive == covered(versions, raw["present"]), name


@pytest.mark.parametrize("engine", ENGINES)
def test_deprecations_agree_with_the_reference(engine: str, reference: dict[str, Any]) -> None:
    versions, history = reference[engine]["versions"], load(engine)
    for name, raw in reference[engine]["flags"].items():
        entry = history.entry(name)
        assert entry is not None
        here = {v for v in versions if entry.is_deprecated(history.index(v))}
        assert here == covered(versions, raw.get("deprecated", [])), name


WHAT = {"default": "default_changes", "choices": "choices_changes"}
FALSE = "false: the action for deprecated switches says so itself"
DECLARED = "what `_declared_default` looks up, as the parser says when it is run"
# Where the reference is wrong, found by reading the released sources: flag → (what differs, first and last release, why).
CORRECTED: dict[str, dict[str, tuple[str, str, str]]] = {
    "vllm": {
        "--disable-log-requests": (
            "default",
            "0.33.0..0.33.0",
            "true: it is the other half of --enable-log-requests, which is off",
        ),
        "--logging-config": ("default", "0.33.0..0.33.0", "argparse.SUPPRESS is put over the class's own default"),
        "--all2all-backend": (
            "choices",
            "0.33.0..0.33.0",
            "passthrough is taken out of the list before the parser gets it",
        ),
        "--quantization": ("choices", "0.9.2..0.12.0", "the list is Optional, and vLLM then takes the word None too"),
        "--optimization-level": ("choices", "0.12.0..0.33.0", "an IntEnum is written by its numbers"),
        "--optimization-level default": ("default", "0.12.0..0.33.0", "likewise"),
    },
    "sglang": {
        "--enable-lean-attention": (
            "default",
            "0.5.20..0.5.23",
            "None: the field is optional, and its default goes before the action's",
        ),
        "--enable-lora": ("default", "0.4.10..0.5.23", "None, likewise"),
        "--enable-lora-overlap-loading": ("default", "0.5.9..0.5.23", "None, likewise"),
        "--enable-multimodal": ("default", "0.4.6..0.5.23", "None, likewise"),
        "--max-queued-requests": ("default", "0.4.10..0.4.10", "the field says what it is: sys.maxsize"),
        "--kv-canary-real-data": (
            "choices",
            "0.5.23..0.5.23",
            "the names of an enum, which the reference did not read",
        ),
        "--reasoning-parser": ("choices", "0.5.23..0.5.23", "the keys of a table, which the reference did not read"),
        "--tool-call-parser": ("choices", "0.5.23..0.5.23", "the keys of a table, which the reference did not read"),
        "--sampling-backend": ("choices", "0.5.20..0.5.23", "token_oracle is added while a variable is set"),
        "--disable-cuda-graph": ("default", "0.5.16..0.5.23", FALSE),
        "--enable-dp-attention": ("default", "0.5.23..0.5.23", FALSE),
        "--enable-dsa-prefill-context-parallel": ("default", "0.5.16..0.5.16", FALSE),
        "--enable-nsa-prefill-context-parallel": ("default", "0.5.16..0.5.16", FALSE),
        "--enable-prefill-context-parallel": ("default", "0.5.16..0.5.16", FALSE),
        "--stream-output": ("default", "0.5.12..0.5.16", FALSE),
        "--kv-canary-real-data default": ("default", "0.5.20..0.5.23", DECLARED),
        "--reasoning-parser default": ("default", "0.5.20..0.5.23", DECLARED),
        "--sampling-backend default": ("default", "0.5.20..0.5.23", DECLARED),
        "--tool-call-parser default": ("default", "0.5.20..0.5.23", DECLARED),
    },
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("what", WHAT)
def test_defaults_and_choices_agree_with_the_reference(engine: str, what: str, reference: dict[str, Any]) -> None:
    """On every flag and release, but for the named errors of the reference, each of which must still be one."""
    versions, history = reference[engine]["versions"], load(engine)
    differing: dict[str, list[str]] = {}
    for name, raw in reference[engine]["flags"].items():
        entry = history.entry(name)
        main = history.entry(entry.alias) if entry and entry.alias else entry
        for version in sorted(covered(versions, raw["present"]), key=versions.index):
            past = [each for first, each in raw.get(WHAT[what], []) if versions.index(first) <= versions.index(version)]
            at = history.index(version)
            if main is None or not past or not main.is_in(at):
                continue
            ours, theirs = main.accepted(at) or None, frozenset(past[-1] or ()) or None
            if (main.default(at) != past[-1]) if what == "default" else (ours != theirs):
                differing.setdefault(name, []).append(version)
    spans = {name: f"{found[0]}..{found[-1]}" for name, found in differing.items()}
    corrected = [(name.partition(" ")[0], why) for name, why in CORRECTED[engine].items()]
    assert spans == {name: span for name, (which, span, _) in corrected if which == what}


# One name.


@pytest.mark.parametrize(
    ("engine", "release", "name", "expected"),
    [
        ("vllm", "0.8.5", "--max-model-len", "ok"),
        ("vllm", "0.8.5", "--max_model_len", "ok"),
        ("vllm", "0.5.0", "--max_model_len", "never"),
        ("vllm", "0.5.1", "--max_model_len", "ok"),
        ("vllm", "0.8.5", "max-model-len", "ok"),
        ("vllm", "v0.8.5", "-tp", "ok"),
        ("vllm", "0.7.3", "--swap-space", "ok"),
        ("vllm", "0.10.2", "--swap-space", "no-op"),
        ("vllm", "0.17.1", "--swap-space", "no-op"),
        ("vllm", "0.18.0", "--swap-space", "removed"),
        ("vllm", "0.8.2", "--speculative-model", "ok"),
        ("vllm", "0.8.3", "--speculative-model", "renamed"),
        ("vllm", "0.8.1", "--speculative-config", "not-yet"),
        ("vllm", "0.8.5", "--preemption-mode", "refused"),
        ("vllm", "0.9.2", "--device", "deprecated"),
        ("vllm", "0.10.0", "--device", "removed"),
        ("vllm", "0.33.0", "--disable-log-requests", "ok"),
        ("vllm", "0.20.2", "--disable-log-requests", "removed"),
        ("vllm", "0.7.3", "--enable-prefix-caching", "ok"),
        ("vllm", "0.8.0", "--enable-prefix-caching", "no-op"),
        ("vllm", "0.6.4", "--no-enable-prefix-caching", "not-yet"),
        ("vllm", "0.6.5", "--no-enable-prefix-caching", "ok"),
        ("vllm", "0.33.0", "--disable-prefix-caching", "ok"),
        ("vllm", "0.33.0", "--enable-chunked-context", "never"),
        ("vllm", "0.20.2", "VLLM_USE_TRACING", "never"),
        ("vllm", "0.11.1", "VLLM_USE_V1", "removed"),
        ("vllm", "0.14.1", "VLLM_ATTENTION_BACKEND", "deprecated"),
        ("vllm", "0.15.0", "VLLM_ATTENTION_BACKEND", "renamed"),
        ("vllm", "0.15.0", "HF_TOKEN", "ok"),
        ("vllm", "0.4.3", "vllm serve", "not-yet"),
        ("vllm", "0.5.2", "vllm serve", "ok"),
        ("vllm", "0.29.0", "python -m vllm.entrypoints.openai.api_server", "deprecated"),
        ("vllm", "0.8.5", "python -m vllm.model_conversion.convert", "never"),
        ("vllm", "0.10.0", "--compilation-config.level", "ok"),
        ("vllm", "0.8.5", "--compilation-config.level", "not-yet"),
        ("vllm", "0.10.0", "--structured-outputs-config.backend", "not-yet"),
        ("vllm", "0.12.0", "-O3", "ok"),
        ("vllm", "0.8.5", "--help", "ok"),
        ("sglang", "0.5.9", "--tp-size", "ok"),
        ("sglang", "0.5.9", "--tp", "ok"),
        ("sglang", "0.5.9", "--tp_size", "never"),
        ("sglang", "0.4.1", "--enable-overlap-schedule", "refused"),
        ("sglang", "0.4.2", "--enable-overlap-schedule", "removed"),
        ("sglang", "0.5.5", "sglang serve", "not-yet"),
        ("sglang", "0.5.6", "sglang serve", "ok"),
    ],
)
def test_status_of_a_name(engine: str, release: str, name: str, expected: str) -> None:
    assert check_name(engine, release, name).status == expected


def test_a_verdict_says_since_when_and_until_when() -> None:
    gone = check_name("vllm", "0.20.2", "--swap-space")
    assert (gone.kind, gone.since, gone.until) == ("flag", "0.4.0", "0.17.1")
    assert gone.replacement is not None
    assert gone.replacement.startswith("--kv-offloading-size")
    coming = check_name("vllm", "0.4.3", "--api-server-count")
    assert (coming.status, coming.since, coming.until) == ("not-yet", "0.9.1", None)


@pytest.mark.parametrize(
    ("engine", "release", "name", "value", "kind", "status"),
    [
        ("vllm", "0.8.5", "--kv-cache-dtype", "fp8", "flag", "ok"),
        ("vllm", "0.4.0.post1", "--kv-cache-dtype", "fp8", "choice", "not-yet"),
        ("vllm", "0.8.5", "--kv-cache-dtype", "bfloat16", "choice", "not-yet"),
        ("vllm", "0.24.0", "--quantization", "gguf", "choice", "removed"),
        ("vllm", "0.24.0", "-q", "gguf", "choice", "removed"),
        ("vllm", "0.8.5", "--dtype", "fp64", "choice", "never"),
        ("vllm", "0.8.5", "--dtype", "$DTYPE", "flag", "ok"),
        ("vllm", "0.14.1", "--attention-backend", "flash_attn", "flag", "ok"),
        ("vllm", "0.14.1", "--attention-backend", "xformers", "choice", "never"),
        ("vllm", "0.33.0", "--optimization-level", "2", "flag", "ok"),
        ("vllm", "0.33.0", "--optimization-level", "O2", "choice", "never"),
        ("vllm", "0.33.0", "--distributed-executor-backend", "our.own.Executor", "flag", "ok"),
        ("vllm", "0.8.5", "--distributed-executor-backend", "our.own.Executor", "choice", "never"),
        ("vllm", "0.33.0", "--dtype", "torch.float16", "choice", "never"),
        ("sglang", "0.5.21", "--cuda-graph-backend-prefill", "tc_piecewise", "flag", "ok"),
        ("sglang", "0.5.22", "--cuda-graph-backend-prefill", "tc_piecewise", "choice", "removed"),
        ("sglang", "0.4.1", "--kv-cache-dtype", "fp8", "choice", "never"),
        ("sglang", "0.5.9", "--kv-cache-dtype", "fp8_e4m3", "flag", "ok"),
    ],
)
def test_status_of_a_value(engine: str, release: str, name: str, value: str, kind: str, status: str) -> None:
    found = check_name(engine, release, name, value)
    assert (found.kind, found.status) == (kind, status)
    assert check_name(engine, release, f"{name}={value}") == found


def test_a_value_that_is_not_accepted_names_what_is() -> None:
    found = check_name("sglang", "0.5.9", "--kv-cache-dtype", "fp8")
    assert short(found) == ("--kv-cache-dtype fp8", "never", "--kv-cache-dtype fp8_e4m3")
    assert (
        check_name("vllm", "0.8.5", "--dtype", "fp64").note == "accepted: auto, bfloat16, float, float16, float32, half"
    )


def test_an_abbreviation_is_read_as_argparse_does() -> None:
    assert check_name("vllm", "0.8.5", "--max-model").note == "read as short for --max-model-len"
    many = check_name("vllm", "0.8.5", "--enable")
    assert many.status == "refused"
    assert many.note.startswith("could be short for --enable-")


def test_a_misspelt_name_and_the_other_engines_name_are_told() -> None:
    assert short(check_name("vllm", "0.8.5", "--tensor-paralel-size"))[1:] == ("never", "--tensor-parallel-size")
    assert check_name("vllm", "0.8.5", "--schedule-policy").note == "a name of SGLang's"
    assert short(check_name("sglang", "0.5.9", "--max-model-len"))[1:] == ("never", "--context-length")


def test_a_release_between_recorded_ones_needs_neighbours_that_agree() -> None:
    assert "0.16.5" not in VLLM.releases
    assert check_name("vllm", "0.16.5", "--max-model-len").status == "ok"
    unsure = check_name("vllm", "0.16.5", "--disable-log-requests")
    assert unsure.status == "unknown-release"
    assert unsure.note == "0.16.5 is not in the catalogue; in 0.16.0 it is deprecated, in 0.17.0 removed"


def test_releases_outside_the_catalogue_are_said_to_be() -> None:
    assert "newer than the catalogue" in check_name("vllm", "99.0.0", "--max-model-len").note
    assert check_name("vllm", "99.0.0", "--swap-space").status == "removed"
    assert check_name("vllm", "0.2.7", "--max-model-len").status == "unknown-release"
    assert check_name("vllm", "0.2.7", "--api-server-count").status == "not-yet"


@pytest.mark.parametrize("release", ["", "latest"])
def test_without_a_release_only_the_dates_are_given(release: str) -> None:
    found = check_name("vllm", release, "--swap-space")
    assert (found.status, found.since, found.until) == ("unknown-release", "0.4.0", "0.17.1")


def test_an_engine_without_a_catalogue_is_an_error() -> None:
    with pytest.raises(ValueError, match="no flag catalogue for 'tgi'"):
        check_name("tgi", "1.0", "--x")


# Defaults and ranges of releases.


def test_effective_defaults_where_the_parser_is_silent() -> None:
    found = default_of("vllm", "0.9.2", "--max-num-seqs")
    assert found is not None
    assert (found.value, found.parser) == ("1024 on GPUs of 70 GiB or more except A100, else 256", None)
    assert found.source
    silent = default_of("vllm", "0.9.2", "-tp")
    assert silent is not None
    assert (silent.name, silent.value) == ("--tensor-parallel-size", "1")
    assert default_of("vllm", "0.20.0", "--swap-space") is None


def test_a_range_of_releases_must_have_the_name_throughout() -> None:
    assert exists_in_all("vllm", "--max-model-len", "vllm>=0.4")
    assert exists_in_all("vllm", "--kv-cache-memory-bytes", ">=0.10.2")
    assert missing_releases("vllm", "--kv-cache-memory-bytes", "vllm>=0.9.2,<0.11") == (
        "0.9.2",
        "0.10.0",
        "0.10.1",
        "0.10.1.1",
    )
    assert missing_releases("vllm", "--kv-cache-dtype", "vllm<0.4.2", value="fp8") == ("0.4.0", "0.4.0.post1")
    assert releases_of("sglang", ">=0.5.20") == ("0.5.20", "0.5.21", "0.5.22", "0.5.23")
    assert releases_of("vllm") == VLLM.releases


def test_sentences_for_the_linter() -> None:
    text = "vllm serve MODEL --kv-cache-memory-bytes {{bytes|1G}} --swap-space 3\nnvidia-smi -L\nvllm bench serve --nowhere"
    assert list(missing_in(text, "vllm>=0.10.0,<0.18.1")) == [
        "--kv-cache-memory-bytes is not-yet in vllm 0.10.0 to 0.10.1.1 (3 of 17 releases)",
        "--swap-space is removed in vllm 0.18.0 (1 of 17 releases); use --kv-offloading-size GIB --kv-offloading-backend native",
    ]
    assert list(missing_in("vllm serve MODEL --max-model-len 1", "vllm>=0.4.0")) == []
    assert list(missing_in("vllm serve MODEL", "sglang>=0.4.0")) == [
        "`vllm serve` is vllm's, and the releases are sglang's"
    ]
    assert list(missing_in("vllm serve MODEL", "vllm>=99")) == ["no recorded release of vllm is inside 'vllm>=99'"]


# Command lines.

MODULE = "python -m vllm.entrypoints.openai.api_server"


@pytest.mark.parametrize(
    ("command", "engine", "form", "options", "variables"),
    [
        ("vllm serve m --port 1 -tp=2", "vllm", "vllm serve", ["--port", "-tp"], []),
        (f"A=1 VLLM_X=2 nohup {MODULE} --model 'a b' > log 2>&1 &", "vllm", MODULE, ["--model"], ["A", "VLLM_X"]),
        ("/opt/v/bin/vllm serve m \\\n  --port 1 # --not-this\n", "vllm", "vllm serve", ["--port"], []),
        ("env VLLM_X=1 vllm serve m", "vllm", "vllm serve", [], ["VLLM_X"]),
        ("export VLLM_X=1\nvllm serve m --max-model-len -1", "vllm", "vllm serve", ["--max-model-len"], ["VLLM_X"]),
        ("sglang serve --model-path m", "sglang", "sglang serve", ["--model-path"], []),
        (
            "python3 -u -m sglang.launch_server --model-path m --tp 2",
            "sglang",
            "python -m sglang.launch_server",
            ["--model-path", "--tp"],
            [],
        ),
        ("bash -c 'vllm serve m --port 1'", "vllm", "vllm serve", ["--port"], []),
        ('$ vllm serve <model> --api-key "$(cat key)" && curl x', "vllm", "vllm serve", ["--api-key"], []),
        ("docker exec -it name vllm serve m --port 1", "vllm", "vllm serve", ["--port"], []),
        (
            "docker run --gpus all -it --rm -v ~/.c:/c -e VLLM_X=1 --env 'B=2' -p 8000:8000 vllm/vllm-openai:v0.8.5 --model m",
            "vllm",
            "image",
            ["--model"],
            ["VLLM_X", "B"],
        ),
        (
            "docker run --name vllm-openai lmsysorg/sglang:v0.5.3-cu129 python3 -m sglang.launch_server --model-path m",
            "sglang",
            "python -m sglang.launch_server",
            ["--model-path"],
            [],
        ),
    ],
)
def test_reads_a_serving_command(
    command: str, engine: str, form: str, options: list[str], variables: list[str]
) -> None:
    (call,) = calls_in(command)
    assert (call.engine, call.serving, call.form) == (engine, True, form)
    assert [option.name for option in call.options] == options
    assert [variable.name for variable in call.variables] == variables
    assert engine_of(command) == engine
    for option in call.options:
        assert command[option.word.start : option.word.end].startswith(option.name)


@pytest.mark.parametrize(
    ("command", "engine"),
    [
        ("vllm bench serve --model m --nowhere", "vllm"),
        ("python -m sglang.bench_serving --backend sglang", "sglang"),
        ("hf download m", None),
        ("pip install vllm sglang", None),
        ("nvidia-smi -L", None),
        ("docker run --rm --entrypoint python3 vllm/vllm-openai:v0.8.5 -c 'import torch'", None),
        ("python -m sglang_router.launch_router --worker-urls http://a", None),
        ("sglang-router --worker-urls http://a", None),
        ("", None),
    ],
)
def test_other_commands_are_not_covered(command: str, engine: str | None) -> None:
    assert check_command(command, "", "0.8.5") == []
    assert engine_of(command) == engine
    assert patched_command(command, "", "0.8.5") == command


@pytest.mark.parametrize(
    "command",
    [
        "vllm serve 'unclosed --x",
        'vllm serve "unclosed',
        "vllm serve m --x $(a",
        "vllm serve m ;;; && | <",
        "vllm serve",
        "docker run",
        "docker run -e",
        "export",
        "VLLM_X=",
        "vllm serve m --",
        "vllm serve m -",
        "python -m",
        "\x00\\",
        "bash -c ''",
        "vllm serve m --served-model-name=",
        "vllm serve {{",
    ],
)
def test_broken_text_is_read_as_far_as_it_goes(command: str) -> None:
    check_command(command, "", "0.8.5")
    patched_command(command, "", "0.20.2")


def test_the_image_names_a_release() -> None:
    assert release_of("docker run vllm/vllm-openai:v0.8.5.post1 --model m") == "0.8.5.post1"
    assert release_of("docker run lmsysorg/sglang:v0.5.3-cu129 python -m sglang.launch_server") == "0.5.3"
    assert release_of("docker run vllm/vllm-openai:latest --model m") is None
    assert release_of("vllm serve m") is None


def test_a_command_is_checked_in_all_its_parts() -> None:
    command = "VLLM_USE_V1=1 HF_TOKEN=x vllm serve m --swap-space 4 --kv-cache-dtype=fp9 --max-model-len 8192"
    assert [(each.name, each.kind, each.status) for each in check_command(command, "vllm", "0.20.2")] == [
        ("VLLM_USE_V1", "env", "removed"),
        ("--swap-space", "flag", "removed"),
        ("--kv-cache-dtype fp9", "choice", "never"),
        ("--max-model-len", "flag", "ok"),
    ]
    assert check_command(command, "sglang", "0.5.9") == []


def test_notes_look_at_the_rest_of_the_command() -> None:
    both = "vllm serve m --enable-chunked-prefill --enable-prefix-caching"
    assert [each.status for each in check_command(both, "vllm", "0.5.5")] == ["refused", "ok"]
    assert [each.status for each in check_command(both, "vllm", "0.6.0")] == ["ok", "ok"]
    alone = "vllm serve m --quantization fp_quant"
    assert [each.status for each in check_command(alone, "vllm", "0.14.1")] == ["refused"]
    assert [each.status for each in check_command(alone + " --allow-deprecated-quantization", "vllm", "0.14.1")] == [
        "ok",
        "ok",
    ]


PATCHES = [
    ("vllm", "0.20.2", "vllm serve m  --max-model-len   8192 # same", "vllm serve m  --max-model-len   8192 # same"),
    (
        "vllm",
        "0.20.2",
        "vllm serve m --swap-space 4 \\\n  --enable-chunked-context \\\n  --port 8000   # keep\n",
        "vllm serve m \\\n  --enable-chunked-prefill \\\n  --port 8000   # keep\n",
    ),
    (
        "vllm",
        "0.8.5",
        "vllm serve m --speculative-model d --num-speculative-tokens 5 --port 1 --speculative_draft_tensor_parallel_size=1",
        "vllm serve m --speculative-config "
        '\'{"model": "d", "num_speculative_tokens": 5, "draft_tensor_parallel_size": 1}\' --port 1',
    ),
    (
        "vllm",
        "0.10.2",
        "vllm serve m --speculative-model [ngram] --ngram-prompt-lookup-max 4 --use-v2-block-manager",
        'vllm serve m --speculative-config \'{"method": "ngram", "prompt_lookup_max": 4}\'',
    ),
    (
        "vllm",
        "0.20.2",
        "export VLLM_ATTENTION_BACKEND=FLASHINFER\nexport HF_TOKEN=x\nVLLM_USE_V1=0 vllm serve m --port 1\n",
        "export HF_TOKEN=x\nvllm serve m --port 1 --attention-backend FLASHINFER\n",
    ),
    ("vllm", "0.12.0", "nohup vllm serve m --log-level=DEBUG &", "VLLM_LOGGING_LEVEL=DEBUG nohup vllm serve m &"),
    (
        "vllm",
        "0.12.0",
        "docker run --gpus all -e VLLM_USE_V1=1 -e A=b vllm/vllm-openai:v0.12.0 --model m --attention-backend TRITON_ATTN",
        "docker run --gpus all -e A=b -e VLLM_ATTENTION_BACKEND=TRITON_ATTN vllm/vllm-openai:v0.12.0 --model m",
    ),
    (
        "vllm",
        "0.14.1",
        'vllm serve m --worker-use-ray --rope-scaling \'{"rope_type":"yarn"}\' --rope-theta 1e6',
        "vllm serve m --distributed-executor-backend ray "
        '--hf-overrides \'{"rope_scaling": {"rope_type": "yarn"}, "rope_theta": 1000000.0}\'',
    ),
    (
        "vllm",
        "0.20.2",
        'vllm serve m --structured-outputs-config \'{"backend":"guidance"}\' --guided-decoding-disable-any-whitespace',
        'vllm serve m --structured-outputs-config \'{"backend": "guidance", "disable_any_whitespace": true}\'',
    ),
    (
        "vllm",
        "0.20.2",
        "VLLM_FLASH_ATTN_VERSION=3 vllm serve m",
        "vllm serve m --attention-config '{\"flash_attn_version\": 3}'",
    ),
    (
        "vllm",
        "0.13.0",
        "vllm serve m --cuda-graph-sizes 1 2 4 --port 1",
        "vllm serve m --cudagraph-capture-sizes 1 2 4 --port 1",
    ),
    ("vllm", "0.13.0", "vllm serve m --cuda-graph-sizes 512", "vllm serve m --max-cudagraph-capture-size 512"),
    ("vllm", "0.13.0", "vllm serve m --task classify", "vllm serve m --runner pooling --convert classify"),
    ("vllm", "0.8.2", "vllm serve m --no-enable-chunked-prefill", "vllm serve m --enable-chunked-prefill=False"),
    (
        "vllm",
        "0.8.5",
        "vllm serve m --speculative-config.method ngram --speculative-config.num_speculative_tokens 3",
        'vllm serve m --speculative-config \'{"method": "ngram", "num_speculative_tokens": 3}\'',
    ),
    ("vllm", "0.5.0", "vllm serve m --max_model_len 4096", f"{MODULE} --model m --max-model-len 4096"),
    (
        "vllm",
        "0.20.2",
        "$ docker run -d \\\n>   --gpus all \\\n>   vllm/vllm-openai:latest \\\n>   m \\\n>   --swap-space 4 \\\n>   --port 1",
        "$ docker run -d \\\n>   --gpus all \\\n>   vllm/vllm-openai:latest \\\n>   m \\\n>   --port 1",
    ),
    (
        "vllm",
        "0.20.2",
        "vllm serve m --swap-space 4 \\\n  > log 2>&1",
        "vllm serve m \\\n  > log 2>&1",
    ),
    ("vllm", "0.14.1", "vllm serve --some-unknown m", "vllm serve m"),
    ("vllm", "0.14.1", "vllm serve m --some-unknown 3 --port 1", "vllm serve m --port 1"),
    ("vllm", "0.14.1", "vllm serve m --tensor-paralel-size 4", "vllm serve m --tensor-parallel-size 4"),
    ("vllm", "0.20.2", "bash -c 'vllm serve m --swap-space 4 --port 1'", "bash -c 'vllm serve m --port 1'"),
    ("vllm", "0.20.2", "vllm serve m --served-model-name a b --swap-space=4", "vllm serve m --served-model-name a b"),
    ("vllm", "", "vllm serve m --swap-space 4", "vllm serve m --swap-space 4"),
    (
        "sglang",
        "0.5.9",
        "python -m sglang.launch_server --model-path m --kv-cache-dtype=fp8 --max-model-len 4096 --enable-deepep-moe",
        "python -m sglang.launch_server --model-path m --kv-cache-dtype=fp8_e4m3 --context-length 4096 --moe-a2a-backend deepep",
    ),
    (
        "sglang",
        "0.3.6",
        "python -m sglang.launch_server --model-path m --enable-overlap-schedule --tp 2",
        "python -m sglang.launch_server --model-path m --tp 2",
    ),
    ("sglang", "0.5.3", "sglang serve --model-path m", "python -m sglang.launch_server --model-path m"),
]


@pytest.mark.parametrize(("engine", "release", "command", "expected"), PATCHES)
def test_a_command_is_made_right_for_a_release(engine: str, release: str, command: str, expected: str) -> None:
    found = patched_command(command, engine, release)
    assert found == expected
    assert patched_command(found, engine, release) == found


@pytest.mark.parametrize(
    ("engine", "release"),
    [
        ("vllm", "0.4.1"),
        ("vllm", "0.8.5"),
        ("vllm", "0.20.2"),
        ("vllm", "0.33.0"),
        ("sglang", "0.4.6"),
        ("sglang", "0.5.23"),
    ],
)
def test_no_patched_command_holds_a_dead_name(engine: str, release: str) -> None:
    start = "python -m sglang.launch_server --model-path m" if engine == "sglang" else f"{MODULE} --model m"
    for name, raw in load(engine).flags.items():
        takes = raw.get("takes", "1")
        value = "" if takes == "0" else " 1"
        found = patched_command(f"{start} {name}{value} --port 1", engine, release)
        statuses = check_command(found, engine, release)
        assert not [each for each in statuses if each.status in DEAD and each.kind != "choice"], (name, found)
        assert found.startswith(("python", "VLLM_"))
        assert found.endswith("--port 1"), found


def test_an_upgrade_is_compared() -> None:
    found = diff("vllm serve m --swap-space 4 --task classify --max-num-seqs 64", "", "0.8.5", "0.20.2")
    assert found.engine == "vllm"
    assert [(old.status, new.name, new.status) for old, new in found.items] == [
        ("no-op", "--swap-space", "removed"),
        ("ok", "--task", "renamed"),
    ]
    changes = {each.name: (each.old, each.new) for each in found.defaults}
    assert changes["--gpu-memory-utilization"] == ("0.9", "0.92")
    assert "--max-num-seqs" not in changes
    assert found.patched_command == "vllm serve m --runner pooling --convert classify --max-num-seqs 64"


def test_an_upgrade_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="say which engine"):
        diff("echo hello", "", "0.8.5", "0.20.2")


# The notes.


@pytest.mark.parametrize("engine", ENGINES)
def test_notes_are_well_formed(engine: str) -> None:
    for note in all_notes(engine):
        assert note.source, note.name
        assert note.status in ("", *get_args(Status)), note.name
        assert note.text or note.shown or note.status, note.name
        re.compile(note.value)
        inside("0.8.0", note.releases)
        assert bool(note.becomes) + bool(note.into) < 2, note.name


@pytest.mark.parametrize("engine", ENGINES)
def test_notes_about_no_flag_or_variable_are_about_commands_and_names_that_never_were(engine: str) -> None:
    history = load(engine)
    for note in all_notes(engine):
        known = history.entry(note.name) is not None
        assert known or not note.releases or " " in note.name, note.name


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_note_puts_in_place_exists_in_the_releases_it_speaks_of(engine: str) -> None:
    history = load(engine)
    for note in all_notes(engine):
        template = f"{note.into[0]} x" if note.into else note.becomes
        for at, release in enumerate(history.releases):
            if (
                not template
                or not inside(release, note.releases)
                or (note.releases == "" and history.has(note.name, at))
            ):
                continue
            for word in template.replace("{value}", "1").split():
                name, _, value = word.partition("=")
                if name.startswith("-") and (note.releases or exists_somewhere(engine, name, at)):
                    assert check_name(engine, release, name).status not in DEAD, (note.name, release, name)
                elif re.match("[A-Z]", name) and value:
                    assert history.has(name, at), (note.name, release, name)


def exists_somewhere(engine: str, name: str, at: int) -> bool:
    """Whether a name for all releases already exists at one of them."""
    entry = load(engine).entry(name)
    return entry is not None and entry.present[0][0] <= at


@pytest.mark.parametrize("engine", ENGINES)
def test_values_that_notes_put_in_place_are_accepted(engine: str) -> None:
    history = load(engine)
    for note in all_notes(engine):
        words = note.becomes.split()
        for name, value in zip(words[::2], words[1::2], strict=False):
            for release in history.releases:
                if value != "{value}" and name.startswith("--") and note.releases and inside(release, note.releases):
                    assert check_name(engine, release, name, value).status not in DEAD, (note.name, release, value)


# What a look-up costs.


def test_a_look_up_imports_nothing_heavy() -> None:
    code = (
        "import sys; from kb.flags import check_name, check_command, patched_command\n"
        "check_name('vllm', '0.18.0', '--swap-space'); check_command('vllm serve m --swap-space 4', 'vllm', '0.18.0')\n"
        "patched_command('vllm serve m --swap-space 4', 'vllm', '0.18.0')\n"
        "print(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    heavy = {
        "packaging",
        "yaml",
        "pydantic",
        "numpy",
        "msgspec",
        "chromadb",
        "subprocess",
        "asyncio",
        "email",
        "urllib3",
        "zipfile",
    }
    assert not loaded & heavy
    assert {name for name in loaded if name in ("probes", "assistant", "ui", "evals")} == set()


def test_each_engine_is_read_only_when_it_is_asked_about() -> None:
    code = (
        "from kb.catalog.history import shipped; from kb.flags import check_name\n"
        "check_name('sglang', '0.5.9', '--tp-size'); print(shipped.cache_info().misses)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("command", "release", "patched"),
    [
        ("--limit-mm-per-prompt image=4", "0.10.0", "--limit-mm-per-prompt '{\"image\":4}'"),
        ("--limit-mm-per-prompt=image=4,video=1", "0.33.0", '--limit-mm-per-prompt=\'{"image":4,"video":1}\''),
        ("--limit-mm-per-prompt image=4", "0.9.2", "--limit-mm-per-prompt image=4"),
        ("--limit-mm-per-prompt '{\"image\": 4}'", "0.33.0", "--limit-mm-per-prompt '{\"image\": 4}'"),
        ("--compilation-config 3", "0.9.1", "--compilation-config 3"),
        ("--compilation-config 3", "0.11.0", "--compilation-config '{\"level\":3}'"),
        ("--compilation-config 3", "0.20.2", "--compilation-config '{\"mode\":3}'"),
    ],
)
def test_a_value_is_put_in_the_form_that_the_release_takes(command: str, release: str, patched: str) -> None:
    assert patched_command(f"vllm serve M {command}", "vllm", release) == f"vllm serve M {patched}"
