"""The arithmetic against every public report of evals/sizing.yaml; the bounds are what the commit that set them measured."""

from __future__ import annotations

import statistics

import pytest

from evals.benchmarks.sizing import Compared, compare, load_reports, render


@pytest.fixture(scope="module")
def compared() -> list[Compared]:
    return [compare(report) for report in load_reports()]


def test_there_are_enough_reports_and_each_has_its_address(compared: list[Compared]) -> None:
    assert len(compared) >= 25 and len({row.source for row in compared}) >= 15
    assert all(row.source.startswith("https://github.com/") for row in compared)


def test_bytes_a_token_are_exact(compared: list[Compared]) -> None:
    told = [row for row in compared if row.exact is not None]
    assert len(told) >= 14 and [row.model for row in told if not row.exact] == []


def test_tokens_follow_from_what_is_left_for_the_cache(compared: list[Compared]) -> None:
    errors = [abs(row.tokens_error) for row in compared if row.tokens_error is not None]
    assert statistics.median(errors) < 0.001 and max(errors) < 0.02
    assert max(abs(row.concurrency_error) for row in compared if row.concurrency_error is not None) < 0.01


def test_tokens_from_the_memory_alone_are_near(compared: list[Compared]) -> None:
    errors = [abs(row.blind_error) for row in compared if row.blind_error is not None]
    unseen = [abs(row.blind_error) for row in compared if row.blind_error is not None and not row.fitted]
    assert statistics.median(errors) < 0.02 and statistics.median(unseen) < 0.1
    assert sum(error <= 0.1 for error in errors) / len(errors) > 0.8


def test_weights_are_near(compared: list[Compared]) -> None:
    errors = [abs(row.weights_error) for row in compared if row.weights_error is not None]
    assert statistics.median(errors) < 0.01 and max(errors) < 0.07


def test_the_table_names_every_report_and_the_medians(compared: list[Compared]) -> None:
    table = render(compared)
    assert table.count("\n") > len(compared) and "median error of tokens" in table
