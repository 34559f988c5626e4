"""Markdown as Slack's mrkdwn. Nothing that a log brings becomes a link, a mention or a channel: text is escaped, and of
addresses only those that the caller names can be followed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.tree import SyntaxTreeNode

URL = re.compile(r"https://[^\s<>|()\[\]]+")
FENCE = "```"
ENTITY_CHARACTERS = 5  # "&amp;"
JOINER = "\u200b"  # Slack sees a mark only beside a space or punctuation, which Chinese has not


def escape(text: str) -> str:
    """Text that Slack shows as it stands."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unescape(text: str) -> str:
    """What a person typed, of the form in which Slack sends it: links and mentions as plain words."""
    plain = re.sub(r"<(?:mailto:|tel:)?([^|<>]*)(?:\|([^<>]*))?>", _typed, text)
    return plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _typed(found: re.Match[str]) -> str:
    target, label = found[1], found[2]
    if target.startswith(("#", "@")):
        return target[0] + (label or target[1:])
    if target.startswith("!"):
        return label or f"@{target[1:].partition('^')[0]}"
    return target or label or ""


def to_pieces(markdown: str, links: Collection[str] = ()) -> list[str]:
    """The blocks of a Markdown text, each as mrkdwn. Addresses in `links` can be followed, all others are text."""
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

    root = SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(markdown))
    return [piece for node in root.children if (piece := _block(node, links).strip("\n"))]


def pack(pieces: list[str], limit: int) -> Iterator[str]:
    """The pieces joined to texts of at most `limit` characters; a longer piece is cut between lines, a code block anew fenced."""
    held = ""
    for piece in pieces:
        for part in [piece] if len(piece) <= limit else cut(piece, limit):
            if held and len(held) + 2 + len(part) > limit:
                yield held
                held = ""
            held = f"{held}\n\n{part}" if held else part
    if held:
        yield held


def cut(piece: str, limit: int) -> Iterator[str]:
    """A long piece in parts of at most `limit` characters."""
    fenced = piece.startswith(FENCE)
    text = piece.removeprefix(FENCE).removesuffix(FENCE).strip("\n") if fenced else piece
    room = limit - 2 * len(FENCE) - 2 if fenced else limit
    while text:
        part = text if len(text) <= room else text[: _end(text, room)]
        text = text[len(part) :].lstrip("\n")
        if part.strip():
            yield fence(part.strip("\n")) if fenced else part.strip("\n")


def _end(text: str, room: int) -> int:
    """Where to cut: after a line, else after a word, never inside an escaped character."""
    place = text.rfind("\n", room // 2, room)
    if place < 0:
        place = text.rfind(" ", room // 2, room)
    if place >= 0:
        return place + 1
    start = text.rfind("&", room - ENTITY_CHARACTERS, room)
    return start if start >= 0 and ";" not in text[start:room] else room


def fence(text: str) -> str:
    """Escaped text as a code block."""
    return f"{FENCE}\n{text.replace(FENCE, chr(39) * 3)}\n{FENCE}"


def _block(node: SyntaxTreeNode, links: Collection[str]) -> str:
    if node.type == "heading":
        return f"*{_inline(node, links, plain=True)}*"
    if node.type in ("fence", "code_block"):
        return fence(escape(node.content.rstrip("\n")))
    if node.type in ("bullet_list", "ordered_list"):
        return _list(node, links)
    if node.type == "blockquote":
        return "\n".join(f"> {line}" for child in node.children for line in _block(child, links).splitlines())
    if node.type == "table":
        return fence(escape(_table(node)))
    if node.type == "hr":
        return "───"
    if node.type == "html_block":
        return escape(node.content)
    return _inline(node, links)


def _list(node: SyntaxTreeNode, links: Collection[str]) -> str:
    """The items a line each; what an item holds besides stands under it."""
    lines = []
    for place, item in enumerate(node.children, int(node.attrs.get("start", 1))):
        mark = "•" if node.type == "bullet_list" else f"{place}."
        first, *rest = [_block(child, links) for child in item.children] or [""]
        lines.append(f"\n{first}" if first.startswith(FENCE) else f"{mark} {first}")
        for part in rest:
            lines += [part] if part.startswith(FENCE) else [f"    {line}" for line in part.splitlines()]
    return "\n".join(lines)


def _table(node: SyntaxTreeNode) -> str:
    """A table in columns of equal width."""
    rows = [
        ["".join(t.content for t in cell.walk() if t.type in ("text", "code_inline")) for cell in row.children]
        for part in node.children
        for row in part.children
    ]
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows), default=0))]
    return "\n".join("  ".join(text.ljust(widths[i]) for i, text in enumerate(row)).rstrip() for row in rows)


def _inline(node: SyntaxTreeNode, links: Collection[str], plain: bool = False) -> str:
    """The words in a block; `plain`: without marks for strong and emphasis, as in a heading that is strong itself."""
    said = ""
    for child in node.children:
        part = _word(child, links, plain)
        marked = child.type in ("strong", "em", "code_inline") and not (plain and child.type != "code_inline")
        if (marked and said[-1:].isalnum()) or (said and said[-1] in "*_`" and part[:1].isalnum()):
            said += JOINER
        said += part
    return said


def _word(node: SyntaxTreeNode, links: Collection[str], plain: bool) -> str:
    if node.type == "code_inline":
        return f"`{escape(node.content).replace('`', chr(39))}`"
    if node.type in ("strong", "em"):
        mark = "" if plain else "*" if node.type == "strong" else "_"
        return f"{mark}{_inline(node, links, plain)}{mark}"
    if node.type == "link":
        words, target = _inline(node, links, plain), str(node.attrs.get("href", ""))
        if target in links:
            return f"<{escape(target)}|{words}>" if words != escape(target) else f"<{escape(target)}>"
        return words if escape(target) in words else f"{words} ({escape(target)})"
    if node.type == "image":
        return escape(node.content)
    if node.type in ("softbreak", "hardbreak"):
        return " " if node.type == "softbreak" else "\n"
    if node.children:
        return _inline(node, links, plain)
    return URL.sub(lambda found: _address(found[0], links), escape(node.content))


def _address(escaped: str, links: Collection[str]) -> str:
    return f"<{escaped}>" if escaped.replace("&amp;", "&") in links else escaped
