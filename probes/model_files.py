from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from probes.disk import CACHE_VARIABLES, cache_folder
from probes.judging import conclude, gib
from probes.reading.files import Unreadable
from probes.reading.model_faults import findings_of, is_unfinished, with_fault
from probes.reading.model_places import find_models
from probes.reading.models import HEADER_BUDGET_BYTES, Model, Outline, outline_of, read_model
from probes.reading.processes import engines, read_processes, read_variables
from probes.reading.servers import read_servers
from probes.registry import probe
from probes.types import ProbeResult, Target


@probe()
def model_files(target: Target) -> ProbeResult:
    """Read the model folders and the Hugging Face cache: configuration, safetensors headers, tokenizer. Says which weight
    files are missing, cut off, damaged or only git-LFS pointers, and which downloads are unfinished; reads no tensor."""
    processes = read_processes()
    hubs = [*_caches(engines(processes)), cache_folder(os.environ)]
    places, refused, roots = find_models(target.model_directories, hubs, read_servers(processes))
    models, left = [], HEADER_BUDGET_BYTES
    for place in places:
        models.append(read_model(place, roots, left))
        left -= models[-1].header_bytes
    return judge(models, refused, roots)


def judge(models: list[Model], refused: list[str], roots: Iterable[str] = ()) -> ProbeResult:
    """Judge what was read. A model that a server or the operator names weighs more than one that lies in the cache."""
    data: dict[str, Any] = {"models": [shown(model) for model in models], "refused": refused, "folders": list(roots)}
    source = ", ".join(data["folders"])
    subject = subject_of(models)
    facts = facts_of(subject) if subject else {}
    if not models:
        return ProbeResult(
            "model_files",
            "unknown",
            refused[0] if refused else f"No model was found in {source or 'any folder'}.",
            f"无法读取：{refused[0].removesuffix('.')}。" if refused else f"在 {source or '任何目录'} 中没有找到模型。",
            data=data,
            source=source,
            advice=("Name the folder: CRASHCART_MODEL_DIRECTORIES=/path/to/models.",),
            advice_zh=("请指定目录：CRASHCART_MODEL_DIRECTORIES=/模型/目录。",),
        )
    findings = [finding for model in models for finding in findings_of(model)]
    return conclude("model_files", _figures(models, subject), findings, facts, data, source)


def subject_of(models: list[Model]) -> Model | None:
    """The model that facts are about: the only one that is named, else the only one there is."""
    wanted = [model for model in models if model.place.wanted]
    running = [model for model in wanted if model.place.origin.startswith("running")]
    for group in (running, wanted, models):
        if group:
            return group[0] if len(group) == 1 else None
    return None


def facts_of(model: Model) -> dict[str, Any]:
    """Gather the facts of one model; what its configuration does not say is left out."""
    broken = with_fault(model, "truncated", "damaged")
    facts: dict[str, Any] = {
        "model_weights_gib": gib(model.weight_bytes),
        "model_shards_missing": len(with_fault(model, "missing")),
        "model_shards_broken": len(broken),
        "model_is_lfs_pointer": bool(with_fault(model, "pointer") or model.pointers),
        "model_download_unfinished": is_unfinished(model),
        "model_has_config": model.config is not None,
        "model_has_tokenizer": bool(model.tokenizers),
    }
    if model.has_template is not None:
        facts["model_has_chat_template"] = model.has_template
    if model.config is None:
        return facts
    outline = outline_of(model.config)
    facts |= {
        "model_quantization": outline.quantization or "none",
        "model_rope_scaling": outline.rope_type or "none",
        "model_needs_own_code": outline.own_code,
    }
    said = {
        "model_architecture": outline.architectures[0] if outline.architectures else None,
        "model_dtype": outline.dtype,
        "model_max_position_embeddings": outline.max_position_embeddings,
    }
    return {**facts, **{name: value for name, value in said.items() if value}}


def shown(model: Model) -> dict[str, Any]:
    """A model as data: figures, and only those files that have a fault."""
    outline = outline_of(model.config) if model.config is not None else Outline()
    return {
        "name": model.place.name,
        "path": model.place.path,
        "origin": model.place.origin,
        **asdict(outline),
        "config_fault": model.config_fault,
        "index_fault": model.index_fault,
        "weight_files": len(model.shards),
        "weight_bytes": model.weight_bytes,
        "total_bytes": model.total_bytes,
        "formats": list(model.formats),
        "dtypes": {name: dict(sums) for name, sums in model.dtypes.items()},
        "headers_read": sum(shard.expected_bytes is not None for shard in model.shards),
        "faults": [
            {"name": s.name, "fault": s.fault, "why": s.why, "size_bytes": s.size_bytes} for s in with_fault(model)
        ],
        "disputes": list(model.disputes[:20]),
        "pointers": list(model.pointers),
        "downloads": [asdict(download) for download in model.downloads],
        "tokenizer_files": list(model.tokenizers),
        "chat_template": model.has_template,
        "generation_config": "generation_config.json" in model.files,
        "free_bytes": model.free_bytes,
    }


def _figures(models: list[Model], subject: Model | None) -> tuple[str, str]:
    one = subject or max(models, key=lambda model: model.weight_bytes)
    size, files = f"{gib(one.weight_bytes)} GiB", len(one.shards)
    return (
        f"{len(models)} models; nothing is wrong with their files. {one.place.name}: {size} in {files} weight files.",
        f"共 {len(models)} 个模型，文件没有发现问题。{one.place.name}：{files} 个权重文件，{size}。",
    )


def _caches(pids: Iterable[int]) -> Iterator[str]:
    """Tell where the running engines of this user keep downloaded models."""
    for pid in pids:
        try:
            yield cache_folder(read_variables(pid, CACHE_VARIABLES))
        except Unreadable:
            continue
