"""Checklists: every item can be understood, is decided by what was read and by nothing else, and leads to a document."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assistant.checklists import Node, answer, choose, load_checklists, to_json, values_of, walk
from assistant.configuration import NAMES, configuration_facts, serving_command
from kb.documents import SHIPPED
from kb.expressions import names_in
from kb.facts import fact_probes
from probes.registry import probe_names, record
from probes.types import ProbeResult

Run = Callable[..., tuple[int, str, str]]
BOOK = load_checklists()
ITEMS = [item for section in BOOK.sections for item in section.items]
SOUND = {
    "gpu_count": 2, "gpu_name": "NVIDIA H100", "gpu_compute_capability": 9.0, "gpu_stranger_gib": 0.0, "driver_cuda": 12.8,
    "torch_cuda": 12.9, "gpu_throttled": False, "gpu_ecc_uncorrected": 0, "gpu_remap_pending": False, "gpu_pcie_degraded": False,
    "vllm_version": "0.11.0", "engine_up": True, "requests_waiting": 0, "requests_running": 32, "gpu_utilization_ratio": 0.95,
    "binding_limit": "compute", "preemptions_per_second": 0.0, "kv_usage_ratio": 0.5,
}  # fmt: skip
CALM = ("kernel_log", "versions", "host_memory", "disk", "container", "network", "engine_processes")


def host(**facts: Any) -> list[ProbeResult]:
    """A sound host, but for the facts given."""
    known = {name: value for name, value in {**SOUND, **facts}.items() if value is not None}
    return [*(ProbeResult(name, "ok", "Fine.") for name in CALM), ProbeResult("gpu_memory", "ok", "Fine.", facts=known)]


def replies(name: str, values: dict[str, Any]) -> dict[str, str]:
    return {a.item.id: a.reply for _, items in answer(choose(name), values) for a in items}


def nodes(node: Node) -> list[Node]:
    return [node, *(deeper for branch in (node.if_yes, node.if_no) if branch for deeper in nodes(branch))]


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.id)
def test_an_item_is_complete(item: Any) -> None:
    assert item.en.endswith((".", ".)")) and item.zh.endswith("。") and "," not in item.zh
    assert (SHIPPED / f"{item.document}.md").is_file()
    assert (item.how is None) != (item.moot is None), "says what to do, or why it decides nothing"
    assert not (item.moot and item.holds)
    hint = item.how or item.moot
    assert hint.en.endswith(".") and hint.zh.endswith("。")


def test_ids_are_told_apart_and_lists_name_sections() -> None:
    assert len({item.id for item in ITEMS}) == len(ITEMS) >= 40
    sections = {section.id for section in BOOK.sections}
    assert all(set(found.sections) <= sections for found in BOOK.lists)
    assert set(choose("all").sections) == sections


def test_every_end_of_the_tree_leads_to_documents() -> None:
    for node in nodes(BOOK.tree.root):
        assert (node.ask is None) != (node.go is None)
        if node.ask:
            assert node.when and node.if_yes and node.if_no
        else:
            assert node.documents and all((SHIPPED / f"{name}.md").is_file() for name in node.documents)


def test_names_are_facts_or_settings_or_statuses() -> None:
    known = {*fact_probes(), *NAMES, *(f"status_{name}" for name in probe_names())}
    expressions = [item.holds for item in ITEMS if item.holds] + [n.when for n in nodes(BOOK.tree.root) if n.when]
    named = {name for item in ITEMS for name in item.reads} | {n for e in expressions for n in names_in(e)}
    assert named - known == set()


def test_a_sound_host_and_command_hold() -> None:
    values = values_of(host(), "vllm serve m --tensor-parallel-size 2")
    found = replies("all", values)
    assert [name for name, reply in found.items() if reply == "no"] == []
    assert {"driver-serves-cuda", "flags-exist", "parallel-fits", "graphs-on", "nobody-waits", "disk"} <= {
        name for name, reply in found.items() if reply == "yes"
    }
    assert {found[name] for name in ("timeouts", "retries", "release-pinned", "searched")} == {"ask"}
    assert {found[name] for name in ("newest", "flash-attn", "environment-told")} == {"moot"}


@pytest.mark.parametrize(
    ("facts", "failing"),
    [
        ({"gpu_throttled": True}, "not-throttled"),
        ({"torch_cuda": 13.0}, "driver-serves-cuda"),
        ({"torch_cuda": 0.0}, "torch-has-cuda"),
        ({"gpu_stranger_gib": 9.5}, "gpu-free"),
        ({"gpu_ecc_uncorrected": 3}, "no-memory-errors"),
        ({"gpu_pcie_degraded": True}, "pcie-full-width"),
        ({"gpu_count": 1}, "parallel-fits"),
        ({"requests_waiting": 7}, "nobody-waits"),
        ({"binding_limit": "sequence_cap"}, "sequence-cap"),
        ({"preemptions_per_second": 0.4}, "nothing-preempted"),
        ({"vllm_version": "0.20.2"}, "flags-exist"),
    ],
)
def test_what_is_wrong_fails_its_item(facts: dict[str, Any], failing: str) -> None:
    found = replies("all", values_of(host(**facts), "vllm serve m -tp 2 --swap-space 4"))
    assert found[failing] == "no"


def test_nothing_read_decides_nothing() -> None:
    found = replies("all", values_of([]))
    assert set(found.values()) == {"ask", "moot"}
    assert walk({})[1] is None and walk({})[0][0].yes is None


def test_a_probe_that_could_not_look_leaves_a_question() -> None:
    assert replies("host", values_of([ProbeResult("disk", "unknown", "")]))["disk"] == "ask"
    assert replies("host", values_of([ProbeResult("disk", "critical", "")]))["disk"] == "no"


@pytest.mark.parametrize(
    ("facts", "document"),
    [
        ({"engine_up": False}, "health-endpoint"),
        ({"gpu_throttled": True}, "gpu-throttled"),
        ({"requests_waiting": 5, "binding_limit": "kv"}, "preemption-thrash"),
        ({"requests_waiting": 5, "binding_limit": "sequence_cap"}, "requests-queue"),
        ({"requests_waiting": 5, "binding_limit": "token_budget"}, "ttft-high"),
        ({"requests_waiting": 5, "binding_limit": "reservation"}, "requests-queue"),
        ({"binding_limit": "client"}, "throughput-low"),
        ({"gpu_utilization_ratio": 0.3}, "gpu-utilization-low"),
        ({}, "decode-slow"),
    ],
)
def test_the_way_ends_where_the_readings_lead(facts: dict[str, Any], document: str) -> None:
    turns, end = walk(values_of(host(**facts)))
    assert all(turn.yes is not None for turn in turns)
    assert end and end.documents[0] == document


def test_an_unknown_limit_leaves_the_way_open() -> None:
    turns, end = walk(values_of(host(requests_waiting=5, binding_limit="unknown")))
    assert end is None and [turn.yes for turn in turns] == [True, False, True, None]


def test_utilization_and_used_memory_alone_decide_nothing() -> None:
    turns, end = walk({"gpu_utilization_ratio": 1.0, "gpu_free_ratio": 0.05})
    assert end is None and [turn.yes for turn in turns] == [None]


@pytest.mark.parametrize(
    ("command", "facts", "expected"),
    [
        ("vllm serve m -tp 2 --no-enable-prefix-caching", {"vllm_version": "0.11.0"}, {"tensor_parallel": 2, "prefix_caching": False, "memory_share": 0.9}),
        ("vllm serve m", {"vllm_version": "0.20.2"}, {"memory_share": 0.92, "eager": False, "chunked_prefill": True}),
        ("vllm serve m", {"vllm_version": "0.6.0"}, {"prefix_caching": False, "chunked_prefill": False}),
        ("vllm serve m --max-model-len 8k", {}, {"max_model_len": 8000, "parallel_gpus": 1}),
        ("docker run vllm/vllm-openai:v0.8.5 --model m", {"vllm_version": "0.20.2"}, {"release": "0.8.5"}),
        ("python -m sglang.launch_server --model-path m --tp 4 --disable-radix-cache --disable-cuda-graph", {"sglang_version": "0.5.3"}, {"parallel_gpus": 4, "prefix_caching": False, "eager": True}),
        ("python -m sglang.launch_server --model-path m --tp 8 --dp 8 --enable-dp-attention", {}, {"parallel_gpus": 8}),
        ("python -m sglang.launch_server --model-path m --chunked-prefill-size -1", {}, {"chunked_prefill": False}),
    ],
)  # fmt: skip
def test_a_command_is_read_as_its_release_reads_it(
    command: str, facts: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = configuration_facts(command, facts)
    assert {name: found.get(name) for name in expected} == expected
    assert found.keys() <= NAMES


def test_what_is_no_serving_command_gives_nothing() -> None:
    assert configuration_facts("ls -l", {}) == {} == configuration_facts("", {})


def test_the_running_servers_command_is_judged_unless_one_is_given() -> None:
    running = ProbeResult("engine_processes", "ok", "", data={"servers": [{"command": "vllm serve running"}]})
    assert serving_command("", [running]) == "vllm serve running"
    assert serving_command("vllm serve given", [running]) == "vllm serve given"
    assert serving_command("", []) == ""


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "host.json"
    path.write_text(json.dumps(record(host(gpu_throttled=True))))
    return path


def test_a_checklist_is_printed(crashcart: Run, recorded: Path) -> None:
    code, out, _ = crashcart("checkup", "--checklist", "performance", "--host", str(recorded), "--lang", "en")
    assert code == 1 and out.startswith("When a server is slow: 1 failing, ")
    lines = [line.strip() for line in out.splitlines()]
    assert lines[3].startswith("✗ No GPU is slowed by heat or power.") and "gpu_throttled = True" in lines[3]
    assert any(line.startswith("→ Mend the hardware first.") for line in lines)
    _, chinese, _ = crashcart("checkup", "--checklist", "performance", "--host", str(recorded), "--lang", "zh")
    assert chinese.startswith("服务变慢时检查：1 项不符合") and "Mend" not in chinese


def test_a_checklist_is_json_too(crashcart: Run, recorded: Path) -> None:
    code, out, _ = crashcart("checkup", "--checklist", "all", "--host", str(recorded), "--json")
    printed = json.loads(out)
    assert code == 1 and printed == json.loads(json.dumps(to_json(choose("all"), values_of(host(gpu_throttled=True)))))
    assert printed["way"]["documents"] == ["gpu-throttled", "pcie-degraded"]
    item = next(i for s in printed["sections"] for i in s["items"] if i["id"] == "not-throttled")
    assert item["reply"] == "no" and item["readings"] == {"gpu_throttled": True}


def test_an_open_way_shows_both_branches(crashcart: Run, tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    path.write_text(json.dumps(record(host(requests_waiting=None))))
    _, out, _ = crashcart("checkup", "--checklist", "performance", "--host", str(path), "--lang", "en")
    assert "Do requests wait?  not read here" in out and "if so: Is the KV cache" in out and "if not: Do only" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--checklist", "nonsense"], "there is no checklist"),
        (["--checklist", "deploy", "--watch", "1"], "answered once"),
        (["--command", "vllm serve m"], "judged by a checklist"),
    ],
)
def test_options_that_do_not_go_together_are_told(crashcart: Run, options: list[str], said: str) -> None:
    code, _, err = crashcart("checkup", *options)
    assert code == 64 and said in err
