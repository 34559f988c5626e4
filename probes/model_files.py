from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from probes.disk import CACHE_VARIABLES, cache_folder
from probes.judging import GIB, Finding, conclude, gib
from probes.reading.checkpoints import Shard
from probes.reading.files import Unreadable
from probes.reading.model_places import find_models
from probes.reading.models import HEADER_BUDGET_BYTES, Model, Outline, outline_of, read_model
from probes.reading.processes import engines, read_processes, read_variables
from probes.reading.servers import read_servers
from probes.registry import probe
from probes.types import ProbeResult, Status, Target

IDLE_SECONDS = 600
"""A download that has not grown for so long is taken for broken off."""
PACKED = {"awq": ("I32",), "gptq": ("I32", "U32")}
"""Methods that store several weights in one integer: a checkpoint without such tensors was not made by them."""


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
    findings = [finding for model in models for finding in _findings(model)]
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
    broken = _with_fault(model, "truncated", "damaged")
    facts: dict[str, Any] = {
        "model_weights_gib": gib(model.weight_bytes),
        "model_shards_missing": len(_with_fault(model, "missing")),
        "model_shards_broken": len(broken),
        "model_is_lfs_pointer": bool(_with_fault(model, "pointer") or model.pointers),
        "model_download_unfinished": bool(model.downloads),
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
            {"name": s.name, "fault": s.fault, "why": s.why, "size_bytes": s.size_bytes} for s in _with_fault(model)
        ],
        "disputes": list(model.disputes[:20]),
        "pointers": list(model.pointers),
        "downloads": [asdict(download) for download in model.downloads],
        "tokenizer_files": list(model.tokenizers),
        "chat_template": model.has_template,
        "generation_config": "generation_config.json" in model.files,
        "free_bytes": model.free_bytes,
    }


def _with_fault(model: Model, *faults: str) -> list[Shard]:
    return [shard for shard in model.shards if (shard.fault in faults if faults else shard.fault)]


def _findings(model: Model) -> Iterator[Finding]:
    worst: Status = "critical" if model.place.wanted else "warning"
    yield from filter(None, (_config(model, worst), _pointers(model, worst), _missing(model, worst)))
    yield from (_broken(model, shard, worst) for shard in _with_fault(model, "truncated", "damaged")[:3])
    yield from (_unreadable(model, shard) for shard in _with_fault(model, "unreadable")[:1])
    yield from filter(None, (_index(model, worst), _disputed(model), _unfinished(model), _tokenizer(model)))
    yield from filter(None, (_unpacked(model), _empty(model), _short(model)))


def _again(model: Model) -> tuple[str, str]:
    """How to fetch a model again, into the folder where it lies."""
    name = model.place.name if "/" in model.place.name and not model.place.name.startswith("/") else "ORG/NAME"
    where = "" if model.place.blobs else f" --local-dir {model.place.path}"
    command = f"hf download {name}{where}"
    return (
        f"Fetch it again with `{command}` (before huggingface_hub 0.34: `huggingface-cli download`).",
        f"用 `{command}` 重新下载（huggingface_hub 0.34 之前为 `huggingface-cli download`）。",
    )


def _config(model: Model, worst: Status) -> Finding | None:
    if not model.config_fault or (model.config_fault == "it is missing" and (not model.shards or _is_gguf(model))):
        return None
    said = f"config.json of {model.place.name} is of no use: {model.config_fault}."
    said_zh = f"{model.place.name} 的 config.json 无法使用：{model.config_fault}。"
    if model.config_fault == "it is missing":
        said = f"{model.place.path} holds weights but no config.json."
        said_zh = f"{model.place.path} 有权重文件，但没有 config.json。"
    return Finding(worst, said, said_zh, *_again(model))


def _pointers(model: Model, worst: Status) -> Finding | None:
    names = [shard.name for shard in _with_fault(model, "pointer")] + list(model.pointers)
    if not names:
        return None
    return Finding(
        worst,
        f"{len(names)} files of {model.place.name} are only git-LFS pointers, not the files themselves ({names[0]}).",
        f"{model.place.name} 有 {len(names)} 个文件只是 git-LFS 指针，不是真正的文件（{names[0]}）。",
        f"Run `git lfs install` and `git -C {model.place.path} lfs pull`, or use `hf download` in place of `git clone`.",
        f"运行 `git lfs install` 和 `git -C {model.place.path} lfs pull`，或用 `hf download` 代替 `git clone`。",
    )


def _missing(model: Model, worst: Status) -> Finding | None:
    names = [shard.name for shard in _with_fault(model, "missing")]
    if not names:
        return None
    return Finding(
        worst,
        f"{len(names)} of {len(model.shards)} weight files of {model.place.name} are missing (first {names[0]}).",
        f"{model.place.name} 的 {len(model.shards)} 个权重文件缺少 {len(names)} 个（首个是 {names[0]}）。",
        *_again(model),
    )


def _broken(model: Model, shard: Shard, worst: Status) -> Finding:
    fault, fault_zh = ("cut off", "不完整") if shard.fault == "truncated" else ("damaged", "已损坏")
    return Finding(
        worst,
        f"{shard.name} of {model.place.name} is {fault}: {shard.why}.",
        f"{model.place.name} 的 {shard.name} {fault_zh}：{shard.why}。",
        *(each.replace("hf download", "hf download --force-download") for each in _again(model)),
    )


def _unreadable(model: Model, shard: Shard) -> Finding:
    return Finding(
        "unknown",
        f"Weights of {model.place.name} could not be looked at: {shard.why.removesuffix('.')}.",
        f"无法查看 {model.place.name} 的权重：{shard.why.removesuffix('.')}。",
        f"Look at them as the server's user: `ls -lL {model.place.path}`.",
        f"以服务的用户身份查看：`ls -lL {model.place.path}`。",
    )


def _index(model: Model, worst: Status) -> Finding | None:
    if not model.index_fault:
        return None
    return Finding(
        worst,
        f"The index of shards of {model.place.name} is of no use ({model.index_fault}).",
        f"{model.place.name} 的分片索引无法使用（{model.index_fault}）。",
        *_again(model),
    )


def _disputed(model: Model) -> Finding | None:
    if not model.disputes:
        return None
    return Finding(
        "warning",
        f"Files of {model.place.name} contradict each other: {model.disputes[0]} ({len(model.disputes)} in all).",
        f"{model.place.name} 的文件互相矛盾：{model.disputes[0]}（共 {len(model.disputes)} 处）。",
        "Files of two revisions or formats lie together: fetch the model into an empty folder.",
        "两个版本或两种格式的文件混在一起：请把模型下载到空目录。",
    )


def _unfinished(model: Model) -> Finding | None:
    """Warn of downloads that are not done; where the disk has less room than they still need, that weighs more."""
    if not model.downloads:
        return None
    idle = min(download.idle_seconds for download in model.downloads)
    needed = _needed_bytes(model)
    if needed and model.free_bytes is not None and needed > model.free_bytes:
        return Finding(
            "critical",
            f"The download of {model.place.name} needs {needed / GIB:.1f} GiB more, and {model.free_bytes / GIB:.1f} GiB are free.",
            f"{model.place.name} 还需下载 {needed / GIB:.1f} GiB，但磁盘只剩 {model.free_bytes / GIB:.1f} GiB。",
            "Free space there, or set `HF_HOME` to a larger disk, and start the download again: it goes on where it stopped.",
            "清理空间，或将 `HF_HOME` 指向更大的磁盘，再重新下载：会从断点继续。",
        )
    going = idle < IDLE_SECONDS
    state, state_zh = ("goes on", "仍在进行") if going else ("was broken off", "已中断")
    return Finding(
        "warning",
        f"The download of {model.place.name} {state}: {len(model.downloads)} files are unfinished, the last grew {idle:.0f} s ago.",
        f"{model.place.name} 的下载{state_zh}：{len(model.downloads)} 个文件未完成，最近一次写入在 {idle:.0f} 秒前。",
        "Wait for it before the server is started." if going else _again(model)[0],
        "等下载完成后再启动服务。" if going else _again(model)[1],
    )


def _needed_bytes(model: Model) -> int:
    """The bytes of weights that are not here yet, as far as the index tells."""
    if model.total_bytes is None:
        return 0
    here = model.weight_bytes + sum(download.size_bytes for download in model.downloads)
    return max(0, model.total_bytes - here)


def _tokenizer(model: Model) -> Finding | None:
    if model.tokenizers or not model.place.wanted or model.config is None or _is_gguf(model) or not model.shards:
        return None
    return Finding(
        "warning",
        f"{model.place.path} holds no tokenizer files.",
        f"{model.place.path} 中没有分词器文件。",
        "Copy tokenizer.json and tokenizer_config.json (or tokenizer.model) there, or name another with `--tokenizer`.",
        "把 tokenizer.json 和 tokenizer_config.json（或 tokenizer.model）放进去，或用 `--tokenizer` 另行指定。",
    )


def _unpacked(model: Model) -> Finding | None:
    """Warn of a quantization that the configuration claims and no tensor shows."""
    method = outline_of(model.config).quantization if model.config else ""
    if method not in PACKED or not model.dtypes or any(dtype in model.dtypes for dtype in PACKED[method]):
        return None
    return Finding(
        "warning",
        f"config.json of {model.place.name} says {method}, but no tensor is packed ({', '.join(model.dtypes)}).",
        f"{model.place.name} 的 config.json 写着 {method}，但没有打包的张量（{'、'.join(model.dtypes)}）。",
        "Configuration and weights are of two checkpoints: fetch both from the same one.",
        "配置与权重来自不同的 checkpoint：请从同一来源重新下载。",
    )


def _empty(model: Model) -> Finding | None:
    if model.shards or model.config is None or not model.place.wanted or model.downloads:
        return None
    return Finding(
        "critical" if model.place.origin.startswith("running") else "warning",
        f"{model.place.path} holds a config.json but no weights.",
        f"{model.place.path} 有 config.json，但没有权重文件。",
        *_again(model),
    )


def _short(model: Model) -> Finding | None:
    """Warn of too little where headers were not read; some indexes state a size that was never true, so it is no more."""
    is_read = all(shard.expected_bytes is not None for shard in model.shards)
    if is_read or _with_fault(model) or model.total_bytes is None or model.weight_bytes >= model.total_bytes:
        return None
    here, said = gib(model.weight_bytes), gib(model.total_bytes)
    return Finding(
        "warning",
        f"The weight files of {model.place.name} have {here} GiB, and their index says {said} GiB.",
        f"{model.place.name} 的权重文件共 {here} GiB，而索引写的是 {said} GiB。",
        *_again(model),
    )


def _is_gguf(model: Model) -> bool:
    return all(shard.name.endswith(".gguf") for shard in model.shards) and bool(model.shards)


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
