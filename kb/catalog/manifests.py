"""Serving commands in compose files, Kubernetes manifests and other YAML that names a command, and in their JSON."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from kb.catalog.command import IMAGE
from kb.catalog.forms import Environment, Item, Listed, Script, Setting, Unchangeable, container, exports
from kb.catalog.yaml_text import (
    between_commas,
    documents,
    environment_added,
    fields,
    is_flow,
    items,
    places_of,
    plain_text,
    quoted,
    script,
    span,
    style_of,
)

if TYPE_CHECKING:
    import yaml

FIELDS = ("entrypoint", "command", "args")
VARIABLES = ("environment", "env", "envs")
SHELL = re.compile(r"(?:\S*/)?(?:ba|z|da|a)?sh")
DEFAULT = re.compile(r"\$\{\w+:?-([^}]*)\}")
NAME = re.compile(r"[A-Za-z_]\w*")
Found = tuple[str, int, Script | Listed]


def read_manifests(text: str) -> list[Found]:
    """Every command of a YAML or JSON text: the name of what runs it, where it stands, and the command."""
    found: list[Found] = []
    for document in documents(text):
        seen: set[int] = set()
        for holder, name in mappings(document, ""):
            if id(holder) not in seen and any(key in fields(holder) for key in FIELDS):
                seen.add(id(holder))
                found += of_container(text, holder, name)
        taken = {place for _, _, each in found for place in ([each.places[0]] if isinstance(each, Script) else [])}
        found += [each for each in scripts(text, document) if each[1] not in taken]
    return found


def mappings(node: yaml.Node, name: str) -> Iterator[tuple[yaml.Node, str]]:
    """Every mapping under a node, with the name that it goes by: its own `name`, else the key that leads to it."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        inner = fields(node)
        own = inner["name"].value if isinstance(inner.get("name"), yaml.ScalarNode) else name
        yield node, own
        for key, value in inner.items():
            yield from mappings(value, key)
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from mappings(each, name)


def of_container(text: str, holder: yaml.Node, name: str) -> Iterator[Found]:
    """The command of a container: its entry point, command and arguments, as words or as one text."""
    import yaml

    held = fields(holder)
    environment = environment_of(text, holder)
    image = image_of(text, held)
    words: list[Item] = []
    nodes = [held[key] for key in FIELDS if key in held]
    for at, node in enumerate(nodes):
        if isinstance(node, yaml.SequenceNode) and all(isinstance(each, yaml.ScalarNode) for each in node.value):
            words += items(text, node)
        elif isinstance(node, yaml.ScalarNode) and node.value and at < len(nodes) - 1 and not style_of(node):
            words += [frozen(text, node, word) for word in shlex_words(str(node.value))]
        elif isinstance(node, yaml.ScalarNode) and node.value:
            yield of_text(text, node, name, [item.text for item in words], environment, image)
            return
    shell = script_among(words)
    if shell is not None:
        node = next(
            each for n in nodes if isinstance(n, yaml.SequenceNode) for each in n.value if span(each)[0] == shell.start
        )
        lead = exports(environment, image)
        yield name, shell.start, script(text, node, False, environment=environment, lead=lead)
    elif words and image:
        yield name, words[0].start, Listed(tuple(words), environment, image)


def of_text(text: str, node: yaml.Node, name: str, words: list[str], environment: Environment, image: str) -> Found:
    """A command that is one text: the shell's where one is asked for, else words."""
    if words and SHELL.fullmatch(words[0]) and re.fullmatch(r"-\w*c", words[-1]):
        given = script(text, node, False, environment=environment, lead=exports(environment, image))
    else:
        given = script(text, node, True, environment=environment, lead=container(environment, image, words))
    return name, span(node)[0], given


def script_among(words: list[Item]) -> Item | None:
    """The word that holds the script of `sh -c`."""
    texts = [word.text for word in words]
    at = next((i for i, each in enumerate(texts[:-1]) if i and re.fullmatch(r"-\w*c", each)), None)
    return words[at + 1] if at and any(SHELL.fullmatch(each) for each in texts[:at]) else None


def frozen(text: str, node: yaml.Node, word: str) -> Item:
    """A word of an entry point that is written as one text; it cannot be changed alone."""
    start, end = span(node)

    def fail(*_: object) -> str:
        raise Unchangeable("the entry point is written as one text")

    return Item(word, start, end, fail, (start, end), fail)  # type: ignore[arg-type]


def shlex_words(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:
        return value.split()


def image_of(text: str, held: dict[str, yaml.Node]) -> str:
    """A container's image, with the default of a variable in it; a stand-in where the name does not tell an engine."""
    node = held.get("image")
    inner = fields(node) if node is not None else {}
    named = plain_text(text, node) or ":".join(
        part for key in ("repository", "tag") if (part := plain_text(text, inner.get(key)))
    )
    said = re.sub(r"\$\{?\w+\}?|\{\{.*?\}\}|@sha256:\w+", "", DEFAULT.sub(r"\1", named)).rstrip(":")
    return said if IMAGE.fullmatch(said) else "container/vllm-sglang"


def environment_of(text: str, holder: yaml.Node) -> Environment:
    """The variables beside a command: a mapping, a list of `NAME=value`, or a list of names and values."""
    import yaml

    held = fields(holder)
    key = next(
        (each for each in VARIABLES if each in held), "env" if "args" in held and "entrypoint" not in held else ""
    )
    key = key or ("environment" if "name" not in held or "container_name" in held else "env")
    node = held.get(key)
    found: list[Setting] = []
    entries = node.value if isinstance(node, yaml.CollectionNode) else []
    spans = [
        (each[0].start_mark.index, each[1].end_mark.index) if isinstance(each, tuple) else span(each)
        for each in entries
    ]
    for at, each in enumerate(entries):
        setting = setting_of(text, each)
        if setting and node and is_flow(node):
            setting = replace(setting, whole=between_commas(spans, at))
        found += [setting] if setting and NAME.fullmatch(setting.name) else []
    return Environment(tuple(found), environment_added(text, holder, key, paired=key == "env"))


def setting_of(text: str, each: yaml.Node | tuple[yaml.Node, yaml.Node]) -> Setting | None:
    """One variable; None where its value comes from elsewhere."""
    import yaml

    if isinstance(each, tuple):
        key, value = each
        if not isinstance(value, yaml.ScalarNode):
            return None
        return Setting(key.value, plain_text(text, value), span(value), line_of(text, key, value), written(value))
    if isinstance(each, yaml.ScalarNode):
        name, equals, said = plain_text(text, each).partition("=")
        write = written(each)
        return (
            Setting(name, said, span(each), line_of(text, each, each), lambda new: write(f"{name}={new}"))
            if equals
            else None
        )
    inner = fields(each)
    if "name" not in inner or not isinstance(inner.get("value"), yaml.ScalarNode):
        return None
    value = inner["value"]
    return Setting(
        plain_text(text, inner["name"]), plain_text(text, value), span(value), line_of(text, each, each), written(value)
    )


def written(node: yaml.Node) -> Callable[[str], str]:
    """How another value is written in a scalar's place."""
    style = style_of(node) if style_of(node) in ("'", '"') else ""
    bare = not style and str(node.tag) != "tag:yaml.org,2002:str"
    return lambda new: quoted(new, style, bare and re.fullmatch(r"[\w.]+", new) is not None)


def line_of(text: str, first: yaml.Node, last: yaml.Node) -> tuple[int, int]:
    """The lines that an entry takes, the line's end before them included."""
    start, end = first.start_mark.index, last.end_mark.index
    end = start + len(text[start:end].rstrip())
    head = text.rfind("\n", 0, start)
    tail = text.find("\n", end)
    return max(head, 0), tail if tail >= 0 else len(text)


def scripts(text: str, node: yaml.Node) -> Iterator[Found]:
    """Texts of a document that are shell scripts themselves: `run: |`, a script in a ConfigMap."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in fields(node).items():
            if isinstance(value, yaml.ScalarNode) and key not in FIELDS and re.search(r"vllm|sglang", str(value.value)):
                if style_of(value) in ("|", ">") or key in ("run", "script", "cmd"):
                    yield key, places_of(text, value, False)[1][0], script(text, value, False)
            else:
                yield from scripts(text, value)
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from scripts(text, each)
