"""What each release requires of other packages, and the fix that names it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.assistant import Assistant
from assistant.packages import installed_packages, listed_packages
from assistant.required_packages import install_command
from assistant.types import Question
from kb.catalog.history import ENGINES, load
from kb.documents import load_documents
from kb.requirements import (
    TABLE,
    Unmet,
    add,
    by_release,
    metadata_in,
    packages,
    required,
    specifiers_of,
    table_of,
    unmet,
)

METADATA = """\
Metadata-Version: 2.4
Name: vllm
Version: 0.11.0
Requires-Dist: regex
Requires-Dist: transformers>=4.55.2
Requires-Dist: Flashinfer_Python==0.3.1
Requires-Dist: xgrammar==0.1.25; platform_machine == "x86_64" or platform_machine == "aarch64"
Requires-Dist: torch==2.8.0; sys_platform == "darwin"
Requires-Dist: ray[cgraph]>=2.48.0; extra == "ray"

A text.
"""
COLLECTED = """\
vLLM Version: 0.11.0
[pip3] numpy==2.2.0
[pip3] transformers==4.40.1
"""
IMPORT = "ImportError: cannot import name 'Qwen2_5_VLImageProcessor' from 'transformers.models.qwen2_5_vl' (/x/__init__.py)\n"


@pytest.mark.parametrize(
    ("engine", "release", "package", "said"),
    [
        ("vllm", "0.8.5", "torch", "==2.6.0"),
        ("vllm", "0.4.3", "xformers", "==0.0.26.post1"),
        ("sglang", "0.4.6.post5", "flashinfer_python", "==0.2.5"),
        ("sglang", "0.5.9", "sgl-kernel", "==0.3.21"),
        ("sglang", "0.5.9", "never-heard-of", ""),
        ("vllm", "99.0", "torch", ""),
        ("", "", "torch", ""),
    ],
)
def test_what_a_release_requires(engine: str, release: str, package: str, said: str) -> None:
    assert required(engine, release, package) == said


def test_only_what_this_machine_would_install_counts() -> None:
    assert specifiers_of(METADATA, "vllm") == {
        "transformers": ">=4.55.2",
        "flashinfer-python": "==0.3.1",
        "xgrammar": "==0.1.25",
    }


def test_the_table_is_what_is_read_from_it() -> None:
    assert table_of({engine: by_release(engine) for engine in ("vllm", "sglang")}) == TABLE.read_text("utf-8")


def test_every_recorded_release_requires_something() -> None:
    assert not [(e, r) for e in ENGINES for r, said in by_release(e).items() if not said]


@given(st.lists(st.sampled_from(["", "==1", ">=2", "<3"]), min_size=1, max_size=8))
def test_runs_hold_what_each_release_said(said: list[str]) -> None:
    releases = load("vllm").releases[: len(said)]
    text = table_of({"vllm": {r: {"torch": s} if s else {} for r, s in zip(releases, said, strict=True)}})
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    found = dict.fromkeys(releases, "")
    for _, _, first, last, specifier in rows:
        for release in releases[releases.index(first) : releases.index(last) + 1]:
            assert not found[release]
            found[release] = specifier
    assert list(found.values()) == said


def test_a_wheel_is_added(tmp_path: Path) -> None:
    wheel = tmp_path / "vllm-0.11.0-cp38-abi3-manylinux1_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("vllm-0.11.0.dist-info/METADATA", METADATA)
    assert metadata_in(wheel) == METADATA
    rows = add([wheel]).splitlines()
    assert "vllm\tflashinfer-python\t0.11.0\t0.11.0\t==0.3.1" in rows
    with pytest.raises(ValueError, match="add it first"):
        add([wheel.rename(tmp_path / "vllm-99.0-py3-none-any.whl")])


def test_what_does_not_fit() -> None:
    found = unmet("vllm", "0.8.5", {"torch": "2.7.0+cu128", "transformers": "4.51.3", "numpy": "odd", "regex": "1"})
    assert found == (Unmet("torch", "2.7.0+cu128", "==2.6.0"),)
    assert unmet("vllm", "0.8.5", {"torch": "2.6.0+cu124"}) == ()


@pytest.mark.parametrize(
    "line",
    [
        "transformers==4.51.3",
        "[pip3] transformers==4.51.3",
        "[conda] transformers              4.51.3                   pypi_0    pypi",
        "transformers                             4.51.3",
        "transformers: 4.51.3",
        "Transformers version: 4.51.3",
    ],
)
def test_packages_that_a_log_lists(line: str) -> None:
    assert listed_packages([f"INFO: x\n{line}\nunknown==1.0\n"]) == {"transformers": "4.51.3"}


def test_a_log_goes_before_what_is_installed_here() -> None:
    facts = {"transformers_version": "5.0.0", "vllm_version": "0.11.0", "gpu_count": 2}
    assert installed_packages({"transformers": "4.51.3"}, facts) == {"transformers": "4.51.3", "vllm": "0.11.0"}


def test_a_package_that_does_not_fit_is_named_first_with_its_command(assistant: Assistant) -> None:
    answer = assistant.answer(Question("why?", logs={"server.log": COLLECTED + IMPORT}, use_probes=False, lang="en"))
    first = answer.diagnoses[0].fixes[0]
    assert first.commands == ('pip install "transformers==4.55.2"',)
    assert "4.40.1 is installed" in first.text
    assert first.risk == "reinstall"
    assert next(e for e in answer.evidence if e.id in first.cites).source == "kb/data/requirements.tsv"


def test_without_a_known_version_it_is_said_last_and_without_a_release_not_at_all(assistant: Assistant) -> None:
    said = Question("why?", logs={"server.log": "vLLM Version: 0.11.0\n" + IMPORT}, use_probes=False, lang="zh")
    fixes = assistant.answer(said).diagnoses[0].fixes
    assert "transformers>=4.55.2" in fixes[-1].title
    unsaid = Question("why?", logs={"server.log": IMPORT}, use_probes=False)
    assert not any("4.55.2" in f.title for f in assistant.answer(unsaid).diagnoses[0].fixes)


@pytest.mark.parametrize(
    ("asked", "command"),
    [
        ({"transformers": ">=4.55.2"}, 'pip install "transformers==4.55.2"'),
        ({"protobuf": "!=6.30.*,>=5.29.6"}, 'pip install "protobuf==5.29.6"'),
        ({"transformers": "<5,>=4.56.0", "numpy": "==1.26.4"}, 'pip install "transformers<5,>=4.56.0" "numpy==1.26.4"'),
        ({"torch": "==2.8.0"}, 'uv pip install "torch==2.8.0" --torch-backend=auto'),
    ],
)
def test_an_open_range_is_installed_at_its_lowest(asked: dict[str, str], command: str) -> None:
    assert install_command(asked, "torch" in asked) == command


def test_documents_name_packages_that_some_release_asks_for() -> None:
    named = {name for document in load_documents() for name in document.requires}
    assert named <= packages()
