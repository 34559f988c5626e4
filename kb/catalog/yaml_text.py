"""YAML and JSON as nodes that know where they stand in the text, and how another value is written in their place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kb.catalog.forms import Edit, Item, Script

if TYPE_CHECKING:
    import yaml

SEPARATOR = re.compile(r"(?m)^---[^\n]*\n?")
TEMPLATE_LINE = re.compile(r"(?m)^[ \t]*\{\{[^\n]*\}\}[ \t]*$")
TEMPLATE = re.compile(r"\{\{.*?\}\}")
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}
DOUBLE = re.compile(r"\\\n[ \t]*|\\(?P<hex>x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})|\\(?P<one>.)|(?P<plain>.)", re.S)
RISKY = re.compile(r":\s|\s#|:$|^[\s?:,\[\]{}#&*!|>'\"%@`]|^-(?:\s|$)|[\[\]{},]|\s$")


def documents(text: str) -> list[yaml.Node]:
    """The documents of a YAML or JSON text; lines and parts that a template will fill count as plain text.

    Empty where it is not YAML.
    """
    import yaml

    try:
        return composed(text)
    except (yaml.YAMLError, RecursionError):
        pass
    starts = [0, *(found.end() for found in SEPARATOR.finditer(text)), len(text)]
    found: list[yaml.Node] = []
    for start, end in pairwise(starts) if len(starts) > 2 else ():
        with suppress(yaml.YAMLError, RecursionError):  # of several documents the well-formed ones
            found += composed("\n" * start + SEPARATOR.sub("", text[start:end]))
    return found


def composed(text: str) -> list[yaml.Node]:
    """The documents of a text; raises yaml.YAMLError where it is not YAML."""
    import yaml

    plain = TEMPLATE.sub(lambda m: "x" * len(m[0]), TEMPLATE_LINE.sub(lambda m: "#" * len(m[0]), text))
    plain = plain.replace("\t", " ") if text.lstrip()[:1] in ("{", "[") else plain
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [node for node in yaml.compose_all(plain, Loader=loader) if node is not None]


def fault_of(text: str) -> str:
    """Why a text is no YAML, with its line; empty where it is."""
    import yaml

    try:
        composed(text)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        return f"{line}{error.problem or 'no YAML'}"
    except (yaml.YAMLError, RecursionError) as error:
        return " ".join(str(error).split())[:120]
    return ""


def span(node: yaml.Node) -> tuple[int, int]:
    """Where a node's first and last characters stand."""
    return node.start_mark.index, node.end_mark.index


def fields(node: yaml.Node) -> dict[str, yaml.Node]:
    """A mapping's values by key, those that it merges in (`<<: *common`) included; empty for any other node."""
    import yaml

    found: dict[str, yaml.Node] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == "<<":
                parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for part in parts:
                    found = {**fields(part), **found}
            elif isinstance(key.value, str):
                found[key.value] = value
    return found


def own_key(node: yaml.Node, name: str) -> yaml.Node | None:
    """The node of a mapping's key."""
    return next((key for key, _ in node.value if key.value == name), None)


def plain_text(text: str, node: yaml.Node | None) -> str:
    """A scalar's value; empty for any other node. What a template will fill reads as it is written."""
    import yaml

    if not isinstance(node, yaml.ScalarNode):
        return ""
    raw = text[slice(*span(node))]
    return raw.strip("'\"") if "{{" in raw and style_of(node) not in ("|", ">") else str(node.value)


def style_of(node: yaml.Node) -> str:
    """A scalar's style: `'`, `"`, `|`, `>`, or empty for a plain one."""
    return str(getattr(node, "style", "") or "")


def is_flow(node: yaml.Node) -> bool:
    """Whether a list or mapping is written in brackets."""
    return bool(getattr(node, "flow_style", False))


def encode(style: str) -> Callable[[str], str]:
    """What writes a piece of text inside a scalar of this style, whose quotes are there already."""
    if style == "'":
        return lambda new: new.replace("'", "''")
    if style == '"':
        return lambda new: new.replace("\\", "\\\\").replace('"', '\\"')
    return lambda new: new


def quoted(text: str, style: str, is_number: bool = False) -> str:
    """A whole scalar: in this style, or in quotes where it could not stand without or would be no text."""
    if style == "'":
        return "'" + text.replace("'", "''") + "'"
    if style == '"':
        return json.dumps(text, ensure_ascii=False)
    if is_number or (is_text(text) and not RISKY.search(text)):
        return text
    return "'" + text.replace("'", "''") + "'"


def is_text(plain: str) -> bool:
    """Whether YAML reads this as a text, and not as a number, a date or a truth value."""
    import yaml

    loader: Any = yaml.SafeLoader("")
    return bool(plain) and loader.resolve(yaml.ScalarNode, plain, (True, False)) == "tag:yaml.org,2002:str"


def places_of(text: str, node: yaml.Node, words: bool) -> tuple[str, list[int]]:
    """A scalar's text and where each character and the end stand. `words`: a line's end is a blank, not the command's end."""
    start, end = span(node)
    if style_of(node) in ("|", ">"):
        head = text.index("\n", start) + 1 if "\n" in text[start:end] else end
        body = text[head:end].rstrip(" \n")
        said = unbroken(body) if words or style_of(node) == ">" else body
        return said, [*range(head, head + len(body) + 1)]
    if style_of(node) == '"':
        return double_quoted(text, start + 1, end - 1)
    if style_of(node) == "'":
        found = [(m[0][0], start + 1 + m.start()) for m in re.finditer(r"''|[^']", text[start + 1 : end - 1])]
        return unbroken("".join(c for c, _ in found)), [*(at for _, at in found), end - 1]
    return unbroken(text[start:end]), [*range(start, end + 1)]


def unbroken(body: str) -> str:
    """Text on one line, of the same length; a line's end behind a backslash stays."""
    return re.sub(r"(?<!\\)\r?\n", lambda m: " " * len(m[0]), body)


def double_quoted(text: str, start: int, end: int) -> tuple[str, list[int]]:
    said, places = "", []
    for unit in DOUBLE.finditer(text, start, end):
        if unit["hex"]:
            char = chr(int(unit["hex"][1:], 16))
        elif unit["one"]:
            char = ESCAPES.get(unit["one"], unit["one"])
        else:
            char = " " if unit["plain"] == "\n" else unit["plain"] or ""
        said += char
        places += [unit.start()] * len(char)
    return said, [*places, end]


def script(text: str, node: yaml.Node, words: bool, **given: Any) -> Script:
    """A scalar as shell text."""
    said, places = places_of(text, node, words)
    write = encode(style_of(node))

    def wholly(new: str) -> Edit | None:
        if style_of(node) or not RISKY.search(new):
            return None
        return Edit(*span(node), quoted(new, "'"))

    column = last_line(text[: places[-1]])
    breaks = (
        "\n" + " " * indent(column)
        if style_of(node) in ("|", ">") and column.lstrip().startswith("-") and said != text[places[0] : places[-1]]
        else ""
    )
    return Script(said, places, write, wholly=wholly, breaks_lines=breaks, **given)


def last_line(text: str) -> str:
    return text[text.rfind("\n") + 1 :]


def indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def items(text: str, node: yaml.Node) -> Iterator[Item]:
    """The words of a sequence."""
    yield from (item(text, node, at) for at in range(len(node.value)))


def item(text: str, sequence: yaml.Node, at: int) -> Item:
    node = sequence.value[at]
    start, end = span(node)
    style = style_of(node) if style_of(node) in ("'", '"') else ""
    was_number = not style and not is_text(str(node.value))
    if style_of(node) in ("|", ">"):
        end = start + len(text[start:end].rstrip(" \n"))

    def write(new: str) -> str:
        return quoted(new, style, was_number and not is_text(new) and not RISKY.search(new))

    def after(new: str) -> Edit:
        plain = is_text(new) and not RISKY.search(new) and not is_flow(sequence) and not style_of(sequence.value[0])
        written = quoted(new, "" if plain else quotes_in(sequence))
        if is_flow(sequence):
            line = last_line(text[:start])
            own_line = bool(line) and not line.strip()
            return Edit(end, end, f",\n{line}{written}" if own_line else f", {written}")
        dash = text.rindex("-", 0, start)
        column = dash - (text.rfind("\n", 0, dash) + 1)
        line_end = text.find("\n", end) if "\n" in text[end:] else len(text)
        return Edit(line_end, line_end, f"\n{' ' * column}-{' ' * max(1, start - dash - 1)}{written}")

    return Item(plain_text(text, node), start, end, write, whole_of(text, sequence, at, start, end), after)


def quotes_in(sequence: yaml.Node) -> str:
    """The quotes that a sequence uses; double ones where it uses none."""
    return next((style for each in sequence.value if (style := style_of(each)) in ("'", '"')), '"')


def whole_of(text: str, sequence: yaml.Node, at: int, start: int, end: int) -> tuple[int, int]:
    """What goes with an item: its line, or the comma before or behind it."""
    if is_flow(sequence):
        return between_commas([span(each) for each in sequence.value], at)
    dash = text.rindex("-", 0, start)
    line = text.rfind("\n", 0, dash)
    return line if line >= 0 else 0, text.find("\n", end) if "\n" in text[end:] else len(text)


def between_commas(spans: Sequence[tuple[int, int]], at: int) -> tuple[int, int]:
    """What goes with one of several entries that commas part."""
    if at:
        return spans[at - 1][1], spans[at][1]
    return spans[0][0], spans[1][0] if len(spans) > 1 else spans[0][1]


def environment_added(text: str, holder: yaml.Node, key: str, paired: bool) -> Callable[[str, str], Edit | None]:
    """What puts a further variable among those that a mapping has under `key`; `paired` where each is a name and a value."""

    def add(name: str, value: str) -> Edit | None:
        held = fields(holder).get(key)
        if held is None:
            return before(text, holder, key, name, value, paired)
        return behind(text, held, name, value, paired) if isinstance(held.value, list) else None

    return add


def in_brackets(name: str, value: str, paired: bool) -> str:
    """A variable as an item of a list in brackets."""
    return json.dumps({"name": name, "value": value} if paired else f"{name}={value}", ensure_ascii=False)


def on_lines(name: str, value: str, paired: bool, column: int) -> str:
    """A variable as an item of a list, its dash in this column."""
    pad = " " * column
    if paired:
        return f"{pad}- name: {name}\n{pad}  value: {json.dumps(value, ensure_ascii=False)}"
    plain = f"{name}={value}"
    return f"{pad}- " + quoted(plain, '"' if RISKY.search(plain) else "")


def behind(text: str, held: yaml.Node, name: str, value: str, paired: bool) -> Edit | None:
    """A variable behind the last one of a list or mapping."""
    import yaml

    is_mapping = isinstance(held, yaml.MappingNode)
    said = json.dumps(value, ensure_ascii=False)
    if is_flow(held):
        entry = f'"{name}": {said}' if is_mapping else in_brackets(name, value, paired)
        at = span(held)[1] - 1
        last = at - (len(text[:at]) - len(text[:at].rstrip()))
        return Edit(last, last, f", {entry}" if held.value else entry)
    if not held.value:
        return None
    key, node = held.value[-1] if is_mapping else (held.value[-1], held.value[-1])
    start, end = key.start_mark.index, node.start_mark.index + len(text[slice(*span(node))].rstrip())
    line_end = text.find("\n", end) if "\n" in text[end:] else len(text)
    if is_mapping:
        return Edit(line_end, line_end, f"\n{' ' * column_of(text, start)}{name}: {said}")
    column = column_of(text, text.rindex("-", 0, start))
    return Edit(line_end, line_end, "\n" + on_lines(name, value, paired, column))


def before(text: str, holder: yaml.Node, key: str, name: str, value: str, paired: bool) -> Edit | None:
    """A first variable, in front of a key of the mapping, of one that has a line of its own."""
    starts = [each.start_mark.index for each, _ in holder.value]
    if is_flow(holder):
        return Edit(starts[0], starts[0], f'"{key}": [{in_brackets(name, value, paired)}], ')
    for start in starts:
        line = last_line(text[:start])
        if not line.strip():
            at = start - len(line)
            return Edit(at, at, f"{line}{key}:\n{on_lines(name, value, paired, len(line) + 2)}\n")
    return None


def column_of(text: str, at: int) -> int:
    return at - (text.rfind("\n", 0, at) + 1)
