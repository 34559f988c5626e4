"""What counts as one word: the tokens that lexical search compares, and what varies in a line that a program printed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

_UNITS = "[KMGTkmgt]i?[Bb]?|TFLOPS|tok|tokens|ms|[GM]Hz|W"
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff々"
_WORD = r"A-Za-z0-9_\u00c0-\u024f"
# No re.I: it makes compiling these ranges ten times slower.
_RAW = re.compile(
    rf"[Xx][Ii][Dd]\b(?:[ :]*\([Pp][Cc][Ii]:[0-9A-Fa-f:.]+\))?[ :=#]*\d+"  # Xid (PCI:0000:41:00): 79
    rf"|\d+(?:\.\d+)? ?(?:{_UNITS})\b"
    rf"|--?[A-Za-z][\w-]*"
    rf"|[{_WORD}]+(?:[./:@+-]+[{_WORD}]+)*"
    rf"|[{_CJK}]+"
    rf"|[\u0250-\u1fff]+",
    re.A,
)
_PART = re.compile(r"[a-z]+|\d+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])")
_STOP_TEXT = """
a an and are as at be been but by can could did do does for from had has have he her his i if in into is it its just me my of
on or our she should so than that the their them then there these they this those to us was we were what when which while who
why will with would you your how am any about after before because also please get got getting
怎么 什么 如何 为什 么办 这个 一个 我们 请问 可以 时候 的 了 是 在 和 吗 呢
"""
_STOP_WORDS = frozenset(_STOP_TEXT.split())


def tokenize(text: str) -> list[str]:
    """Tokens for BM25, lower-cased: flags, variables, metric names, dotted names, models and versions whole and in parts.

    `Xid 79` gives xid79; Chinese gives character bigrams; English words lose their ending (-s, -ed, -ing); stop words go.
    """
    tokens: list[str] = []
    for raw in _RAW.findall(unicodedata.normalize("NFKC", text)):
        tokens += _tokens_of(raw)
    return tokens


@lru_cache(maxsize=1 << 16)
def _tokens_of(raw: str) -> tuple[str, ...]:
    if raw[0] >= "\u2e80":
        runs = [raw[i : i + 2] for i in range(max(len(raw) - 1, 1))]
        return tuple(run for run in runs if run not in _STOP_WORDS)
    whole = raw.lower()
    if whole.startswith("xid") and whole[-1].isdigit():
        number = re.findall(r"\d+", whole)[-1]
        return (f"xid{number}", "xid", number)
    if whole[0].isdigit() and (found := re.fullmatch(rf"(\d+(?:\.\d+)?) ?({_UNITS})", raw)):
        return (found[1] + found[2].lower(), found[1])
    if whole.isalpha() and not _CAMEL.search(raw):
        return () if whole in _STOP_WORDS else (stem(whole),)
    return tuple(dict.fromkeys(_compound(raw, whole)))


def _compound(raw: str, whole: str) -> Iterator[str]:
    """The name itself, without its dashes, its pieces between dots, slashes and colons, and the words in them."""
    name = whole.strip("-")
    yield whole
    if not name:
        return
    yield name
    if name[0].isdigit() and re.fullmatch(r"[\d.]+", name):
        return
    pieces = [piece for piece in re.split(r"[/:@+]+|(?<!\d)\.+|\.+(?!\d)", raw.strip("-")) if piece]
    for piece in pieces if len(pieces) > 1 else []:
        yield piece.lower()
    for piece in pieces:
        for word in _CAMEL.sub("_", piece).lower().replace("-", "_").split("_"):
            parts = [word] if word.isalpha() else [word, *_PART.findall(word)]
            yield from (stem(part) for part in parts if len(part) > 1 and part not in _STOP_WORDS)


def stem(word: str) -> str:
    """An English word without its plural, -ed or -ing; words of up to four letters stay as they are."""
    if len(word) <= 4 or not word.isascii():
        return word[:-1] if len(word) == 4 and word.endswith("s") and word[-2] not in "sui" else word
    for ending, instead in (
        ("sses", "ss"),
        ("ies", "y"),
        ("ied", "y"),
        ("ing", ""),
        ("ed", ""),
        ("es", "e"),
        ("s", ""),
    ):
        if (
            word.endswith(ending)
            and not word.endswith(("ss", "us", "is"))
            and len(word) - len(ending) >= 3 - (instead == "y")
        ):
            word = word[: -len(ending)] + instead
            if ending in ("ing", "ed") and len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if word.endswith("e") and len(word) > 4 else word


# Strings, compiled by `re` when a line is first looked at: a question needs none of them, and compiling takes 7 ms.
_PREFIX = (
    r"^(?:\s|\([A-Za-z_]\w*(?: \w+)?(?: (?:pid|rank|TP)\w*[=:]?\w+)*(?: [\w=]+)*\)|\[[^\]\s][^\]]{0,60}\]:?"
    r"|\d{4}[-/]\d\d[-/]\d\d[T ]?|\d\d-\d\d(?= )|\d\d:\d\d:\d\d(?:[.,]\d+)?Z?|[A-Z][a-z]{2} +\d+ (?=\d\d:)"
    r"|(?:ERROR|CRITICAL|FATAL|WARNING|INFO|E)\b:?|\w+\.(?:py|cpp|cc|go|rs):\d+\]?:?|[|>-] )+"
)
_SIZE_NAMES = (
    ("requested", r"(?:tried to allocate|requested) $", None),
    ("total", r"total capacity (?:of )?$", r" total"),
    ("free", r"(?:of which|free memory:?) $", r" (?:is )?free"),
    ("used", None, r" (?:memory )?in use"),
    ("allocated", None, r" (?:is |already )?allocated"),
)
_NUMBER_NAMES = (
    ("max_model_len", r"max seq len \($|max_model_len\W{0,3}$"),
    ("kv_tokens", r"stored in KV cache \($"),
    ("tensor_parallel_size", r"tensor[ _]parallel[ _]size\W{0,3}$|world size \(?$"),
    ("port", r"\bport\W{1,2}$"),
)
_MEANT = r"(?:xid[ :]*(?:\(pci:[0-9a-f:.]+\))?[ :]*|code:? |status:? |errno:? |\[errno |error:? |signal |http[ /]|returned )$"
_VARYING = (
    r"(?P<url>https?://\S+)"
    r"|(?P<placeholder><[A-Za-z][\w .-]*>|\{\w+\}|\.{3,}|…+)"
    r"|(?P<pci>(?:[0-9A-Fa-f]{4,8}:)?[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}(?:\.\d)?(?![\w:]))"
    r"|(?P<path>(?<![\w.])(?:\.{0,2}|~)(?:/[\w.+@=-]+){2,}/?)"
    r"|(?P<hex>\b0x[0-9a-fA-F]+|\b(?=[0-9a-f-]*\d)(?=[0-9a-f-]*[a-f])[0-9a-f]{8}(?:-?[0-9a-f]{4,})*\b)"
    r"|(?P<size>(?P<amount>\d+(?:\.\d+)?) ?(?P<unit>[kKMGT]i?B|bytes)\b)"
    r"|(?P<address>\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?)"
    r"|(?P<model>\b[A-Za-z][\w.-]*/[A-Za-z](?=[\w.-]*[\d-])[\w.-]*\w)"
    r"|(?P<process>(?<=process )\d+ \([\w.: -]+\))"
    r"|(?P<named>(?<=name=)[^\s,]+)"
    r"|(?P<number>(?<![\w.])-?\d+(?:\.\d+)*(?![\w]))"
    r"|(?P<space> {2,}|\t)"
)


def line_pattern(line: str) -> str:
    """A regular expression for the same message with other numbers, sizes, paths, addresses and names; empty if too vague.

    Sizes and models become named groups where the words beside them say what they are (`requested_gib`, `total_gib`). Codes
    that carry the meaning (an Xid, an exit code, an HTTP status) stay. Also valid for Hyperscan.
    """
    message = re.sub(
        r"^(?:[a-z_]\w*\.)+(?=[A-Z]\w*(?:Error|Exception)\b)", "", re.sub(_PREFIX, "", line[:1000].strip())
    )
    cuda = re.search(r"CUDA (?:error: |out of memory)", message)
    message = message[cuda.start() if cuda else 0 :].rstrip(" .…")
    taken: set[str] = set()
    fixed, *optional = (_sentence_pattern(sentence, taken) for sentence in _sentences(message))
    pattern = fixed + "".join(rf"(?:\. {sentence}" for sentence in optional) + ")?" * len(optional)
    words = re.findall(r"[A-Za-z]{2,}|[\u4e00-\u9fff]", re.sub(r"\(\?P<\w+>", "", fixed))
    return pattern if len(words) >= 3 and len("".join(words)) >= 12 and re.search(pattern, line) else ""


def _sentences(message: str) -> list[str]:
    """The part that must match, of 24 letters or more and so one sentence or two, and up to four sentences that may follow."""
    first, *more = message.split(". ")
    while more and sum(map(str.isalpha, first)) < 24:
        first += ". " + more.pop(0)
    return [first[:240], *more[:4]]


def _sentence_pattern(sentence: str, taken: set[str]) -> str:
    parts: list[str] = []
    last = 0
    for found in re.finditer(_VARYING, sentence):
        parts += _escape(sentence[last : found.start()]), _varying(found, sentence, taken)
        last = found.end()
    return "".join([*parts, _escape(sentence[last:])])


def _escape(text: str) -> str:
    return re.sub(r"([\\.^$*+?{}\[\]|()])", r"\\\1", text)


def _varying(found: re.Match[str], message: str, taken: set[str]) -> str:
    before, after = message[: found.start()], message[found.end() :]
    kind = found.lastgroup or ""
    if found["size"]:
        return _size(found, before, after, taken)
    if found["number"]:
        if re.search(_MEANT, before, re.I):
            return _escape(found[0])
        name = next((name for name, context in _NUMBER_NAMES if re.search(context, before, re.I)), "")
        return _group(name, r"[\d.]+" if "." in found[0] else r"-?\d+" if found[0][0] == "-" else r"\d+", taken)
    if kind == "model":
        return _group("model", r"[\w./-]+", taken)
    same = {
        "hex": r"(?:0x)?[0-9a-fA-F-]+",
        "pci": r"[0-9A-Fa-f:.]+",
        "address": r"[\d.:]+",
        "space": r"\s+",
        "process": r"\d+ \([^)]*\)",
    }
    return same.get(kind, r".*" if kind == "placeholder" and found[0][0] in ".…" else r"\S+")


def _size(found: re.Match[str], before: str, after: str, taken: set[str]) -> str:
    """A number with its unit. The group that means GiB takes part in the match only where GiB is printed."""
    name = next(
        (
            name
            for name, ahead, behind in _SIZE_NAMES
            if (ahead and re.search(ahead, before, re.I)) or (behind and re.match(behind, after, re.I))
        ),
        "",
    )
    if not name or found["unit"] not in ("GiB", "MiB", "KiB"):
        return r"\d[\d.]* ?(?:[kKMGT]i?B|bytes)"
    gib, mib = (_group(f"{name}_{unit}", r"\d[\d.]*", taken) for unit in ("gib", "mib"))
    return rf"(?:{gib} GiB|{mib} MiB|\d[\d.]* (?:KiB|bytes))"


def _group(name: str, pattern: str, taken: set[str]) -> str:
    if not name or name in taken:
        return pattern
    taken.add(name)
    return f"(?P<{name}>{pattern})"
