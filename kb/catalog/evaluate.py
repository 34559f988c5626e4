"""What an expression in a release's source comes to, worked out from syntax trees alone: constants, lists, class fields."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kb.catalog.values import Class, Function, Member, Package, Scope, Unknown, assignment, bound, flat
from kb.catalog.wheel import Module, Sources

DEEPEST = 40
OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Mult: operator.mul,
    ast.Sub: operator.sub,
    ast.LShift: operator.lshift,
    ast.Pow: operator.pow,
    ast.Div: operator.truediv,
}
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
CONVERSIONS: dict[str, Callable[..., Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "len": len,
    "min": min,
    "max": max,
}


Extension = Callable[["Evaluator", ast.Call, Any, Scope], Any]


def constants(owner: Class) -> dict[str, Any]:
    """The plain values that the body of a class gives names to, which later lines of it may use."""
    found = {target: value for target, value in map(assignment, owner.node.body) if isinstance(value, ast.Constant)}
    return {name: node.value for name, node in found.items()}


class Evaluator:
    """Evaluates expressions over one release. `calls` is asked first about every call, and answers None to decline."""

    def __init__(self, sources: Sources, calls: Extension | None = None) -> None:
        self.sources = sources
        self.calls = calls
        self._constants: dict[tuple[str, str], Any] = {}

    def find(self, module: Module, name: str, depth: int = 0) -> Any:
        """The value of a module's top-level name, followed through imports."""
        key = (module.name, name)
        if key not in self._constants:
            self._constants[key] = Unknown(name)
            self._constants[key] = self._find(module, name, depth)
        return self._constants[key]

    def _find(self, module: Module, name: str, depth: int) -> Any:
        if depth > DEEPEST:
            return Unknown(name)
        if name in module.classes:
            return Class(module, module.classes[name])
        if name in module.functions:
            return Function(module, module.functions[name])
        imported = self.sources.origin(module, name)
        if imported is not None:
            origin, member = imported
            source = self.sources.module(origin)
            if source is not None and not member:
                return Package(source)
            nested = self.sources.module(f"{origin}.{member}") if member else None
            found = self.find(source, member, depth + 1) if source is not None else Unknown(name)
            if isinstance(found, Unknown) and nested is not None:
                return Package(nested)
            if not isinstance(found, Unknown) or name not in module.assigned:
                return found
        if name in module.assigned:
            return self.value(module.assigned[name], Scope(module, depth=depth + 1))
        return Unknown(name)

    def value(self, node: ast.expr | None, scope: Scope) -> Any:
        """The value of an expression, or Unknown."""
        if node is None:
            return None
        rule = getattr(self, f"_{type(node).__name__.lower()}", None)
        if rule is None or scope.depth > DEEPEST:
            return Unknown(ast.unparse(node))
        try:
            return rule(node, scope)
        except (TypeError, KeyError, IndexError, AttributeError, ValueError, ZeroDivisionError):
            return Unknown(ast.unparse(node))

    def truth(self, node: ast.expr, scope: Scope) -> bool | None:
        """Whether a condition holds; None when only running the program would tell."""
        found = self.value(node, scope)
        return None if isinstance(found, (Unknown, Class, Function, Package)) else bool(found)

    def _constant(self, node: ast.Constant, scope: Scope) -> Any:
        return node.value

    def _name(self, node: ast.Name, scope: Scope) -> Any:
        return scope.names[node.id] if node.id in scope.names else self.find(scope.module, node.id, scope.depth)

    def _attribute(self, node: ast.Attribute, scope: Scope) -> Any:
        owner = self.value(node.value, scope)
        if isinstance(owner, Package) and not owner.module.name.endswith(".envs"):
            return self.find(owner.module, node.attr, scope.depth)
        if isinstance(owner, Class):
            return self.member(owner, node.attr, scope.depth)
        if isinstance(owner, Member):
            return {"value": owner.value, "name": owner.name}[node.attr]
        return Unknown(ast.unparse(node))

    def member(self, owner: Class, name: str, depth: int = 0) -> Any:
        """A class attribute or method, looked for in the bases too; an enum's member comes as Member."""
        for each in self.lineage(owner, depth):
            for node in each.node.body:
                target, value = assignment(node)
                if target == name and value is not None:
                    found = self.default(value, Scope(each.module, constants(each), depth + 1))
                    return Member(each.name, name, found, self.is_plain(each)) if self.is_enum(each) else found
                if isinstance(node, ast.FunctionDef) and node.name == name:
                    return Function(each.module, node, owner)
        return Unknown(f"{owner.name}.{name}")

    def lineage(self, owner: Class, depth: int = 0) -> Iterator[Class]:
        """The class and its bases, nearest first, as far as they are in the release."""
        yield owner
        if depth < DEEPEST:
            for base in owner.node.bases:
                found = self.value(base, Scope(owner.module, depth=depth + 1))
                if isinstance(found, Class):
                    yield from self.lineage(found, depth + 1)

    def bases(self, owner: Class) -> set[str]:
        """The names of all bases of a class."""
        return {ast.unparse(base).rpartition(".")[2] for each in self.lineage(owner) for base in each.node.bases}

    def is_enum(self, owner: Class) -> bool:
        """Whether the class derives from one of the standard enums."""
        return bool(self.bases(owner) & {"Enum", "IntEnum", "StrEnum", "Flag"})

    def is_plain(self, owner: Class) -> bool:
        """Whether an enum's members are texts or whole numbers themselves."""
        return bool(self.bases(owner) & {"str", "StrEnum", "int", "IntEnum"})

    def members(self, owner: Class) -> list[Any]:
        """The members of an enum, in order; an iterated class that is no enum raises TypeError."""
        if not self.is_enum(owner):
            raise TypeError(f"{owner.name} is not an enum")
        names = [target for target, value in map(assignment, owner.node.body) if target and value is not None]
        return [self.member(owner, name) for name in names if not name.startswith("_")]

    def default(self, node: ast.expr, scope: Scope) -> Any:
        """A field's default: the value itself, or what `field(default=…)`, `Field(…)`, `default_factory=…` stand for."""
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("field", "Field"):
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            if "default" in given:
                return self.value(given["default"], scope)
            if "default_factory" in given:
                return self._made_by(given["default_factory"], scope)
            return self.value(node.args[0], scope) if node.args else Unknown("required")
        return self.value(node, scope)

    def _made_by(self, factory: ast.expr, scope: Scope) -> Any:
        if isinstance(factory, ast.Lambda):
            return self.value(factory.body, scope)
        text = ast.unparse(factory)
        return {"list": [], "dict": {}, "set": [], "tuple": []}.get(text, Unknown(f"{text}()"))

    def items(self, nodes: Iterable[ast.expr], scope: Scope) -> list[Any]:
        """The values of a list's or a call's elements, with `*starred` ones spread."""
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found += self.iterate(self.value(node.value, scope))
            else:
                found.append(self.value(node, scope))
        return found

    def iterate(self, value: Any) -> list[Any]:
        """The elements of a known collection; TypeError where it is not one."""
        if isinstance(value, Class):
            return self.members(value)
        if isinstance(value, Mapping):
            return list(value)
        if isinstance(value, (list, tuple)):
            return list(value)
        raise TypeError(f"not a known collection: {value}")

    def _list(self, node: ast.List | ast.Tuple | ast.Set, scope: Scope) -> Any:
        return self.items(node.elts, scope)

    _tuple = _set = _list

    def _dict(self, node: ast.Dict, scope: Scope) -> Any:
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                found.update(self.value(value, scope))
            else:
                found[self.value(key, scope)] = self.value(value, scope)
        return found

    def _subscript(self, node: ast.Subscript, scope: Scope) -> Any:
        if ast.unparse(node.value).rpartition(".")[2] == "Literal":
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return flat(self.items(inner, scope))
        return self.value(node.value, scope)[self.value(node.slice, scope)]

    def _binop(self, node: ast.BinOp, scope: Scope) -> Any:
        left, right = self.value(node.left, scope), self.value(node.right, scope)
        if isinstance(left, Unknown) or isinstance(right, Unknown):
            return Unknown(ast.unparse(node))
        if isinstance(node.op, ast.BitOr):
            return {**left, **right}
        operation = OPERATIONS.get(type(node.op))
        return operation(left, right) if operation else Unknown(ast.unparse(node))

    def _unaryop(self, node: ast.UnaryOp, scope: Scope) -> Any:
        value = self.value(node.operand, scope)
        if isinstance(node.op, ast.Not):
            return not value
        return -value if isinstance(node.op, ast.USub) else Unknown(ast.unparse(node))

    def _boolop(self, node: ast.BoolOp, scope: Scope) -> Any:
        values = [self.value(each, scope) for each in node.values]
        if any(isinstance(each, (Unknown, Class, Function, Package)) for each in values):
            return Unknown(ast.unparse(node))
        return all(values) if isinstance(node.op, ast.And) else next((v for v in values if v), values[-1])

    def _compare(self, node: ast.Compare, scope: Scope) -> Any:
        left, right = self.value(node.left, scope), self.value(node.comparators[0], scope)
        if isinstance(left, Unknown) or isinstance(right, Unknown) or len(node.ops) > 1:
            return Unknown(ast.unparse(node))
        comparison = COMPARISONS.get(type(node.ops[0]))
        return comparison(left, right) if comparison else Unknown(ast.unparse(node))

    def _ifexp(self, node: ast.IfExp, scope: Scope) -> Any:
        known = self.truth(node.test, scope)
        return Unknown(ast.unparse(node)) if known is None else self.value(node.body if known else node.orelse, scope)

    def _joinedstr(self, node: ast.JoinedStr, scope: Scope) -> Any:
        parts = [self.value(p.value if isinstance(p, ast.FormattedValue) else p, scope) for p in node.values]
        # A help text may quote what only a running program knows; the words around it still count.
        return "".join("{…}" if isinstance(each, Unknown) else str(each) for each in parts)

    def _listcomp(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp, scope: Scope) -> Any:
        if len(node.generators) != 1:
            return Unknown(ast.unparse(node))
        loop = node.generators[0]
        found = []
        for item in self.iterate(self.value(loop.iter, scope)):
            inner = Scope(scope.module, {**scope.names, **bound(loop.target, item)}, scope.depth + 1)
            if all(self.truth(test, inner) is not False for test in loop.ifs):
                found.append(self.value(node.elt, inner))
        return found

    _generatorexp = _setcomp = _listcomp

    def _call(self, node: ast.Call, scope: Scope) -> Any:
        function = self.value(node.func, scope) if not isinstance(node.func, ast.Attribute) else None
        if self.calls is not None:
            answer = self.calls(self, node, function, scope)
            if answer is not None:
                return answer
        name = ast.unparse(node.func)
        arguments = self.items(node.args, scope)
        if isinstance(node.func, ast.Attribute):
            return self._method(node, node.func, arguments, scope)
        if name in ("list", "tuple", "set", "frozenset", "get_args", "typing.get_args"):
            return self.iterate(arguments[0]) if arguments else []
        if name == "sorted":
            return sorted(self.iterate(arguments[0]), key=str)
        if ast.unparse(node) == "int(ssl.CERT_NONE)":
            return 0
        if name in CONVERSIONS and not any(isinstance(a, Unknown) for a in arguments):
            return CONVERSIONS[name](*arguments)
        if name == "get_field" and isinstance(arguments[0], Class):
            return self.member(arguments[0], arguments[1], scope.depth)
        if name == "dict" and not arguments:
            return {keyword.arg: self.value(keyword.value, scope) for keyword in node.keywords}
        if name == "cast":
            return arguments[1]
        if isinstance(function, Function):
            return self.returned(node, function, scope.depth)
        return Unknown(ast.unparse(node))

    def _method(self, node: ast.Call, func: ast.Attribute, arguments: list[Any], scope: Scope) -> Any:
        owner = self.value(func.value, scope)
        if isinstance(owner, dict) and func.attr in ("keys", "values", "items", "get"):
            return owner.get(*arguments) if func.attr == "get" else list(getattr(owner, func.attr)())
        if isinstance(owner, str) and func.attr in (
            "lower",
            "upper",
            "replace",
            "strip",
            "join",
            "removeprefix",
            "title",
        ):
            return getattr(owner, func.attr)(*arguments)
        if isinstance(owner, Class) and func.attr in ("get_available_modes", "__members__"):
            return self.members(owner)
        if isinstance(owner, (Class, Package)):
            found = self._attribute(func, scope)
            if isinstance(found, Function):
                return self.returned(node, found, scope.depth)
        return Unknown(ast.unparse(node))

    def returned(self, call: ast.Call, function: Function, depth: int) -> Any:
        """What a short function without branches returns: the value of its last `return`."""
        names: dict[str, Any] = {}
        scope = Scope(function.module, names, depth + 1)
        if function.owner is not None and function.node.args.args:
            names[function.node.args.args[0].arg] = function.owner
        for node in function.node.body:
            if isinstance(node, ast.ImportFrom):
                names.update(self.local_import(node, function.module))
            elif isinstance(node, ast.Assign):
                names.update(bound(node.targets[0], self.value(node.value, scope)))
        last = function.node.body[-1]
        found = self.value(last.value, scope) if isinstance(last, ast.Return) else None
        return Unknown(ast.unparse(call)) if found is None or isinstance(found, Unknown) else found

    def local_import(self, node: ast.ImportFrom, module: Module) -> dict[str, Any]:
        """The names that an import inside a function binds."""
        found = {}
        for alias in node.names:
            source = self.sources.module(node.module or "")
            if source is not None:
                found[alias.asname or alias.name] = self.find(source, alias.name)
        return found
