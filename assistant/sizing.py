"""What a model takes on the user's GPUs: config.json, the serving command, the log's numbers and the machine's facts joined."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from assistant.serving import Setting, model_of, number_of, serving_calls, settings_of
from assistant.signals import Signals
from assistant.startup import read_startup
from assistant.types import ComputedValue
from kb.catalog.history import load
from kb.errors import InputError
from kb.sizing.architecture import read_architecture
from kb.sizing.plan import ESTIMATED, Figure, Size, cache_for, gib, plan, smallest_split
from kb.sizing.setup import GIB, Setup
from kb.sizing.tables import known_model
from kb.sizing.tensors import Tensor

FLAGS = {
    "--tensor-parallel-size": "tensor",
    "--tp-size": "tensor",
    "--pipeline-parallel-size": "pipeline",
    "--pp-size": "pipeline",
    "--max-model-len": "max_model_len",
    "--context-length": "max_model_len",
    "--max-num-seqs": "max_num_seqs",
    "--max-running-requests": "max_num_seqs",
    "--max-num-batched-tokens": "batched_tokens",
    "--chunked-prefill-size": "batched_tokens",
    "--block-size": "block",
    "--page-size": "block",
}
WORDS = {"--kv-cache-dtype": "cache_dtype", "--quantization": "quantization"}
SHARES = ("--gpu-memory-utilization", "--mem-fraction-static")
REPLICAS = ("--data-parallel-size", "--dp-size")
EXPERTS = ("--expert-parallel", "--ep-size")
DRAFTS = ("--speculative-config", "--speculative-algorithm", "--spec-model", "--spec-method")
CONFIG = "config.json"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as it was found: its config, the tensors of its safetensors files where they lie here, and from where."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    source: str
    note: str = ""


def find_checkpoint(model: str, hub: str = "") -> Checkpoint:
    """A config.json, a model's folder, an id in the Hugging Face cache, or one of the shipped table, in this order.

    Raises InputError for a model that none of them has.
    """
    path = Path(model).expanduser()
    if path.is_file():
        return Checkpoint(read_config(path), {}, str(path))
    if (path / CONFIG).is_file():
        return in_folder(path)
    cached = snapshot_of(model, hub or default_hub())
    if cached:
        return in_folder(cached)
    known = known_model(model)
    if known:
        return Checkpoint(known.config, {}, known.source, known.note)
    raise InputError(
        f"{model} is no config.json, no model's folder, not in the Hugging Face cache and not in the shipped table: "
        "give the path of its config.json."
    )


def read_config(path: Path) -> dict[str, Any]:
    """Parse a config.json; raises InputError."""
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path} as JSON: {error}.") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} is not the config.json of a model: it holds no JSON object.")
    return config


def in_folder(folder: Path) -> Checkpoint:
    """A model's folder: its config, with hf_quant_config.json where it has one, and the headers of its safetensors files."""
    config = read_config(folder / CONFIG)
    quantized = folder / "hf_quant_config.json"
    if quantized.is_file() and "quantization_config" not in config:
        section = read_config(quantized).get("quantization")
        if isinstance(section, dict):
            config["quantization_config"] = {"quant_method": "modelopt", **section}
    return Checkpoint(config, headers_in(folder), str(folder))


def headers_in(folder: Path) -> dict[str, Tensor]:
    """The tensors of all safetensors files of a folder; none where one is missing, cut off or not readable."""
    from probes.reading.checkpoints import read_shard

    names = sorted(path.name for path in folder.glob("*.safetensors") if not path.name.startswith("consolidated"))
    roots = {str(folder), *(os.path.dirname(os.path.realpath(folder / name)) for name in names)}
    found: dict[str, Tensor] = {}
    for name in names:
        shard = read_shard(str(folder), name, roots)
        if shard.fault or shard.header is None:
            return {}
        found |= shard.header.tensors
    total = len({match[1] for name in names if (match := re.search(r"-of-(\d+)\.", name))})
    complete = total == 0 or (total == 1 and len(names) == int(re.search(r"-of-(\d+)\.", names[0])[1]))  # type: ignore[index]
    return found if complete else {}


def default_hub() -> str:
    """The Hugging Face cache, as huggingface_hub finds it."""
    home = os.environ.get("HF_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "huggingface")
    return os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")


def snapshot_of(model: str, hub: str) -> Path | None:
    """The newest snapshot of an id in the Hugging Face cache that has a config.json."""
    if not HUB_ID.fullmatch(model):
        return None
    folder = Path(hub) / f"models--{model.replace('/', '--')}" / "snapshots"
    found = [each for each in folder.glob("*") if (each / CONFIG).is_file()]
    return max(found, key=lambda each: each.stat().st_mtime) if found else None


def setup_of(command: str, setup: Setup) -> tuple[Setup, str, list[str]]:
    """A setup with what a serving command says, the model that it names, and sentences about flags that are not counted."""
    call = next(iter(serving_calls(command, "")), None)
    if call is None:
        return setup, "", []
    engine: Literal["vllm", "sglang"] = "sglang" if call.engine == "sglang" else "vllm"
    settings = settings_of(load(engine), setup.release, call)
    changed, notes = read_settings(settings)
    tensor, pipeline = changed.get("tensor", setup.tensor), changed.get("pipeline", setup.pipeline)
    gpus = max(setup.gpus, (tensor or 1) * pipeline)
    # Without the flag an engine starts on one GPU, whatever the machine has.
    found = replace(setup, engine=engine, **{**changed, "tensor": tensor or 1, "gpus": gpus})
    return found, model_of(call), notes


def read_settings(settings: Sequence[Setting]) -> tuple[dict[str, Any], list[str]]:
    """The fields of a setup that options set, and sentences about those that are not counted."""
    found: dict[str, Any] = {}
    notes: list[str] = []
    for setting in settings:
        number = number_of(setting.value)
        if setting.key in FLAGS and number:
            found[FLAGS[setting.key]] = int(number)
        elif setting.key in WORDS and setting.value:
            found[WORDS[setting.key]] = setting.value
        elif setting.key in SHARES and number:
            found["fraction"] = number
        elif setting.key in ("--hybrid-kv-cache-manager", "--hybrid-swa-memory"):
            found["hybrid"] = not setting.negated
        elif setting.key == "--enforce-eager":
            found["graphs"] = setting.negated
        elif setting.key == "--kv-cache-memory-bytes" and number:
            found["available_bytes"] = int(number)
        elif setting.key in REPLICAS and number and number > 1:
            notes.append(f"{setting.option.name}: the figures are of one replica.")
        elif setting.key in DRAFTS:
            notes.append(f"{setting.option.name} is not counted: a draft model and its cache take more.")
    keys = {setting.key for setting in settings if not setting.negated}
    if "--dp-attention" in keys:
        found["unmodelled"] = "attention that is not shared by all GPUs (--enable-dp-attention) is not modelled."
    elif keys.intersection(EXPERTS) and any(note.endswith("replica.") for note in notes):
        found["unmodelled"] = "experts that are spread over data-parallel ranks are not modelled."
    return found, notes


def sized(
    signals: Signals, facts: Mapping[str, Any], config: Mapping[str, Any] | None = None, log: str = ""
) -> dict[str, ComputedValue]:
    """What fits, for a diagnosis: by name, each with its arithmetic. Empty where model or memory is not known.

    `sized_model_len` the longest context that fits, `sized_tensor_parallel` the fewest GPUs on which the wanted length fits,
    `sized_kv_tokens`, `sized_weights_gib`. The numbers of the log come before the facts of this machine, and these before tables.
    `log` is a start-up log, which tells model and flags where no command is known.
    Where it prints what is left for the cache, `fitting_model_len` is exact, sliding windows included.
    """
    started = read_startup(log) if log else None
    base = started.setup if started else Setup(gpus=int(facts.get("gpu_count") or 1))
    setup, model, _ = setup_of(signals.command, replace(base, release=signals.release or base.release))
    model = model or (started.model if started else "")
    if config is None:
        known = known_model(model) if model else None
        if known is None:
            return {}
        config = known.config
    setup = with_numbers(setup, signals.values, facts)
    if setup.gpu_memory_bytes is None and setup.available_bytes is None:
        return {}
    size = plan(config, setup)
    found: dict[str, ComputedValue] = {}
    longest = size.figures["max_model_len_that_fits"]
    if longest.value:
        how = in_signs(config, setup, size)
        put(found, "sized_model_len", longest, how)
        if setup.available_bytes is not None:
            put(found, "fitting_model_len", longest, how)
    tokens = size.figures["kv_tokens"]
    if tokens.value is not None:
        put(found, "sized_kv_tokens", tokens, in_signs(config, setup, size, tokens=True))
    weights = size.figures["weights_bytes_per_gpu"]
    if weights.value is not None:
        put(
            found,
            "sized_weights_gib",
            replace(weights, value=round(weights.value / GIB, 2), unit="GiB"),
            f"{weights.value} / 2^30",
        )
    if setup.gpu_memory_bytes is not None:
        fewest = smallest_split(config, setup)
        if fewest is not None:
            how = f"{gib(setup.gpu_memory_bytes)} × {setup.fraction_of()[0]}, --max-model-len {wanted_length(config, setup)}"
            put(found, "sized_tensor_parallel", Figure("", fewest, "GPUs", error=ESTIMATED), how)
    return found


def wanted_length(config: Mapping[str, Any], setup: Setup) -> int | None:
    """The context that is asked for, or the model's longest."""
    return setup.max_model_len or read_architecture(config).context


def in_signs(config: Mapping[str, Any], setup: Setup, size: Size, tokens: bool = False) -> str:
    """The arithmetic of a length in signs alone, so that it reads the same in every language."""
    available = size.value("kv_available_bytes_per_gpu") or 0
    cache = cache_for(read_architecture(config), setup)
    windows = [group for group in cache.groups if group.window is not None]
    if tokens or not windows:
        return f"{gib(available)} / {cache.token_bytes} B"
    full = cache.lasting_bytes
    short = " + ".join(
        f"{int(group.layers * cache.layer_bytes)} B × min(L, {(group.window or 0) - 1 + cache.batched})"
        for group in windows
    )
    return f"{full} B × L + {short} ≤ {gib(available)}, L"


def put(found: dict[str, ComputedValue], name: str, figure: Figure, how: str) -> None:
    """A figure as a computed value; `≈` where it is an estimate."""
    assert figure.value is not None
    sign = "≈" if figure.error == ESTIMATED else "="
    found[name] = ComputedValue(name, figure.value, figure.unit, f"{how} {sign} {figure.value}")


def with_numbers(setup: Setup, values: Mapping[str, Any], facts: Mapping[str, Any]) -> Setup:
    """A setup with the numbers that a log printed, and the memory of the GPU."""

    def number(*names: str) -> float | None:
        return next((float(values[n]) for n in names if isinstance(values.get(n), int | float)), None)

    total = number("total_gib", "gpu_total_gib", "device_total_gib") or facts.get("gpu_total_gib")
    available, weights = number("available_kv_gib"), number("weights_gib")
    return replace(
        setup,
        gpu_name=str(facts.get("gpu_name") or setup.gpu_name),
        gpu_memory_bytes=int(float(total) * GIB) if total else setup.gpu_memory_bytes,
        available_bytes=int(available * GIB) if available and available > 0 else setup.available_bytes,
        weights_bytes=int(weights * GIB) if weights else setup.weights_bytes,
        max_model_len=setup.max_model_len or (int(length) if (length := number("max_model_len")) else None),
    )
