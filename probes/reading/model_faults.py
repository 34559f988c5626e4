"""What is wrong with a model's files, each fault with its remedy."""

from __future__ import annotations

from collections.abc import Iterator

from probes.judging import GIB, Finding, gib
from probes.reading.checkpoints import Shard
from probes.reading.models import Model, outline_of
from probes.types import Status

IDLE_SECONDS = 600
"""A download that has not grown for so long is taken for broken off."""
PACKED = {"awq": ("I32",), "gptq": ("I32", "U32")}
"""Methods that store several weights in one integer: a checkpoint without such tensors was not made by them."""


def with_fault(model: Model, *faults: str) -> list[Shard]:
    """The weight files with one of these faults, or with any."""
    return [shard for shard in model.shards if (shard.fault in faults if faults else shard.fault)]


def findings_of(model: Model) -> Iterator[Finding]:
    """Everything that is wrong with a model. One that a server or the operator names weighs more than one in the cache."""
    worst: Status = "critical" if model.place.wanted else "warning"
    yield from filter(None, (_config(model, worst), _pointers(model, worst), _missing(model, worst)))
    yield from (_broken(model, shard, worst) for shard in with_fault(model, "truncated", "damaged")[:3])
    yield from (_unreadable(model, shard) for shard in with_fault(model, "unreadable")[:1])
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
    names = [shard.name for shard in with_fault(model, "pointer")] + list(model.pointers)
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
    names = [shard.name for shard in with_fault(model, "missing")]
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
    if not is_unfinished(model):
        return None
    idle = _idle_seconds(model)
    needed = _needed_bytes(model)
    if needed and model.free_bytes is not None and needed > model.free_bytes:
        return Finding(
            "critical",
            f"The download of {model.place.name} needs {needed / GIB:.1f} GiB more, and {model.free_bytes / GIB:.1f} GiB are free.",
            f"{model.place.name} 还需下载 {needed / GIB:.1f} GiB，但磁盘只剩 {model.free_bytes / GIB:.1f} GiB。",
            "Free space there, or set `HF_HOME` to a larger disk, and start the download again: whole files are not fetched twice.",
            "清理空间，或将 `HF_HOME` 指向更大的磁盘，再重新下载：已完整的文件不会重复下载。",
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


def is_unfinished(model: Model) -> bool:
    """Whether a download goes on, or was broken off and left something missing: a complete model may keep old leftovers."""
    if not model.downloads:
        return False
    return _idle_seconds(model) < IDLE_SECONDS or not model.shards or bool(with_fault(model, "missing", "pointer"))


def _idle_seconds(model: Model) -> float:
    return min(download.idle_seconds for download in model.downloads)


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
    if is_read or with_fault(model) or model.total_bytes is None or model.weight_bytes >= model.total_bytes:
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
