"""Platforms and kinds of model that a document may be about alone: where nobody names one, its documents stand behind."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from kb.types import Document

PLATFORMS = {
    "ascend": r"ascend|\bnpu|昇腾|\bcann\b|\bhccl|torch_npu|\b910[abc]",
    "gaudi": r"gaudi|\bhpu|habana|synapse",
    "tpu": r"\btpu|libtpu",
    "amd": r"\brocm|\bamd\b|\bmi[23]\d\d|radeon|\bgfx\d|\brccl|\bhip|aiter|strix",
    "intel": r"\bxpu|\barc\b|oneapi|intel gpu|\bipex|level.zero",
    "windows": r"\bwsl|(?<!second )\bwindows\b",
    "consumer": r"\brtx|\b50[6-9]0|\bsm_?12\d",
    "vision": r"image|video|picture|photo|vision|multimodal|\bvl\b|[-\d.]vl\b|图|视频|多模态|照片",
    "embedded": r"jetson|\borin\b|\bthor\b|dgx.spark|\bsparks?\b|gb10|unified memory|统一内存",
    "ocr": r"\bocr|mineru|文字识别",
    "audio": r"whisper|transcri|\baudio|speech|转写|语音|音频",
    "omni": r"\bomni",
    "ktransformers": r"ktransformers|\bkt-",
}
_PLATFORMS = {name: re.compile(f"(?i){words}") for name, words in PLATFORMS.items()}


def platforms_in(texts: Iterable[str]) -> frozenset[str]:
    """The platforms that are named in any of the texts."""
    return frozenset(name for text in texts for name, words in _PLATFORMS.items() if words.search(text))


@lru_cache(maxsize=1024)
def _own(title: str) -> frozenset[str]:
    """The platforms of a title; what stands in brackets are examples."""
    return platforms_in([re.sub(r"[(（][^)）]*[)）]", "", title)])


def is_elsewhere(document: Document, named: frozenset[str]) -> bool:
    """Whether a document's title names platforms, and none of them was named."""
    own = _own(document.title)
    return bool(own) and not own & named
