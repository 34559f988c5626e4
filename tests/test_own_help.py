"""The comparison of the flag record with parsers that are run: real parsers, small ones, in a process of their own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from evals.benchmarks.own_help import ask, compare, names_in, report
from evals.benchmarks.own_parser import described
from kb.catalog.history import History, parse

RECORD = """{"engine":"sglang",
"releases":["0.1.0"],
"flags":{
"--dtype":{"in":"0.1.0..","default":[["0.1.0","auto"]],"choices":[["0.1.0",["auto","half"]]]},
"--model":{"in":"0.1.0..","alias":"--model-path"},
"--model-path":{"in":"0.1.0..","default":[["0.1.0",null]]},
"--old":{"in":"0.1.0..","deprecated":"0.1.0..","takes":"0","default":[["0.1.0","false"]]},
"--size":{"in":"0.1.0..","default":[["0.1.0","2"]],"choices":[["0.1.0",["1","2"]]]}},
"env":{}}
"""


def small_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-path", "--model", help="Weights.")
    parser.add_argument("--dtype", choices=["auto", "half"], default="auto")
    parser.add_argument("--old", action="store_true", help="Deprecated. Use --new instead.")
    parser.add_argument("--size", type=int, default=2, metavar=["1", "2"])
    return parser


def form_of(parser: argparse.ArgumentParser) -> dict[str, Any]:
    return described(parser, {"--dtype": ["auto", "half"], "--size": ["1", "2"]})


@pytest.fixture
def history() -> History:
    return parse(RECORD)


def test_a_record_that_says_what_the_parser_says_has_no_differences(history: History) -> None:
    found = compare(history, "0.1.0", [form_of(small_parser())])
    assert (found.help_names, found.names) == (7, 7)  # with --help and -h
    assert [found.missing, found.extra, found.hidden, found.choices, found.defaults, found.deprecated] == [[]] * 6


def test_names_that_only_one_side_has(history: History) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-path", "-m")
    parser.add_argument("--secret", help=argparse.SUPPRESS)
    found = compare(history, "0.1.0", [form_of(parser)])
    assert found.missing == ["--secret", "-m"]
    assert found.extra == ["--dtype", "--model", "--old", "--size"]
    assert found.hidden == ["--secret"]


def test_a_name_of_either_form_of_the_command_counts(history: History) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--more")
    assert compare(history, "0.1.0", [form_of(small_parser()), form_of(parser)]).missing == ["--more"]


def test_values_defaults_and_deprecations_that_differ(history: History) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-path", "--model", default="x")
    parser.add_argument("--dtype", choices=["auto", "float16"], default="auto")
    parser.add_argument("--old", action="store_true")
    parser.add_argument("--size", choices=["2", "3"], default=2)
    found = compare(history, "0.1.0", [form_of(parser)])
    assert found.choices == [
        "--dtype float16: not recorded",
        "--dtype half: refused",
        "--size 1: refused",
        "--size 3: not recorded",
    ]
    assert found.defaults == ["--model-path: default x, recorded None"]
    assert found.deprecated == ["--old: not deprecated, recorded otherwise"]


def test_a_value_that_the_options_type_refuses_is_found_without_a_list(history: History) -> None:
    def even(text: str) -> int:
        if int(text) % 2:
            raise argparse.ArgumentTypeError("an odd number")
        return int(text)

    parser = small_parser()
    next(each for each in parser._actions if each.dest == "size").type = even
    assert compare(history, "0.1.0", [form_of(parser)]).choices == ["--size 1: refused"]


def test_names_are_taken_from_the_entries_of_a_help_text() -> None:
    text = "options:\n  --model-path MODEL, --model MODEL\n                        as --not-this\n  -q {a,b}, --quant {a,b}  x\n"
    assert names_in(text) == {"--model-path", "--model", "-q", "--quant"}


def engine(folder: Path, body: str) -> Path:
    package = folder / "sglang" / "srt"
    package.mkdir(parents=True)
    (package / "server_args.py").write_text(dedent(body), "utf-8")
    return folder


def test_the_engine_builds_its_parser_in_a_process_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = engine(
        tmp_path,
        """
        import argparse
        import triton
        import triton.language as tl

        @triton.jit
        def kernel(x: tl.constexpr): ...

        print("noise on standard output")

        class ServerArgs:
            @staticmethod
            def add_cli_args(parser):
                parser.add_argument("--model-path")
                parser.add_argument("--only-here", choices=["a"])

        def prepare_server_args(argv):
            parser = argparse.ArgumentParser()
            ServerArgs.add_cli_args(parser)
            return parser.parse_args(argv)
        """,
    )
    answer = ask(sys.executable, "sglang", "0.5.23", folder)
    assert answer["stubbed"] == ["triton"]
    assert [each["names"] for each in answer["forms"]["launch_server"]["options"]] == [
        ["-h", "--help"],
        ["--model-path"],
        ["--only-here"],
    ]
    assert report("sglang==0.5.23", answer, False) == 1
    assert "missing: --only-here" in capsys.readouterr().out


def test_a_release_that_cannot_be_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = engine(tmp_path, "import a_module_that_nobody_has\n")
    assert report("sglang==0.5.23", ask(sys.executable, "sglang", "0.5.23", folder), False) == 2
    assert "No module named 'a_module_that_nobody_has'" in capsys.readouterr().out
