"""What is done for an answer, as people read it in their language: a step's title and its one sentence."""

from __future__ import annotations

import re

from assistant.types import Step
from kb.types import Language

COUNTED = re.compile(r"(?P<n>\d+) (?P<what>signatures|documents)")
WORDS: dict[str, dict[Language, str]] = {
    "scan": {"en": "Read the question and the logs", "zh": "阅读问题与日志"},
    "search": {"en": "Search the documents", "zh": "检索知识库"},
    "model": {"en": "Ask the language model", "zh": "询问语言模型"},
    "probe": {"en": "Probe {name}", "zh": "探测 {name}"},
    "signatures": {"en": "{n} known lines found.", "zh": "找到 {n} 条已知日志行。"},
    "documents": {"en": "{n} documents found.", "zh": "找到 {n} 篇文档。"},
}


def step_title(step: Step, lang: Language) -> str:
    """What is done; a step without a name of its own keeps the assistant's."""
    if step.name.startswith("probe "):
        return WORDS["probe"][lang].format(name=step.name.removeprefix("probe "))
    return WORDS[step.name][lang] if step.name in ("scan", "search", "model") else step.name


def step_summary(step: Step, lang: Language) -> str:
    """A step's one sentence."""
    counted = COUNTED.fullmatch(step.summary)
    if counted:
        return WORDS[counted["what"]][lang].format(n=counted["n"])
    return step.summary_zh if lang == "zh" and step.summary_zh else step.summary
