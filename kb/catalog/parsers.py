"""The options that a release's parser accepts, found by following the functions that build the parser."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kb.catalog.evaluate import Evaluator
from kb.catalog.fields import annotated_options, declared_default, kwargs_of
from kb.catalog.options import Option, make_option
from kb.catalog.values import Class, Function, Scope, Unknown, bound
from kb.catalog.wheel import Module, Sources


@dataclass(frozen=True, slots=True)
class Parser:
    """Stands for the parser under construction, and for its groups; `ours` is False for other subcommands' parsers."""

    ours: bool = True


@dataclass(slots=True)
class Reading:
    """What is known about a release while its parser is followed."""

    evaluator: Evaluator
    options: list[Option] = field(default_factory=list)
    boolean_pairs: bool = False
    """Boolean options also get `--disable-x` for `--enable-x` (vLLM 0.33)."""


def read_options(sources: Sources, entries: Iterable[tuple[str, str]], boolean_pairs: bool = False) -> list[Option]:
    """Follow each entry (module, function or Class.method) that builds the parser, and return its options in order."""
    reading = Reading(Evaluator(sources), boolean_pairs=boolean_pairs)
    reading.evaluator.calls = lambda evaluator, node, function, scope: call(reading, node, function, scope)
    for module_name, name in entries:
        module = sources.module(module_name)
        if module is not None:
            start(reading, module, name)
    return reading.options


def start(reading: Reading, module: Module, name: str) -> None:
    """Run one entry with a parser for each of its arguments."""
    owner_name, _, method = name.rpartition(".")
    owner = Class(module, module.classes[owner_name]) if owner_name else None
    found = reading.evaluator.member(owner, method) if owner else Function(module, module.functions[method])
    if isinstance(found, Function):
        run_function(reading, found, [Parser()] * len(found.node.args.args), {}, 0)


def run_function(
    reading: Reading, function: Function, arguments: list[Any], keywords: dict[str, Any], depth: int
) -> Any:
    """Run a function's statements with its arguments bound; returns the value of the `return` that is reached."""
    node = function.node
    decorators = {ast.unparse(each) for each in node.decorator_list}
    names: dict[str, Any] = {}
    parameters = [each.arg for each in node.args.args]
    for parameter, default in zip(reversed(parameters), reversed(node.args.defaults), strict=False):
        names[parameter] = reading.evaluator.value(default, Scope(function.module, depth=depth))
    if function.owner is not None and "staticmethod" not in decorators and parameters:
        arguments = [function.owner, *arguments]
    names.update(zip(parameters, arguments, strict=False))
    names.update(keywords)
    names["super"] = function
    return run(reading, node.body, Scope(function.module, names, depth + 1))


def run(reading: Reading, body: list[ast.stmt], scope: Scope) -> Any:
    """Run statements for what they add to the parser. Where a condition is undecided both branches are taken."""
    evaluator = reading.evaluator
    for node in body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            assign(evaluator, node, scope)
        elif isinstance(node, ast.Expr):
            evaluator.value(node.value, scope)
        elif isinstance(node, ast.ImportFrom):
            scope.names.update(evaluator.local_import(node, scope.module))
        elif isinstance(node, ast.Delete):
            delete(evaluator, node, scope)
        elif isinstance(node, ast.Return):
            return evaluator.value(node.value, scope)
        elif isinstance(node, ast.If):
            known = evaluator.truth(node.test, scope)
            run(reading, node.body, scope) if known is not False else None
            run(reading, node.orelse, scope) if known is not True else None
        elif isinstance(node, ast.For):
            loop(reading, node, scope)
        elif isinstance(node, (ast.With, ast.Try)):
            run(reading, node.body, scope)
    return None


def loop(reading: Reading, node: ast.For, scope: Scope) -> None:
    """Run a loop's body once for each element of a known collection, and not at all for an unknown one."""
    found = reading.evaluator.value(node.iter, scope)
    for item in found if isinstance(found, (list, dict)) else []:
        scope.names.update(bound(node.target, item))
        run(reading, node.body, scope)


def assign(evaluator: Evaluator, node: ast.Assign | ast.AnnAssign, scope: Scope) -> None:
    """`name = value` and `mapping[key] = value`."""
    value = evaluator.value(node.value, scope)
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        if isinstance(target, ast.Subscript):
            mapping, key = evaluator.value(target.value, scope), evaluator.value(target.slice, scope)
            if isinstance(mapping, dict) and isinstance(key, str):
                mapping[key] = value
        else:
            scope.names.update(bound(target, value))


def delete(evaluator: Evaluator, node: ast.Delete, scope: Scope) -> None:
    """`del mapping[key]`."""
    for target in node.targets:
        if isinstance(target, ast.Subscript):
            mapping, key = evaluator.value(target.value, scope), evaluator.value(target.slice, scope)
            if isinstance(mapping, dict):
                mapping.pop(key, None)


def call(reading: Reading, node: ast.Call, function: Any, scope: Scope) -> Any:
    """What a call that concerns the parser gives; None for all others, which the evaluator then handles."""
    evaluator = reading.evaluator
    name = ast.unparse(node.func).rpartition(".")[2]
    if name.endswith("ArgumentParser"):
        return Parser()
    if name in ("get_kwargs", "_compute_kwargs"):
        return kwargs_of(evaluator, evaluator.value(node.args[0], scope))
    if name == "add_cli_args_from_dataclass":
        owner = evaluator.value(node.args[1], scope)
        for names, given in annotated_options(evaluator, owner) if isinstance(owner, Class) else ():
            add_option(reading, names, given)
        return Parser()
    if isinstance(node.func, ast.Attribute):
        handled, function = method_call(reading, node.func, node, scope)
        if handled is not None:
            return handled
    return follow(reading, node, function, scope) if isinstance(function, Function) else None


def method_call(reading: Reading, func: ast.Attribute, node: ast.Call, scope: Scope) -> tuple[Any, Any]:
    """The result of a call on a parser, dictionary or list, or else the class's method that is called."""
    evaluator = reading.evaluator
    is_super = ast.unparse(func.value) == "super()"
    owner = super_of(evaluator, scope) if is_super else evaluator.value(func.value, scope)
    if isinstance(owner, Parser):
        return parser_call(reading, owner, func.attr, node, scope), None
    if isinstance(owner, dict) and func.attr in ("pop", "update", "setdefault"):
        return dict_call(evaluator, owner, func.attr, node, scope), None
    if isinstance(owner, list) and func.attr in ("append", "remove", "add", "extend"):
        return list_call(evaluator, owner, func.attr, node, scope), None
    found = evaluator.member(owner, func.attr, scope.depth) if isinstance(owner, Class) else None
    if isinstance(found, Function) and owner_is_bound(scope):
        found = Function(found.module, found.node, scope.names.get("cls", found.owner))
    return None, found


def follow(reading: Reading, node: ast.Call, function: Function, scope: Scope) -> Any:
    """Run a function of the release when it is handed the parser or keyword arguments for it; None otherwise."""
    evaluator = reading.evaluator
    arguments = [evaluator.value(each, scope) for each in node.args]
    keywords = {k.arg: evaluator.value(k.value, scope) for k in node.keywords if k.arg}
    if any(isinstance(each, (Parser, dict)) for each in [*arguments, *keywords.values()]):
        return run_function(reading, function, arguments, keywords, scope.depth)
    return None


def owner_is_bound(scope: Scope) -> bool:
    return isinstance(scope.names.get("cls"), Class) and isinstance(scope.names.get("super"), Function)


def super_of(evaluator: Evaluator, scope: Scope) -> Any:
    """The class that `super()` means inside the method that runs."""
    running = scope.names.get("super")
    if not isinstance(running, Function) or running.owner is None:
        return Unknown("super()")
    lineage = list(evaluator.lineage(running.owner))
    at = next((i for i, each in enumerate(lineage) if running.node in each.node.body), -1)
    return lineage[at + 1] if 0 <= at < len(lineage) - 1 else Unknown("super()")


def dict_call(evaluator: Evaluator, owner: dict[Any, Any], name: str, node: ast.Call, scope: Scope) -> Any:
    arguments = [evaluator.value(each, scope) for each in node.args]
    if name == "update":
        for each in arguments:
            owner.update(each if isinstance(each, dict) else {})
        owner.update({k.arg: evaluator.value(k.value, scope) for k in node.keywords if k.arg})
        return owner
    found = (
        owner.pop(arguments[0], arguments[1] if len(arguments) > 1 else None)
        if name == "pop"
        else owner.get(arguments[0])
    )
    return Unknown("None") if found is None else found


def list_call(evaluator: Evaluator, owner: list[Any], name: str, node: ast.Call, scope: Scope) -> Any:
    value = evaluator.value(node.args[0], scope)
    if name == "remove":
        owner[:] = [each for each in owner if each != value]
    else:
        owner += value if name == "extend" and isinstance(value, list) else [value]
    return owner


def parser_call(reading: Reading, parser: Parser, name: str, node: ast.Call, scope: Scope) -> Any:
    """add_argument, groups, subcommands; any other method of a parser gives the parser."""
    evaluator = reading.evaluator
    if name == "add_parser":
        return Parser(ours=evaluator.value(node.args[0], scope) in ("serve", Unknown("self.name")))
    if name != "add_argument" or not parser.ours:
        return parser
    names = [each for each in evaluator.items(node.args, scope) if isinstance(each, str)]
    given: dict[str, Any] = {}
    for keyword in sorted(node.keywords, key=lambda each: each.arg is not None):
        value = argument_value(evaluator, keyword.value, scope)
        if keyword.arg is not None:
            # An action is named by its class; what the class does is not followed.
            given[keyword.arg] = (
                ast.unparse(keyword.value) if keyword.arg == "action" and not isinstance(value, str) else value
            )
        elif isinstance(value, dict):
            given.update(value)
    add_option(reading, names, given)
    return parser


def argument_value(evaluator: Evaluator, node: ast.expr, scope: Scope) -> Any:
    """What an argument of `add_argument` comes to."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "_declared_default":
        return declared_default(evaluator, scope.module, evaluator.value(node.args[0], scope))
    return evaluator.value(node, scope)


def add_option(reading: Reading, names: list[str], given: dict[str, Any]) -> None:
    option = make_option(names, given, reading.boolean_pairs)
    if option is not None:
        reading.options.append(option)
