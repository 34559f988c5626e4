"""What the user and the logs already said: matched signatures, the root exception, engine, release, command, values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from assistant.hardware import capability_said
from assistant.packages import listed_packages
from assistant.stages import stopped_at
from kb.catalog.written import file_in, shell_of
from kb.expressions import number
from kb.types import Signature
from probes.scanner import Match, RootException, ScanReport

RELEASE = r"v?(?P<release>\d+\.\d+(?:\.\d+)?(?:\.?(?:post|rc|dev)\d+)*)"
MOVED = (
    r"\b\W{0,3}(?:(?:from|从|由)\W{0,2})?(?:v?\d[\w.]*\W{0,3})?(?:upgraded|updated|moved|downgraded|升级|更新|升|换|降级|降)?"
    r"\W{0,2}(?:to|->|→|到|至|成)\W{0,2}"
)
SAID = r"\s*(?:==|[:=]|-|version|版本(?:是|为)?)?\s*:?\s*"
BANNERS = (
    ("vllm", re.compile(r"vLLM API server version " + RELEASE)),
    ("vllm", re.compile(r"Initializing an? (?:V\d )?LLM engine \(" + RELEASE)),
    ("vllm", re.compile(r"vLLM Version\s*:\s*" + RELEASE)),
    ("vllm", re.compile(r"vllm/vllm-openai:" + RELEASE, re.I)),
    ("sglang", re.compile(r"lmsysorg/sglang:" + RELEASE, re.I)),
    *((engine, re.compile(rf"\b{engine}{MOVED}{RELEASE}", re.I)) for engine in ("vllm", "sglang")),
    *((engine, re.compile(rf"\b{engine}{SAID}{RELEASE}", re.I)) for engine in ("vllm", "sglang")),
)
STARTED = {
    "vllm": re.compile(r"\bvllm serve\b|\bvllm\.entrypoints\b|vllm/vllm-openai"),
    "sglang": re.compile(r"\bsglang\.launch_server\b|\bsglang serve\b|lmsysorg/sglang"),
}
# How each engine's lines and options look where its name is not said.
SHAPES = {
    "vllm": re.compile(
        r"\(?(?:EngineCore|VllmWorker|RayWorkerWrapper|APIServer)\w*(?: pid=|_)|(?:INFO|WARNING|ERROR) \d\d-\d\d \d\d:\d\d:\d\d \[?\w+\.py:\d+\]"
        r"|--(?:max[-_]model[-_]len|gpu[-_]memory[-_]utilization|max[-_]num[-_]seqs|enforce[-_]eager|served-model-name \S+ --tensor)|validation error for \w+Config"
        r"|\bLLM\(model=|structured_outputs|guided_(?:json|regex|choice|grammar)|AsyncLLM|AsyncEngineDead|LLMEngine|SamplingParams|local_world_size|Processed prompts:|Avg prompt throughput|# (?:GPU|cuda) blocks|determine_num_available_blocks"
        r"|transformers v4\.44, default chat template|(?<!srt/)\bmodel_executor\b|execute_model"
    ),
    "sglang": re.compile(
        r"(?m)^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?: [DTPE]P\d+)*\]|sigquit from a child process|--mem[-_]fraction[-_]static|launch_server\.py|sgl[-_]kernel|RadixAttention|RadixCache"
        r"|[Cc]apture cuda graph|token_to_kv_pool|max_total_num_tokens|avail mem=|#(?:running|queue)-req|run_scheduler_process|Scheduler hit an exception|ModelTpServer"
        r"|--(?:disable[-_]radix|disable[-_]cuda[-_]graph|enable[-_]torch[-_]compile|chunked[-_]prefill[-_]size|disaggregation-mode|attention-backend \w+ --mem|tp-size|moe-runner-backend|dist-init-addr|context-length)|DeepGEMM JIT Pre-Compile"
    ),
}
SERVING = re.compile(
    r"(?:^|(?<=[\s`$#]))(?:(?:[A-Z_]+=\S+\s+)*)(?:vllm serve|python3? -m (?:vllm\.entrypoints\.\S+|sglang\.launch_server)|sglang serve|docker run)\b"
)
VARIABLE = re.compile(
    r"(?<![\w.-])(?P<name>(?:VLLM|SGLANG|SGL|NCCL|CUDA|PYTORCH|TORCH|HF|RAY|GLOO|OMP|HIP|ROCR|AITER|TRITON|UCX|MC)_[A-Z0-9_]+)=(?P<value>'[^']*'|\"[^\"]*\"|[^\s'\"]+)"
)
SHORT = {
    f"{short}{size}": f"{name}_parallel_size"
    for short, name in (("tp", "tensor"), ("pp", "pipeline"), ("dp", "data"))
    for size in ("", "_size")
}
FACT_OF = {"compute_capability": "gpu_compute_capability"}  # what a log says about its own machine
ERROR_LINE = re.compile(
    r'\b(?:ERROR|CRITICAL|FATAL|Traceback \(most recent call last\))|\b\w*(?:Error|Exception)\b[:(]|\b(?:fatal )?error: |"code": ?[45]\d\d'
)
OURS = re.compile(
    r"(?i)vllm|sglang|\btorch|pytorch|\bcuda|nccl|nvidia|nvrm|\bxid\b|transformers|huggingface|hf_hub|flashinfer|flash_attn|\btriton|safetensors|tokenizer"
    r"|tensorrt|jinja2|chat.?template|nvshmem|\bray\b|raylet|lmcache|mooncake|deepspeed|\brocm|\bhip|\bgpus?\b|\bllm|uvicorn|oom-kill|out of memory: killed|kubelet|/v1/(?:chat|completions|models)"
    r"|site-packages|dist-packages|\bpip\b|kv ?cache|(?:qwen|llama|deepseek|mistral|gemma|glm)[-_/\d]|samplingparams|world_size|radix|mamba|prefill|attention|quantiz|\bdtype|\blora\b|speculative|显存|显卡|模型"
)
FOREIGN = re.compile(r"(?m)^.{0,80}\b(?:llama_model_load\w*|llama_context|llama_init\w*|ggml_\w+): ")
"""Lines of llama.cpp and what is built on it, which are about the same models."""
PYTHON = re.compile(r"(?i)\.py\b|traceback \(most|multiprocessing|docker|container|systemd|kernel: |killed process")
ENDED_WELL = re.compile(r"Application shutdown complete|Processed prompts: 100%|Finished server process")
FRAME = re.compile(r'Traceback \(most recent|File ".*", line \d|\braise \w|^\s*\^+')
READY = re.compile(
    r"Application startup complete|The server is fired up and ready to roll|Avg (?:prompt|generation) throughput"
    r"|gen throughput \(token/s\)|Uvicorn running on|(?:Prefill|Decode) batch[.,] #|\"(?:GET|POST) /\S* HTTP/1\.[01]\" 200\b"
)

SERVED = re.compile(r"\"(?:GET|POST) /\S* HTTP/1\.[01]\" \d{3}\b")


@dataclass(frozen=True, slots=True)
class Signals:
    """`values` are captured groups by name (numbers where they are numbers), options as `flag_max_model_len`, variables as
    `env_VLLM_USE_V1`."""

    matches: tuple[Match, ...] = ()
    root: RootException | None = None
    engine: str = ""
    release: str = ""
    command: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    has_log: bool = False
    has_errors: bool = False
    is_up: bool = False
    has_recovered: bool = False
    """Whether every log that has an error line shows, behind its last one, a server that is up."""
    is_ours: bool = True
    """Whether any line of the logs may come from a server of this field: its libraries, GPUs, drivers, Python, a container."""
    packages: dict[str, str] = field(default_factory=dict)
    """The versions of packages that the logs list (`assistant.required_packages`)."""
    names_cause: bool = False
    """Whether the logs speak of serving and have an error line that is no known wrapper of another."""


def read_signals(question: str, logs: dict[str, str], reports: Sequence[ScanReport], command: str = "") -> Signals:
    """Signals from the words, the texts of small logs, the scan of all of them, and the serving command."""
    texts = [question, command, *logs.values()]
    command = command.strip() or next((c for t in texts if (c := find_command(t))), "")
    engine, release = engine_and_release(command, [*logs.values(), question])
    matches = tuple(m for report in reports for m in report.matches)
    engine = engine or engine_that_takes([question, command, *logs.values()]) or engine_that_prints(matches)
    values: dict[str, Any] = {}
    capability = capability_said([question, command, *logs.values()])
    if capability is not None:
        values["gpu_compute_capability"] = capability
    for match in matches:
        for name, text in match.groups.items():
            values.setdefault(name, number(text))
    values |= {fact: values[name] for name, fact in FACT_OF.items() if isinstance(values.get(name), int | float)}
    is_foreign = not engine and any(FOREIGN.search(t) for t in logs.values())
    is_known = not is_foreign and (bool(matches) or any(OURS.search(t) for t in logs.values()))
    is_up = any(READY.search(t) or ENDED_WELL.search(t) for t in (question, *logs.values()))
    has_errors = any(ERROR_LINE.search(t) for t in (question, *logs.values()))
    serves = any(SERVED.search(t) for t in logs.values())
    if not (is_up or has_errors or serves) and (stage := stopped_at(logs.values())):
        values["stopped_at"] = stage
    return Signals(
        matches=matches,
        root=next((r.root for r in reports if r.root), None),
        engine=engine,
        release=release,
        command=command,
        values=values | flag_values(command) | variable_values(command) | parser_values(command, engine),
        has_log=bool(logs) or any("\n" in t.strip() and ERROR_LINE.search(t) for t in (question,)),
        is_up=is_up,
        has_recovered=is_up and all(is_up_at_the_end(text, name, matches) for name, text in logs.items()),
        names_cause=is_known and names_cause(matches, reports, logs),
        is_ours=not logs
        or bool(command)
        or is_known
        or (not is_foreign and any(PYTHON.search(t) for t in logs.values())),
        has_errors=has_errors,
        packages=listed_packages([question, *logs.values()]),
    )


def is_up_at_the_end(log: str, name: str, matches: Sequence[Match]) -> bool:
    """Whether a server is up behind a log's last error line, known or not; so is one whose log has none."""
    lines = log.splitlines()
    causes = {shape(m.last.text) for m in matches if m.role == "cause" and m.last.path == name}
    failed = [i for i, line in enumerate(lines, 1) if ERROR_LINE.search(line) or shape(line) in causes]
    return not failed or any(READY.search(line) for line in lines[max(failed) :])


def shape(line: str) -> str:
    """A line without its numbers: the same message at another time, and in a log of which only the ends were read, is alike."""
    return re.sub(r"\d+", "0", line).strip()


def names_cause(matches: Sequence[Match], reports: Sequence[ScanReport], logs: dict[str, str]) -> bool:
    """Whether an exception or an error line says more than that something else failed."""
    wrappers = {(hit.path, hit.line) for m in matches if m.role == "consequence" for hit in (m.first, m.last)}
    if any((r.root.path, r.root.line) not in wrappers for r in reports if r.root):
        return True
    wrapping = {shape(hit.text) for m in matches if m.role == "consequence" for hit in (m.first, m.last)}
    lines = (line for text in logs.values() for line in text.splitlines())
    return any(ERROR_LINE.search(line) and not FRAME.search(line) and shape(line) not in wrapping for line in lines)


def find_command(text: str) -> str:
    """The first serving command in a text, line continuations joined, or the manifest or unit that holds one; else empty."""
    file = file_in(text)
    if file:
        return file.strip("\n")
    joined = re.sub(r"\\\s*\n\s*", " ", text)
    for line in joined.splitlines():
        found = SERVING.search(line)
        if found and ("vllm" in line or "sglang" in line):
            return line[found.start() :].strip().strip("`").strip()
    return ""


def engine_and_release(command: str, others: Iterable[str]) -> tuple[str, str]:
    """The engine that a command starts, or else that the texts speak of, and its release where one is printed or said; empty
    where unknown. An environment may list the other engine's release: SGLang built on vLLM's kernels until 0.4."""
    texts = [t for t in (command, *others) if t]
    started = {engine for engine, pattern in STARTED.items() if pattern.search(command)}
    for engine, pattern in BANNERS:
        for text in texts:
            found = pattern.search(text) if engine in started or len(started) != 1 else None
            if found:
                return engine, found["release"]
    if len(started) == 1:
        return started.pop(), ""
    counts = {name: 3 * sum(len(SHAPES[name].findall(t)) for t in texts) for name in SHAPES}
    for text in texts:
        for name in counts:
            counts[name] += len(re.findall(name, text, re.I))
    best = max(counts, key=lambda name: counts[name])
    return (best, "") if counts[best] else ("", "")


def engine_that_takes(texts: Iterable[str]) -> str:
    """The engine that has more of the flags in these texts than the other has; empty where both have as many."""
    names = {name for text in texts for name in re.findall(r"(?<![\w-])--[a-z][\w-]{3,}", text)}
    if not names:
        return ""
    from kb.catalog.history import ENGINES, shipped

    known = {engine: sum(shipped(engine).entry(name) is not None for name in names) for engine in ENGINES}
    best, second = sorted(ENGINES, key=lambda engine: -known[engine])[:2]
    return best if known[best] > known[second] else ""


def engine_that_prints(matches: Sequence[Match]) -> str:
    """The engine whose sources alone hold the first known error line; empty where none does, or a library prints it."""
    from kb.catalog.printers import printers

    names = ((m.document, m.signature) for m in matches if m.role == "cause")
    return next((engine for name in names if (engine := printers().get(name, ""))), "")


def flag_values(command: str) -> dict[str, Any]:
    """`--max-model-len 8192` as `flag_max_model_len: 8192`; a flag without a value is True, `-tp 2` is `--tensor-parallel-size 2`."""
    try:
        words = shlex.split(command, comments=True)
    except ValueError:
        words = command.split()
    found: dict[str, Any] = {}
    for i, word in enumerate(words):
        is_short = word.startswith("-") and word.lstrip("-") in SHORT
        if not word.startswith("--") and not is_short:
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not equals:
            following = words[i + 1] if i + 1 < len(words) else "--"
            value = "" if following.startswith("--") else following
        name = name.replace("-", "_").replace(".", "_")
        for each in {name, SHORT.get(name, name)}:
            found[f"flag_{each}"] = number(value) if value else True
    return found


def parser_values(command: str, engine: str) -> dict[str, bool]:
    """`flag_tool_call_parser_fits` and `flag_reasoning_parser_fits`: whether a parser in the command is that of its model's family;
    without the family in the table neither is said."""
    model = model_in(command) if "-parser" in command else ""
    if not model or not engine:
        return {}
    from kb.parsers import fits

    return {f"flag_{name}_fits": fit for name, fit in fits(command, model, engine).items()}


def variable_values(command: str) -> dict[str, Any]:
    """`VLLM_USE_V1=1`, set before a command or handed to a container, as `env_VLLM_USE_V1: 1`."""
    return {f"env_{m['name']}": number(m["value"].strip("'\"")) for m in VARIABLE.finditer(command)}


def options_of(command: str) -> list[str]:
    """The names of the options in a command, as they are spelled there."""
    return re.findall(r"(?<!\S)--[a-z][\w-]*", shell_of(command))


def model_in(command: str) -> str:
    """The model that a serving command names; empty where it names none."""
    found = re.search(r"(?:--model(?:-path)?[ =]|vllm serve\s+)(?P<model>[^\s-][^\s]*)", shell_of(command))
    return found["model"].strip("'\"") if found else ""


def distinct(signatures: Iterable[Signature], matches: Iterable[Match]) -> dict[tuple[str, str], Signature]:
    """The signatures that matched, by document and name."""
    seen = {(m.document, m.signature) for m in matches}
    return {(s.document, s.name): s for s in signatures if (s.document, s.name) in seen}
