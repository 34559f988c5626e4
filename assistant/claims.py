"""What a text claims that can be checked: citations, quotations, commands, names, model ids, paths, addresses and numbers.

Pure functions over Markdown. Whether a claim holds is for `assistant.grounding` to say.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from assistant.grounding import CITATION

Kind = Literal[
    "citation", "quote", "command", "flag", "variable", "metric", "model", "path", "url", "image", "html", "code", "number",
    "uncited", "unrelated",
]  # fmt: skip

# Citations in the forms that models like: [K1, L2], 【K1】, (K1).
LOOSE_CITATION = re.compile(r"[\[(（【]\s*([KPLC]\d+(?:\s*[,，、;；]\s*[KPLC]\d+)*)\s*[\])）】](?!\()")
FLAG = re.compile(r"(?<![\w-])--[A-Za-z][\w.-]*|(?<![\w-])-(?:tp|pp|dp|ep|q|O\d?)(?![\w-])")
VARIABLE = re.compile(r"(?<![A-Za-z0-9_])[A-Z][A-Z0-9]*_[A-Z0-9_]+(?![A-Za-z0-9_])")
METRIC = re.compile(r"(?<![A-Za-z0-9_])(?:vllm|sglang):[a-z_]+")
URL = re.compile(
    r"(?i)\b(?:https?|ftp|file|wss?)://[^\s<>`\"'，。；）]+|\b(?:data|javascript|mailto|vbscript):[^\s<>`]+|\bwww\.[^\s<>`]+"
)
DOMAIN = re.compile(
    r"(?i)(?<![\w@./-])(?:[a-z0-9-]+\.)+(?:com|net|org|io|ai|dev|app|co|cn|ru|xyz|info|biz|site|online|top|me|sh|to|gg|link|click|example|test|invalid|onion)"
    r"(?![\w-])(?::\d+)?(?:/[^\s<>`)]*)?"
)
IMAGE = re.compile(r"!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])?")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(\s*<?([^)\s>]*)>?[^)]*\)")
HTML = re.compile(r"<(?:[A-Za-z/!?][^<>\n]*)>?")
INLINE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)")
QUOTED = re.compile(
    r"“([^”\n]{3,300})”|「([^」\n]{3,300})」|『([^』\n]{3,300})』|(?<![\w\"])\"([^\"\n]{3,300})\"(?!\w)"
)
MODEL = re.compile(
    r"(?<![\w/.:-])[A-Za-z][\w.-]*/(?=[\w.]*-?[\w.-]*\d)(?=[\w.-]*[-.])[A-Za-z][\w.-]*[A-Za-z0-9](?![\w/])"
)
PATH = re.compile(r"(?<![\w:/.}\])~-])(?:~|\.{1,2})?/[A-Za-z0-9_.@+-]+(?:/[A-Za-z0-9_.@+-]+)*/?")
NUMBER = re.compile(r"(?<![A-Za-z0-9_.,])\d+(?:,\d{3})*(?:\.\d+)*(?![A-Za-z0-9_]*[0-9])")
ORDINAL = re.compile(
    r"(?m)^\s*(?:[-*+]\s+)?(?:\*\*)?\d{1,2}[.)、]\s?|(?i:\b(?:fix(?:es)?|steps?|option|way|cause|number|no\.)\s+#?\d(?!\d))|第\s?\d{1,2}\s?(?:步|个|条|种)|(?:步骤|办法|方案|方法)\s?\d(?!\d)"
)
SPANS: tuple[tuple[re.Pattern[str], Kind], ...] = ((URL, "url"), (HTML, "html"), (DOMAIN, "url"))
NAMES: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (MODEL, "model"),
    (FLAG, "flag"),
    (METRIC, "metric"),
    (VARIABLE, "variable"),
    (PATH, "path"),
)
SENTENCE_END = re.compile(r"(?<=[。！？])(?=\S)|(?<=[.!?])\s+(?=[^a-z\s])")
LIST_MARK = re.compile(r"\s*(?:[-*+]\s+|\d{1,2}[.)、]\s*|>\s?|#{1,6}\s+)*")
SHELLS = ("", "bash", "sh", "shell", "console", "zsh", "terminal", "shell-session", "powershell", "cmd")
CONTROLS = re.compile(r"[;&|`<>]|\$\(|\$\{")
PROMPT = re.compile(r"^\s*(?:[$#%]\s+|\(\w+\)\s*\$\s*)?")
SCRIPT = re.compile(r"\.{1,2}/|~/|/(?:\S*/)?s?bin/|/\S+\.(?:sh|py|pl|rb|run|bin|exe)$")
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=\S*")

PROGRAM_NAMES = """
apt apt-get awk bash cat cd chmod chown clinfo conda cp crictl crontab ctr curl dd df diskutil dmesg dnf docker docker-compose du echo env eval
exec export fdisk find free fuser gcc git grep hf helm huggingface-cli insmod ip ipcs iptables journalctl kill killall kubectl ldconfig
ln ls lsmod lsof lspci make mamba mkdir mkfs mkfs.ext4 modprobe mount mv nc ncat netstat ninja nohup npm nsenter numactl nvcc nvidia-ctk
nvidia-smi nvidia-uninstall openssl passwd perl pgrep ping pip pip3 pipx pkill podman powershell printenv ps python python3 ray reboot rm rmmod
rsync ruby scp screen sed service sglang sh shutdown sleep socat source ss ssh strace su sudo sysctl systemctl tail tar tee telnet
timeout tmux top torchrun touch truncate ulimit umount unset update-initramfs useradd usermod uv uvx vi vim vllm watch wget xargs yum zsh
"""
PROGRAMS = frozenset(PROGRAM_NAMES.split())
SUBCOMMAND_NAMES = """
install uninstall upgrade run exec serve clone pull push delete apply restart start stop reload set add
remove rmi rm cp download login prune reset create kill drain scale edit patch
"""
SUBCOMMANDS = frozenset(SUBCOMMAND_NAMES.split())
PROSE_COMMAND = re.compile(
    rf"(?<![\w`/.:-])(?:sudo\s+)?(?P<program>{'|'.join(sorted(map(re.escape, PROGRAMS), reverse=True))})"
    r"\s+(?P<next>[^\s`，。；]+)(?:[ \t]+[^\s`，。；]+){0,11}"
)


@dataclass(frozen=True, slots=True)
class Claim:
    """Something checkable, as it stands in the text."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A sentence of prose, a line of code, or what lies between. `start` and `end` are its span.

    `kind`: prose is checked, code is a line inside a fence of `language`, mark is Markdown that says nothing. `cites` are the citations
    of its paragraph, `above` those before it.
    """

    kind: Literal["prose", "code", "heading", "mark"]
    text: str
    start: int
    end: int
    cites: tuple[str, ...] = ()
    language: str = ""
    above: tuple[str, ...] = ()


def pieces(text: str) -> list[Piece]:
    """The text in pieces, in order and without gaps but for line ends."""
    found: list[Piece] = []
    paragraph: list[Piece] = []
    fence, language, at = "", "", 0
    for line in text.split("\n"):
        start, at = at, at + len(line) + 1
        mark = re.match(r"\s*(?:[-*+>]\s+|\d+[.)]\s+)*(`{3,}|~{3,})\s*([^\s`]*)", line)
        if fence:
            if mark and mark[1][0] == fence[0] and len(mark[1]) >= len(fence) and not mark[2]:
                fence = ""
                found.append(Piece("mark", line, start, start + len(line)))
            elif found and found[-1].kind == "code" and found[-1].text.rstrip().endswith("\\"):
                last = found.pop()  # a command over several lines is one
                found.append(Piece("code", f"{last.text}\n{line}", last.start, start + len(line), language=language))
            else:
                found.append(Piece("code", line, start, start + len(line), language=language))
        elif mark:
            found += with_cites(paragraph)
            paragraph = []
            fence, language = mark[1], mark[2].lower()
            found.append(Piece("mark", line, start, start + len(line)))
        elif not line.strip():
            found += with_cites(paragraph)
            paragraph = []
        else:
            if re.match(r"\s*(?:[-*+]|\d{1,2}[.)、]|>|#{1,6})\s*", line) or line.lstrip().startswith("|"):
                found += with_cites(paragraph)
                paragraph = []
            paragraph += sentences(line, start)
    return with_above(found + with_cites(paragraph))


def with_above(found: list[Piece]) -> list[Piece]:
    """The pieces, each with what is cited before it."""
    above: dict[str, None] = {}
    told = []
    for piece in found:
        told.append(replace(piece, above=tuple(above)))
        above |= dict.fromkeys(piece.cites)
    return told


def with_cites(paragraph: list[Piece]) -> list[Piece]:
    """The sentences of a paragraph, each with all that the paragraph cites."""
    cites = tuple(dict.fromkeys(c for p in paragraph for c in CITATION.findall(p.text)))
    return [replace(piece, cites=cites) for piece in paragraph]


def sentences(line: str, start: int) -> Iterator[Piece]:
    """The sentences of a line; a stop inside inline code ends none. A heading, a table row and a quotation are one."""
    lead = LIST_MARK.match(line)
    begin = lead.end() if lead else 0
    kind: Literal["prose", "heading"] = "heading" if line.lstrip().startswith("#") else "prose"
    if not line[begin:].strip():
        return
    if kind == "heading" or line.lstrip().startswith(("|", ">")):
        yield Piece(kind, line[begin:], start + begin, start + len(line))
        return
    hidden = line
    for pattern in (INLINE, IMAGE, LINK, URL):
        hidden = pattern.sub(lambda found: "x" * len(found[0]), hidden)
    last = begin
    ends = [m.end() for m in SENTENCE_END.finditer(hidden) if m.start() >= begin]
    for end in [*ends, len(line)]:
        # A citation that follows the stop belongs to the sentence before it.
        follows = re.match(r"(?:\s*\[[KPLC]\d+\])+\s*", line[end:])
        end += follows.end() if follows else 0
        if end > last and line[last:end].strip():
            yield Piece(kind, line[last:end].rstrip(), start + last, start + last + len(line[last:end].rstrip()))
        last = max(last, end)


def claims_of(piece: Piece) -> list[Claim]:
    """The claims of a sentence or of a line of code."""
    if piece.kind == "code":
        return list(code_claims(piece))
    if piece.kind == "mark":
        return []
    return list(prose_claims(piece.text))


def code_claims(piece: Piece) -> Iterator[Claim]:
    """A line inside a fence: a command where it is one or the fence is a shell's, else code; comments claim their names."""
    line = piece.text.strip()
    if not line:
        return
    if line.startswith("#") and not line.startswith("#!"):
        yield from prose_claims(line.lstrip("# "))
    elif piece.language in SHELLS or looks_like_command(line):
        yield Claim("command", line)
    else:
        yield Claim("code", line)


def prose_claims(text: str) -> Iterator[Claim]:
    """The claims of a sentence, each span counted once, widest first."""
    text = unicodedata.normalize("NFKC", text)
    yield from (Claim("citation", c) for c in CITATION.findall(text))
    text = CITATION.sub(" ", text)
    yield from (Claim("image", m[0]) for m in IMAGE.finditer(text))
    text = IMAGE.sub(" ", text)
    yield from (Claim("url", m[2]) for m in LINK.finditer(text))
    text = LINK.sub(r" \1 ", text)
    for match in QUOTED.finditer(text):
        words = next(g for g in match.groups() if g)
        if is_quotation(words):
            yield Claim("quote", words)
    for match in INLINE.finditer(text):
        yield from inline_claims(match[2].strip())
    text = INLINE.sub(" ", QUOTED.sub(unless_quotation, text))
    for pattern, kind in SPANS:
        yield from (Claim(kind, m[0].rstrip(".,;:!?)")) for m in pattern.finditer(text))
        text = pattern.sub(" ", text)
    for match in PROSE_COMMAND.finditer(text):
        if is_prose_command(match):
            yield Claim("command", command_words(match[0]))
    yield from name_claims(text)


def unless_quotation(match: re.Match[str]) -> str:
    """A space in place of a quotation, which is checked as a whole; other words in quotation marks stay."""
    return " " if is_quotation(next(g for g in match.groups() if g)) else match[0]


def name_claims(text: str) -> Iterator[Claim]:
    """Names and numbers of a stretch of plain text."""
    for pattern, kind in NAMES:
        yield from (Claim(kind, m[0].rstrip(".-")) for m in pattern.finditer(text))
        text = pattern.sub(" ", text)
    text = ORDINAL.sub(" ", text)
    yield from (Claim("number", m[0]) for m in NUMBER.finditer(text))


def inline_claims(code: str) -> Iterator[Claim]:
    """Code inside a sentence: a command, options with their values, or words that must have been read somewhere."""
    if not code:
        return
    if looks_like_command(code):
        yield Claim("command", code)
    elif URL.search(code) or DOMAIN.fullmatch(code):
        found = URL.search(code) or DOMAIN.search(code)
        assert found is not None
        yield Claim("url", found[0])
    elif FLAG.match(code) or VARIABLE.match(code) or METRIC.fullmatch(code):
        yield from name_claims(code.replace("=", " "))
        rest = re.sub(r"[=\s]+", " ", FLAG.sub(" ", VARIABLE.sub(" ", METRIC.sub(" ", code)))).split()
        yield from (
            Claim("code", word) for word in rest if not NUMBER.fullmatch(word) and word not in ("…", "...", "N")
        )
    elif MODEL.fullmatch(code):
        yield Claim("model", code)
    elif PATH.fullmatch(code):
        yield Claim("path", code)
    elif NUMBER.fullmatch(code):
        yield Claim("number", code)
    else:
        yield Claim("code", code)


def looks_like_command(code: str) -> bool:
    """Whether somebody could run this: a known program with arguments, a script by its path, a pipe, a redirection."""
    words = PROMPT.sub("", code).split()
    while words and (ASSIGNMENT.fullmatch(words[0]) or words[0] in ("sudo", "env", "time", "nohup", "exec")):
        words = words[1:]
        if not words:
            return "=" not in code or code.startswith("sudo")
    if not words:
        return False
    program = words[0].rpartition("/")[2]
    if len(words) > 1 and (program in PROGRAMS or SCRIPT.match(words[0])):
        return (
            words[1] != "|" and not words[0].endswith(":") and not words[1].endswith(":")
        )  # `vllm | INFO …` and `/bin/sh: 1: …` are lines of logs
    if re.search(rf"(?:\||&&|;)\s*(?:sudo\s+)?(?:{'|'.join(map(re.escape, PROGRAMS))})\b", code):
        return True
    return program in PROGRAMS and words[0] in ("reboot", "shutdown", "passwd", "su")


def is_prose_command(match: re.Match[str]) -> bool:
    """Whether words in a sentence are a command: a program followed by an option, a path, an address or a subcommand."""
    following = match["next"]
    if following.endswith(":"):  # `vllm serve: error: …` is what a program prints
        return False
    return following.startswith(("-", "/", "~", "$")) or "://" in following or following.lower() in SUBCOMMANDS


def command_words(text: str) -> str:
    """A command inside a sentence up to where the sentence goes on: arguments have signs or digits in them, or come second."""
    words = text.split()
    kept = words[:2]
    for word in words[2:]:
        bare = word.strip(".,;:!?()*")
        if not bare.isascii() or (not re.search(r"[-/=._:~\d]", bare) and kept[-1].lower() not in SUBCOMMANDS):
            break
        kept.append(word)
    return " ".join(kept).rstrip(".,;:!?)*")


def is_quotation(words: str) -> bool:
    """Three words or more, or eight Chinese characters: less is a term."""
    return len(words.split()) >= 3 or len(re.findall(r"[\u3400-\u9fff]", words)) >= 8


def unified(text: str) -> str:
    """The text with its citations in one form: `[K1, L2]`, `【K1】` and `(K1)` become `[K1][L2]`, `[K1]`."""

    def apart(found: re.Match[str]) -> str:
        return "".join(f"[{name}]" for name in re.findall(r"[KPLC]\d+", found[1]))

    return LOOSE_CITATION.sub(apart, text)
