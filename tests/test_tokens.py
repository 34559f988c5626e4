"""Tokens, line patterns, the glossary, and whether a question is about serving language models."""

import re
import sys

import pytest

from kb.glossary import domain_terms, expand
from kb.tokens import line_pattern, stem, tokenize

ABOUT_SERVING = """
CUDA out of memory when I start vllm
显存不足怎么办
vLLM启动报错 No available memory for the cache blocks
sglang server hangs after loading the weights
how do I shrink the context length so that the KV cache fits
TTFT太高，怎么降低首字延迟
吞吐上不去，GPU利用率只有30%
NCCL timeout on 8 GPUs
the GPU fell off the bus
dmesg里出现 Xid 79
两张4090跑不起来70B模型
RuntimeError: CUDA error: no kernel image is available for execution on the device
unrecognized arguments: --enable-chunked-context
which vLLM release introduced --kv-cache-dtype
what does gpu_memory_utilization do
模型加载特别慢
OSError: You are trying to access a gated repo
容器里看不到显卡
docker run says could not select device driver with capabilities gpu
/dev/shm太小导致NCCL报错
Bus error in worker process
how to enable prefix caching
投机采样怎么配置
draft model makes generation slower
工具调用不生效，返回的是纯文本
tool_choice auto requires --enable-auto-tool-choice
chat template missing for base model
输出乱码，全是感叹号
the model keeps repeating the same sentence
max_tokens被截断
prompt is longer than the maximum context length
LoRA adapter fails to load
AWQ model is slower than fp16
fp8 kv cache on A100
driver version is insufficient for CUDA runtime version
驱动升级之后推理服务起不来
ECC uncorrectable errors on one card
GPU温度过高被降频
tensor parallel size must divide the number of attention heads
多机部署Ray集群连不上
placement group not enough GPUs
EngineCore died unexpectedly
服务卡死，请求没有响应
vllm:num_preemptions_total keeps growing
频繁抢占是什么原因
p99 latency doubled after upgrading the engine
并发100的时候请求排队严重
nginx 504 in front of the inference server
port 8000 already in use when starting the api server
how much GPU memory does Qwen2.5-72B need
Llama-3-8B在A100上吞吐多少正常
H20上跑DeepSeek-R1
ModuleNotFoundError: No module named 'vllm._C'
undefined symbol in flash_attn
pip install vllm pulls the wrong torch
HF_HUB_OFFLINE and model not found
safetensors文件损坏
Prometheus里看哪些指标判断KV cache是否不足
怎么平滑重启推理服务
embedding模型用vLLM怎么起
""".strip().split("\n")

ABOUT_OTHER_THINGS = """
What is the capital of France?
今天北京天气怎么样
How do I centre a div in CSS?
写一首关于秋天的诗
My React app shows a blank page after build
JWT token expires too early in my login service
Postgres is slow and connections time out
MySQL死锁怎么排查
How do I undo the last git commit?
WordPress site returns 502 Bad Gateway
iPhone 充不进电
推荐几部好看的电影
How to bake sourdough bread
股票最近会涨吗
Excel 怎么去重
Windows 11 blue screen after update
My printer does not connect to Wi-Fi
Java heap space OutOfMemoryError in Tomcat
How do I sort a list of dicts in Python?
帮我翻译这段话成英文
Kafka consumer lag keeps growing
Which laptop should I buy for gaming?
Redis 内存满了怎么清理
How to train YOLOv8 on my own images
怎么减肥最快
Who won the world cup in 2018?
Kubernetes ingress returns 404 for my blog
Explain the theory of relativity
如何申请护照
docker compose for a Minecraft server
""".strip().split("\n")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("--max-model-len 8192", ["--max-model-len", "max-model-len", "max", "model", "len", "8192"]),
        ("VLLM_USE_V1", ["vllm_use_v1", "vllm", "use", "v1"]),
        (
            "vllm:num_requests_running",
            ["vllm:num_requests_running", "vllm", "num_requests_running", "num", "request", "run"],
        ),
        ("torch.OutOfMemoryError", ["torch.outofmemoryerror", "torch", "outofmemoryerror", "out", "memory", "error"]),
        ("0.11.0", ["0.11.0"]),
        ("vllm==0.11.0", ["vllm", "0.11.0"]),
        ("Xid 79", ["xid79", "xid", "79"]),
        ("NVRM: Xid (PCI:0000:41:00): 79, pid=1", ["nvrm", "xid79", "xid", "79", "pid", "1"]),
        ("24 GiB", ["24gib", "24"]),
        ("80GB", ["80gb", "80"]),
        ("显存不足", ["显存", "存不", "不足"]),
        ("卡", ["卡"]),
        ("启动vllm后OOM", ["启动", "vllm", "后", "oom"]),
        ("ＴＴＦＴ：５秒", ["ttft:5", "ttft", "5", "秒"]),
        ("the servers were crashing", ["server", "crash"]),
        ("", []),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


def test_a_model_stays_whole_and_its_parts_are_found() -> None:
    tokens = tokenize("meta-llama/Llama-3.1-8B-Instruct")
    assert tokens[0] == "meta-llama/llama-3.1-8b-instruct"
    assert {"llama-3.1-8b-instruct", "llama", "3.1", "8b", "instruct"} <= set(tokens)


@pytest.mark.parametrize(
    "words",
    [
        ["request", "requests", "requested", "requesting"],
        ["stop", "stops", "stopped", "stopping"],
        ["preempt", "preempted"],
        ["quantize", "quantized", "quantizing"],
        ["retry", "retries", "retried"],
        ["crash", "crashes", "crashed"],
    ],
)
def test_forms_of_a_word_become_one(words: list[str]) -> None:
    assert len({stem(word) for word in words}) == 1


@pytest.mark.parametrize("word", ["gpu", "gpus", "bus", "nvidia", "process", "status", "class", "loss"])
def test_short_words_and_words_in_ss_stay(word: str) -> None:
    assert stem(word) in (word, word.removesuffix("s") if word == "gpus" else word)


LINES = {
    "CUDA out of memory. Tried to allocate 2.00 GiB": [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 512.00 MiB. GPU 0 has a total capacity of 23.70 GiB",
    ],
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 23.70 GiB total capacity)": [
        "RuntimeError: CUDA out of memory. Tried to allocate 1.12 GiB (GPU 3; 79.15 GiB total capacity)",
    ],
    "RuntimeError: CUDA error: invalid configuration argument": [
        "torch.AcceleratorError: CUDA error: invalid configuration argument",
    ],
    "[1039482.118] NVRM: Xid (PCI:0000:4e:00): 79, pid=2231, name=VLLM::Worker_TP3, GPU has fallen off the bus.": [
        "Mar 18 09:12:44 host kernel: NVRM: Xid (PCI:0000:9b:00): 79, pid=8, name=python3, GPU has fallen off the bus.",
    ],
    "ERROR 07-11 12:03:55 [core.py:586] ValueError: The model's max seq len (131072) is larger than the maximum number of "
    "tokens that can be stored in KV cache (20304).": [
        "ValueError: The model's max seq len (32768) is larger than the maximum number of tokens that can be stored in KV "
        "cache (1168). Try increasing `gpu_memory_utilization`",
    ],
    "OSError: meta-llama/Llama-3-8B is not a local folder": [
        "OSError: Qwen/Qwen2.5-7B is not a local folder and is not a valid model identifier",
    ],
    "[Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use": [
        "ERROR: [Errno 98] error while attempting to bind on address ('10.1.1.3', 30000): address already in use",
    ],
    "Out of memory: Killed process 12345 (python3) total-vm:123456kB, anon-rss:98765kB": [
        "[9.1] Out of memory: Killed process 7 (VLLM::EngineCor) total-vm:9kB, anon-rss:9kB",
    ],
    "RuntimeError: Failed to load weights from /data/models/a/model-00001-of-00037.safetensors": [
        "RuntimeError: Failed to load weights from ./b/model.safetensors",
    ],
}


@pytest.mark.parametrize("line", LINES)
def test_a_pattern_matches_the_same_message_with_other_values(line: str) -> None:
    pattern = line_pattern(line)
    assert all(re.search(pattern, other) for other in [line, *LINES[line]])
    assert not re.search(pattern, "INFO 07-11 12:03:55 [core.py:586] Application startup complete.")


def test_patterns_name_the_values_whose_meaning_is_plain() -> None:
    line = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 594.00 MiB. GPU 0 has a total capacity of 79.10 GiB of "
        "which 1.50 GiB is free. Including non-PyTorch memory, this process has 78.97 GiB memory in use."
    )
    found = re.search(line_pattern(line), line)
    assert found
    values = {name: value for name, value in found.groupdict().items() if value is not None}
    assert values == {"requested_mib": "594.00", "total_gib": "79.10", "free_gib": "1.50", "used_gib": "78.97"}
    other = re.search(
        line_pattern(line), "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 23.70 GiB total capacity)"
    )
    assert other
    assert other["requested_gib"] == "2.00"


def test_codes_that_carry_the_meaning_stay() -> None:
    assert not re.search(
        line_pattern("NVRM: Xid (PCI:0000:4e:00): 79, GPU lost from bus"),
        "NVRM: Xid (PCI:0000:4e:00): 48, GPU lost from bus",
    )
    assert "137" in line_pattern("container exited with code 137")


@pytest.mark.parametrize("line", ["", "ERROR", "RuntimeError: failed", "E 1234", "....", "Traceback", "[rank0]:"])
def test_vague_lines_give_no_pattern(line: str) -> None:
    assert line_pattern(line) == ""


def test_patterns_compile_in_hyperscan() -> None:
    hyperscan = pytest.importorskip("hyperscan", reason="no wheel of hyperscan for this platform")
    expressions = [line_pattern(line).encode() for line in LINES]
    database = hyperscan.Database()
    database.compile(
        expressions=expressions, ids=list(range(len(expressions))), flags=[hyperscan.HS_FLAG_UTF8] * len(expressions)
    )
    seen: set[int] = set()
    for number, line in enumerate(LINES):
        database.scan(line.encode(), match_event_handler=lambda i, *_: seen.add(i) and None)
        assert number in seen


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("显存不足怎么办", {"CUDA out of memory", "OOM", "爆显存"}),
        ("OOM on start", {"显存不足"}),
        ("首字延迟很高", {"TTFT", "time to first token"}),
        ("TTFT is high", {"首字延迟", "time to first token"}),
        ("吞吐量低", {"throughput"}),
        ("频繁抢占", {"preemption"}),
        ("tensor-parallel across two GPUs", {"张量并行"}),
        ("掉卡", {"fallen off the bus"}),
        ("the server hangs", {"卡死", "卡住"}),
        ("网关超时", {"504", "Gateway Timeout"}),
        ("address already in use", {"端口占用"}),
        ("max_model_len", {"上下文长度"}),
    ],
)
def test_expand_gives_the_terms_of_the_other_language(text: str, terms: set[str]) -> None:
    assert terms <= set(expand(text))


def test_expand_adds_nothing_to_other_talk_and_nothing_said_already() -> None:
    assert expand("the quick brown fox") == []
    assert "吞吐" not in expand("吞吐")


@pytest.mark.parametrize("question", ABOUT_SERVING)
def test_questions_about_serving_have_terms_of_the_field(question: str) -> None:
    assert domain_terms(question)


@pytest.mark.parametrize("question", ABOUT_OTHER_THINGS)
def test_questions_about_other_things_have_none(question: str) -> None:
    assert domain_terms(question) == []


def test_the_terms_are_named() -> None:
    assert domain_terms("vLLM 报 Xid 79，--max-model-len 8192 也起不来")[:2] == ["Xid 79", "--max-model-len"]
    assert len(ABOUT_SERVING) >= 60
    assert len(ABOUT_OTHER_THINGS) >= 30


def test_nothing_heavy_is_imported() -> None:
    import subprocess

    code = "import sys, kb.glossary; kb.glossary.expand('显存'); print('yaml' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
