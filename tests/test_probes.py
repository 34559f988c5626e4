"""The registry: probes are found, run side by side under one deadline, and replayed."""

import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import probes
from kb.errors import InputError
from probes.registry import (
    Probe,
    UnknownProbe,
    checkup,
    facts_of,
    load_probe,
    load_probes,
    probe_descriptions,
    probe_names,
    record,
    replay,
    run_probe,
    run_probes,
    worst_status,
)
from probes.types import ProbeResult, Target

ROOT = Path(__file__).parent.parent
FACTS = yaml.safe_load((ROOT / "kb/data/facts.yaml").read_text("utf-8"))

Plant = Callable[[str, str], str]


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Write a probe's file into a folder of its own: found by being there."""
    monkeypatch.setattr(probes, "__path__", [*probes.__path__, str(tmp_path)])
    head = "import os, time\nfrom probes.registry import probe\nfrom probes.types import ProbeResult, Target\n"

    def write(name: str, body: str, decorator: str = "@probe()") -> str:
        code = f'{head}\n{decorator}\ndef {name}(target: Target) -> ProbeResult:\n    """Look. Closely."""\n'
        (tmp_path / f"{name}.py").write_text(code + textwrap.indent(textwrap.dedent(body), "    "))
        monkeypatch.delitem(sys.modules, f"probes.{name}", raising=False)
        return name

    return write


def test_every_file_is_found_and_the_parts_of_the_layer_are_none() -> None:
    names = probe_names()
    assert {"gpu_memory", "gpu_processes", "gpu_health", "versions", "host_memory", "disk"} <= set(names)
    assert not {"registry", "types", "judging", "reading", "scanner"} & set(names)


@pytest.mark.parametrize("name", probe_names())
def test_every_probe_has_the_form_of_a_tool(name: str) -> None:
    found = load_probe(name)
    assert isinstance(found, Probe)
    assert found.name == name
    assert found.look.__annotations__ == {"target": "Target", "return": "ProbeResult"}
    assert found.description
    assert 20 <= len(found.title) <= 150
    assert probe_descriptions()[name] == found.title


def test_a_probe_of_another_name_than_its_file_is_refused() -> None:
    with pytest.raises(TypeError, match="must be called test_probes, not stray"):

        @probes.registry.probe()
        def stray(target: Target) -> ProbeResult:
            raise NotImplementedError


def test_an_unknown_name_is_refused_before_anything_runs(plant: Plant, tmp_path: Path) -> None:
    plant("touching", f"open({str(tmp_path / 'ran')!r}, 'w').close()\nreturn ProbeResult('touching', 'ok', '')")
    with pytest.raises(UnknownProbe, match=r"There is no probe 'gpu_colour'; the probes are .*gpu_memory"):
        run_probes(["touching", "gpu_colour"], Target())
    assert not (tmp_path / "ran").exists()


def test_results_come_in_the_order_asked_and_are_told_as_they_come(plant: Plant) -> None:
    plant("slower", "time.sleep(0.2)\nreturn ProbeResult('slower', 'ok', 'done')")
    plant("quicker", "return ProbeResult('quicker', 'warning', target.urls[0])")
    told: list[str] = []
    results = run_probes(
        ["slower", "quicker", "slower"], Target(urls=("http://here",)), 10, lambda r: told.append(r.probe)
    )
    assert [(r.probe, r.status, r.summary) for r in results] == [
        ("slower", "ok", "done"),
        ("quicker", "warning", "http://here"),
    ]
    assert told == ["quicker", "slower"]
    assert results[0].seconds >= 0.2


def test_probes_run_side_by_side(plant: Plant, tmp_path: Path) -> None:
    """Each of two waits for the other's sign: one after the other, both would be late."""
    body = "open({mine!r}, 'w').close()\nwhile not os.path.exists({other!r}): time.sleep(0.005)\n"
    for mine, other in (("left", "right"), ("right", "left")):
        code = body.format(mine=str(tmp_path / f"{mine}.sign"), other=str(tmp_path / f"{other}.sign"))
        plant(mine, code + f"return ProbeResult({mine!r}, 'ok', '')")
    assert [result.status for result in run_probes(["left", "right"], Target())] == ["ok", "ok"]


def test_a_crash_is_a_line_of_the_report(plant: Plant) -> None:
    plant("crashing", "raise RuntimeError('no such register')")
    result = run_probe("crashing", Target())
    assert result.status == "unknown"
    assert "RuntimeError: no such register" in result.summary
    assert result.summary_zh
    assert result.advice
    assert result.advice_zh


def test_a_file_that_cannot_be_imported_is_a_line_of_the_report(plant: Plant, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_package_at_all\n")
    plant("sound", "return ProbeResult('sound', 'ok', '')")
    results = run_probes(["broken", "sound"], Target())
    assert [result.status for result in results] == ["unknown", "ok"]
    assert "no_such_package_at_all" in results[0].summary


def test_a_late_probe_is_unknown_and_the_others_stand(plant: Plant) -> None:
    plant("hanging", "time.sleep(60)")
    plant("sound", "return ProbeResult('sound', 'ok', '')")
    told: list[str] = []
    results = run_probes(["hanging", "sound"], Target(), 0.5, lambda result: told.append(result.probe))
    assert [result.status for result in results] == ["unknown", "ok"]
    assert results[0].summary == "The probe hanging did not finish within 0.5 s."
    assert told == ["sound", "hanging"]


def test_a_probe_that_hangs_does_not_hold_up_the_end_of_the_program(tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(
        "import time\nfrom probes.registry import probe\nfrom probes.types import ProbeResult, Target\n"
        '@probe()\ndef hanging(target: Target) -> ProbeResult:\n    """Hang."""\n    time.sleep(600)\n'
    )
    code = (
        f"import probes; probes.__path__.append({str(tmp_path)!r})\n"
        "from probes.registry import run_probe; from probes.types import Target\n"
        "print(run_probe('hanging', Target(), 0.2).status)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "unknown\n"


def test_a_checkup_leaves_out_what_puts_load_on_a_server(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant("loading", "raise AssertionError('asked')", "@probe(passive=False)")  # type: ignore[call-arg]
    names = [result.probe for result in checkup(Target(), 30)]
    assert "host_memory" in names
    assert "loading" not in names
    assert not load_probe("loading").passive


def test_every_text_of_a_result_is_masked(plant: Plant) -> None:
    secret = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ012345678"
    plant(
        "telling",
        f"s = {secret!r}\n"
        "return ProbeResult('telling', 'ok', s, s, {'fact': s}, {'deep': [{'x': (s, 1)}]}, s, advice=(s,), advice_zh=(s,))",
    )
    result = run_probe("telling", Target())
    assert secret not in json.dumps(record([result]))
    assert result.data["deep"][0]["x"][1] == 1


def test_a_recorded_host_replays_to_equal_results() -> None:
    results = checkup(Target(), 30)
    host = json.loads(json.dumps(record(results)))
    replayed = replay(host)
    assert replayed == {result.probe: result for result in results}
    assert record(replayed.values()) == host
    assert replay({"schema": 1, "probes": host}) == replayed
    assert replay({"probes": list(host.values())}) == replayed


def test_a_recording_of_another_form_claims_nothing() -> None:
    replayed = replay({"a": {"facts": {"gpu_count": 2}}, "b": "no GPU", "c": {"status": "fine", "advice": "none"}})
    assert {name: result.status for name, result in replayed.items()} == dict.fromkeys("abc", "unknown")
    assert facts_of(replayed.values()) == {"gpu_count": 2}
    assert replayed["b"].summary == "no GPU"


@pytest.mark.parametrize("host", [[], "host", {"probes": 3}])
def test_what_is_no_recorded_host_is_refused_in_one_sentence(host: object) -> None:
    with pytest.raises(InputError, match=r"recorded host[^\n]*\.$"):
        replay(host)  # type: ignore[arg-type]


def test_the_worst_status_speaks_for_all() -> None:
    sound = ProbeResult("a", "ok", "")
    assert worst_status([]) == "unknown"
    assert worst_status([sound]) == "ok"
    assert worst_status([sound, replace(sound, status="unknown")]) == "unknown"
    assert worst_status([replace(sound, status="unknown"), replace(sound, status="warning")]) == "warning"
    assert worst_status([replace(sound, status="critical"), replace(sound, status="warning")]) == "critical"


def test_every_fact_given_here_is_one_that_documents_may_name() -> None:
    for result in checkup(Target(), 30):
        assert {name for name in result.facts if FACTS.get(name, {}).get("probe") != result.probe} == set()


def test_every_result_has_a_sentence_in_both_languages() -> None:
    started = time.monotonic()
    for result in checkup(Target(), 30):
        assert result.summary.endswith(".")
        assert result.summary_zh.endswith("。")
        assert len(result.advice) == len(result.advice_zh)
        assert 0 <= result.seconds <= time.monotonic() - started


def test_finding_probes_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom probes.registry import load_probes, probe_names\nprobe_names()\n"
        "heavy = {'pynvml', 'psutil', 'yaml', 'subprocess', 'packaging', 'numpy', 'asyncio', 'pydantic', 'httpx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
    assert load_probes()
