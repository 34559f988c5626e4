"""`crashcart size …`: how much memory a model takes, and what fits on these GPUs."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kb.errors import InputError
from ui.cli.options import JSON, print_json

if TYPE_CHECKING:
    from assistant.sizing import Checkpoint
    from assistant.startup import Startup
    from kb.sizing.plan import Figure, Size
    from kb.sizing.setup import Setup

NAMES = {
    "weights_bytes_per_gpu": "Weights",
    "kv_bytes_per_token_per_gpu": "KV cache a token",
    "kv_bytes_per_token_beyond_window": "… beyond the window",
    "activation_bytes_per_gpu": "Activations",
    "kv_available_bytes_per_gpu": "Left for the KV cache",
    "kv_tokens": "Tokens that fit",
    "max_model_len_that_fits": "Longest context",
    "max_concurrency": "Requests at once",
}
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
    command: str = typer.Option("", "--command", help="A serving command whose flags count."),
    release: str = typer.Option("", "--release", metavar="ENGINE==VERSION", help="e.g. vllm==0.11.0 [newest known]."),
    log: Path | None = typer.Option(
        None, "--log", metavar="PATH", help="A start-up log: its model, flags and numbers."
    ),
    available_bytes: int = typer.Option(
        0, "--kv-available-bytes", min=0, help="What the log says is left for the KV cache, in place of an estimate."
    ),
    as_json: bool = JSON,
) -> int:
    """Say what a model takes and what fits: weights, KV cache a token, tokens, longest context, requests at once.

    Serving flags may follow: --max-model-len 32768 --kv-cache-dtype fp8 --tensor-parallel-size 2 …

    Exit codes: 0 a request fits, 2 it does not, 3 not known.
    """
    from assistant.sizing import find_checkpoint, setup_of
    from kb.sizing.plan import plan

    started = started_in(log) if log else None
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
        typer.echo(render(found, checkpoint, setup))
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
    from kb.sizing.setup import Setup
    from ui.operations import split_release

    engine, version = split_release(release) if release else ("", "")
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
    return f"{command} {shlex.join(flags)}".strip(), Setup(release=version, gpus=gpus)


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


def render(found: Size, checkpoint: Checkpoint, setup: Setup) -> str:
    """The figures for people, one a line, each with its arithmetic under it."""
    from kb.sizing.plan import NAMES_OF_ENGINES, freed_by, gib, smallest_split

    split = setup.split
    where = f"{split.tensor * split.pipeline} × {setup.gpu_name or 'GPU'}"
    memory = f" with {gib(setup.gpu_memory_bytes)} each" if setup.gpu_memory_bytes else ""
    lines = [
        f"{checkpoint.source}",
        f"{NAMES_OF_ENGINES[setup.engine]} {setup.release}".strip() + f" on {where}{memory}",
        "",
    ]
    for name, title in NAMES.items():
        figure = found.figures.get(name)
        if figure is not None:
            lines += [f"{title:24}{shown(figure)}", *([f"{'':24}{figure.how}"] if figure.how else [])]
    fewest = smallest_split(checkpoint.config, setup, checkpoint.tensors)
    if fewest is not None:
        wanted = f"{setup.max_model_len} tokens" if setup.max_model_len else "the model's longest context"
        lines.append(f"{'Fewest GPUs':24}{fewest}, for one request of {wanted}")
    for flag, title in (("fp8", "8-bit weights free"), ("awq", "4-bit weights free")):
        freed = freed_by(checkpoint.config, setup, flag)
        if freed:
            lines.append(f"{title:24}{gib(freed)} a GPU")
    return "\n".join([*lines, *([""] if found.assumptions else []), *(f"- {each}" for each in found.assumptions)])


def shown(figure: Figure) -> str:
    """A figure with its unit and how far it may be off, or why it is not known."""
    from kb.sizing.plan import gib

    if figure.value is None:
        return f"not known: {figure.reason}"
    small = figure.unit == "bytes" and abs(figure.value) < 1 << 24
    value = gib(figure.value) if figure.unit == "bytes" and not small else f"{figure.value:,} {figure.unit}"
    return value + (f"  ({figure.error})" if figure.error else "")
