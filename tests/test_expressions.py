import pytest

from kb.expressions import arithmetic, evaluate, number


def test_a_formula_shows_its_numbers() -> None:
    facts = {"kv_tokens": 20311}
    value = evaluate("floor(kv_tokens / 16) * 16", facts)
    assert arithmetic("floor(kv_tokens / 16) * 16", facts, value) == "floor(20311 / 16) * 16 = 20304"


@pytest.mark.parametrize("expression", ["missing > 1", "1 / zero", "text > 3", "open('x')", "().__class__", "1 +"])
def test_what_is_unknown_or_unsafe_says_nothing(expression: str) -> None:
    assert evaluate(expression, {"zero": 0, "text": "a"}) is None


@pytest.mark.parametrize(
    ("text", "value"), [("20,304", 20304), ("1.20", 1.2), ("0.11.0", "0.11.0"), ("abc", "abc"), ("-1", -1)]
)
def test_captured_groups_become_numbers_where_they_are(text: str, value: object) -> None:
    assert number(text) == value
