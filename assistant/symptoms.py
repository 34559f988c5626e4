"""What kind of trouble words tell of: so that who sees garbage is not told of slowness because the same flag is named."""

from __future__ import annotations

import re
from functools import lru_cache
from types import MappingProxyType

from kb.types import Document

KINDS = MappingProxyType(
    {
        "wrong output": r"garb(?:age|led)|gibberish|nonsens|unreadable|punctuation|exclamation|!!!|repeat(?:s|ing) (?:itself|the same|tokens?|words?)|endless|salad"
        r"|wrong (?:output|answer|result|token|text)s?|(?:accuracy|quality|scores?)\b.{0,20}\b(?:drop|loss|lost|degrad|worse|zero|low)|different (?:output|answer|result)s"
        r"|not determinis|random text|乱码|感叹号|胡言乱语|答非所问|重复输出|无限重复|一直重复|停不下来|输出(?:不对|错误|异常|全是)|掉点|精度|不一致|结果不同",
        "hang": r"\bhang|\bhung|\bfreez|\bfroze|\bstuck|\bstall|never (?:comes?|gets?|returns?|finish|ends?|ready|starts?)|nothing happens|no progress|waits? forever|deadlock"
        r"|sits? (?:there|in|at)|does not (?:return|come back|move)|卡(?:住|死|在|主)|不动|没反应|无响应|不响应|一直(?:等|停|卡)|挂起",
        "slow": r"\bslow|\bcrawl|latency|tok(?:en)?s?/s|throughput|\bttft|\btpot|first token|times (?:slower|longer)|fewer (?:tokens|requests)|of the speed|idle|utili[sz]ation (?:is )?(?:low|only|at)"
        r"|takes? (?:\d+|minutes|ages|long|hours)|慢|吞吐|延迟|首(?:字|个? ?token)|利用率(?:低|只有)|毫秒",
        "memory": r"out of memory|\boom\b|memory (?:grow|leak|increas|full|runs)|\bleak|eats (?:all )?(?:the )?(?:ram|memory)|显存(?:不足|不够|溢出|满)|内存(?:满|不足|涨|泄漏|一直)|爆(?:显存|内存)",
        "crash": r"\bcrash|\bdie[sd]?\b|\bdead\b|segfault|segmentation|core dump|\bkilled\b|illegal memory|falls? over|崩|挂了|退出|段错误|被杀|核心转储",
        "refused": r"\b4\d\d\b|bad request|unauthori[sz]ed|forbidden|refus|reject|unsupported|not support|unrecogni[sz]ed|拒绝|不支持|报 ?4\d\d",
        "unreachable": r"connection (?:refused|reset|closed|error)|cannot connect|unreachable|timed? ?out|time-?outs?|\b50[234]\b|连(?:不上|接)|超时|访问不(?:了|到)",
    }
)
"""Kinds of trouble and the words for them in both languages."""
_KINDS = {kind: re.compile(f"(?i){words}") for kind, words in KINDS.items()}


@lru_cache(maxsize=1024)
def kinds_of(text: str) -> frozenset[str]:
    """The kinds of trouble that a text tells of."""
    return frozenset(kind for kind, words in _KINDS.items() if words.search(text))


def likeness(kinds: frozenset[str], document: Document) -> float:
    """The share (0…1) of these kinds of trouble that a document's title, summary and symptoms tell of; 0 for a how-to, and where no kind is told."""
    if not kinds or document.kind != "fault":
        return 0.0
    text = "\n".join([document.title, document.summary, *document.aliases, *document.symptoms])
    return len(kinds & kinds_of(text)) / len(kinds)
