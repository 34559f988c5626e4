"""In what precision weights are kept: what a checkpoint's config says, or a flag asks for at load time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from math import prod
from typing import Any

from kb.sizing.refusals import Config, Unmodelled
from kb.sizing.tensors import Tensor

KEPT = re.compile(r"embed|lm_head|norm|\.(router|gate)\.|(?<!gate_up_proj_)bias$|sinks|vision|visual|multi_modal")


@dataclass(frozen=True, slots=True)
class Scheme:
    """`bits` a weight including scales and zero points; `kept` are names, patterns or `re:` expressions that stay in 16 bits."""

    name: str
    bits: float
    how: str
    kept: tuple[str, ...] = ()


def scheme_of(config: Config, flag: str = "") -> Scheme | None:
    """The scheme of a checkpoint, else of `--quantization`; None for full precision.

    Raises Unmodelled for a method whose bits are not known.
    """
    section = section_of(config)
    if section:
        return of_checkpoint(section)
    return of_flag(flag) if flag and flag not in ("none", "None", "auto") else None


def section_of(config: Config) -> Mapping[str, Any]:
    """The part of a config.json that tells the precision of the checkpoint; empty for full precision."""
    inner = config.get("text_config")
    own = config.get("quantization_config")
    section = own or (inner.get("quantization_config") if isinstance(inner, dict) else None)
    return section if isinstance(section, dict) else {}


def is_quantized(config: Config) -> bool:
    """Whether the checkpoint itself is quantized."""
    return bool(section_of(config))


def of_checkpoint(section: Mapping[str, Any]) -> Scheme:
    """The scheme that quantization_config describes."""
    method = str(section.get("quant_method") or section.get("quant_algo") or "").lower().replace("-", "_")
    kept = kept_in(section)
    if method in ("awq", "awq_marlin", "gptq", "gptq_marlin", "auto_round", "auto_awq"):
        return grouped(method, int(section.get("bits") or section.get("w_bit") or 4), group_size(section), kept)
    if method in ("fp8", "fbgemm_fp8"):
        block = section.get("weight_block_size")
        return Scheme(
            method,
            8 + (32 / prod(block) if block else 0),
            "8 bits" + (f" + 32/({block[0]}·{block[1]}) scale" if block else ""),
            kept,
        )
    if method == "mxfp4":
        return Scheme("mxfp4", 4.25, "4 bits + 8/32 scale", kept)
    if method in ("bitsandbytes", "bnb"):
        return bitsandbytes(bool(section.get("load_in_8bit")), kept)
    if method in ("modelopt", "modelopt_fp4", "nvfp4", "fp8_per_tensor"):
        algorithm = str(section.get("quant_algo") or ("NVFP4" if "fp4" in method else "")).upper()
        if algorithm in ("NVFP4", "FP8"):
            return of_flag({"NVFP4": "nvfp4", "FP8": "fp8"}[algorithm], kept)
    if method in ("compressed_tensors", "compressed_tensors_fp8"):
        return compressed(section, kept)
    raise Unmodelled(f"quantization method {method or 'without a name'!r}: the bits a weight takes are not known here.")


def of_flag(flag: str, kept: tuple[str, ...] = ()) -> Scheme:
    """The scheme that an engine applies while loading, or that a person asks about."""
    name = flag.lower().replace("-", "_")
    if name in ("fp8", "w8a8_fp8", "int8", "w8a8_int8", "w8a8", "ptpc_fp8", "experts_int8"):
        return Scheme(name, 8, "8 bits, one scale a row", kept)
    if name in ("nvfp4", "modelopt_fp4", "fp4"):
        return Scheme(name, 4.5, "4 bits + 8/16 scale", kept)
    if name == "mxfp4":
        return Scheme(name, 4.25, "4 bits + 8/32 scale", kept)
    if name in ("awq", "awq_marlin", "gptq", "gptq_marlin", "int4", "w4a16"):
        return grouped(name, 4, 128, kept)
    if name == "bitsandbytes":
        return bitsandbytes(False, kept)
    raise Unmodelled(f"--quantization {flag}: the bits a weight takes are not known here.")


def grouped(name: str, bits: int, group: int, kept: tuple[str, ...]) -> Scheme:
    """Weights in groups that share a 16-bit scale and a zero point; one group a row where `group` is not positive."""
    extra = (16 + bits) / group if group > 0 else 0
    return Scheme(
        name, bits + extra, f"{bits} bits" + (f" + (16+{bits})/{group} scale and zero" if group > 0 else ""), kept
    )


def bitsandbytes(is_8_bit: bool, kept: tuple[str, ...]) -> Scheme:
    if is_8_bit:
        return Scheme("bitsandbytes", 8, "8 bits", kept)
    return Scheme("bitsandbytes", 4.5, "4 bits + 32/64 absmax", kept)


def compressed(section: Mapping[str, Any], kept: tuple[str, ...]) -> Scheme:
    """compressed-tensors: the weights of its one group of layers."""
    groups = [g for g in (section.get("config_groups") or {}).values() if isinstance(g, dict)]
    weights = [g.get("weights") or {} for g in groups]
    kinds = {(w.get("num_bits"), w.get("type"), w.get("group_size"), w.get("strategy")) for w in weights}
    if len(kinds) != 1:
        raise Unmodelled("compressed-tensors with several kinds of layers: the bits a weight takes are not known here.")
    bits, kind, group, _ = kinds.pop()
    if bits == 8:
        return Scheme("compressed-tensors", 8, "8 bits, one scale a row", kept)
    if bits == 4 and kind == "float":
        return of_flag("nvfp4" if group == 16 else "mxfp4", kept)
    if bits == 4:
        return grouped("compressed-tensors", 4, int(group or 0), kept)
    raise Unmodelled(f"compressed-tensors with {bits} bits: the bits a weight takes are not known here.")


def group_size(section: Mapping[str, Any]) -> int:
    return int(section.get("group_size") or section.get("q_group_size") or 128)


def kept_in(section: Mapping[str, Any]) -> tuple[str, ...]:
    """The modules that stay in 16 bits."""
    keys = ("modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules", "llm_int8_skip_modules")
    return tuple(str(name) for key in keys for name in (section.get(key) or ()))


def weight_bits(name: str, tensor: Tensor, scheme: Scheme | None) -> float | None:
    """Bits an element of a tensor takes under a scheme; None where it stays as it is."""
    if scheme is None or len(tensor.shape) < 2 or KEPT.search(name):
        return None
    module = name.removesuffix(".weight")
    return None if any(names_module(pattern, module) for pattern in scheme.kept) else scheme.bits


def names_module(pattern: str, module: str) -> bool:
    """Whether an entry of the list of kept modules means a module or one around it."""
    if pattern.startswith("re:"):
        return re.match(pattern[3:], module) is not None
    if "*" in pattern:
        return fnmatch(module, pattern) or fnmatch(module, f"{pattern}.*")
    return pattern == module or module.startswith(f"{pattern}.") or f".{pattern}." in f".{module}."
