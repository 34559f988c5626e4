"""What an expression can come to when it is only read: constants and collections as themselves, and these."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kb.catalog.wheel import Module


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that only running the program would give; `text` is its source."""

    text: str

    def __bool__(self) -> bool:
        raise TypeError(f"undecided: {self.text}")


@dataclass(frozen=True, slots=True)
class Class:
    """A class of the release, with the module that defines it."""

    module: Module
    node: ast.ClassDef

    @property
    def name(self) -> str:
        return self.node.name


@dataclass(frozen=True, slots=True)
class Function:
    """A function or method; `owner` is the class it was taken from."""

    module: Module
    node: ast.FunctionDef
    owner: Class | None = None


@dataclass(frozen=True, slots=True)
class Package:
    """An imported module."""

    module: Module


@dataclass(slots=True)
class Scope:
    """The names that an expression sees: locals first, then its module."""

    module: Module
    names: dict[str, Any] = field(default_factory=dict)
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an enum; `plain` is one that is a text or a whole number itself."""

    owner: str
    name: str
    value: Any
    plain: bool = False


def assignment(node: ast.stmt) -> tuple[str, ast.expr | None]:
    """The name and the value of a simple assignment; an empty name for any other statement."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id, node.value
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value
    return "", None


def flat(values: Iterable[Any]) -> list[Any]:
    """A Literal's values: a Literal inside a Literal counts as its values."""
    found: list[Any] = []
    for each in values:
        found += flat(each) if isinstance(each, list) else [each]
    return found


def bound(target: ast.expr, value: Any) -> dict[str, Any]:
    """The names that assigning `value` to `target` binds."""
    if isinstance(target, ast.Name):
        return {target.id: value}
    if (
        isinstance(target, (ast.Tuple, ast.List))
        and isinstance(value, (list, tuple))
        and len(value) == len(target.elts)
    ):
        return {
            name: item
            for each, part in zip(target.elts, value, strict=True)
            for name, item in bound(each, part).items()
        }
    if isinstance(target, (ast.Tuple, ast.List)):
        return {name: Unknown(name) for each in target.elts for name in bound(each, None)}
    return {}
