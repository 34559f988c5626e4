"""What the web chat shows: cards that run nothing, conversations drawn from what is kept, the host panel, exports."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assistant.assistant import Assistant
from assistant.threads import Asked, new_thread
from assistant.types import Answer, Diagnosis, Evidence, Fix, Question, RuledOut
from kb.errors import InputError
from kb.types import Language
from probes.registry import from_json
from probes.types import Target
from ui.page.card import answer_card, diff, harmless, plain
from ui.page.conversations import Conversations, Here, Sent, here_of
from ui.page.exports import as_bundle, as_markdown, file_name
from ui.page.host import HostWatch, Sample, View, render, values_of
from ui.page.messages import history
from ui.page.uploads import check_uploads, without_folders
from ui.page.words import EXAMPLES, SAID

Run = Callable[..., tuple[int, str, str]]
KV = (
    "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens "
    "that can be stored in KV cache (20304)."
)
COMMAND = "vllm serve Qwen/Qwen2.5-7B --max-model-len 131072 --port 8000"


@pytest.fixture
def talks(assistant: Assistant) -> Conversations:
    return Conversations(assistant, lambda: True, assistant.settings.home_folder / "uploads")


@pytest.fixture
def here() -> Here:
    name = new_thread()
    return Here(name, (name,))


def title_of(name: str, _: Language) -> str:
    return f"The title of {name}"


def last(growing: Iterator[list[dict[str, object]]]) -> list[dict[str, object]]:
    *_, shown = growing
    return shown


def texts(shown: list[dict[str, object]]) -> str:
    return "\n".join(str(m["content"]) for m in shown)


def test_every_sentence_is_there_in_both_languages() -> None:
    for key, said in SAID.items():
        assert set(re.findall(r"\{\w+\}", said["en"])) == set(re.findall(r"\{\w+\}", said["zh"])), key
    assert len(EXAMPLES["en"]) == len(EXAMPLES["zh"])


def test_marks_of_markdown_are_escaped() -> None:
    assert plain("a*b_c [x](y) `z` $$") == "a\\*b\\_c \\[x\\](y) \\`z\\` \\$\\$"


@pytest.mark.parametrize(
    "text",
    [
        "a <script>alert(1)</script>",
        "one ` tick\n\n<img src=x onerror=alert(1)>\n\nanother ` tick",
        "```bash\nls\n```\n<iframe src=//a.example></iframe>",
        "![x](http://a.example/x.png)",
    ],
)
def test_nothing_outside_code_is_a_tag_or_an_image(text: str) -> None:
    shown = harmless(text)
    assert "&lt;" in shown or "!\\[" in shown
    assert not re.search(r"<(?:script|img|iframe)|(?<!\\)!\[", shown)


def test_code_is_left_as_it_stands() -> None:
    text = "`a < b` and\n\n```bash\ncat <<EOF > x\n```\n\n~~~\n<b>\n~~~"
    assert harmless(text) == text


def a_card() -> str:
    usual = "vllm serve MODEL --max-model-len 20304"
    own = "# vLLM >= 0.5\nvllm serve M --max-model-len 20304"
    fix = Fix("Lower it", "…", commands=(usual,), patched_command=own, risk="restart")
    diagnosis = Diagnosis(
        "kv", "Too long", 0.94, ("K1",), ruled_out=(RuledOut("oom", "gpu_free_ratio > 0.5"),), fixes=(fix,)
    )
    less_likely = Diagnosis("oom", "Full", 0.4, fixes=(Fix("Free it", "…", patched_command="vllm serve M --cpu"),))
    known = (
        Evidence("K1", "document", "kb/docs/kv.md", "one\n\ntwo <b>"),
        Evidence("C1", "command", "serving command", "vllm serve M --max-model-len 131072"),
        Evidence("K9", "document", "kb/docs/never-cited.md", "…"),
    )
    text = (
        "## Diagnosis: x [K1][L7]\n\n**1. Lower it** · risk: restarts the server [K1]\n\n"
        f"Your command with this fix:\n\n```bash\n{own}\n```\n`[K1]`"
    )
    return answer_card(Answer("diagnosed", "en", (diagnosis, less_likely), known, text=text), title_of)


def test_a_card_has_badges_diff_evidence_and_what_was_ruled_out() -> None:
    card = a_card()
    assert '<span class="badge diagnosed">Diagnosed</span><span class="badge sure">confidence 94 %</span>' in card
    assert '**1. Lower it** <span class="badge risk-restart">restarts the server</span>' in card
    assert '<a class="cite" href="#K1">K1</a>[L7]' in card and "`[K1]`" in card
    assert '<pre class="diff">vllm serve M --max-model-len <del>131072</del><ins>20304</ins></pre>\n\n```bash' in card
    assert (
        '<details class="evidence K1"><summary><b>K1</b> kb/docs/kv.md</summary><pre>one&#10;&#10;two &lt;b&gt;' in card
    )
    assert "<li>The title of oom, because <code>gpu_free_ratio &gt; 0.5</code></li>" in card
    assert "never-cited" not in card
    assert "--cpu" in card.partition('<details class="other"><summary>Full · 40 %</summary><ol><li><b>Free it</b>')[2]
    assert "--cpu" not in card.partition("<details")[0]  # a fix of what is less likely is given to who asks for it


def test_of_a_file_only_what_changes_is_shown(assistant: Assistant) -> None:
    compose = "services:\n  vllm:\n    image: vllm/vllm-openai:v0.11.0\n    restart: always\n" + (
        "    command: --model Qwen/Qwen2.5-7B-Instruct --max-model-len 131072\n    ports:\n      - 8000:8000\n"
    )
    line = (
        "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in KV "
        "cache (20304). Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."
    )
    answer = assistant.answer(Question("Why?", logs={"server.log": line}, command=compose, use_probes=False))
    assert answer.diagnoses[0].fixes[0].patched_command
    card = answer_card(answer, title_of)
    assert "-    command: --model Qwen/Qwen2.5-7B-Instruct --max-model-len 131072\n+" in card
    assert "8000:8000" not in card.partition("<details")[0]
    assert '<pre class="diff">' not in card


def test_a_diff_shows_tags_as_text() -> None:
    assert diff("a <b>", "a <i>") == '<pre class="diff">a <del>&lt;b&gt;</del><ins>&lt;i&gt;</ins></pre>'


def test_a_conversation_is_drawn_from_what_is_kept(talks: Conversations, here: Here) -> None:
    live = last(talks.ask(here, Sent(f"{KV} Why? `{COMMAND}` <img src=x>")))
    again = Conversations(talks.assistant, lambda: True, talks.uploads)
    assert again.show(here) == live
    assert live[0]["content"] == f'<pre class="said">{KV} Why? `{COMMAND}` &lt;img src=x&gt;</pre>'.replace(
        "'", "&#x27;"
    )
    assert live[-1]["options"] == [
        {"value": "helped:1", "label": "This helped"},
        {"value": "failed:1", "label": "It did not"},
    ]
    assert "<del>131072</del>" in texts(live)
    other = Here(here.thread, (), "zh")
    assert [m["role"] for m in last(talks.ask(other, Sent("It still fails.")))].count("user") == 2


def test_secrets_are_not_shown_again(talks: Conversations, here: Here) -> None:
    first = next(talks.ask(here, Sent("Why? HF_TOKEN=hf_abcdefghijklmnopqrstuvwxyz012345")))
    assert "hf_abc" not in texts(first) and "MASKED-" in texts(first)


def test_an_answer_that_never_came_can_be_asked_again(talks: Conversations, here: Here) -> None:
    talks.assistant.threads.begin(here.thread, KV)
    shown = talks.show(here)
    assert shown[-1]["options"] == [{"value": "again", "label": "Ask again"}]
    shown = last(talks.again(here))
    assert "## Diagnosis" in texts(shown) and len(talks.asked(here)) == 1


def test_a_stopped_question_can_be_asked_again(talks: Conversations, here: Here, tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(f"{KV}\n")
    growing = talks.ask(here, Sent("Why?", (str(log),)))
    next(growing), next(growing)
    other = Conversations.show(talks, Here(here.thread, here.threads, "zh"))
    assert "还在回答中" in texts(other)
    assert "was stopped" in texts(talks.stop(here))
    growing.close()  # type: ignore[attr-defined]
    assert talks.show(here)[-1]["options"] == [{"value": "again", "label": "Ask again"}]
    assert "vllm.log:1" in texts(last(talks.again(here)))


def test_an_answer_that_nobody_waits_for_is_there_when_somebody_comes_back(talks: Conversations, here: Here) -> None:
    growing = talks.ask(here, Sent(KV))
    next(growing), next(growing)
    growing.close()  # type: ignore[attr-defined]
    until = time.monotonic() + 60
    while "## Diagnosis" not in texts(talks.show(here)) and time.monotonic() < until:
        time.sleep(0.02)
    assert talks.show(here)[-1]["options"][0]["value"] == "helped:1"  # type: ignore[index]


def test_asking_again_brings_the_logs_along(talks: Conversations, here: Here, tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(f"INFO vLLM API server version 0.10.2\n{KV}\n")
    first = last(talks.ask(here, Sent("Why?", (str(log),))))
    assert "vllm.log:2" in texts(first)
    assert "vllm.log:2" in texts(last(talks.again(here)))
    log.unlink()
    assert "vllm.log:2" in texts(last(talks.again(here)))
    assert len(talks.asked(here)) == 1


def test_a_question_is_taken_back_and_a_thread_forgotten(talks: Conversations, here: Here) -> None:
    last(talks.ask(here, Sent(KV)))
    last(talks.ask(here, Sent("It still fails.")))
    text, shown = talks.undo(here)
    assert text == "It still fails." and [m["role"] for m in shown].count("user") == 1
    [(label, name)] = talks.listed(here)
    assert name == here.thread and label.startswith("ValueError: The model") and label.endswith("1 question")
    talks.delete(here)
    assert talks.listed(here) == [] and talks.show(here) == []
    assert talks.undo(here) == ("", [])


def test_a_rating_is_kept_as_a_case(talks: Conversations, here: Here) -> None:
    last(talks.ask(here, Sent(KV)))
    said = str(talks.rate(here, "failed:1")[-1]["content"])
    path = re.search(r"`(.+\.yaml)`", said)
    assert path and "did-not-help" in Path(path[1]).read_text() and "did not help" in said
    assert "options" not in talks.show(here)[-1]


@pytest.mark.parametrize("name", ["no-such-thread", "../../etc", "<script>", "x" * 500])
def test_an_unknown_thread_is_one_sentence(talks: Conversations, name: str) -> None:
    [said] = talks.show(Here(name))
    assert "There is no conversation" in str(said["content"])
    talks.delete(Here(name))


@pytest.mark.parametrize(
    "told", [None, [], "x", {"thread": 3, "threads": "y"}, {"threads": [1, "../", "a"], "lang": 5}]
)
def test_whatever_a_browser_says_of_itself_is_taken_as_far_as_it_makes_sense(told: object) -> None:
    here = here_of(told)
    assert here.thread == "" and here.lang == "en" and set(here.threads) <= {"a"}


def test_answers_come_in_the_language_that_was_chosen(talks: Conversations) -> None:
    chosen = Here("", (), "zh", is_chosen=True)
    assert "## 诊断" in texts(last(talks.ask(chosen, Sent(KV))))
    assert "## Diagnosis" in texts(last(talks.ask(Here("", (), "zh"), Sent(KV))))


def test_a_packed_file_that_swells_is_one_sentence(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.log.bz2"
    bomb.write_bytes(bz2.compress(bytes(80 << 20), 1))
    with pytest.raises(InputError, match=r"bomb\.log\.bz2 unpacks to [\d,]+\+ times its size"):
        check_uploads([str(bomb)], "en")
    log = tmp_path / "vllm.log.gz"
    log.write_bytes(gzip.compress(f"{KV}\n".encode() * 10_000))
    check_uploads([str(log)], "zh")


def test_what_is_no_log_is_one_sentence(talks: Conversations, here: Here, tmp_path: Path) -> None:
    core = tmp_path / "core.dump"
    core.write_bytes(b"\x7fELF" + bytes(range(256)) * 4096)
    archive = tmp_path / "logs.zip"
    with zipfile.ZipFile(archive, "w") as held:
        held.writestr("a.log", KV)
    for path in (core, archive):
        said = str(last(talks.ask(here, Sent("Why?", (str(path),))))[-1]["content"])
        assert path.name.replace("_", "\\_") in said and "\n" not in said
        assert talks.asked(here) == ()


def test_uploads_are_named_as_people_know_them(tmp_path: Path) -> None:
    assert without_folders(f"in {tmp_path}/0123456789abcdef/a.log:9", tmp_path) == "in a.log:9"


def test_a_conversation_is_taken_along_and_replays(
    talks: Conversations, here: Here, tmp_path: Path, crashcart: Run
) -> None:
    log = tmp_path / "my vllm.log"
    log.write_text(f"INFO vLLM API server version 0.10.2\napi_key=sk-abcdefghijklmnop1234567890\n{KV}\n")
    last(talks.ask(here, Sent("Why does it stop?", (str(log),))))
    asked = talks.asked(here)
    assert as_markdown(asked).startswith("> 📎 my vllm.log\n> Why does it stop?\n\n## Diagnosis")
    with zipfile.ZipFile(io.BytesIO(as_bundle(asked))) as bundle:
        bundle.extractall(tmp_path)
        assert {"README.txt", "conversation.md", "1/question.txt", "1/host.json", "1/logs/my_vllm.log"} <= {
            *bundle.namelist()
        }
    assert "sk-abcdefghijk" not in "".join(p.read_text() for p in (tmp_path / "1").rglob("*") if p.is_file())
    _, out, _ = crashcart(
        *("ask", (tmp_path / "1/question.txt").read_text(), "--host", str(tmp_path / "1/host.json")),
        *("--log", str(tmp_path / "1/logs/my_vllm.log"), "--json"),
    )
    turn = asked[0].turn
    assert turn and json.loads(out)["diagnoses"][0]["id"] == turn.answer.diagnoses[0].id


def test_a_log_keeps_its_name_in_its_folder() -> None:
    names = ("../../a b.log.gz", "/x/y", "日志.log", "..")
    assert [file_name(name) for name in names] == ["a_b.log", "y", "日志.log", "log"]


GPU = {"gpu": {"index": 0, "name": "<b>"}, "memory": {"total_bytes": 100, "used_bytes": 75, "free_bytes": 25}}
RESULTS = {
    "gpu_memory": from_json("gpu_memory", {"status": "ok", "summary": "<i>75 of 100</i>", "data": {"gpus": [GPU]}}),
    "gpu_health": from_json("gpu_health", {"status": "critical", "summary": "hot", "advice": ["Cool `<it>`."], "data": {"gpus": [{**GPU, "utilization_ratio": 0.5}]}}),
    "engine_endpoint": from_json("engine_endpoint", {"status": "ok", "summary": "serves", "facts": {"kv_usage_ratio": 0.4, "requests_running": 3, "requests_waiting": 0, "ttft_p50_seconds": None}}),
}  # fmt: skip


def test_the_panel_draws_what_the_probes_read() -> None:
    values = values_of(RESULTS)
    assert values == {
        "gpu_memory": {"GPU 0": 0.75},
        "gpu_utilization": {"GPU 0": 0.5},
        "kv": {"": 0.4},
        "queue": {"running": 3.0, "waiting": 0.0},
    }
    shown = render(View(tuple(RESULTS.values()), (Sample(0.0, values), Sample(10.0, values)), 3.2), "en")
    assert shown.count("<svg") == 4 and 'aria-label="GPU memory: GPU 0 75%"' in shown
    assert (
        shown.index("critical") < shown.index("In order (2)")
        and "Cool <code>&lt;it&gt;</code>." in shown
        and "<i>" not in shown
    )
    assert "3 probes · 3 s ago" in shown


def test_without_gpu_and_engine_the_panel_says_so() -> None:
    none = {n: from_json(n, {"status": "unknown", "summary": f"no {n}"}) for n in ("gpu_memory", "engine_endpoint")}
    shown = render(View(tuple(none.values()), (Sample(0.0, values_of(none)),), 0.0), "zh")
    assert "<svg" not in shown and "没有 GPU 曲线：no gpu_memory" in shown and "没有引擎曲线" in shown


def test_many_panels_cost_one_look() -> None:
    now = [0.0]
    watch = HostWatch(Target(), 5.0, lambda: now[0])
    first = watch.view()
    assert len(first.results) > 10 and len(first.samples) == 1
    assert watch.view().samples == first.samples
    now[0] = 10.0
    assert len(watch.view().samples) == 2
    assert watch.view().age_seconds == 10.0
    now[0] = 61.0
    assert watch.view().age_seconds == 0.0


def test_a_thread_without_an_answer_is_told_in_the_pages_language() -> None:
    [_, said] = history([Asked(1, 0.0, "x", None)], "zh", title_of)
    assert "没有得到答复" in said["content"]


def test_what_the_assistant_answers_without_a_page_is_the_same(talks: Conversations) -> None:
    answer = talks.assistant.answer(Question(KV))
    assert texts(last(talks.ask(Here(), Sent(KV)))).endswith(answer_card(answer, talks._title))
