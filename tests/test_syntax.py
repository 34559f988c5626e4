"""Python's parser is asked by one thread at a time."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import pytest

from kb.expressions import evaluate
from kb.syntax import parse

SOURCES = [f"[floor({i} / 16) * 16 + max({i}, a, b) for x in range({i}) if not x == {i}]" for i in range(400)]


class Slow:
    """Garbage whose end lets another thread run, as a connection's or a file's may."""

    def __init__(self) -> None:
        self.cycle = self

    def __del__(self) -> None:
        time.sleep(0.0001)


@pytest.fixture
def eager_collector() -> Iterator[None]:
    """Garbage is looked for at nearly every object made, so also in the middle of a parse."""
    kept = gc.get_threshold()
    gc.set_threshold(10)
    yield
    gc.set_threshold(*kept)


@pytest.mark.usefixtures("eager_collector")
def test_threads_parse_beside_each_other() -> None:
    """Without the lock this ends in `SystemError: AST constructor recursion depth mismatch` on CPython 3.11."""
    failures: list[SystemError] = []

    def work(depth: int) -> None:
        if depth:
            return work(depth - 1)
        for source in 2 * SOURCES:
            Slow()
            try:
                parse(source)
            except SystemError as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(7 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("text", ["", "1 +", "a; b", "x = 1"])
def test_what_is_no_expression_has_no_value(text: str) -> None:
    assert evaluate(text, {"a": 1, "b": 2}) is None
