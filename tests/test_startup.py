"""What a start-up log tells of the setup, from the lines that vLLM and SGLang print."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from assistant.signals import Signals
from assistant.sizing import sized
from assistant.startup import Startup, read_startup
from kb.sizing.plan import plan
from kb.sizing.setup import GIB
from kb.sizing.tables import known_model

Run = Callable[..., tuple[int, str, str]]

ROOT = Path(__file__).parent.parent
# Of llm-d-planner, accuracy/results/v0.19.0/logs/google-gemma-3-12b-it--h100-80gb--tp1pp1dp1--8192.log
GEMMA = """\
(APIServer pid=1) INFO 04-22 16:04:09 [entrypoints/utils.py:233] non-default args: {'model_tag': 'google/gemma-3-12b-it', 'model': 'google/gemma-3-12b-it', 'max_model_len': 8192, 'gpu_memory_utilization': 0.95, 'enable_prefix_caching': False}
(APIServer pid=1) INFO 04-22 16:04:09 [config/scheduler.py:238] Chunked prefill is enabled with max_num_batched_tokens=8192.
(EngineCore pid=510) INFO 04-22 16:04:33 [v1/engine/core.py:105] Initializing a V1 LLM engine (v0.19.0) with config: model='google/gemma-3-12b-it', speculative_config=None, tokenizer='google/gemma-3-12b-it', dtype=torch.bfloat16, max_seq_len=8192, tensor_parallel_size=1, pipeline_parallel_size=1, data_parallel_size=1, quantization=None, enforce_eager=False, kv_cache_dtype=auto, device_config=cuda
(EngineCore pid=510) DEBUG 04-22 16:04:35 [v1/worker/gpu_worker.py:284] worker init memory snapshot: torch_peak=0.0GiB, free_memory=78.68GiB, total_memory=79.19GiB, cuda_memory=0.51GiB
(EngineCore pid=510) INFO 04-22 16:06:20 [v1/worker/gpu_worker.py:436] Available KV cache memory: 47.72 GiB
(EngineCore pid=510) INFO 04-22 16:06:20 [v1/core/kv_cache_utils.py:1319] GPU KV cache size: 130,304 tokens
"""


def started(text: str) -> Startup:
    found = read_startup(text)
    assert found is not None
    return found


def case(name: str) -> str:
    log: str = yaml.safe_load((ROOT / f"evals/cases/{name}.yaml").read_text("utf-8"))["log"]
    return log


def test_vllm_tells_all_that_the_arithmetic_needs() -> None:
    found = started(GEMMA)
    setup = found.setup
    assert (found.model, setup.release, found.tokens) == ("google/gemma-3-12b-it", "0.19.0", 130304)
    assert (setup.fraction, setup.max_model_len, setup.batched_tokens) == (0.95, 8192, 8192)
    assert setup.gpu_memory_bytes == int(79.19 * GIB) and setup.cache_dtype == "auto"


@pytest.mark.parametrize("name", ["healthy-v1-start", "healthy-sglang-start"])
def test_the_pool_of_a_log_follows_from_its_numbers(name: str) -> None:
    found = started(case(name))
    known = known_model(found.model)
    assert known is not None and found.tokens is not None
    assert plan(known.config, found.setup).value("kv_tokens") == pytest.approx(found.tokens, rel=0.0005)


def test_sglang_tells_its_arguments() -> None:
    found = started(case("healthy-sglang-start"))
    assert (found.setup.engine, found.setup.tensor, found.setup.fraction) == ("sglang", 2, 0.88)
    assert found.setup.free_bytes == int(78.41 * GIB) and found.setup.weights_bytes == int(30.89 * GIB)


def test_the_last_start_counts() -> None:
    first = (
        "vLLM API server version 0.9.1\nInitializing a V1 LLM engine (v0.9.1) with config: model='a/b', max_seq_len=1\n"
    )
    second = "vLLM API server version 0.11.0\nInitializing a V1 LLM engine (v0.11.0) with config: model='c/d', max_seq_len=2\n"
    found = started(first + "Available KV cache memory: 1.00 GiB\n" + second)
    assert (found.model, found.setup.release, found.setup.available_bytes) == ("c/d", "0.11.0", None)


def test_a_log_without_a_start_tells_nothing() -> None:
    assert read_startup("INFO: Application startup complete.") is None


def test_nothing_left_is_no_number() -> None:
    assert started(GEMMA.replace("47.72", "-2.14")).setup.available_bytes is None


def test_a_diagnosis_needs_no_command_where_the_log_tells() -> None:
    found = sized(Signals(), {}, log=GEMMA)
    assert found["sized_kv_tokens"].value == 130304 and found["sized_model_len"].value == 131072


def test_the_command_line_takes_a_log(crashcart: Run, tmp_path: Path) -> None:
    path = tmp_path / "vllm.log"
    path.write_text(GEMMA)
    code, out, err = crashcart("size", "--log", str(path), "--json")
    found = json.loads(out)
    assert (code, err, found["kv_tokens"]) == (0, "", 130304)
    assert "The log prints 130304 tokens." in found["assumptions"]
    path.write_text("nothing")
    code, out, err = crashcart("size", "--log", str(path))
    assert code == 64 and "name the model instead" in err
