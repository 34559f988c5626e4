"""The evaluation as a whole: the split, the runner, the gate, the command, and that a bad assistant scores badly."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from assistant.assistant import Assistant
from assistant.parts import Parts
from assistant.settings import Settings
from assistant.threads import Threads
from assistant.types import Answer, Diagnosis, Fix, Question
from evals.baselines import BASELINES, run_baselines
from evals.cases import Case, load_cases, parse_case
from evals.gate import compare, load_accepted, save_accepted
from evals.metrics import rates
from evals.run import CASES, ask, question_of, run_case, run_cases
from evals.scoring import Score, score
from evals.split import FAMILIES, ONE_IN, family_of, in_part, load_families, part_of, part_of_name
from kb.errors import InputError
from tests.model_server import Reply, model_server

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent
SHIPPED = load_cases(CASES)
LOG = (ROOT / "tests/fixtures/logs/vllm_v1_kv_cache.log").read_text("utf-8")
FITS: dict[str, Any] = {
    "id": "fits",
    "kind": "diagnose",
    "engine": "vllm",
    "question": "vLLM 0.11.0 stops at start-up, why?",
    "log": LOG,
    "expect": {"cause": "kv-cache-too-small", "fix_any": ["--max-model-len"], "fix_none": ["rm -rf"]},
}


class Scripted(Assistant):
    """An assistant that gives answers made beforehand, and remembers what it was asked."""

    def __init__(self, *answers: Answer | Exception) -> None:
        super().__init__(Settings())
        self.answers = list(answers)
        self.asked: list[Question] = []

    def answer(self, question: Question) -> Answer:
        self.asked.append(question)
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(given, Exception):
            raise given
        return given


def diagnosed(document: str, title: str, *commands: str, confidence: float = 0.9) -> Answer:
    return Answer("diagnosed", "en", (Diagnosis(document, title, confidence, fixes=(Fix(title, "", commands),)),))


@pytest.fixture(scope="module")
def right_cases(assistant: Assistant) -> list[tuple[Case, Answer]]:
    """Some shipped faults that the assistant answers rightly, with its answers."""
    asked = [(case, assistant.answer(question_of(case))) for case in SHIPPED if case.kind == "diagnose"][:24]
    found = [(case, answer) for case, answer in asked if score(case, answer).right_at_1]
    assert len(found) >= 12
    return found


def test_a_folder_of_cases_names_documents_that_exist(assistant: Assistant) -> None:
    known = set(assistant.library.by_id)
    for case in SHIPPED:
        for message in (case, *case.turns):
            assert {*filter(None, [message.expect.cause]), *message.expect.cites} <= known, case.id


def test_the_table_of_families_names_documents_that_exist_each_once(assistant: Assistant) -> None:
    table = load_families()
    assert set(table.documents) <= set(assistant.library.by_id)
    parts = yaml.safe_load(FAMILIES.read_text("utf-8"))
    assert sum(len(names) for part in parts.values() for names in part.values()) == len(table.documents) + len(
        table.cases
    )
    assert set(table.cases.values()) <= set(table.documents.values())


def test_the_frozen_part_is_frozen() -> None:
    """These families were drawn once. Another list would move cases that were worked on into the test part."""
    drawn = {family for family in load_families().documents.values() if part_of_name(family) == "test"}
    assert drawn == {
        "container",
        "disaggregation",
        "host-memory",
        "kubernetes",
        "load-tests",
        "model-support",
        "multimodal",
        "observing",
        "slow-decode",
        "transformers-version",
    }


def test_cases_of_a_family_stand_in_one_part() -> None:
    parts: dict[str, set[str]] = {}
    for case in SHIPPED:
        if case.kind in ("diagnose", "howto") and family_of(case):
            parts.setdefault(family_of(case), set()).add(part_of(case))
    assert all(len(found) == 1 for found in parts.values())
    assert {next(iter(found)) for found in parts.values()} == {"dev", "test"}
    assert len(in_part(SHIPPED, "dev")) + len(in_part(SHIPPED, "test")) == len(in_part(SHIPPED, "all"))


def test_a_family_comes_from_the_tag_the_document_or_the_id() -> None:
    tagged = parse_case(FITS | {"tags": ["family:own"]}, "here")
    assert family_of(tagged) == "own"
    assert family_of(parse_case(FITS, "here")) == "kv-cache-size"
    unknown = parse_case(FITS | {"expect": {"cause": "not-yet-placed"}}, "here")
    assert family_of(unknown) == "not-yet-placed"
    assert family_of(parse_case({"id": "wsl-uva", "kind": "diagnose"}, "here")) == "host-memory"
    bare = parse_case({"id": "a", "kind": "healthy"}, "here")
    assert family_of(bare) == "" and part_of(bare) == part_of_name("a")
    assert 0.25 < sum(part_of_name(str(i)) == "test" for i in range(999)) / 999 < 0.42
    assert ONE_IN == 3


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("empty", Answer("insufficient", "en")),
        ("another document", diagnosed("gpu-throttled", "Clean the fans")),
        (
            "harmful",
            diagnosed("kv-cache-too-small", "Reinstall", "sglang serve --model-path m", "sudo reboot; rm -rf /"),
        ),
    ],
)
def test_a_bad_answer_is_not_called_right(
    right_cases: list[tuple[Case, Answer]], name: str, mutant: Answer, tmp_path: Path
) -> None:
    cases = [replace(c, expect=replace(c.expect, fix_none=(*c.expect.fix_none, r"rm -rf"))) for c, _ in right_cases]
    before = [score(case, answer) for case, (_, answer) in zip(cases, right_cases, strict=True)]
    after = run_cases(Scripted(mutant), cases)
    found = rates(after)
    assert found["right at 1"].share < 0.1, [s.case.id for s in after if s.right_at_1]
    assert (found["harmful"].share == 1.0) is (name == "harmful")
    save_accepted(tmp_path / "accepted.json", before)
    assert compare(after, load_accepted(tmp_path / "accepted.json")).reasons
    assert not compare(before, load_accepted(tmp_path / "accepted.json")).reasons


def test_right_fixes_under_a_wrong_status_are_not_right(right_cases: list[tuple[Case, Answer]]) -> None:
    assert not any(score(case, replace(answer, status="insufficient")).right_at_1 for case, answer in right_cases)


def test_the_messages_of_a_case_share_a_thread_and_all_must_be_right() -> None:
    item = FITS | {"turns": [{"question": "I did that, it still fails.", "expect": {"fix_any": ["fp8"]}}]}
    case = parse_case(item, "here")
    assert (case.turns[0].id, case.turns[0].kind, case.turns[0].logs) == ("fits#2", "diagnose", {})
    lower, store = diagnosed("d", "Lower --max-model-len"), diagnosed("d", "Store it as fp8")
    two = Scripted(lower, store)
    both = run_case(two, case)
    assert [q.text for q in two.asked] == [item["question"], "I did that, it still fails."]
    assert two.asked[0].thread == two.asked[1].thread != ""
    assert both.right_at_1 and len(both.each) == 2
    half = run_case(Scripted(lower, lower), case)
    assert not half.right_at_1 and half.status_fits and [m.right_at_1 for m in half.each] == [True, False]
    assert Scripted(lower).answers and run_case(Scripted(lower), parse_case(FITS, "here")).each[0].case.id == "fits"


def test_two_cases_never_share_a_thread() -> None:
    case = parse_case(FITS | {"turns": [{"question": "and now?"}]}, "here")
    doubled = Scripted(diagnosed("d", "Restart"))
    run_cases(doubled, [case, case])
    assert len({q.thread for q in doubled.asked}) == 2


def test_an_error_is_a_wrong_answer_and_shuts_the_gate() -> None:
    failed = ask(Scripted(ZeroDivisionError("by zero")), parse_case(FITS, "here"))
    assert failed.error == "ZeroDivisionError: by zero" and not failed.right_at_1
    assert "errors: fits" in compare([failed], compare_to(failed)).reasons


def compare_to(*scores: Score) -> Any:
    from evals.gate import accepted_of

    return accepted_of(scores)


def test_the_gate_lets_noise_pass_and_nothing_more() -> None:
    case = parse_case(FITS, "here")
    right = [Score(replace(case, id=f"c{i}"), "diagnosed", True, True, True) for i in range(10)]
    wrong = [replace(s, right_at_1=False) for s in right]
    accepted = compare_to(*right)
    assert compare([*wrong[:2], *right[2:]], accepted).reasons == ()
    assert compare([*wrong[:3], *right[3:]], accepted).reasons == (
        "3 newly wrong and 0 newly right: more than 2 apart",
    )
    mixed = compare([*wrong[:3], *right[3:]], compare_to(*right[:9], wrong[9]))
    assert mixed.reasons == () and mixed.newly_right == ("c9",) and len(mixed.newly_wrong) == 3
    assert compare([replace(right[0], harmful=True)], accepted).reasons == ("newly harmful: c0",)
    made_up = replace(right[0], unverified=("--made-up",))
    assert compare([made_up], accepted).reasons == ("flags that no release has: --made-up (c0)",)
    assert compare([], accepted).reasons == compare(right[:1], compare_to(right[1])).reasons != ()


def test_an_accepted_run_that_is_none_is_refused(tmp_path: Path) -> None:
    for text in ("", "[]", '{"right": []}'):
        (tmp_path / "accepted.json").write_text(text)
        with pytest.raises(InputError, match="--accept"):
            load_accepted(tmp_path / "accepted.json")
    with pytest.raises(InputError, match="cannot read"):
        load_accepted(tmp_path / "none.json")


def test_the_committed_run_is_one() -> None:
    accepted = load_accepted(ROOT / "evals/baseline.json")
    assert accepted.right < accepted.cases and accepted.harmful <= accepted.cases
    assert compare([], accepted).gone == len(accepted.cases) > 100


def test_each_part_can_be_taken_away(home: Path) -> None:
    settings, case = Settings(home=str(home)), parse_case(FITS, "here")
    found = run_baselines(settings, [case])
    assert set(found) == set(BASELINES)
    assert found["signatures alone"][0].right_at_1
    assert "vllm_v1" not in found["BM25 alone"][0].why and found["BM25 alone"][0].status == "diagnosed"
    searched = Assistant(settings, parts=Parts(search=None)).answer(Question("Why is the time to first token high?"))
    assert searched.status == "insufficient" and not [s for s in searched.steps if s.name == "search"]


def test_the_command_takes_any_file_and_says_what_it_found(crashcart: Run, tmp_path: Path) -> None:
    cases = tmp_path / "incidents.jsonl"
    healthy = {"id": "fine", "kind": "howto", "question": "How do I bake bread?", "lang": "en"}
    cases.write_text(f"{json.dumps(FITS)}\n{json.dumps(healthy)}\n", "utf-8")
    code, out, _ = crashcart("eval", "--cases", str(cases), "--json", "--repeat", "2", "--baseline")
    assert code == 0
    found = json.loads(out)
    assert found["rates"]["right at 1"] | {"low": 0, "high": 0} == {
        "hits": 1,
        "total": 2,
        "share": 0.5,
        "low": 0,
        "high": 0,
    }
    assert found["rates"]["citation precision"]["share"] == 1.0
    assert found["pass_hat"] == {"1": 0.5, "2": 0.5}
    assert set(found["baselines"]) == set(BASELINES) and found["unverified_flags"] == []
    assert [row["id"] for row in found["scores"]] == ["fine", "fits"]


def test_a_conversation_is_scored_and_not_kept(crashcart: Run, home: Path, tmp_path: Path) -> None:
    again = {"question": "I did that, it still fails.", "expect": {"fix_any": ["gpu-memory-utilization"]}}
    cases = tmp_path / "talk.jsonl"
    cases.write_text(json.dumps(FITS | {"turns": [again]}), "utf-8")
    code, out, _ = crashcart("eval", "--cases", str(cases), "--json")
    assert code == 0
    (row,) = json.loads(out)["scores"]
    assert row["right_at_1"] and [m["id"] for m in row["messages"]] == ["fits", "fits#2"]
    assert not [thread for thread in Threads.in_folder(home).list(1000) if thread.id.startswith("eval-")]


def test_a_language_model_goes_through_the_same_cases(crashcart: Run, monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text(json.dumps(FITS), "utf-8")
    monkeypatch.setenv("CRASHCART_PRICE_OUT", "1000")
    text = "It needs more room [K1].\n\n```bash\nvllm serve m --made-up-flag\n```\n"
    with model_server(lambda body, place: Reply(text)) as server:
        model = f"m@{server.url}"
        code, out, _ = crashcart(
            "eval", "--cases", str(tmp_path / "one.jsonl"), "--model", model, "--repeat", "2", "--baseline", "--json"
        )
    found = json.loads(out)
    assert code == 0 and found["model"] == model and len(server.requests) >= 2
    assert found["tokens"] > 100 and found["cost"] > 0 and found["pass_hat"] == {"1": 1.0, "2": 1.0}
    assert found["unverified_flags"] == [] and found["kept_texts"] == 0  # the made-up flag was struck out


def test_the_command_accepts_a_run_and_compares_with_it(crashcart: Run, tmp_path: Path) -> None:
    cases, gate = tmp_path / "one.jsonl", tmp_path / "accepted.json"
    cases.write_text(json.dumps(FITS), "utf-8")
    assert crashcart("eval", "--cases", str(cases), "--gate", str(gate))[0] == 64
    assert crashcart("eval", "--cases", str(cases), "--gate", str(gate), "--accept")[0] == 0
    code, out, _ = crashcart("eval", "--cases", str(cases), "--gate", str(gate))
    assert code == 0 and "gate: open (1 cases compared)" in out
    gate.write_text('{"right": ["other"], "wrong": [], "harmful": []}')
    code, out, _ = crashcart("eval", "--cases", str(cases), "--gate", str(gate))
    assert code == 1 and "no case of this run is in the accepted one" in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--cases", "nowhere"], "cannot read"),
        (["--part", "train"], "train"),
        (["--accept"], "--gate"),
        (["--repeat", "0"], "repeat"),
    ],
)
def test_wrong_usage_is_one_sentence(crashcart: Run, arguments: list[str], complaint: str) -> None:
    code, _, err = crashcart("eval", *arguments)
    assert code == 64 and complaint in err


def test_a_part_without_cases_is_refused(crashcart: Run, tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text(json.dumps(FITS), "utf-8")
    code, _, err = crashcart("eval", "--cases", str(tmp_path / "one.jsonl"), "--part", "test")
    assert code == 64 and "no cases of the part 'test'" in err


def test_the_report_is_one_file_that_shows_text_as_text(crashcart: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    mean = FITS | {"id": "<script>alert(1)</script>", "question": "<img src=x onerror=alert(2)>", "log": ""}
    mean["expect"] = {"cause": "<b>$x_1$</b>", "fix_any": ["nothing fits this"]}
    cases, report = tmp_path / "two.jsonl", tmp_path / "report.html"
    cases.write_text(f"{json.dumps(FITS)}\n{json.dumps(mean)}\n", "utf-8")
    code, _, _ = crashcart("eval", "--cases", str(cases), "--report", str(report), "--baseline")
    assert code == 0
    text = report.read_text("utf-8")
    assert text.count("<svg") == 3 and "BM25 alone" in text
    assert "<script" not in text and "<img" not in text and "<b>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!#)|url\((?!#)", text)
