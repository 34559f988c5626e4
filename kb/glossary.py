"""The field's terms in Chinese and English: for widening a search, and for telling whether a question is of this field."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kb.tokens import stem

_FILE = Path(__file__).with_suffix(".tsv")  # plain text: read in 2 ms, where importing a YAML parser takes 25
_UNIT = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]|[a-z]+|\d+")
_READ_CHARACTERS = 4000  # of a question with a pasted log, the first page says what it is about
_WEIGHTS = {"s": 1.0, "f": 0.5, "g": 0.3}
_ENOUGH = 0.5
_MAKERS = frozenset(
    {"nvidia", "英伟达", "显卡", "graphics card", "gpu card"}
)  # a share, a game or a desktop has them too
_GENERIC = frozenset(
    [
        "vllm",
        "sglang",
        "model",
        "load",
        "gpu",
        "card",
        "llm",
        "inference",
        "server",
        "service",
        "start",
        "start-up",
        "startup",
        "slow",
        "slower",
        "crash",
        "error",
        "fail",
        "failed",
        "install",
        "launch",
        "run",
        "deploy",
        "log",
        "request",
        "模型",
        "推理",
        "推理服务",
        "推理引擎",
        "推理框架",
        "模型服务",
        "inference server",
        "ai server",
        "ai service",
        "inference engine",
        "model serving",
        "llm serving",
        "nvidia",
        "英伟达",
        "graphics card",
        "gpu card",
        "endpoint",
        "显卡",
        "大模型",
        "慢",
        "很慢",
        "太慢",
        "卡",
        "报错",
        "错误",
        "失败",
        "崩溃",
        "挂了",
        "起不来",
        "启动",
        "服务",
        "部署",
        "启动失败",
        "异常",
        "日志",
        "请求",
        "加载",
        "安装",
    ]
)

# Names that follow a form, each alone enough: flags, variables, metrics, models, GPUs, kernel reports.
_NAMES = re.compile(
    r"--[a-z-]*(?:model|gpu|token|cache|parallel|quant|seq|lora|prefill|chunk|dtype|tensor|specul|kv-|eager|batch|mem-frac|served"
    r"|trust-remote|attention|swap-space|cpu-offload|tool-call|reasoning|radix|cuda-graph|mm-|nnodes|dist-init)[a-z-]*"
    r"|\b(?:VLLM|SGLANG|SGL|NCCL|CUDA|HF|TORCH|PYTORCH|NVIDIA|TRITON|FLASHINFER|RAY|GLOO)_[A-Z0-9_]+"
    r"|\b(?:vllm|sglang):[a-z_]+"
    r"|\bcu(?:da|blas|dnn)[A-Z_]\w+|\b(?:torch\.\w+\.?\w*|max_model_len|[A-Z]\w*For(?:CausalLM|ConditionalGeneration))"
    r"|\b(?:RTX ?(?:PRO )?[A]?\d{4}|[AH]\d00s?|H20|H200|L40S?|A10G?|V100|GH200|G?B[23]00|GB10|DGX|MI\d{3}X?|[2345]0[6789]0(?: ?Ti)?)\b"
    r"|\b(?:qwen|llama|deepseek|glm|gemma|mistral|phi)[-_]?v?\d[\w.-]*|\b(?!0x)\d+(?:\.\d+)?(?:x\d+)?B\b"
    r"|\bXid ?:?\d+|\bsm_?\d{2,3}\b",
    re.A | re.I,
)


_PRODUCT = re.compile(r"(?:qwen|llama|deepseek|glm|gemma|mistral|mixtral|phi|yi|gpt|rtx|[ahlbv]\d{2,3}|\d+b\b)", re.I)


@dataclass(frozen=True, slots=True)
class Term:
    """A term as it stands in the glossary: the number of its line, and the class of that line (s, f, g or x)."""

    text: str
    line: int
    kind: str


@dataclass(frozen=True, slots=True)
class _Glossary:
    """The lines, every term by its key, and for the first unit of a term how many units the longest such term has."""

    lines: tuple[tuple[str, ...], ...]
    terms: dict[str, Term]
    longest: dict[str, int]


@cache
def _glossary() -> _Glossary:
    lines: list[tuple[str, ...]] = []
    terms: dict[str, Term] = {}
    longest: dict[str, int] = {}
    for row in _FILE.read_text("utf-8").splitlines():
        if not row.startswith("#"):
            kind, *names = row.split("\t")
            for name in names:
                units = _units(name)
                terms.setdefault(" ".join(units), Term(name, len(lines), kind))
                longest[units[0]] = max(longest.get(units[0], 0), len(units))
            lines.append(tuple(names))
    return _Glossary(tuple(lines), terms, longest)


def _units(text: str) -> list[str]:
    """Chinese characters, stemmed words and numbers, in order; marks between them do not count."""
    return [stem(unit) for unit in _UNIT.findall(unicodedata.normalize("NFKC", text).lower())]


def find_terms(text: str) -> Iterator[Term]:
    """The glossary's terms in the first 4,000 characters of a text, the longest at each place."""
    glossary = _glossary()
    units = _units(text[:_READ_CHARACTERS])
    start = 0
    while start < len(units):
        step = 1
        for length in range(min(glossary.longest.get(units[start], 0), len(units) - start), 0, -1):
            term = glossary.terms.get(" ".join(units[start : start + length]))
            if term:
                yield term
                step = length
                break
        start += step


def expand(text: str) -> list[str]:
    """Other terms for those in the text, in both languages, each once: `显存不足` gives `CUDA out of memory`, `OOM`, …"""
    lines = _glossary().lines
    found = list(find_terms(text))
    said = {term.text for term in found}
    more = (name for term in found if term.kind != "x" for name in lines[term.line] if name not in said)
    return list(dict.fromkeys(more))


def synonyms(text: str) -> list[tuple[str, ...]]:
    """Every name, in both languages, of each term of this field in the text."""
    lines = _glossary().lines
    return [lines[line] for line in dict.fromkeys(t.line for t in find_terms(text) if t.kind != "x")]


def specific_terms(text: str) -> list[str]:
    """The terms that say which part of serving a text is about: `KV cache`, `TTFT`, a flag; not `vLLM`, `slow`, `server`, nor
    the name of a model or a GPU."""
    found = [term.text for term in find_terms(text) if term.kind in "sf"]
    named = [
        name for name in _NAMES.findall(text[:_READ_CHARACTERS]) if name.startswith("--") or "_" in name or ":" in name
    ]
    return [t for t in dict.fromkeys([*named, *found]) if t.lower() not in _GENERIC and not _PRODUCT.match(t)]


def is_of_another_field(text: str) -> bool:
    """Whether a text names something of another field."""
    return any(term.kind == "x" for term in find_terms(text))


def domain_terms(text: str) -> list[str]:
    """The terms of LLM serving in a text; empty where they are too few or too general to say that it is about that.

    Enough is one term of the field, or two that any server has. A term of another field outweighs both, but not a name (an
    engine, a GPU, a flag, a metric). A wrong "not about serving" turns a person away, so doubtful questions count.
    """
    names = list(dict.fromkeys(_NAMES.findall(text[:_READ_CHARACTERS])))
    groups: dict[int, Term] = {}
    for term in find_terms(text):
        groups.setdefault(term.line, term)
    terms = [term for term in groups.values() if term.kind != "x"]
    is_foreign = len(terms) < len(groups)
    is_named = bool(names) or any(term.kind == "s" and term.text.lower() not in _MAKERS for term in terms)
    if not is_named and (is_foreign or sum(_WEIGHTS[term.kind] for term in terms) < _ENOUGH):
        return []
    return [*names, *(term.text for term in terms)]
