"""Markdown text into sections, and sections into chunks that keep their exact lines."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from kb.types import Chunk, Language

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

PROSE_CHARACTERS = 900
FENCE_CHARACTERS = 4000
_INTRODUCTION_CHARACTERS = 300
_SEPARATORS = ["\n\n", "\n", "。", "！", "？", "；", ". ", "; ", "，", ", ", " ", ""]
_CJK = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_FENCE_LINE = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)")

PARTS = {
    "symptoms": r"(问题|故障|错误)?(症状|现象|描述|日志)|报错(信息)?|错误信息|日志|symptoms?|error( messages?| logs?)?|logs?|what you see",
    "causes": r"(可能|常见|根本|问题|故障)?(的)?原因(分析)?|根因(分析)?|((root|possible|likely|common) )?causes?|why( it happens)?",
    "diagnosis": r"(问题|故障)?(诊断|排查|定位)(步骤|流程|方法)?|diagnos(is|e|tics)|investigation|triage|how to (confirm|diagnose)",
    "fixes": r"(应急|临时)?(解决|处理|修复|处置|恢复)(方案|方法|办法|步骤|措施|方式)?(矩阵)?|方案|"
    r"(quick |the )?fix(es)?|how to fix( it)?|solutions?|resolution|remed(y|ies)|mitigations?|workarounds?|remediation|what to do",
    "check": r"验证(方法|步骤)?|确认恢复|verif(y|ication)|how to verify|check|validation",
}


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of Markdown that stands alone; `first` and `last` are its lines, counted from 1, both included.

    `text` is exactly these lines, `code` the content of a fence or an indented block; `fences` are those inside a list item or a
    quotation.
    """

    kind: Literal["heading", "fence", "table", "prose", "item", "rule"]
    first: int
    last: int
    text: str
    title: str = ""
    level: int = 0
    info: str = ""
    code: str = ""
    fences: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what stands under it up to the next heading of whatever level; `heading` is the path to it."""

    heading: tuple[str, ...]
    level: int
    blocks: tuple[Block, ...]


def part_name(title: str) -> str:
    """The part of an entry that a title announces (`原因分析`, `Root cause` → `causes`), or an empty string."""
    plain = re.sub(r"^[\W\d_]+|[\W_]+$", "", title.replace("*", "")).lower()
    return next((part for part, names in PARTS.items() if re.fullmatch(names, plain)), "")


def language_of(text: str) -> Language:
    """`zh` where Chinese characters are at least half as many as Latin words outside code fences, else `en`."""
    prose = re.sub(r"^(`{3,}|~{3,}).*?^\1", "", text, flags=re.S | re.M)
    characters = len(_CJK.findall(prose))
    return "zh" if characters and 2 * characters >= len(re.findall(r"[A-Za-z]{2,}", prose)) else "en"


def slug(text: str) -> str:
    """Letters and digits of any script, lower-cased, joined by hyphens; at most 60 characters."""
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:60].rstrip("-") or "untitled"


def outline(text: str) -> list[Section]:
    """The sections in order. A paragraph that is only bold is a heading one level below the one that it stands under."""
    opened: list[tuple[tuple[str, ...], int, list[Block]]] = [((), 0, [])]
    real_level = 0
    titles: dict[int, str] = {}
    for block in _blocks(text):
        if block.kind == "heading":
            real_level = block.level or real_level
            level = block.level or real_level + 1
            titles = {depth: title for depth, title in titles.items() if depth < level} | {level: block.title}
            opened.append((tuple(titles.values()), level, []))
        opened[-1][2].append(block)
    return [Section(heading, level, tuple(blocks)) for heading, level, blocks in opened if blocks]


def _blocks(text: str) -> Iterator[Block]:
    lines = text.split("\n")
    tokens = _parser().parse("\n".join(_without_traps(lines)))
    for index, token in enumerate(tokens):
        if token.map is None or token.nesting < 0:
            continue
        if token.level == 0 and token.type != "inline":
            yield from _root_blocks(tokens, index, lines)
        elif token.type == "list_item_open" and token.level == 1:
            first, last = _trimmed(lines, *token.map)
            yield Block(
                "item", first, last, _slice(lines, first, last), fences=tuple(_inner_fences(tokens, index, lines))
            )


def _root_blocks(tokens: Sequence[Token], index: int, lines: Sequence[str]) -> Iterator[Block]:
    token = tokens[index]
    assert token.map is not None
    first, last = _trimmed(lines, *token.map)
    text = _slice(lines, first, last)
    if token.type == "heading_open":
        yield Block("heading", first, last, text, title=_plain(tokens[index + 1]), level=int(token.tag[1]))
    elif token.type in ("fence", "code_block"):
        yield _fence(token, lines)
    elif token.type == "table_open":
        yield Block("table", first, last, text)
    elif token.type == "hr":
        yield Block("rule", first, last, text)
    elif token.type == "paragraph_open" and (title := _bold_title(tokens[index + 1])):
        yield Block("heading", first, first, lines[first - 1], title=title)
        if last > first:
            yield Block("prose", first + 1, last, _slice(lines, first + 1, last))
    elif token.type not in ("bullet_list_open", "ordered_list_open"):
        yield Block("prose", first, last, text, fences=tuple(_inner_fences(tokens, index, lines)))


def _inner_fences(tokens: Sequence[Token], index: int, lines: Sequence[str]) -> Iterator[Block]:
    depth = tokens[index].level
    for token in tokens[index + 1 :]:
        if token.level <= depth:
            return
        if token.type in ("fence", "code_block"):
            yield _fence(token, lines)


def _fence(token: Token, lines: Sequence[str]) -> Block:
    assert token.map is not None
    first, last = _trimmed(lines, *token.map)
    return Block(
        "fence", first, last, _slice(lines, first, last), info=token.info.strip(), code=token.content.rstrip("\n")
    )


def _trimmed(lines: Sequence[str], start: int, end: int) -> tuple[int, int]:
    while end > start + 1 and not lines[end - 1].strip():
        end -= 1
    return start + 1, end


def _plain(inline: Token) -> str:
    """The words of a line without its marks."""
    parts = [" " if child.type == "softbreak" else child.content for child in inline.children or ()]
    return "".join(parts).strip()


def _bold_title(inline: Token) -> str:
    """The bold first line of a paragraph, where it reads as a title: no sentence, no link, no `原因:` label."""
    children = [child for child in inline.children or () if child.type != "text" or child.content]
    if not children or children[0].type != "strong_open" or any(child.type == "link_open" for child in children):
        return ""
    end = next(i for i, child in enumerate(children) if child.type == "strong_close")
    if end + 1 < len(children) and children[end + 1].type != "softbreak":
        return ""
    title = "".join(child.content for child in children[1:end]).strip()
    named = re.match(r"\w+\s*#?\d+\b", title) is not None
    if (
        len(title) > 80
        or part_name(title)
        or (title.endswith((":", "：", "。", ".", "!", "！", "?", "？")) and not named)
    ):
        return ""
    return title.rstrip(":：")


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def _without_traps(lines: Sequence[str]) -> list[str]:
    """The same number of lines for the parser alone: no front matter, and no fences inside a Markdown fence.

    CommonMark ends a Markdown fence at the first bare fence line inside it, although people write issue templates with fences
    in a fence of the same length; from there on it would take prose for code and code for prose.
    """
    shadow = list(lines)
    if lines[0].strip() == "---":
        end = next((i for i, line in enumerate(lines[1:], 1) if line.strip() in ("---", "...")), -1)
        shadow[: end + 1] = [""] * (end + 1)
    index = 0
    while index < len(lines):
        opened = _FENCE_LINE.match(shadow[index])
        if opened:
            inner, index = _fence_end(lines, index, opened[1], opened[2].lower() in ("markdown", "md"))
            for line in inner:
                shadow[line] = lines[line].replace("`", "'").replace("~", "'")
        index += 1
    return shadow


def _fence_end(lines: Sequence[str], start: int, mark: str, nests: bool) -> tuple[list[int], int]:
    """The fence lines inside the fence that opens at `start`, and the index of the line that closes it."""
    inner: list[int] = []
    depth = 1
    for index in range(start + 1, len(lines)):
        found = _FENCE_LINE.match(lines[index])
        if not found or found[1][0] != mark[0] or len(found[1]) < len(mark) or (found[2] and not nests):
            continue
        opens = bool(found[2]) or (nests and depth == 1 and _opens_inside(lines, index))
        depth += 1 if opens else -1
        if not depth:
            return inner, index
        inner.append(index)
    return inner, len(lines)


def _opens_inside(lines: Sequence[str], index: int) -> bool:
    """Whether a bare fence line in a Markdown fence opens another: text follows at once, and two bare fence lines."""
    following = [found[2] for line in lines[index + 1 :] if (found := _FENCE_LINE.match(line))][:2]
    return index + 1 < len(lines) and bool(lines[index + 1].strip()) and following == ["", ""]


def chunk_markdown(
    text: str,
    *,
    document: str,
    title: str,
    path: str,
    owners: Mapping[int, tuple[str, str]] | None = None,
    origin: Literal["shipped", "user"] = "user",
) -> list[Chunk]:
    """Split a Markdown text into chunks of about 900 characters; fences, tables and list items stay whole up to 4,000.

    A fence stays with the sentence that introduces it. A chunk's text is exactly its lines, but for a paragraph or a fence
    that had to be split. `owners` gives, by a section's first line, the (document id, title) of sections that belong to
    another document than `document`.
    """
    lines = text.split("\n")
    language = language_of(text)
    counts: Counter[str] = Counter()
    chunks: list[Chunk] = []
    for section in outline(text):
        owner_id, owner_title = (owners or {}).get(section.blocks[0].first, (document, title))
        for first, last, piece in _pieces(section, lines):
            place = f"{owner_id}#{slug(section.heading[-1]) if section.heading else 'start'}"
            digest = hashlib.sha256(piece.encode("utf-8", "replace")).hexdigest()[:8]
            chunks.append(
                Chunk(
                    id=f"{place}.{counts[place]}.{digest}",
                    document=owner_id,
                    title=owner_title,
                    language=language_of(piece) if len(piece) >= _INTRODUCTION_CHARACTERS else language,
                    heading=section.heading,
                    text=piece,
                    path=path,
                    lines=(first, last),
                    origin=origin,
                )
            )
            counts[place] += 1
    return chunks


Piece = tuple[int, int, str]


def _pieces(section: Section, lines: Sequence[str]) -> Iterator[Piece]:
    """(first line, last line, text) of each chunk of a section; atoms are put together as long as they fit."""
    held: tuple[int, int] | None = None
    for blocks in _atoms(section.blocks):
        first, last = blocks[0].first, blocks[-1].last
        if held and len(_slice(lines, held[0], last)) <= PROSE_CHARACTERS:
            held = (held[0], last)
            continue
        if held:
            yield *held, _slice(lines, *held)
        held = (first, last)
        limit = PROSE_CHARACTERS if _is_prose(blocks) else FENCE_CHARACTERS
        if len(_slice(lines, first, last)) > limit:
            yield from _split(blocks, lines)
            held = None
    if held:
        yield *held, _slice(lines, *held)


def _atoms(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Runs of blocks that are not parted: a heading with what follows, an introduction with its fence or table."""
    atom: list[Block] = []
    for block in blocks:
        if block.kind == "rule":
            continue
        if atom and not (atom[-1].kind == "heading" or (block.kind in ("fence", "table") and _introduces(atom[-1]))):
            yield atom
            atom = []
        atom.append(block)
    if atom and not (len(atom) == 1 and atom[0].kind == "heading"):
        yield atom


def _introduces(block: Block) -> bool:
    is_short = len(block.text) <= _INTRODUCTION_CHARACTERS
    return block.kind in ("prose", "item") and (is_short or block.text.endswith((":", "：")))


def _is_prose(blocks: Sequence[Block]) -> bool:
    return not any(block.fences or block.kind in ("fence", "table") for block in blocks)


def _slice(lines: Sequence[str], first: int, last: int) -> str:
    return "\n".join(lines[first - 1 : last])


def _split(blocks: Sequence[Block], lines: Sequence[str]) -> Iterator[Piece]:
    """An atom that is too long: prose at sentence ends, a fence, a table or a list item at line ends with a note."""
    if _is_prose(blocks):
        yield from _split_prose(blocks, lines)
        return
    *introduction, last = blocks
    if introduction:
        yield introduction[0].first, introduction[-1].last, _slice(lines, introduction[0].first, introduction[-1].last)
    is_marked = last.kind == "fence" and _FENCE_LINE.match(lines[last.first - 1]) is not None
    opening = 1 if is_marked else 2 if last.kind == "table" else 0
    is_closed = is_marked and last.last > last.first and _FENCE_LINE.match(lines[last.last - 1]) is not None
    head = "".join(line + "\n" for line in lines[last.first - 1 : last.first - 1 + opening])
    tail = "\n" + (lines[last.last - 1] if is_closed else "```") if is_marked else ""
    parts = list(_line_runs(lines, last.first + opening, last.last - is_closed))
    for number, (start, end, body) in enumerate(parts, 1):
        begin, finish = (last.first if number == 1 else start), (last.last if number == len(parts) else end)
        yield begin, finish, f"{head}{body}{tail}\n(part {number} of {len(parts)})"


def _split_prose(blocks: Sequence[Block], lines: Sequence[str]) -> Iterator[Piece]:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        _SEPARATORS, keep_separator="end", chunk_size=PROSE_CHARACTERS, chunk_overlap=0, add_start_index=True
    )
    first = next((block.first for block in blocks if block.kind != "heading"), blocks[0].first)
    text = _slice(lines, first, blocks[-1].last)
    heading = "".join(line + "\n" for line in lines[blocks[0].first - 1 : first - 1])
    for part in splitter.create_documents([text]):
        start = first + text.count("\n", 0, part.metadata["start_index"])
        end = start + part.page_content.count("\n")
        yield (blocks[0].first if heading else start), end, heading + part.page_content
        heading = ""


def _line_runs(lines: Sequence[str], first: int, last: int) -> Iterator[Piece]:
    """Runs of whole lines of at most 4,000 characters; a longer line is cut, and keeps its number."""
    start, size = first, 0
    for number in range(first, last + 1):
        length = len(lines[number - 1]) + 1
        if number > start and size + length > FENCE_CHARACTERS:
            yield start, number - 1, _slice(lines, start, number - 1)
            start, size = number, 0
        if length > FENCE_CHARACTERS:
            line = lines[number - 1]
            for cut in range(0, len(line), FENCE_CHARACTERS):
                yield number, number, line[cut : cut + FENCE_CHARACTERS]
            start, size = number + 1, 0
            continue
        size += length
    if start <= last:
        yield start, last, _slice(lines, start, last)
