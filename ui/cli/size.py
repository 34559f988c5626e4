"""`crashcart size …`: how much memory a model takes, and what fits on these GPUs."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kb.errors import InputError
from kb.types import ENGINE_NAMES, Language
from ui.cli.options import JSON, print_json
from ui.cli.serving_commands import LANG, language, read_command

if TYPE_CHECKING:
    from assistant.sizing import Checkpoint
    from assistant.startup import Startup
    from kb.sizing.plan import Figure, Size
    from kb.sizing.setup import Setup

NAMES: dict[str, dict[Language, str]] = {
    "weights_bytes_per_gpu": {"en": "Weights", "zh": "权重"},
    "kv_bytes_per_token_per_gpu": {"en": "KV cache a token", "zh": "每 token 的 KV cache"},
    "kv_bytes_per_token_beyond_window": {"en": "… beyond the window", "zh": "……超出窗口之后"},
    "activation_bytes_per_gpu": {"en": "Activations", "zh": "激活"},
    "kv_available_bytes_per_gpu": {"en": "Left for the KV cache", "zh": "留给 KV cache"},
    "kv_tokens": {"en": "Tokens that fit", "zh": "可容纳的 token 数"},
    "max_model_len_that_fits": {"en": "Longest context", "zh": "最长上下文"},
    "max_concurrency": {"en": "Requests at once", "zh": "可同时处理的请求"},
}
WORDS: dict[str, dict[Language, str]] = {
    "where": {"en": "{engine} on {gpus}", "zh": "{engine},{gpus}"},
    "memory": {"en": " with {size} each", "zh": ",每张 {size}"},
    "fewest": {"en": "Fewest GPUs", "zh": "最少 GPU 数"},
    "for": {"en": "{count}, for one request of {wanted}", "zh": "{count},可放下一个请求({wanted})"},
    "tokens": {"en": "{count} tokens", "zh": "{count} 个 token"},
    "context": {"en": "the model's longest context", "zh": "模型的最长上下文"},
    "fp8": {"en": "8-bit weights free", "zh": "8 位权重可省出"},
    "awq": {"en": "4-bit weights free", "zh": "4 位权重可省出"},
    "freed": {"en": "{size} a GPU", "zh": "每张 GPU {size}"},
    "unknown": {"en": "not known: {reason}", "zh": "未知：{reason}"},
    "bytes": {"en": "bytes", "zh": "字节"},
    "requests": {"en": "requests", "zh": "个请求"},
    "unit_tokens": {"en": "tokens", "zh": "个 token"},
}
COLUMN = 24
CONTRACT = (
    "weights_bytes_per_gpu",
    "kv_bytes_per_token_per_gpu",
    "kv_available_bytes_per_gpu",
    "kv_tokens",
    "max_model_len_that_fits",
    "max_concurrency",
)
SGLANG_FLAGS = ("--mem-fraction-static", "--context-length", "--tp", "--tp-size", "--chunked-prefill-size")


def register(app: typer.Typer) -> None:
    """Put this command on the command line."""
    app.command("size", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(size)


def size(
    context: typer.Context,
    model: str = typer.Argument(
        "", metavar="MODEL", help="A hub id, a config.json or a model's folder [the model in --command]."
    ),
    gpus: int = typer.Option(1, "--gpus", min=1, help="GPUs that share the model."),
    gpu: str = typer.Option("", "--gpu", metavar="NAME", help="e.g. H100, 'A100 80GB', 4090 [the GPU found here]."),
    gpu_memory_bytes: int = typer.Option(0, "--gpu-memory-bytes", min=0, help="The memory of one GPU."),
    command: str = typer.Option(
        "", "--command", help="A serving command, or the file that holds it, whose flags count."
    ),
    release: str = typer.Option("", "--release", metavar="ENGINE==VERSION", help="e.g. vllm==0.11.0 [newest known]."),
    log: Path | None = typer.Option(
        None, "--log", metavar="PATH", help="A start-up log: its model, flags and numbers."
    ),
    available_bytes: int = typer.Option(
        0, "--kv-available-bytes", min=0, help="What the log says is left for the KV cache, in place of an estimate."
    ),
    lang: str = LANG,
    as_json: bool = JSON,
) -> int:
    """Say what a model takes and what fits: weights, KV cache a token, tokens, longest context, requests at once.

    Serving flags may follow: --max-model-len 32768 --kv-cache-dtype fp8 --tensor-parallel-size 2 …

    Exit codes: 0 a request fits, 2 it does not, 3 not known.
    """
    from assistant.sizing import find_checkpoint, setup_of
    from kb.sizing.plan import plan

    started = started_in(log) if log else None
    command = read_command(command).text if command else ""
    notes: list[str] = []
    if started and not (command or context.args):
        given, named = started.setup, started.model
    else:
        text, setup = command_of(model or (started.model if started else ""), command, context.args, gpus, release)
        given, named, notes = setup_of(text, started.setup if started else setup)
    checkpoint = find_checkpoint(model or named)
    if started and started.tokens is not None:
        notes = [*notes, f"The log prints {started.tokens} tokens."]
    setup = with_gpu(given, gpu, gpu_memory_bytes)
    if available_bytes:
        setup = replace(setup, available_bytes=available_bytes)
    found = plan(checkpoint.config, setup, checkpoint.tensors)
    found.assumptions += [*([checkpoint.note] if checkpoint.note else []), *notes]
    if as_json:
        print_json(as_contract(found, checkpoint, setup))
    else:
        typer.echo(render(found, checkpoint, setup, language(lang)))
    return exit_code(found, setup)


def started_in(log: Path) -> Startup:
    """What a start-up log tells, of its first 16 MiB. Raises InputError."""
    from assistant.startup import read_startup

    try:
        with log.open("rb") as file:
            found = read_startup(file.read(16 << 20).decode("utf-8", "replace"))
    except OSError as error:
        raise InputError(f"cannot read {log}: {error.strerror}.") from error
    if found is None or not found.model:
        raise InputError(f"no engine says in {log} which model it starts: name the model instead.")
    return found


def command_of(model: str, command: str, flags: list[str], gpus: int, release: str) -> tuple[str, Setup]:
    """The serving command that model and flags come to, and the setup it starts from. Raises InputError for none."""
    from kb.flags import release_of
    from kb.sizing.setup import Setup
    from ui.operations import split_release

    engine, version = split_release(release) if release else ("", release_of(command) or "")
    if model.startswith("-") or not (model or command):
        raise InputError(
            "name the model first: crashcart size Qwen/Qwen2.5-32B-Instruct --gpu H100 --max-model-len 32768."
        )
    if not command:
        sglang = engine == "sglang" or (not engine and any(flag.partition("=")[0] in SGLANG_FLAGS for flag in flags))
        start = "python -m sglang.launch_server --model-path" if sglang else "vllm serve"
        command = f"{start} {shlex.quote(model)}"
        if not any(flag.partition("=")[0] in ("-tp", "--tp", "--tp-size", "--tensor-parallel-size") for flag in flags):
            stages = pipeline_in(flags)
            flags = [*flags, "--tp-size" if sglang else "--tensor-parallel-size", str(max(1, gpus // stages))]
    from kb.catalog.written import shell_of

    return f"{shell_of(command)} {shlex.join(flags)}".strip(), Setup(release=version, gpus=gpus)


def pipeline_in(flags: list[str]) -> int:
    """The stages that flags ask for."""
    for flag, value in zip(flags, [*flags[1:], ""], strict=False):
        name, _, inline = flag.partition("=")
        if name in ("-pp", "--pp", "--pp-size", "--pipeline-parallel-size") and (inline or value).isdigit():
            return int(inline or value)
    return 1


def with_gpu(setup: Setup, gpu: str, memory_bytes: int) -> Setup:
    """The setup with the GPU's memory: as given, of the named GPU, or of the one found here. Raises InputError."""
    from kb.sizing.tables import gpu_memory_bytes

    if memory_bytes:
        return replace(setup, gpu_name=gpu, gpu_memory_bytes=memory_bytes)
    if setup.gpu_memory_bytes and not gpu:
        return setup
    if gpu:
        known = gpu_memory_bytes(gpu)
        if known is None:
            raise InputError(f"the memory of {gpu!r} is not known: give --gpu-memory-bytes, e.g. $((80 * 1024 ** 3)).")
        return replace(setup, gpu_name=gpu, gpu_memory_bytes=known)
    name, memory = gpu_here()
    return replace(setup, gpu_name=name, gpu_memory_bytes=memory)


def gpu_here() -> tuple[str, int | None]:
    """The name and memory of the smallest GPU of this machine; None where there is none."""
    from probes.reading.nvml import read_memory
    from probes.reading.unavailable import GpuUnavailable

    try:
        found, _ = read_memory()
    except GpuUnavailable:
        return "", None
    sizes = [(each.memory.total_bytes, each.gpu.name) for each in found if each.memory.total_bytes]
    return (min(sizes)[1], min(sizes)[0]) if sizes else ("", None)


def exit_code(found: Size, setup: Setup) -> int:
    """0 where a request of the wanted length fits, 2 where it does not, 3 where it is not known."""
    longest = found.value("max_model_len_that_fits")
    if longest is None:
        return 3
    return 0 if longest and longest >= (setup.max_model_len or 1) else 2


def as_contract(found: Size, checkpoint: Checkpoint, setup: Setup) -> dict[str, Any]:
    """The figures in the form that other programs rely on, and with them how each came about."""
    from kb.sizing.plan import freed_by, smallest_split

    steps = [figure for figure in found.figures.values() if figure.value is not None]
    return {
        **{name: found.value(name) for name in CONTRACT},
        "reasons": {name: found.figures[name].reason for name in CONTRACT if found.value(name) is None},
        "assumptions": found.assumptions,
        "formula": "; ".join(f"{figure.name}: {figure.how}" for figure in steps),
        "figures": list(found.figures.values()),
        "source": checkpoint.source,
        "engine": setup.engine,
        "tensor_parallel_size": setup.split.tensor,
        "pipeline_parallel_size": setup.split.pipeline,
        "smallest_tensor_parallel_size": smallest_split(checkpoint.config, setup, checkpoint.tensors),
        "freed_bytes_per_gpu": {name: freed_by(checkpoint.config, setup, name) for name in ("fp8", "awq")},
    }


def render(found: Size, checkpoint: Checkpoint, setup: Setup, lang: Language = "en") -> str:
    """The figures for people, one a line, each with its arithmetic under it."""
    from kb.sizing.plan import freed_by, gib, smallest_split

    def say(key: str, **values: object) -> str:
        return WORDS[key][lang].format(**values)

    split = setup.split
    gpus = f"{split.tensor * split.pipeline} × {setup.gpu_name or 'GPU'}"
    gpus += say("memory", size=gib(setup.gpu_memory_bytes)) if setup.gpu_memory_bytes else ""
    engine = f"{ENGINE_NAMES[setup.engine]} {setup.release}".strip()
    lines = [checkpoint.source, say("where", engine=engine, gpus=gpus), ""]
    for name, titles in NAMES.items():
        figure = found.figures.get(name)
        if figure is not None:
            how = worded(figure.how, lang)
            lines += [padded(titles[lang]) + shown(figure, lang), *([f"{'':{COLUMN}}{how}"] if how else [])]
    fewest = smallest_split(checkpoint.config, setup, checkpoint.tensors)
    if fewest is not None:
        wanted = say("tokens", count=setup.max_model_len) if setup.max_model_len else say("context")
        lines.append(padded(say("fewest")) + say("for", count=fewest, wanted=wanted))
    for flag in ("fp8", "awq"):
        freed = freed_by(checkpoint.config, setup, flag)
        if freed:
            lines.append(padded(say(flag)) + say("freed", size=gib(freed)))
    taken = [f"- {worded(each, lang)}" for each in found.assumptions]
    return "\n".join([*lines, *([""] if taken else []), *taken])


def worded(sentence: str, lang: Language) -> str:
    """A sentence of the arithmetic in the language."""
    from kb.chinese import in_chinese

    return in_chinese(sentence) if lang == "zh" else sentence


def padded(title: str) -> str:
    """A title filled up to the column of the figures; a Chinese character takes two."""
    return title + " " * max(1, COLUMN - len(title) - sum(ord(c) > 0x2E80 for c in title))


def shown(figure: Figure, lang: Language = "en") -> str:
    """A figure with its unit and how far it may be off, or why it is not known."""
    from kb.sizing.plan import gib

    if figure.value is None:
        return WORDS["unknown"][lang].format(reason=worded(figure.reason, lang))
    small = figure.unit == "bytes" and abs(figure.value) < 1 << 24
    unit = {"tokens": "unit_tokens"}.get(figure.unit, figure.unit)
    unit = WORDS[unit][lang] if unit in WORDS else unit
    value = gib(figure.value) if figure.unit == "bytes" and not small else f"{figure.value:,} {unit}"
    return value + (f"  ({worded(figure.error, lang)})" if figure.error else "")
