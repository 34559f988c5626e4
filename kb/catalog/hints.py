"""Type annotations read from syntax trees: what argparse would be told about a configuration field."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kb.catalog.evaluate import Evaluator
from kb.catalog.values import Class, Scope, Unknown, assignment
from kb.syntax import parse_expression

SEQUENCES = {"list": "list", "List": "list", "tuple": "tuple", "Tuple": "tuple", "set": "set", "Sequence": "list"}
PLAIN = ("bool", "int", "str", "float", "dict")


@dataclass(slots=True)
class Hint:
    """The alternatives of an annotation: kinds (`bool`, `str`, `list`, `None`, …), literal values, metadata of Annotated."""

    kinds: set[str] = field(default_factory=set)
    literals: list[Any] = field(default_factory=list)
    metadata: list[ast.expr] = field(default_factory=list)
    width: int | None = None
    """Items of a tuple of fixed length."""


def read_hint(evaluator: Evaluator, node: ast.expr, scope: Scope, hint: Hint | None = None) -> Hint:
    """Flatten an annotation: unions, aliases, string annotations and Annotated."""
    hint = hint or Hint()
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return read_hint(evaluator, parse_expression(node.value), scope, hint)
    if isinstance(node, ast.Constant) and node.value is None:
        hint.kinds.add("None")
    elif isinstance(node, ast.BinOp):
        read_hint(evaluator, node.left, scope, hint)
        read_hint(evaluator, node.right, scope, hint)
    elif isinstance(node, ast.Subscript):
        _read_subscript(evaluator, node, scope, hint)
    elif isinstance(node, (ast.Name, ast.Attribute)):
        _read_name(evaluator, node, scope, hint)
    else:
        hint.kinds.add("other")
    return hint


def _read_subscript(evaluator: Evaluator, node: ast.Subscript, scope: Scope, hint: Hint) -> None:
    name = ast.unparse(node.value).rpartition(".")[2]
    inner = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        hint.literals += evaluator.iterate(evaluator.value(node, scope))
    elif name in ("Annotated", "A") or (name not in SEQUENCES and _is_annotated(evaluator, node.value, scope)):
        hint.metadata += inner[1:]
        read_hint(evaluator, inner[0], scope, hint)
    elif name in ("Optional", "Union", "SkipValidation", "ClassVar", "InitVar", "Required"):
        for each in inner:
            read_hint(evaluator, each, scope, hint)
        if name == "Optional":
            hint.kinds.add("None")
    elif name in SEQUENCES:
        hint.kinds.add(SEQUENCES[name])
        element = read_hint(evaluator, inner[0], scope)
        hint.literals += element.literals
        if SEQUENCES[name] == "tuple" and not any(isinstance(e, ast.Constant) and e.value is Ellipsis for e in inner):
            hint.width = len(inner)
    else:
        hint.kinds.add("dict" if name in ("dict", "Dict", "Mapping") else "other")


def _is_annotated(evaluator: Evaluator, node: ast.expr, scope: Scope) -> bool:
    found = evaluator.value(node, scope)
    return isinstance(found, Unknown) and found.text == "Annotated"


def _read_name(evaluator: Evaluator, node: ast.Name | ast.Attribute, scope: Scope, hint: Hint) -> None:
    name = ast.unparse(node).rpartition(".")[2]
    if name in PLAIN:
        hint.kinds.add(name)
        return
    alias = alias_of(evaluator, node, scope)
    if alias is not None:
        read_hint(evaluator, alias[0], alias[1], hint)
        return
    found = evaluator.value(node, scope)
    hint.kinds.add("enum" if isinstance(found, Class) and evaluator.is_enum(found) else "other")
    if isinstance(found, Class) and evaluator.is_enum(found):
        # An enum of strings or whole numbers is written by its values, any other by its members' names.
        hint.literals += [member.value if member.plain else member.name for member in evaluator.members(found)]


def alias_of(evaluator: Evaluator, node: ast.expr, scope: Scope) -> tuple[ast.expr, Scope] | None:
    """The annotation that a name stands for, and where it is written, when the name is a type alias."""
    module, name = scope.module, ast.unparse(node)
    for _ in range(20):
        imported = evaluator.sources.origin(module, name)
        source = evaluator.sources.module(imported[0]) if imported and imported[1] else None
        if imported is not None and source is not None:
            module, name = source, imported[1]
            continue
        value = module.assigned.get(name)
        if isinstance(value, (ast.Subscript, ast.BinOp)) or (isinstance(value, ast.Name) and value.id != name):
            return value, Scope(module, depth=scope.depth + 1)
        return None
    return None


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a configuration class, with its default's expression."""

    name: str
    annotation: ast.expr
    default: ast.expr | None
    owner: Class
    help: str = ""
    """The docstring under the field."""


def fields_of(evaluator: Evaluator, owner: Class) -> Iterator[Field]:
    """The fields of a dataclass, bases first, as `dataclasses.fields` orders them."""
    found: dict[str, Field] = {}
    for each in reversed(list(evaluator.lineage(owner))):
        body = each.node.body
        for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
            name, default = assignment(node)
            if isinstance(node, ast.AnnAssign) and name and "ClassVar" not in ast.unparse(node.annotation):
                found[name] = Field(name, node.annotation, default, each, docstring(after))
    yield from found.values()


def docstring(node: ast.stmt) -> str:
    """The text of a statement that is only a string."""
    text = node.value.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) else ""
    return text if isinstance(text, str) else ""
