"""Engines as they are installed: as released, patched, editable, nightly; and the commands of servers that run from them."""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import yaml

from kb.catalog.history import load, shipped
from kb.catalog.installed import Installed, extended, from_json, to_json, with_installed
from kb.catalog.options import Option
from kb.flags import check_command, check_name, patched_command, releases_of
from kb.flags import with_installed as public_with_installed
from probes import engine_flags
from probes.engine_flags import Engine, read_engine
from probes.reading.environments import Environment, read_environment
from probes.reading.flag_sources import (
    Files,
    Installation,
    find_installations,
    parse_origin,
    parse_record,
    read_installed,
)
from probes.reading.servers import Server
from probes.types import ProbeResult, Target

ROOT = Path(__file__).parent.parent
RELEASE = "0.5.9"
UNPACKED = os.environ.get("CRASHCART_TEST_UNPACKED", "")

Install = Callable[..., Path]


def parser_of(engine: str, release: str, fewer: Iterable[str] = (), more: str = "") -> str:
    """A file of SGLang's form whose parser has the recorded flags of a release, each with its values and choices."""
    history = shipped(engine)
    at = history.index(release)
    lines = []
    for name in sorted(history.names(at) - {*fewer}):
        entry = history.entry(name)
        assert entry
        accepted = entry.accepted(at)
        action = ', action="store_true"' if entry.takes(at) == "0" else ""
        choices = f", choices={sorted(accepted)!r}" if accepted else ""
        lines.append(f'        parser.add_argument("{name}"{action}{choices})')
    head = "import argparse\n\n\nclass ServerArgs:\n    @staticmethod\n    def add_cli_args(parser: argparse.ArgumentParser):\n"
    return head + "\n".join([*lines, more]) + "\n"


def record_of(folder: Path) -> str:
    rows = []
    for path in sorted(folder.rglob("*.py")):
        digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
        rows.append(f"{path.relative_to(folder)},sha256={digest},{path.stat().st_size}")
    return "\n".join([*rows, "sglang-0.dist-info/RECORD,,"]) + "\n"


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Install an SGLang with the recorded flags, some fewer or more; the site-packages folder."""

    def put(
        release: str = RELEASE, base: str = RELEASE, fewer: Iterable[str] = (), more: str = "", listed: bool = True
    ) -> Path:
        site = tmp_path / "lib/python3.11/site-packages"
        package, info = site / "sglang/srt", site / f"sglang-{release}.dist-info"
        package.mkdir(parents=True)
        info.mkdir()
        (package / "server_args.py").write_text(parser_of("sglang", base, fewer, more))
        if listed:
            (info / "RECORD").write_text(record_of(site))
        return site

    return put


def look(site: Path) -> ProbeResult:
    return engine_flags.engine_flags(Target(environments=(str(site),)))


def test_an_engine_as_released_is_taken_by_its_files(install: Install) -> None:
    site = install()
    result = look(site)
    count = len(load("sglang").names(load("sglang").index(RELEASE)))
    assert result.status == "ok"
    assert result.summary == f"sglang {RELEASE} takes {count} flags; its files are those of the release."
    assert result.facts == {"engine_is_recorded": True, "engine_flag_count": count, "engine_is_changed": False}
    (engine,) = result.data["engines"]
    assert (engine["read_from"], engine["state"], engine["differences"]) == ("record", "as released", None)


def test_what_is_read_of_files_without_a_list_agrees_with_the_record(install: Install) -> None:
    site = install(listed=False)
    result = look(site)
    assert (result.status, result.data["engines"][0]["read_from"]) == ("ok", "source"), result.summary
    assert result.summary.endswith("as the record says.")


def test_a_patched_engine_is_told_by_file_and_flags(install: Install) -> None:
    site = install()
    path = site / "sglang/srt/server_args.py"
    path.write_text(parser_of("sglang", RELEASE, ["--mem-fraction-static"], '        parser.add_argument("--our-own")'))
    result = look(site)
    assert result.status == "warning"
    assert result.summary == (
        f"sglang {RELEASE} was changed after it was installed"
        " (sglang/srt/server_args.py; more: --our-own; fewer: --mem-fraction-static)."
    )
    assert result.facts["engine_is_changed"] is True
    with public_with_installed([result.data["engines"][0]["differences"]]):
        assert check_name("sglang", RELEASE, "--our-own").status == "ok"
        assert check_name("sglang", RELEASE, "--mem-fraction-static").status in ("removed", "not-yet")
        assert check_name("sglang", RELEASE, "--tp-size").status == "ok"
    assert check_name("sglang", RELEASE, "--our-own").status == "never"
    assert check_name("sglang", RELEASE, "--mem-fraction-static").status == "ok"


def test_a_nightly_build_answers_for_itself(install: Install) -> None:
    newest = shipped("sglang").releases[-1]
    nightly = "9.9.9.dev17+gabc1234"
    more = '        parser.add_argument("--brand-new", "-bn", choices=["a", "b"])'
    site = install(nightly, newest, ["--mem-fraction-static"], more)
    result = look(site)
    assert result.status == "ok"
    assert f"(after {newest}: 1 more, 1 fewer)" in result.summary
    assert result.facts["engine_is_recorded"] is False
    (differences,) = [engine["differences"] for engine in result.data["engines"]]
    assert json.loads(json.dumps(differences)) == differences
    with public_with_installed([differences]):
        found = {
            s.name: s.status
            for s in check_command(
                "python -m sglang.launch_server --model-path m --brand-new c --mem-fraction-static 0.8", "", nightly
            )
        }
        assert found == {"--model-path": "ok", "--brand-new c": "never", "--mem-fraction-static": "removed"}
        assert check_name("sglang", newest, "--brand-new").status == "not-yet"
        assert releases_of("sglang")[-1] == nightly
        assert "--mem-fraction-static" not in patched_command(
            "python -m sglang.launch_server --model-path m --mem-fraction-static 0.8", "", nightly
        )
    assert releases_of("sglang")[-1] == newest


def test_an_editable_installation_is_read_where_its_sources_are(tmp_path: Path, install: Install) -> None:
    site = install("0.5.10.dev3")
    source = tmp_path / "src/sglang/python"
    (source / "sglang/srt").mkdir(parents=True)
    (site / "sglang/srt/server_args.py").rename(source / "sglang/srt/server_args.py")
    url = {"url": f"file://{tmp_path}/src/sglang", "dir_info": {"editable": True}}
    (site / "sglang-0.5.10.dev3.dist-info/direct_url.json").write_text(json.dumps(url))
    result = look(site)
    (engine,) = result.data["engines"]
    assert (engine["state"], engine["root"], engine["read_from"]) == ("built here", str(source), "source")
    assert parse_origin('{"url": "https://host/x.whl", "archive_info": {}}') == ""
    assert parse_origin("") is None
    assert parse_origin("[]") is None


@pytest.mark.parametrize("text", ["", "def add_cli_args(:", "class ServerArgs:\n    pass\n"])
def test_a_parser_that_is_not_found_is_unknown(install: Install, text: str) -> None:
    site = install("0.5.9.post99", listed=False)
    (site / "sglang/srt/server_args.py").write_text(text)
    result = look(site)
    assert result.status == "unknown"
    assert result.summary.startswith("The flags of sglang 0.5.9.post99 could not be read: ")
    assert result.facts == {"engine_is_recorded": False}


def test_an_engine_whose_files_are_gone_is_unknown(install: Install) -> None:
    site = install("0.5.9.post99", listed=False)
    (site / "sglang/srt/server_args.py").unlink()
    assert look(site).status == "unknown"


def test_no_engine_is_unknown(tmp_path: Path) -> None:
    result = look(tmp_path)
    assert (result.status, result.facts) == ("unknown", {})


VLLM = Engine(Installation("vllm", "0.20.2", "/site", "running vllm (pid 10)", "as released"), 500)
OLD = Engine(Installation("vllm", "0.6.6", "/other", "python3 on PATH", "as released"), 300)


def test_flags_of_a_running_server_are_judged_by_what_it_runs_from() -> None:
    command = "/site/bin/python /site/bin/vllm serve MODEL --swap-space 4 --max-model-len 8192 --no-such-flag"
    server = Server(10, "vllm", command, 8000)
    result = engine_flags.judge([OLD, VLLM], [server])
    assert result.status == "warning"
    assert result.facts["engine_flags_wrong"] == 2
    assert "--swap-space of the running server (pid 10) was removed from vllm 0.20.2." in result.data["findings"]
    assert "--no-such-flag of the running server (pid 10) does not exist in vllm 0.20.2." in result.data["findings"]
    assert result.data["commands"][0]["pid"] == 10
    assert len(result.advice) == len(result.advice_zh)
    stranger = Server(11, "vllm", command, 8000)
    assert engine_flags.judge([OLD, VLLM], [stranger]).data["commands"] == []
    assert engine_flags.judge([OLD], [stranger]).facts["engine_flags_wrong"] == 1


def test_every_fact_is_one_that_documents_may_name() -> None:
    facts = yaml.safe_load((ROOT / "kb/data/facts.yaml").read_text("utf-8"))
    given = engine_flags.judge([VLLM], [Server(10, "vllm", "vllm serve m", 8000)]).facts
    assert set(given) == {name for name, fact in facts.items() if fact["probe"] == "engine_flags"}


def test_a_reading_put_between_releases_leaves_the_others_as_they_are() -> None:
    history = shipped("vllm")
    reading = Installed(
        "vllm",
        "0.11.1rc3.dev5+gabc",
        "0.11.0",
        (Option(("--brand-new",), ("--no-brand-new",), "false", None, "0"),),
        ("--swap-space",),
        {"--kv-cache-dtype": ("auto", "fp99")},
        ("VLLM_BRAND_NEW",),
    )
    assert from_json(json.loads(json.dumps(to_json(reading)))) == reading
    grown = extended(history, reading)
    at = grown.index(reading.release)
    assert grown.releases[at - 1] == "0.11.0"
    assert grown.names(at) == history.names(history.index("0.11.0")) - {"--swap-space"} | {
        "--brand-new",
        "--no-brand-new",
    }
    for release in ("0.8.5", "0.11.0", "0.12.0", history.releases[-1]):
        assert grown.names(grown.index(release)) == history.names(history.index(release))
    with with_installed([reading]):
        assert check_name("vllm", reading.release, "--kv-cache-dtype", "fp99").status == "ok"
        assert check_name("vllm", "0.11.0", "--kv-cache-dtype", "fp99").status != "ok"
        assert check_name("vllm", reading.release, "VLLM_BRAND_NEW").status == "ok"
        assert check_name("vllm", "0.11.0", "VLLM_BRAND_NEW").status == "not-yet"
        assert check_name("sglang", "0.5.9", "--tp-size").status == "ok"


def test_what_is_no_reading_is_passed_over() -> None:
    sound = to_json(Installed("vllm", "9.0", "0.11.0"))
    for broken in ({}, {**sound, "engine": "tgi"}, {**sound, "base": "7"}, {**sound, "release": "latest"}):
        assert from_json(broken) is None
    assert from_json({**sound, "added": [{}]}) is None
    with with_installed([{}, to_json(Installed("vllm", "0.1.dev1+gabc", "0.11.0"))]):
        assert load("vllm") is shipped("vllm")


def test_only_files_that_decide_are_compared() -> None:
    text = (
        "vllm/engine/arg_utils.py,sha256=abc,10\nvllm/entrypoints/openai/cli_args.py,sha256=def,1\n"
        "vllm/model_executor/models/llama.py,sha256=x,1\nvllm/envs.py,,\nvllm-1.dist-info/RECORD,,\n"
    )
    assert parse_record(text, "vllm") == {
        "vllm/engine/arg_utils.py": "abc",
        "vllm/entrypoints/openai/cli_args.py": "def",
    }


def test_files_outside_of_the_package_are_not_read(tmp_path: Path, install: Install) -> None:
    site = install("0.5.9.post99", listed=False)
    secret = tmp_path / "secret.py"
    secret.write_text((site / "sglang/srt/server_args.py").read_text())
    (site / "sglang/srt/server_args.py").unlink()
    (site / "sglang/srt/server_args.py").symlink_to(secret)
    with pytest.raises(KeyError):
        Files(str(site), "sglang")["sglang/srt/server_args.py"]
    assert "sglang/srt/server_args.py may not be read" in look(site).summary
    (site / "sglang/srt/server_args.py").unlink()
    (tmp_path / "elsewhere/srt").mkdir(parents=True)
    secret.rename(tmp_path / "elsewhere/srt/server_args.py")
    (site / "sglang/srt").rmdir()
    (site / "sglang").rmdir()
    (site / "sglang").symlink_to(tmp_path / "elsewhere")
    assert look(site).data["engines"][0]["read_from"] == "source"


@pytest.mark.skipif(not UNPACKED, reason="CRASHCART_TEST_UNPACKED names no folder ENGINE/RELEASE of unpacked releases")
def test_unpacked_releases_agree_with_the_record() -> None:
    for path in sorted(Path(UNPACKED).glob("*/*")):
        engine, release = path.parts[-2:]
        if engine in ("vllm", "sglang") and release in shipped(engine).releases:
            read = read_installed(Installation(engine, release, str(path), "given"))
            assert not read.differs, f"{engine} {release}: {to_json(read)}"


def test_environments_tell_their_engines(install: Install) -> None:
    site = install()
    found = find_installations(read_environment(str(site), "given"))
    assert [(each.engine, each.release, each.state) for each in found] == [("sglang", RELEASE, "as released")]
    assert find_installations(Environment("/nowhere", "given", packages={"numpy": "2.0"})) == []
    assert read_engine(found[0]).read is None
