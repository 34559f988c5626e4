"""Cases are read as DESIGN's format has them, and answers are scored by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assistant.types import Answer, AnswerStatus, Diagnosis, Fix
from evals.cases import Case, load_cases, parse_case
from evals.metrics import rates, wilson
from evals.results import as_json, render
from evals.run import CASES, Result, question_of
from evals.scoring import Score, expected_documents, score
from kb.errors import InputError

SHIPPED = load_cases(CASES)


def case(**changes: Any) -> Case:
    item: dict[str, Any] = {
        "id": "a",
        "kind": "diagnose",
        "question": "why?",
        "expect": {"fix_any": ["--max-model-len"]},
    }
    return parse_case(item | changes, "here")


def answer(*titles: str, status: AnswerStatus = "diagnosed", command: str = "") -> Answer:
    found = (
        Diagnosis(f"d{i}", t, 0.9, fixes=(Fix(t, "", (command,) if command else ()),)) for i, t in enumerate(titles)
    )
    return Answer(status, "en", tuple(found))


def test_right_at_one_needs_the_status_and_a_fix_of_the_first_diagnosis() -> None:
    assert score(case(), answer("Lower --MAX-MODEL-LEN")).right_at_1
    assert not score(case(), answer("Lower --max-model-len", status="howto")).right_at_1
    second = score(case(), answer("Restart", "Lower --max-model-len"))
    assert (second.right_at_1, second.right_at_3) == (False, True)
    fourth = score(case(), answer("a", "b", "c", "Lower --max-model-len"))
    assert not fourth.right_at_3


def test_a_command_counts_as_an_answer() -> None:
    assert score(case(), answer("Shorten it", command="vllm serve m --max-model-len 8192")).right_at_1


def test_harm_is_a_title_or_command_of_the_first_diagnosis_not_a_text() -> None:
    asked = case(expect={"fix_none": ["rm -rf"]})
    assert score(asked, answer("Free the disk", command="rm -rf /models")).harmful
    assert not score(asked, answer("Free the disk", "rm -rf")).harmful
    warned = Answer("diagnosed", "en", (Diagnosis("d", "t", 0.9, fixes=(Fix("Free the disk", "never rm -rf"),)),))
    assert not score(asked, warned).harmful


def test_status_follows_from_the_kind_unless_given() -> None:
    assert case().expect.status == "diagnosed"
    assert case(kind="healthy", expect={}).expect.status == "healthy"
    assert case(expect={"status": "insufficient"}).expect.status == "insufficient"
    assert score(case(kind="healthy", expect={}), Answer("healthy", "en")).right_at_1


def test_wilson_interval_agrees_with_published_values() -> None:
    # Newcombe 1998, table I: 81/263 gives 0.2553 to 0.3662.
    rate = wilson(81, 263)
    assert (round(rate.low, 4), round(rate.high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 0).share == 0.0
    assert wilson(5, 5).high == pytest.approx(1.0)


def test_rates_and_report_name_each_failure() -> None:
    scores: list[Score] = [score(case(), answer("Restart")), score(case(id="b"), answer("Lower --max-model-len"))]
    assert rates(scores)["right at 1"].hits == 1
    result = Result((tuple(scores),))
    text = render(result)
    assert "1 to look at" in text
    assert "wanted    diagnosed --max-model-len" in text
    assert json.loads(json.dumps(as_json(result)))["scores"][0]["answered"] == [{"id": "d0", "confidence": 0.9}]


def test_a_jsonl_file_and_a_folder_hold_the_same_cases(tmp_path: Path) -> None:
    items = [{"id": "b", "kind": "healthy", "log": "fine"}, {"id": "a", "kind": "howto", "logs": {"x": "1"}}]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, items)), "utf-8")
    folder = tmp_path / "folder"
    folder.mkdir()
    for item in items:
        (folder / f"{item['id']}.yaml").write_text(json.dumps(item), "utf-8")
    assert load_cases(tmp_path / "all.jsonl") == load_cases(folder)
    assert [c.id for c in load_cases(folder)] == ["a", "b"]
    assert load_cases(folder)[1].logs == {"log": "fine"}


def test_texts_stay_as_they_are_in_every_form(tmp_path: Path) -> None:
    """JSON writes U+2028 and U+0085 as they are, Python calls them ends of lines; Windows puts a mark before a file."""
    item = {"id": "a", "kind": "diagnose", "log": "one\u2028two\x85three", "expect": {"fix_any": "--port"}, "tags": "x"}
    (tmp_path / "below").mkdir()
    for name in ("one.jsonl", "below/one.jsonl"):
        (tmp_path / name).write_text(json.dumps(item, ensure_ascii=False), "utf-8-sig")
    (found,) = load_cases(tmp_path / "below")
    assert found.logs == {"log": "one\u2028two\x85three"}
    assert (found.expect.fix_any, found.tags) == (("--port",), ("x",))
    with pytest.raises(InputError, match="two cases"):
        load_cases(tmp_path)
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(InputError, match="not UTF-8"):
        load_cases(tmp_path / "latin.jsonl")


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        ({"kind": "howto"}, "no id"),
        ({"id": "a", "kind": "odd"}, "unknown kind"),
        ({"id": "a", "kind": "diagnose", "expect": {"fix_any": ["("]}}, "not a regular expression"),
        (["a"], "not a case"),
    ],
)
def test_what_is_not_a_case_is_refused_in_a_sentence(item: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        parse_case(item, "here")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no cases"):
        load_cases(tmp_path)


def test_two_cases_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "two.jsonl").write_text('{"id": "a", "kind": "howto"}\n{"id": "a", "kind": "howto"}\n', "utf-8")
    with pytest.raises(InputError, match="two cases"):
        load_cases(tmp_path / "two.jsonl")


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda c: c.id)
def test_shipped_cases_can_be_asked_and_say_what_is_right(shipped: Case) -> None:
    asked = question_of(shipped)
    assert asked.text and not asked.use_probes
    assert shipped.lang in ("en", "zh")
    if shipped.kind in ("diagnose", "howto"):
        assert shipped.expect.fix_any
    if shipped.kind == "diagnose":
        assert shipped.source.startswith("https://") or (shipped.source == "own" and expected_documents(shipped))
