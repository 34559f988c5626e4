"""Python's parser, for conditions, formulas and the sources of engines, one thread at a time.

CPython 3.11 counts the depth of the tree it builds for the whole interpreter: two threads at it fail with "SystemError: AST
constructor recursion depth mismatch" (2 of 1,000 answers when 8 were written at a time).
"""

from __future__ import annotations

import ast
import threading

_LOCK = threading.Lock()


def parse(text: str) -> ast.Module:
    """The tree of a module; raises SyntaxError."""
    with _LOCK:
        return ast.parse(text)


def parse_expression(text: str) -> ast.expr:
    """The tree of one expression; raises SyntaxError."""
    with _LOCK:
        return ast.parse(text.strip(), mode="eval").body
