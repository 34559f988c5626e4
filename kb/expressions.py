"""Conditions and formulas of documents, evaluated over facts. An unknown name makes the whole unknown."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from kb.syntax import parse_expression

FUNCTIONS = {"floor": math.floor, "ceil": math.ceil, "min": min, "max": max, "round": round, "abs": abs}


def names_in(expression: str) -> set[str]:
    """The free names of an expression; raises SyntaxError where it is none."""
    return {n.id for n in ast.walk(_parsed(expression)) if isinstance(n, ast.Name)} - FUNCTIONS.keys()


def evaluate(expression: str, facts: Mapping[str, Any]) -> Any:
    """The value, or None where a name is unknown or the values do not go together."""
    from simpleeval import InvalidExpression, SimpleEval

    try:
        return SimpleEval(functions=FUNCTIONS, names=dict(facts)).eval(expression, _parsed(expression))
    except (InvalidExpression, ArithmeticError, TypeError, ValueError, SyntaxError):
        return None


@lru_cache(maxsize=4096)
def _parsed(expression: str) -> ast.expr:
    return parse_expression(expression)


def arithmetic(formula: str, facts: Mapping[str, Any], value: object) -> str:
    """The formula with its numbers put in: `floor(20311 / 16) * 16 = 20304`; of a value merely read, the value."""
    filled = re.sub(r"[A-Za-z_]\w*", lambda m: str(facts.get(m[0], m[0])), formula)
    return filled if filled == shown(value) else f"{filled} = {shown(value)}"


def number(text: str) -> int | float | str:
    """A captured group as a number where it is one ('20,304' too), else as it stands."""
    plain = text.strip().replace(",", "")
    if re.fullmatch(r"-?\d+", plain):
        return int(plain)
    return float(plain) if re.fullmatch(r"-?\d*\.\d+", plain) else text


def shown(value: object) -> str:
    """A value as people write it: no trailing zeros."""
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)
