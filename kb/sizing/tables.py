"""What ships with Crashcart: fields of config.json of known models, and the memory of known GPUs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kb.errors import InputError

DATA = Path(__file__).parent.parent / "data"
# A checkpoint's name tells its precision: the endings that quantizers use, and what they stand for.
ENDINGS: tuple[tuple[re.Pattern[str], dict[str, Any]], ...] = (
    (re.compile(r"[-_.](awq)([-_.]?(int4|4bit))?$", re.I), {"quant_method": "awq", "bits": 4, "group_size": 128}),
    (re.compile(r"[-_.](gptq)[-_.]?(int8|8bit)$", re.I), {"quant_method": "gptq", "bits": 8, "group_size": 128}),
    (re.compile(r"[-_.](gptq)([-_.]?(int4|4bit))?$", re.I), {"quant_method": "gptq", "bits": 4, "group_size": 128}),
    (re.compile(r"[-_.](quantized\.)?w4a16$", re.I), {"quant_method": "gptq", "bits": 4, "group_size": 128}),
    (re.compile(r"[-_.](quantized\.)?w8a(8|16)$", re.I), {"quant_method": "fp8"}),
    (re.compile(r"[-_.]fp8([-_.](dynamic|static))?$", re.I), {"quant_method": "fp8"}),
    (
        re.compile(r"[-_.](bnb[-_.]4bit|unsloth-bnb-4bit)$", re.I),
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
    ),
    (re.compile(r"[-_.]nvfp4$", re.I), {"quant_method": "nvfp4"}),
)
SEVERAL = (
    (re.compile(r"\bA100\b(?!.*(40|80))", re.I), "A100 40GB", "A100 80GB"),
    (re.compile(r"\bV100\b(?!.*(16|32))", re.I), "V100 16GB", "V100 32GB"),
)


@dataclass(frozen=True, slots=True)
class KnownModel:
    """`config` as config.json has it; `note` says what was taken from the name alone, or is empty."""

    id: str
    config: dict[str, Any]
    source: str
    note: str = ""


@cache
def _models() -> dict[str, tuple[str, dict[str, Any]]]:
    """Every entry by each of its ids in lower case; `Meta-` counts as absent."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    entries: dict[str, dict[str, Any]] = yaml.load((DATA / "models.yaml").read_text("utf-8"), Loader=loader)
    return {plain(each): (name, entry) for name, entry in entries.items() for each in (name, *entry.get("also", ()))}


def plain(name: str) -> str:
    """An id as it is compared: without case, and without `Meta-` in front of Llama."""
    return name.lower().replace("meta-llama-", "llama-")


def known_ids() -> tuple[str, ...]:
    """The ids that the table names, without those that only share an entry."""
    return tuple(dict.fromkeys(name for name, _ in _models().values()))


def known_model(name: str) -> KnownModel | None:
    """The entry for an id such as `Qwen/Qwen2.5-32B-Instruct`, or for its last part under another owner.

    An ending such as `-AWQ` or `-FP8` adds that precision to the entry without it. None for a model that the table lacks.
    """
    wanted = plain(name.strip().rstrip("/"))
    found = _models().get(wanted) or by_last_part(wanted)
    if found:
        own = "" if wanted in _models() else f"Shapes of {found[0]}, by the model's name."
        return KnownModel(found[0], dict(found[1]["config"]), found[1]["source"], own)
    for ending, section in ENDINGS:
        bare = ending.sub("", wanted)
        known = known_model(bare) if bare != wanted else None
        if known and "quantization_config" not in known.config:
            note = f"Shapes of {known.id} with {section['quant_method']} weights, by the model's name."
            return KnownModel(known.id, {**known.config, "quantization_config": section}, known.source, note)
    return None


def by_last_part(wanted: str) -> tuple[str, dict[str, Any]] | None:
    """An entry whose id ends alike, where all that do have the same shapes."""
    last = wanted.rpartition("/")[2]
    found = [entry for name, entry in _models().items() if name.rpartition("/")[2] == last]
    return found[0] if found and all(entry[0] == found[0][0] for entry in found) else None


@cache
def _gpus() -> list[tuple[re.Pattern[str], int]]:
    rows = [line.split("\t") for line in (DATA / "gpu_memory.tsv").read_text("utf-8").splitlines()]
    return [(re.compile(row[0], re.I), int(float(row[1]) * (1 << 30))) for row in rows if not row[0].startswith("#")]


def gpu_memory_bytes(name: str) -> int | None:
    """The memory that CUDA reports for a GPU, within about 1 %; None for a GPU that the table lacks.

    Raises InputError for a name that stands for cards of two sizes.
    """
    for pattern, *choices in SEVERAL:
        if pattern.search(name):
            raise InputError(
                f"{name} comes in two sizes: write {' or '.join(map(repr, choices))}, or give --gpu-memory-bytes."
            )
    return next((size for pattern, size in _gpus() if pattern.search(name)), None)
