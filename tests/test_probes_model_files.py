"""Model folders written as they occur: whole, cut off, pointers, half downloaded, and hostile."""

import contextlib
import json
import os
import struct
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kb.sizing.tensors import Tensor
from probes import model_files
from probes.reading.checkpoints import (
    BadHeader,
    conflicts,
    is_pointer,
    parse_header,
    parse_index,
    parse_length,
    parse_pointer,
    read_shard,
)
from probes.reading.model_places import Place, find_models, model_of, snapshot_of
from probes.reading.models import outline_of, read_model, wanted_weights
from probes.reading.servers import Server
from probes.registry import run_probe
from probes.types import ProbeResult, Target

ROOT = Path(__file__).parent.parent
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 4976698672\n"
)
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "torch_dtype": "bfloat16",
    "max_position_embeddings": 131072,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
}
TENSORS = {"model.embed_tokens.weight": ("BF16", [32, 8]), "lm_head.weight": ("BF16", [32, 8])}
MORE = {"model.norm.weight": ("BF16", [8]), "model.layers.0.mlp.gate.weight": ("F32", [4, 8])}
WIDTH = {"BF16": 2, "F32": 4, "F16": 2, "I32": 4, "U8": 1}


def header(tensors: Mapping[str, tuple[str, list[int]]]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    reached = 0
    for name, (dtype, shape) in tensors.items():
        size = WIDTH[dtype]
        for each in shape:
            size *= each
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [reached, reached + size]}
        reached += size
    return json.dumps(entries).encode()


def write_shard(path: Path, tensors: Mapping[str, tuple[str, list[int]]]) -> int:
    """Write a whole file; its size."""
    text = header(tensors)
    data = parse_header(text).data_bytes
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))
    return 8 + len(text) + data


def write_model(folder: Path, **config: object) -> Path:
    """Write a model of two shards with all that belongs to it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    write_shard(folder / "model-00001-of-00002.safetensors", TENSORS)
    write_shard(folder / "model-00002-of-00002.safetensors", MORE)
    places = dict.fromkeys(TENSORS, "model-00001-of-00002.safetensors")
    places |= dict.fromkeys(MORE, "model-00002-of-00002.safetensors")
    index = {"metadata": {"total_size": 1168}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    return folder


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ProbeResult]:
    """Run the probe over a folder of models, with an empty cache."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-cache"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)

    def run(*directories: Path) -> ProbeResult:
        return model_files.model_files(Target(model_directories=tuple(map(str, directories))))

    return run


def test_a_whole_model_is_ok(tmp_path: Path, look: Callable[..., ProbeResult]) -> None:
    result = look(write_model(tmp_path / "llama"))
    assert result.status == "ok", result.summary
    assert result.facts == {
        "model_weights_gib": 0.0,
        "model_shards_missing": 0,
        "model_shards_broken": 0,
        "model_is_lfs_pointer": False,
        "model_download_unfinished": False,
        "model_has_config": True,
        "model_has_tokenizer": True,
        "model_has_chat_template": True,
        "model_quantization": "none",
        "model_rope_scaling": "llama3",
        "model_needs_own_code": False,
        "model_architecture": "LlamaForCausalLM",
        "model_dtype": "bfloat16",
        "model_max_position_embeddings": 131072,
    }
    (model,) = result.data["models"]
    assert model["dtypes"] == {
        "BF16": {"tensors": 3, "values": 520, "bytes": 1040},
        "F32": {"tensors": 1, "values": 32, "bytes": 128},
    }
    assert (model["weight_files"], model["headers_read"], model["total_bytes"]) == (2, 2, 1168)
    facts = yaml.safe_load((ROOT / "kb/data/facts.yaml").read_text("utf-8"))
    assert set(result.facts) == {name for name, fact in facts.items() if fact["probe"] == "model_files"}


def test_a_missing_shard_is_named(tmp_path: Path, look: Callable[..., ProbeResult]) -> None:
    folder = write_model(tmp_path / "org" / "llama")
    (folder / "model-00002-of-00002.safetensors").unlink()
    result = look(tmp_path)
    assert result.status == "critical"
    assert result.summary == "1 of 2 weight files of org/llama are missing (first model-00002-of-00002.safetensors)."
    assert result.facts["model_shards_missing"] == 1
    assert f"hf download org/llama --local-dir {folder}" in result.advice[0]


def test_a_numbered_shard_is_missed_without_an_index(tmp_path: Path, look: Callable[..., ProbeResult]) -> None:
    folder = write_model(tmp_path / "llama")
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model-00001-of-00002.safetensors").unlink()
    assert look(folder).facts["model_shards_missing"] == 1


@pytest.mark.parametrize(
    ("keep", "words"), [(-1, "bytes and its header asks for"), (60, "ends inside its header"), (0, "is empty")]
)
def test_a_shard_that_is_cut_off(tmp_path: Path, look: Callable[..., ProbeResult], keep: int, words: str) -> None:
    folder = write_model(tmp_path / "llama")
    path = folder / "model-00001-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    result = look(folder)
    assert result.status == "critical"
    assert result.summary.startswith("model-00001-of-00002.safetensors of llama is cut off: it ")
    assert words in result.summary
    assert result.facts["model_shards_broken"] == 1
    assert "--force-download" in result.advice[0]


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html><head><title>404</title>",
        struct.pack("<Q", 20) + b"this is not json !!!" + bytes(64),
        struct.pack("<Q", 2) + b"[]" + bytes(64),
        struct.pack("<Q", 5_000_000_000) + bytes(64),
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        struct.pack("<Q", 2) + b"{}" + bytes(64),
    ],
)
def test_a_file_that_is_no_safetensors_file(tmp_path: Path, look: Callable[..., ProbeResult], content: bytes) -> None:
    folder = write_model(tmp_path / "llama")
    (folder / "model-00001-of-00002.safetensors").write_bytes(content)
    result = look(folder)
    assert "is damaged" in result.summary
    assert result.facts["model_shards_broken"] == 1


def test_pointers_of_git_lfs_are_told(tmp_path: Path, look: Callable[..., ProbeResult]) -> None:
    folder = write_model(tmp_path / "llama")
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "tokenizer.json"):
        (folder / name).write_bytes(POINTER)
    result = look(folder)
    assert result.status == "critical"
    assert result.summary.startswith("3 files of llama are only git-LFS pointers")
    assert result.facts["model_is_lfs_pointer"] is True
    assert result.facts["model_weights_gib"] == 0
    assert parse_pointer(POINTER) == 4976698672
    assert is_pointer(POINTER, len(POINTER))
    assert not is_pointer(POINTER, 1 << 30)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "it is empty"), ("{", "it is not JSON"), ("[]", "it is no JSON object"), (POINTER.decode(), "LFS pointer")],
)
def test_a_configuration_of_no_use(tmp_path: Path, look: Callable[..., ProbeResult], text: str, words: str) -> None:
    folder = write_model(tmp_path / "llama")
    (folder / "config.json").write_text(text)
    result = look(folder)
    assert result.status == "critical"
    assert words in result.summary
    assert result.facts["model_has_config"] is False
    assert "model_architecture" not in result.facts


def test_what_belongs_to_a_model_and_is_not_there(tmp_path: Path, look: Callable[..., ProbeResult]) -> None:
    folder = write_model(tmp_path / "llama")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    result = look(folder)
    assert result.summary == f"{folder} holds weights but no config.json."
    (folder / "config.json").write_text("{}")
    result = look(folder)
    assert result.summary == f"{folder} holds no tokenizer files."
    assert result.facts["model_has_chat_template"] is False


def test_a_damaged_index_is_told_and_leads_nowhere(tmp_path: Path, look: Callable[..., ProbeResult]) -> None:
    folder = write_model(tmp_path / "llama")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../etc/passwd"}}')
    result = look(folder)
    assert "names files outside of its folder" in result.summary
    assert result.data["models"][0]["weight_files"] == 2
    (folder / "model.safetensors.index.json").write_text('{"metadata": 3}')
    assert "it is not an index of shards" in look(folder).summary


def test_files_that_contradict_each_other(tmp_path: Path, look: Callable[..., ProbeResult]) -> None:
    folder = write_model(tmp_path / "llama")
    write_shard(folder / "model-00002-of-00002.safetensors", {"lm_head.weight": ("BF16", [4])})
    result = look(folder)
    assert result.status == "warning"
    found = result.data["models"][0]["disputes"]
    assert "lm_head.weight is in model-00001-of-00002.safetensors and model-00002-of-00002.safetensors" in found
    assert len(found) == 3


def test_a_quantization_that_no_tensor_shows(tmp_path: Path, look: Callable[..., ProbeResult]) -> None:
    folder = write_model(tmp_path / "llama", quantization_config={"quant_method": "awq", "bits": 4})
    result = look(folder)
    assert result.summary == "config.json of llama says awq, but no tensor is packed (BF16, F32)."
    assert result.facts["model_quantization"] == "awq"


def test_only_one_of_two_formats_counts() -> None:
    both = ["consolidated.00.pth", "consolidated.safetensors", "model-00001-of-00001.safetensors", "pytorch_model.bin"]
    assert wanted_weights(both, {}) == ["model-00001-of-00001.safetensors"]
    assert wanted_weights(["consolidated.safetensors", "params.json"], {}) == ["consolidated.safetensors"]
    assert wanted_weights(["pytorch_model.bin", "training_args.bin"], {}) == ["pytorch_model.bin"]
    assert wanted_weights(["m-00001-of-00003.gguf", "x.gguf"], {}) == ["m-00001-of-00003.gguf", "x.gguf"]
    assert wanted_weights(["config.json"], {}) == []


def test_the_cache_is_read_by_its_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = tmp_path / "hub"
    repository = hub / "models--org--llama"
    whole = write_model(tmp_path / "elsewhere")
    snapshot = repository / "snapshots" / "0e9e39f249a16976918f6564b8830bc894c89659"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(snapshot.name)
    (repository / "snapshots/older").mkdir()
    for number, path in enumerate(sorted(whole.iterdir())):
        blob = repository / "blobs" / f"{number:040x}"
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/{blob.name}")
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    assert snapshot_of(str(hub), "org/llama") == str(snapshot)
    result = model_files.model_files(Target())
    assert (result.status, result.data["models"][0]["name"]) == ("ok", "org/llama")
    unfinished = repository / "blobs/abc.incomplete"
    unfinished.write_bytes(bytes(100))
    result = model_files.model_files(Target())
    assert result.status == "warning"
    assert result.summary.startswith("The download of org/llama goes on: 1 files are unfinished")
    os.utime(unfinished, (time.time() - 5000, time.time() - 5000))
    result = model_files.model_files(Target())  # a leftover beside a complete model
    assert (result.status, result.facts["model_download_unfinished"]) == ("ok", False)
    assert result.data["models"][0]["downloads"][0]["name"] == "abc.incomplete"
    (snapshot / "model-00002-of-00002.safetensors").unlink()
    result = model_files.model_files(Target())
    assert "1 of 2 weight files of org/llama are missing" in result.summary
    assert "was broken off" in result.data["findings"][1]
    assert result.facts["model_download_unfinished"] is True
    assert any("`hf download org/llama`" in advice for advice in result.advice)


def test_a_download_that_does_not_fit_on_the_disk(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "llama")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["metadata"]["total_size"] = 1 << 60
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / ".cache/huggingface/download").mkdir(parents=True)
    (folder / ".cache/huggingface/download/model-00002.abc.incomplete").write_bytes(b"x")
    model = read_model(Place("llama", str(folder), "model directory", True), (str(folder),))
    result = model_files.judge([model], [])
    assert result.status == "critical"
    assert result.summary.startswith("The download of llama needs 1073741824.0 GiB more, and ")


def test_what_lies_outside_is_not_read(tmp_path: Path, look: Callable[..., ProbeResult]) -> None:
    secret = write_model(tmp_path / "outside")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "linked").symlink_to(secret)
    result = look(inside)
    assert result.status == "unknown"
    assert "lies outside the folders that may be read" in result.summary
    assert result.summary_zh.endswith("。")
    folder = write_model(inside / "llama")
    (folder / "model-00001-of-00002.safetensors").unlink()
    (folder / "model-00001-of-00002.safetensors").symlink_to(secret / "model-00001-of-00002.safetensors")
    result = look(inside)
    assert result.status == "unknown"
    assert "could not be looked at" in result.summary
    assert result.summary_zh.endswith("。")


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "llama")
    for name in ("config.json", "tokenizer_config.json", "model-00001-of-00002.safetensors"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
    result = run_probe("model_files", Target(model_directories=(str(folder),)), 5)
    assert "config.json is a FIFO, not a regular file" in result.summary
    assert any("could not be looked at" in each for each in result.data["findings"])


def test_a_file_of_a_gibibyte_costs_its_header_alone(tmp_path: Path) -> None:
    text = header({"w": ("U8", [1 << 30])})
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + (1 << 30))
    shard = read_shard(str(tmp_path), path.name, (str(tmp_path),))
    assert (shard.fault, shard.size_bytes, shard.header_bytes) == ("", 8 + len(text) + (1 << 30), 8 + len(text))
    assert shard.header
    assert shard.header.tensors == {"w": Tensor("U8", (1 << 30,))}


def test_a_header_above_the_cap_is_left_unread(tmp_path: Path) -> None:
    size = write_shard(tmp_path / "model.safetensors", {f"layers.{i}": ("U8", [1]) for i in range(5_000)})
    shard = read_shard(str(tmp_path), "model.safetensors", (str(tmp_path),), 1000)
    assert (shard.fault, shard.size_bytes, shard.header) == ("", size, None)
    whole = read_shard(str(tmp_path), "model.safetensors", (str(tmp_path),))
    assert whole.header
    assert len(whole.header.tensors) == 5_000
    assert conflicts([whole], {"layers.0": "model.safetensors", "gone": "other.safetensors"}) == []


SERVER = Server(10, "vllm", "vllm serve MODEL", 8000)


@pytest.mark.parametrize(
    ("command", "model"),
    [
        ("vllm serve org/llama --port 1", "org/llama"),
        ("/opt/v/bin/python3 /opt/v/bin/vllm serve /models/a --port 1", "/models/a"),
        ("python -m vllm.entrypoints.openai.api_server --model=/models/a", "/models/a"),
        ("python3 -m sglang.launch_server --port 3 --model-path /models/b --tp 2", "/models/b"),
        ("vllm serve --port 8000", ""),
        ("nginx -g 'daemon off;'", ""),
    ],
)
def test_the_model_that_a_server_names(command: str, model: str) -> None:
    assert model_of(command) == model


def test_a_servers_path_is_followed_under_the_folders_alone(tmp_path: Path) -> None:
    models, outside = write_model(tmp_path / "models/a"), write_model(tmp_path / "other/b")
    servers = [
        Server(10, "vllm", f"vllm serve {models}", 8000),
        Server(11, "vllm", f"vllm serve {outside}", 8000),
        Server(12, "vllm", "vllm serve org/not-here", 8000),
    ]
    places, refused, _ = find_models((str(tmp_path / "models"),), (), servers)
    assert [(place.path, place.origin, place.wanted) for place in places] == [
        (str(models), "running vllm (pid 10)", True)
    ]
    assert len(refused) == 1
    assert refused[0].startswith(f"running vllm (pid 11): {outside} lies outside")


def test_the_served_model_is_what_facts_are_about(tmp_path: Path) -> None:
    write_model(tmp_path / "models/a", model_type="one")
    served = write_model(tmp_path / "models/b", max_position_embeddings=7)
    directories = (str(tmp_path / "models"),)
    places, _, roots = find_models(directories, (), [Server(1, "vllm", f"vllm serve {served}", 8000)])
    result = model_files.judge([read_model(place, roots) for place in places], [])
    assert result.facts["model_max_position_embeddings"] == 7
    places, _, roots = find_models(directories)
    assert len(places) == 2
    assert model_files.judge([read_model(place, roots) for place in places], []).facts == {}


def test_configurations_are_read_through_their_parts() -> None:
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "auto_map": {"AutoModel": "modeling.Own"},
        "text_config": {"dtype": "bfloat16", "max_position_embeddings": 131072, "rope_parameters": {"rope_type": "x"}},
        "quantization_config": {"quant_method": "fp8"},
    }
    outline = outline_of(config)
    assert (outline.dtype, outline.max_position_embeddings, outline.rope_type) == ("bfloat16", 131072, "x")
    assert (outline.own_code, outline.quantization) == (True, "fp8")
    assert outline_of({"architectures": 3, "text_config": [], "rope_scaling": "none"}).architectures == ()


def test_headers_of_another_form_are_refused() -> None:
    sound = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    assert parse_header(json.dumps({"a": sound}).encode()).data_bytes == 4
    for change in (
        {"data_offsets": [1, 5]},
        {"data_offsets": [0, 5]},
        {"data_offsets": [4, 0]},
        {"data_offsets": [0]},
        {"data_offsets": [True, 4]},
        {"shape": [-4]},
        {"shape": "4"},
        {"dtype": 8},
    ):
        with pytest.raises(BadHeader):
            parse_header(json.dumps({"a": {**sound, **change}}).encode())
    with pytest.raises(BadHeader, match="shorter"):
        parse_length(b"123")
    assert parse_index('{"weight_map": {"a": "b"}}') == ({"a": "b"}, None)


def test_types_that_are_not_known_yet_are_no_fault() -> None:
    text = b'{"a": {"dtype": "F2_NEW", "shape": [4], "data_offsets": [0, 1]}}'
    assert parse_header(text).tensors == {"a": Tensor("F2_NEW", (4,))}


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(content: bytes) -> None:
    for parse in (parse_header, parse_length, lambda b: parse_index(b.decode("utf-8", "replace"))):
        with contextlib.suppress(BadHeader):
            parse(content)
    parse_pointer(content)


def test_sizes_of_tensors() -> None:
    assert Tensor("BF16", (2, 3)).size_bytes == 12
    assert Tensor("F4", (5,)).size_bytes == 3
    assert Tensor("F32", ()).size_bytes == 4
    assert Tensor("I32", (0, 7)).size_bytes == 0


def test_an_archive_of_torch_without_its_end_is_cut_off(tmp_path: Path, look: Callable[..., ProbeResult]) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    path = folder / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 18))
    assert look(folder).status == "ok"
    path.write_bytes(path.read_bytes()[:-100])
    result = look(folder)
    assert result.summary == "pytorch_model.bin of old is cut off: it is a zip archive without its central directory."
    path.rename(folder / "old.gguf")
    assert "does not begin with GGUF" in look(folder).summary


def test_sizes_speak_where_headers_were_not_read(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "llama")
    place = Place("llama", str(folder), "model directory", True)
    assert model_files.judge([read_model(place, (str(folder),), 0)], []).status == "ok"
    with (folder / "model-00001-of-00002.safetensors").open("r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 600)
    result = model_files.judge([read_model(place, (str(folder),), 0)], [])
    assert result.status == "warning"
    assert "have 0.0 GiB, and their index says 0.0 GiB" in result.summary
