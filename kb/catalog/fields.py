"""Options that releases derive from annotated configuration classes instead of writing each one out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from kb.catalog.evaluate import Evaluator
from kb.catalog.hints import Field, Hint, fields_of, read_hint
from kb.catalog.values import Class, Scope, Unknown
from kb.catalog.wheel import Module


def kwargs_of(evaluator: Evaluator, owner: Any) -> Any:
    """The keyword arguments that vLLM derives from each field of a configuration class (0.8.3 and later)."""
    if not isinstance(owner, Class):
        return Unknown("get_kwargs()")
    derive = evaluator.sources.module("vllm.engine.arg_utils")
    rules = "\n".join(
        ast.unparse(derive.functions[n]) for n in ("get_kwargs", "_compute_kwargs") if derive and n in derive.functions
    )
    return {each.name: field_kwargs(evaluator, each, rules) for each in fields_of(evaluator, owner)}


def field_kwargs(evaluator: Evaluator, each: Field, rules: str) -> dict[str, Any]:
    """One field's keyword arguments, by the rules of that release's `get_kwargs`."""
    scope = Scope(each.owner.module)
    hint = read_hint(evaluator, each.annotation, scope)
    default = evaluator.default(each.default, scope) if each.default is not None else None
    given: dict[str, Any] = {"default": default, "help": each.help, "type": None}
    if hint.kinds == {"bool", "str", "None"} and "{bool, str, type(None)}" in rules:
        given["nargs"] = "?"
    elif "bool" in hint.kinds and "BooleanOptionalAction" in rules:
        given["action"] = "BooleanOptionalAction"
    elif "bool" in hint.kinds:
        given["action"] = "store_true"
    else:
        given.update(value_kwargs(hint))
    return given


def value_kwargs(hint: Hint, none: bool = True) -> dict[str, Any]:
    """Choices and number of values of a field that is not a switch; `none`: "None" is a choice of an optional one."""
    given: dict[str, Any] = {}
    several = bool(hint.kinds & {"list", "set", "tuple"})
    if hint.literals:
        # With `str` or an enum among the alternatives the literals are only known values, and None is not named.
        optional = none and "None" in hint.kinds and not several and not hint.kinds & {"str", "enum"}
        given["choices"] = [*hint.literals, *([None] if optional else [])]
    if several:
        given["nargs"] = hint.width if hint.width and hint.width > 1 else "+"
    return given


def annotated_options(evaluator: Evaluator, owner: Class) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Names and keyword arguments of what SGLang derives from `A[type, Arg(…)]` annotations (0.5.12 and later)."""
    for each in namespaces_of(evaluator, owner):
        for one in fields_of(evaluator, each):
            found = annotated_option(evaluator, one)
            if found is not None:
                yield found


def namespaces_of(evaluator: Evaluator, owner: Class) -> list[Class]:
    """The classes that declare the fields: the namespaces of 0.5.20 and later, else the class itself."""
    namespaces = evaluator.find(owner.module, "_INPUT_NAMESPACES")
    return [each for each in namespaces if isinstance(each, Class)] if isinstance(namespaces, list) else [owner]


def annotated_option(evaluator: Evaluator, one: Field) -> tuple[list[str], dict[str, Any]] | None:
    """One annotated field, unless it has no metadata or says `no_cli`."""
    scope = Scope(one.owner.module)
    hint = read_hint(evaluator, one.annotation, scope)
    meta = next((m for m in hint.metadata if not isinstance(m, ast.Call) or called(m) == "Arg"), None)
    if meta is None:
        return None
    given = read_metadata(evaluator, meta, scope)
    if given.get("no_cli") is True:
        return None
    names = [given.pop("cli_name", None) or "--" + one.name.replace("_", "-"), *(given.pop("aliases", None) or [])]
    if one.default is not None:
        given["default"] = evaluator.default(one.default, scope)
    if not given.get("action"):
        given.pop("action", None)
        if "type_parser" not in given:
            given = {**value_kwargs(hint, none=False), **given}
        if "bool" in hint.kinds and hint.kinds <= {"bool", "None"}:
            given["action"] = "store_true"
    return names, given


def declared_default(evaluator: Evaluator, module: Module, name: Any) -> Any:
    """The default of a field of ServerArgs, which SGLang's `_declared_default(name)` looks up (0.5.20 and later)."""
    owner = evaluator.find(module, "ServerArgs")
    for each in namespaces_of(evaluator, owner) if isinstance(owner, Class) else ():
        for one in fields_of(evaluator, each):
            if one.name == name and one.default is not None:
                return evaluator.default(one.default, Scope(one.owner.module))
    return Unknown(f"_declared_default({name!r})")


def called(node: ast.Call) -> str:
    """The last part of the called name."""
    return ast.unparse(node.func).rpartition(".")[2]


def read_metadata(evaluator: Evaluator, meta: ast.expr, scope: Scope) -> dict[str, Any]:
    """What `Arg(…)`, or the bare help text in its place, says."""
    if not isinstance(meta, ast.Call):
        return {"help": evaluator.value(meta, scope)}
    texts = dict(zip(("help", "choices", "aliases", "cli_name"), meta.args, strict=False))
    texts.update({keyword.arg: keyword.value for keyword in meta.keywords if keyword.arg})
    given = {name: evaluator.value(node, scope) for name, node in texts.items() if name != "action"}
    if "action" in texts:
        given["action"] = ast.unparse(texts["action"]).strip("'\"")
    return given
