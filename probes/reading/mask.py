"""Replaces secrets in logs, commands and environments by typed marks: the same secret always gets the same mark.

A mark is `MASKED-hf_token-1`: a plain word, so that a command, a URL or a YAML file keeps its form, and masking again
changes nothing. Three things give a secret away: its own form (`hf_…`, `AKIA…`, a JWT), the name it is given to
(`HF_TOKEN=`, `--api-key`, `"password":`), or its place (`Authorization:`, `https://user:…@host`).

Every rule starts from a literal that is looked for first, so that text without secrets costs about 25 ms a megabyte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

MARK = "MASKED-"
BARE_CHARACTERS = 256


class Secret(NamedTuple):
    """Where a secret stands in a text, and what it is."""

    start: int
    end: int
    kind: str


class _Form(NamedTuple):
    """A secret with a form of its own. The group `s`, where there is one, is the secret; else the whole match.

    `literals` are words, parted by spaces (`~` for a space in one), of which a text must hold one.
    """

    kind: str
    literals: str
    pattern: str


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compiled when first needed: all at once would take 10 ms of every start."""
    return re.compile(pattern)


_FORMS = (
    _Form("private_key", "PRIVATE~KEY", r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----(?:.{0,16384}?-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|[A-Za-z0-9+/=\s\\:,-]*)"),
    _Form("hf_token", "hf_", r"hf_[A-Za-z0-9]{16,}"),
    _Form("hf_token", "api_org_", r"api_org_[A-Za-z0-9]{16,}"),
    _Form("anthropic_key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{12,}"),
    _Form("openai_key", "sk-", r"(?<![A-Za-z0-9_-])sk-(?:(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{12,}|(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,})"),
    _Form("aws_access_key", "KIA", r"[A-Z]KIA[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _Form("aws_access_key", "ASIA", r"ASIA[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _Form("github_token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{16,}"),
    _Form("github_token", "github_pat_", r"github_pat_[A-Za-z0-9_]{16,}"),
    _Form("gitlab_token", "glpat- gldt- glrt- glcbt- glptt- gloas- glagent- glsoat- glffct- glft-", r"gl(?:pat|dt|rt|cbt|ptt|oas|agent|soat|ffct|ft)-[A-Za-z0-9_-]{16,}"),
    _Form("slack_token", "xox", r"xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}"),
    _Form("slack_token", "xapp-", r"xapp-\d-[A-Za-z0-9-]{10,}"),
    _Form("slack_webhook", "hooks.slack.com/", r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<s>[A-Za-z0-9_/-]{16,})"),
    _Form("discord_webhook", "/api/webhooks/", r"/api/webhooks/(?P<s>\d{8,}/[A-Za-z0-9_-]{16,})"),
    _Form("jwt", "eyJ", r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{6,}\.eyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)?"),
    _Form("google_key", "AIza", r"AIza[A-Za-z0-9_-]{30,}"),
    _Form("google_secret", "GOCSPX-", r"GOCSPX-[A-Za-z0-9_-]{20,}"),
    _Form("google_token", "ya29.", r"ya29\.[A-Za-z0-9_-]{20,}"),
    _Form("npm_token", "npm_", r"npm_(?=[A-Za-z]*\d)[A-Za-z0-9]{30,}"),
    _Form("pypi_token", "pypi-", r"pypi-(?:AgE[A-Za-z0-9_-]{16,}|[A-Za-z0-9_-]{60,})"),
    _Form("digitalocean_token", "_v1_", r"do[opr]_v1_[a-f0-9]{20,}"),
    _Form("wandb_key", "wandb_v1_", r"wandb_v1_[A-Za-z0-9_]{20,}"),
    _Form("wandb_key", "wandb~login", r"wandb login (?:--\S+ )*(?P<s>[a-f0-9]{40})"),
    _Form("ngc_key", "nvapi-", r"nvapi-[A-Za-z0-9_-]{16,}"),
    _Form("telegram_token", ":AA", r"\d{8,10}:AA[A-Za-z0-9_-]{30,}"),
    _Form("stripe_key", "k_live_ k_test_", r"[srp]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    _Form("stripe_secret", "whsec_", r"whsec_[A-Za-z0-9+/=]{16,}"),
    _Form("sendgrid_key", "SG.", r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    _Form("groq_key", "gsk_", r"gsk_[A-Za-z0-9]{30,}"),
    _Form("xai_key", "xai-", r"xai-[A-Za-z0-9]{30,}"),
    _Form("replicate_token", "r8_", r"r8_[A-Za-z0-9]{30,}"),
    _Form("perplexity_key", "pplx-", r"pplx-[A-Za-z0-9]{30,}"),
    _Form("docker_token", "dckr_", r"dckr_[a-z]{2,4}_[A-Za-z0-9_-]{16,}"),
    _Form("databricks_token", "dapi", r"dapi[a-f0-9]{32}(?:-\d)?"),
    _Form("vault_token", "hvs.", r"hvs\.[A-Za-z0-9_-]{20,}"),
    _Form("grafana_token", "glsa_", r"glsa_[A-Za-z0-9_]{20,}"),
    _Form("langsmith_key", "lsv2_", r"lsv2_[a-z]{2}_[a-f0-9]{32}_[a-f0-9]{10}"),
    _Form("modelscope_token", "ms-", r"ms-[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}"),
    _Form("age_key", "AGE-SECRET-KEY-", r"AGE-SECRET-KEY-1[A-Z0-9]{20,}"),
    _Form("url_password", "@", r"://[^\s/:@'\"<>]{0,128}:(?P<s>[^\s/@'\"<>]{1,512})@(?=[\w\[.-])"),
    _Form("url_token", "@", r"https?://(?P<s>(?=[A-Za-z_-]*\d)[\w.~-]{20,512})@(?=[\w\[.-])"),
    _Form("signature", "X-Amz- &Signature= ?Signature= &Policy= ?Policy= sig= access_token= ?token= &token= ?key= &key= ?api &api", r"(?i)[?&](?:X-Amz-Signature|X-Amz-Security-Token|X-Amz-Credential|Signature|Policy|sig|access_token|token|key|api_?key)=(?P<s>[^\s&'\"<>]{16,})"),
    _Form("authorization", "uthorization", r"(?i)authorization\\?[\"']?\s*[:=,]\s*\\?[\"']?(?:Bearer|Basic|Token|Digest|Negotiate|ApiKey)[ \t]+(?P<s>[A-Za-z0-9._~+/=:-]{3,})"),
    _Form("authorization", "uthorization", r"(?i)authorization\\?[\"']?[ \t]*[:=][ \t]*\\?[\"']?(?P<s>(?=[A-Za-z._~+/=:-]*\d)[A-Za-z0-9._~+/=:-]{12,})"),
    _Form("bearer", "earer~", r"(?i)bearer\s+(?P<s>(?=[A-Za-z._~+/=-]*\d)[A-Za-z0-9._~+/=-]{8,})"),
    _Form("cookie", "ookie", r"(?i)(?<![A-Za-z_])cookie(?:\\?[\"'][ \t]*[:,][ \t]*\\?[\"']|:[ \t]*)(?P<s>[\w.-]+=[^\"'\\\n]{3,})"),
    _Form("password", "machine~", r"machine\s+\S+\s+login\s+\S+\s+password\s+(?P<s>\S+)"),
    _Form("password", "docker~login", r"docker login\b[^\n|;&]*? -p[ =]?(?P<s>[^\s-]\S*)"),
    _Form("password", "curl~", r"curl\b[^\n|;]*? (?:-u|--user)[ =][\"']?[^\s:\"']*:(?P<s>[^\s\"']+)"),
)  # fmt: skip

_NAMES = ("token", "key", "secret", "password", "passwd", "passphrase", "pwd")
"""What the names end in. Of keys only `…_key`, `…-key` and a few more count."""
_LETTERS = {c: chr(c | 32) if chr(c).isalpha() else "_" if chr(c) == "_" else " " for c in range(128)}
_KEYS = r"(?i)[_-]key$|(?:api|account|access|auth|secret|private|subscription)key$"
_LEFT = r"[\w.-]{0,80}$"
_RIGHT = r"""(?x)(?P<name_quote>\\?["'])?
    (?: \s*,?\s* ["']?value["']? \s*:\s* (?=\S) (?P<paired>)      # {"name": "API_KEY", "value": "…"}
      | \s* (?P<sep>=>|=(?!=)|:) \s*
      | (?P<listed>,\s*(?:\n\s*)?(?=\\?["'])|[ \t]+|\s*\n\s*-\s+) )   # a flag's value: the next word, or the next item
    (?P<list>\[\s*|Secret(?:Str)?\()?
    (?: (?P<quote>\\?["']) (?P<quoted>[^"'\\\n]{1,4096}) (?=\\?["']) | (?P<bare>[^\s"'`,;&)}\]<>|\\]{1,256}) )"""
_REST = r"[^\s\"'`,;&)}\]<>|\\]+"
_MORE = r"\\?[\"']\s*,\s*\\?[\"'](?P<quoted>[^\"'\\\n]{1,4096})"
_PLACEHOLDER = (
    r"(?i)(?:none|null|nil|true|false|empty|undefined|unset|not|n/a|str|int|bool|bytes|string|optional|secretstr|any"
    r"|redacted|hidden|value|(?:hf_|sk-)?(?:x{3,}|\.{3,})|\*+|\.{2,}|-+|…)$|(?-i:[A-Z_]*(?:KEY|TOKEN|SECRET|PASSWORD)$)"
    r"|masked-|<|\$|\{|%[({]|your[-_]|\*{3}|!"
)
_PROSE = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "argument",
        "arguments",
        "as",
        "at",
        "be",
        "but",
        "by",
        "can",
        "env",
        "environment",
        "expected",
        "flag",
        "for",
        "from",
        "has",
        "have",
        "if",
        "in",
        "instead",
        "is",
        "it",
        "may",
        "missing",
        "must",
        "needs",
        "no",
        "not",
        "of",
        "on",
        "only",
        "option",
        "options",
        "or",
        "parameter",
        "required",
        "requires",
        "set",
        "should",
        "that",
        "the",
        "then",
        "this",
        "to",
        "used",
        "value",
        "via",
        "was",
        "were",
        "when",
        "will",
        "with",
        "without",
    ]
)
_OTHER_TOKENS = (
    r"(?i)(?:^|[_.-])(?:bos|eos|pad|unk|sep|cls|mask|image|video|audio|special|stop|first|next|last|num|max|min|per|new|prefix|start"
    r"|end|think|tool|added|input|output|cached|generated|prompt|draft|bonus|sampled|top|each|total|media|patch|time|one|by)_?token$"
)
_OTHER_KEYS = (
    r"(?i)(?:^|[_.-])(?:cache|sort|primary|public|partition|foreign|hash|lookup|routing|group|state|dict|config|request|block"
    r"|layer|param|weight|map|index|registry|object|s3|file|node|trace|join|by|any|enter|press|hot|tree|store|sub|prefix"
    r"|missing|unexpected|module|model|kv|feature|dedup|idempotency|label|metric|resource|value|data|job|task|actor)[_-]?key$"
)
_CODE = r"[A-Za-z_]\w*(?:[.(\[].*|$)"
_LIKE_NAMES = r"(?i)key|token|secret|passw|pwd|cred|auth|param|arg|env|config|none|str\b"


class Masker:
    """Masks texts; a secret seen before gets the mark it had, numbered in order within its kind."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def mask(self, text: str) -> str:
        """The text with every secret replaced by its mark."""
        pieces, at = [], 0
        for start, end, kind in _in_order(find_secrets(text)):
            if end <= at:
                continue
            pieces += [text[at : max(at, start)], self._mark(text[start:end], kind) if start >= at else ""]
            at = end
        return "".join([*pieces, text[at:]]) if pieces else text

    def _mark(self, secret: str, kind: str) -> str:
        mark = self._marks.get(secret)
        if mark is None:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            mark = self._marks[secret] = f"{MARK}{kind}-{self._counts[kind]}"
        return mark


_process_masker = Masker()


def mask(text: str) -> str:
    """The text with every secret replaced by a mark that holds for this process."""
    return _process_masker.mask(text)


def mask_values(value: Any) -> Any:
    """A value with every text in it masked, however deep; mappings come back as dicts, sequences as lists."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {key: mask_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_values(item) for item in value]
    return value


def find_secrets(text: str) -> Iterator[Secret]:
    """Every secret in a text, those with a form of their own first; they may overlap."""
    words = set(text.translate(_LETTERS).split())
    joined = " ".join(words)
    for form, literals in _literals():
        if any(literal in text for literal, parts in literals if all(part in joined for part in parts)):
            yield from _formed(form, text)
    endings = tuple(ending for ending in _NAMES if any(word.endswith(ending) for word in words))
    if endings:
        yield from _named(text, endings)


@cache
def _literals() -> tuple[tuple[_Form, tuple[tuple[str, tuple[str, ...]], ...]], ...]:
    """Each form with its literals, and the runs of letters in them, which a text's few distinct words are asked for first."""
    return tuple(
        (form, tuple((w.replace("~", " "), tuple(w.translate(_LETTERS).split())) for w in form.literals.split()))
        for form in _FORMS
    )


def _formed(form: _Form, text: str) -> Iterator[Secret]:
    pattern = _compiled(form.pattern)
    whole = "s" not in pattern.groupindex
    for found in pattern.finditer(text):
        start, end = found.span() if whole else found.span("s")
        if (
            whole
            and start
            and (text[start - 1].isalnum() or text[start - 1] == "_")
            and not form.kind.startswith("private")
        ):
            continue
        if not _compiled(_PLACEHOLDER).match(text[start:end]):
            yield Secret(start, end, form.kind)


def _named(text: str, endings: tuple[str, ...]) -> Iterator[Secret]:
    """Secrets by the names they are given to: `HF_TOKEN=…`, `--api-key …`, `"password": "…"`, `api_key=['…']`."""
    low = text.lower()
    if len(low) != len(text):
        low = "".join(c.lower() if c < "\x80" else c for c in text)
    for ending in endings:
        at = low.find(ending)
        while at >= 0:
            end = at + len(ending)
            if low[end : end + 1] in _FOLLOWS:
                yield from _given_to(text, at, end)
            at = low.find(ending, end)


_FOLLOWS = frozenset("=:\"' \t\\,\n")


def _given_to(text: str, at: int, end: int) -> Iterator[Secret]:
    left = _compiled(_LEFT).search(text, max(0, at - 80), at)
    name = (left.group() if left else "") + text[at:end]
    found = _compiled(_RIGHT).match(text, end)
    if not found:
        return
    kind = _kind(name.strip("-."))
    quoted = found["quoted"] is not None
    value = found["quoted"] if quoted else found["bare"]
    start, stop = found.span("quoted" if quoted else "bare")
    if kind is None or _compiled(_PLACEHOLDER).match(value) or not _is_secret(name, found, value, text, stop):
        return
    if not quoted and stop - start == BARE_CHARACTERS and (rest := _compiled(_REST).match(text, stop)):
        stop = rest.end()
    yield Secret(start, stop, kind)
    while found["list"] and quoted and (more := _compiled(_MORE).match(text, stop)):
        start, stop = more.span("quoted")
        yield Secret(start, stop, kind)


def _kind(name: str) -> str | None:
    """What a value under this name is; None for tokens of text, cache keys and the like."""
    low = name.lower().replace("-", "_")
    if low.endswith("token"):
        return (
            None
            if _compiled(_OTHER_TOKENS).search(low)
            else "hf_token"
            if low in ("hf_token", "hub_token")
            else "token"
        )
    if low.endswith(("api_key", "apikey")):
        return "api_key"
    if low.endswith("key"):
        return None if not _compiled(_KEYS).search(low) or _compiled(_OTHER_KEYS).search(low) else "key"
    return "secret" if low.endswith("secret") else "password"


def _is_secret(name: str, found: re.Match[str], value: str, text: str, stop: int) -> bool:
    """Whether what follows a name is its value, and not code, prose, a type, or a word that a model reads."""
    low = name.lower().strip("-.").replace("-", "_")
    if found["listed"]:
        return name.startswith("-") and not value.startswith("-") and value.lower() not in _PROSE
    if found["paired"] is not None:
        return name.isupper()
    if value.isdigit() and len(value) < 12 and "pass" not in low and "pwd" not in low:
        return False
    if name.startswith("-"):
        return True
    weak = low in ("token", "secret", "key") or low.endswith(("token", "_key"))
    weak = weak and not low.endswith(("api_key", "hf_token"))
    constant = found["sep"] == "=" and found.group().startswith(" ")
    if found["quote"]:
        doubtful = constant if name.isupper() else weak
        return _looks_random(value) if doubtful else _PROSE.isdisjoint(value.lower().split())
    if name.isupper():
        return _is_variable_value(found, value, constant, text[stop : stop + 1])
    is_code = _compiled(_CODE).match(value) and (constant or _names_something(value))
    if is_code or (constant and not value[0].isalnum()):
        return False
    return _looks_random(value) if weak or found["sep"] == ":" else True


def _is_variable_value(found: re.Match[str], value: str, constant: bool, following: str) -> bool:
    """Whether a bare word after `NAME=` or `NAME:` is the value of an environment variable, and not code."""
    if constant:
        return value[0].isalnum() and not _compiled(_CODE).match(value)
    if found["sep"] == "=":
        return found.end("sep") == found.start("bare")
    named = found["name_quote"] or value.isupper()
    return following in ("", "\n", "\r", ",", "}", '"', "'") and (not named or _looks_random(value))


def _names_something(value: str) -> bool:
    """Whether a word of code says what it is (`self.api_key`, `get_token()`) rather than being it."""
    return bool(_compiled(_LIKE_NAMES).search(value)) or not value.replace("_", "").isalnum()


def _looks_random(value: str) -> bool:
    """Long enough, without spaces, letters and digits mixed."""
    return len(value) >= 12 and " " not in value and any(map(str.isdigit, value)) and any(map(str.isalpha, value))


def _in_order(secrets: Iterator[Secret]) -> list[Secret]:
    """By place; of those that begin at one place the longest first."""
    return sorted(secrets, key=lambda s: (s.start, -s.end))
