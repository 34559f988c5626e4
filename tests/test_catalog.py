"""Reading a release's flags and variables out of its source, and adding it to the record.

The sources below are small imitations of how each generation of the engines builds its parser; none of them can be imported.
"""

from __future__ import annotations

import tarfile
import zipfile
from io import BytesIO
from pathlib import Path
from textwrap import dedent

import pytest

from kb.catalog.__main__ import main, text_of
from kb.catalog.history import DATA, ENGINES, load, parse
from kb.catalog.merge import Snapshot, merge
from kb.catalog.options import Option, says_deprecated
from kb.catalog.releases import inside, place, release_key
from kb.catalog.snapshot import read_snapshot, snapshot_of
from kb.catalog.wheel import Sources, read_sources

UNIMPORTABLE = "import a_module_that_nobody_has\nraise SystemExit('this file was run')\n"

PLAIN = {
    "vllm/engine/arg_utils.py": """
        from dataclasses import dataclass
        from typing import Optional
        import argparse

        @dataclass
        class EngineArgs:
            model: str
            block_size: int = 16
            swap_space: int = 4  # GiB
            quantization: Optional[str] = None

            @staticmethod
            def add_cli_args(parser):
                parser.add_argument('--model', type=str, default='facebook/opt-125m')
                parser.add_argument('--block-size', type=int, default=EngineArgs.block_size, choices=[8, 16, 32])
                parser.add_argument('--swap-space', type=int, default=EngineArgs.swap_space)
                parser.add_argument('--quantization', '-q', choices=['awq', 'gptq', None], default=EngineArgs.quantization)
                parser.add_argument('--trust-remote-code', action='store_true')
                parser.add_argument('--max-context-len-to-capture', type=int,
                                    help='Largest context. (DEPRECATED. Use --max-seq-len-to-capture instead)')
                return parser

        @dataclass
        class AsyncEngineArgs(EngineArgs):
            @staticmethod
            def add_cli_args(parser):
                parser = EngineArgs.add_cli_args(parser)
                parser.add_argument('--disable-log-requests', action='store_true')
                return parser
    """,
    "vllm/entrypoints/openai/cli_args.py": """
        import json, ssl
        from vllm.engine.arg_utils import AsyncEngineArgs

        def make_arg_parser():
            parser = argparse.ArgumentParser(description="server")
            parser.add_argument("--host", type=str, default=None)
            parser.add_argument("--ssl-cert-reqs", type=int, default=int(ssl.CERT_NONE))
            parser.add_argument("--lora-modules", type=str, nargs='+')
            parser = AsyncEngineArgs.add_cli_args(parser)
            return parser
    """,
    "vllm/executor.py": """
        import os
        DAG = bool(os.getenv("VLLM_USE_RAY_COMPILED_DAG", 0))
        os.environ["NCCL_SOMETHING"] = "1"
    """,
}

SUBCOMMANDS = {
    "vllm/config.py": """
        from enum import Enum
        class LoadFormat(str, Enum):
            AUTO = "auto"
            PT = "pt"
    """,
    "vllm/engine/arg_utils.py": """
        from vllm.config import LoadFormat
        from vllm.quantization import METHODS

        class EngineArgs:
            enable_chunked_prefill = None

            @staticmethod
            def add_cli_args(parser):
                parser.add_argument('--load-format', choices=[f.value for f in LoadFormat], default='auto')
                parser.add_argument('--quantization', choices=[*METHODS, None])
                parser.add_argument('--enable-chunked-prefill', action=StoreBoolean, nargs="?", const="True")
                parser.add_argument('--enable-prefix-caching', action=argparse.BooleanOptionalAction)
                return parser
    """,
    "vllm/quantization.py": 'BASE = ["awq"]\nMETHODS = BASE + list({"fp8": 1, "gptq": 2}.keys())\n',
    "vllm/entrypoints/openai/cli_args.py": """
        from vllm.engine.arg_utils import EngineArgs
        def make_arg_parser(parser):
            parser.add_argument("--port", type=int, default=8000)
            return EngineArgs.add_cli_args(parser)
    """,
    "vllm/scripts.py": """
        from vllm.entrypoints.openai.cli_args import make_arg_parser
        def main():
            parser = FlexibleArgumentParser(description="vLLM CLI")
            subparsers = parser.add_subparsers()
            serve_parser = subparsers.add_parser("serve", help="start")
            serve_parser.add_argument("model_tag", type=str)
            serve_parser.add_argument("--config", type=str, default='')
            serve_parser = make_arg_parser(serve_parser)
            chat_parser = subparsers.add_parser("chat")
            chat_parser.add_argument("--system-prompt", type=str)
    """,
    "vllm/envs.py": """
        import os
        environment_variables: Dict[str, Callable] = {
            "VLLM_LOGGING_LEVEL": lambda: os.getenv("VLLM_LOGGING_LEVEL", "INFO"),
            "LOCAL_RANK": lambda: 0,
        }
    """,
}

DERIVED = {
    "vllm/config/__init__.py": "from vllm.config.cache import CacheConfig\nfrom vllm.config.model import *\n",
    "vllm/config/model.py": """
        from typing import Literal
        ModelDType = Literal["auto", "half"]
        class Level(IntEnum):
            O0 = 0
            O2 = 2
        class Backend(Enum):
            FLASH = "package.Flash"
        @config
        @dataclass
        class ModelConfig:
            model: str = "Qwen/Qwen3-0.6B"
            dtype: ModelDType | torch.dtype = "auto"
            max_model_len: int = Field(default=None, gt=0)
            hf_token: bool | str | None = None
            kinds: ClassVar[int] = 3
            level: Level = Level.O2
            backend: Backend | None = None
    """,
    "vllm/config/cache.py": """
        from dataclasses import field
        from typing import Literal, Optional
        GOOD = Literal["sha256"]
        HashAlgo = Literal[GOOD, "builtin"]
        @dataclass
        class CacheConfig:
            enable_prefix_caching: bool | None = True
            algo: "HashAlgo" = "sha256"
            skip_layers: list[str] = field(default_factory=list)
            calculate_kv_scales: bool = False
            '''This option is deprecated and will be removed.'''
            pair: Optional[tuple[int, int]] = None
    """,
    "vllm/engine/arg_utils.py": """
        from vllm.config import CacheConfig, ModelConfig

        def get_kwargs(cls):
            for field in fields(cls):
                if type_hints == {bool, str, type(None)}:
                    kwargs[name]["nargs"] = "?"
                elif contains_type(type_hints, bool):
                    kwargs[name]["action"] = argparse.BooleanOptionalAction
            return kwargs

        class EngineArgs:
            @staticmethod
            def add_cli_args(parser):
                model_kwargs = get_kwargs(ModelConfig)
                group = parser.add_argument_group(title="ModelConfig")
                if not ("serve" in sys.argv[1:]):
                    group.add_argument("--model", **model_kwargs["model"])
                group.add_argument("--dtype", **model_kwargs["dtype"])
                group.add_argument("--max-model-len", **model_kwargs["max_model_len"])
                group.add_argument("--hf-token", **model_kwargs["hf_token"])
                group.add_argument("--optimization-level", **model_kwargs["level"])
                group.add_argument("--attention-backend", **model_kwargs["backend"])
                cache_kwargs = get_kwargs(CacheConfig)
                cache_kwargs["algo"]["choices"].remove("builtin")
                group.add_argument("--enable-prefix-caching", **{**cache_kwargs["enable_prefix_caching"], "default": None})
                group.add_argument("--prefix-caching-hash-algo", **cache_kwargs["algo"])
                group.add_argument("--skip-layers", **cache_kwargs["skip_layers"])
                group.add_argument("--calculate-kv-scales", **cache_kwargs["calculate_kv_scales"])
                group.add_argument("--pair", **cache_kwargs["pair"])
                group.add_argument("--old", "-o", type=int, deprecated=True)
                return parser
    """,
    "vllm/entrypoints/common/cli_args.py": """
        import vllm.envs as envs
        from vllm.engine.arg_utils import EngineArgs

        class BaseFrontendArgs:
            chat_template: str | None = None
            @classmethod
            def _customize_cli_kwargs(cls, frontend_kwargs):
                frontend_kwargs["chat_template"]["type"] = str
                return frontend_kwargs

            @classmethod
            def add_cli_args(cls, parser):
                from vllm.engine.arg_utils import get_kwargs
                frontend_kwargs = cls._customize_cli_kwargs(get_kwargs(cls))
                group = parser.add_argument_group(title="Frontend")
                for key, value in frontend_kwargs.items():
                    extra = value.pop("flags", [])
                    group.add_argument(*extra, f"--{key.replace('_', '-')}", **value)
                return parser

        class FrontendArgs(BaseFrontendArgs):
            port: int = 8000
            middleware: list[str] = field(default_factory=lambda: [])
            log_error_stack: bool = envs.VLLM_SERVER_DEV_MODE

            @classmethod
            def _customize_cli_kwargs(cls, frontend_kwargs):
                frontend_kwargs = super()._customize_cli_kwargs(frontend_kwargs)
                frontend_kwargs["middleware"]["default"] = []
                del frontend_kwargs["middleware"]["nargs"]
                return frontend_kwargs

        def make_arg_parser(parser):
            parser.add_argument("model_tag", nargs="?")
            parser.add_argument("--api-server-count", "-asc", type=int)
            parser = FrontendArgs.add_cli_args(parser)
            return EngineArgs.add_cli_args(parser)
    """,
    "vllm/envs.py": "VLLM_SERVER_DEV_MODE = False\nenvironment_variables = {'VLLM_SERVER_DEV_MODE': None}\n",
    "vllm/utils/argparse_utils.py": 'PAIRS = {"--enable-": "--disable-", "--disable-": "--enable-"}\n',
}

ANNOTATED = {
    "sglang/srt/arg_utils.py": "A = Annotated\n",
    "sglang/srt/fields/model.py": """
        from typing import List, Literal, Optional
        import msgspec
        from sglang.srt.arg_utils import A, Arg
        CHOICES = ["auto", "pt"]
        class Backend:
            FULL = "full"
            DISABLED = "disabled"
            ALL = (FULL, DISABLED)
        class Model(msgspec.Struct):
            _NS_PATH = "model"
            model_path: A[str, Arg(help="Weights.", aliases=["--model"])]
            load_format: A[str, Arg(help="Format.", choices=CHOICES)] = "auto"
            trust_remote_code: A[bool, "Whether to trust."] = False
            cuda_graph_bs: A[Optional[List[int]], "Sizes."] = None
            device: A[Literal["cuda", "cpu"], "Device."] = "cuda"
            tp_size: A[int, Arg(help="Ranks.", cli_name="--tensor-parallel-size", aliases=["--tp-size"])] = 1
            graph_backend: A[Optional[str], Arg(help="Backend.", choices=Backend.ALL)] = None
            tool_call_parser: Optional[str] = None
            sampling_backend: Optional[str] = "pytorch"
            grpc_mode: A[bool, "(Deprecated, use --smg-grpc-mode) Legacy."] = False
            hidden: A[int, Arg(no_cli=True)] = 0
            unannotated: int = 0
    """,
    "sglang/srt/server_args.py": """
        from sglang.srt.fields.model import Model
        class ServerArgs:
            @staticmethod
            def add_cli_args(parser):
                add_cli_args_from_dataclass(parser, ServerArgs)
                names = _parsers()
                parser.add_argument("--tool-call-parser", choices=["auto"] + names, default=_declared("x"))
                parser.add_argument("--sampling-backend", default=_declared_default("sampling_backend"))
                parser.add_argument("--reasoning-parser", default=_declared_default("tool_call_parser"))
                parser.add_argument("--disable-cuda-graph", action=DeprecatedStoreTrueAction, new_flag="--other")
                parser.add_argument("--enable-x-moe", action=DeprecatedAction, help="gone")
        def _parsers():
            from sglang.srt.names import NAMES
            return list(NAMES)
        _INPUT_NAMESPACES = [Model]
    """,
    "sglang/srt/names.py": 'NAMES = ("qwen", "llama3")\n',
    "sglang/srt/environ.py": """
        class Envs:
            # SGLANG_IN_A_COMMENT = 1
            SGLANG_PORT = EnvInt(None)
            SGL_OLD = EnvBool(False)
    """,
    "sglang/srt/other.py": 'import os\nif os.environ.get("SGLANG_SEEN", "0"): pass\nprint("SGLANG_ONLY_PRINTED")\n',
}


def unpack(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        body = dedent(text)
        path.write_text(body + ("\n" + UNIMPORTABLE if not name.endswith("envs.py") else ""), "utf-8")
    return folder


def options_of(folder: Path, files: dict[str, str], engine: str, release: str) -> dict[str, Option]:
    snapshot = snapshot_of(engine, release, unpack(folder, files))
    return {name: option for option in snapshot.options for name in option.names}


def test_reads_plain_argparse(tmp_path: Path) -> None:
    found = options_of(tmp_path, PLAIN, "vllm", "0.4.0")
    assert sorted(found) == [
        "--block-size",
        "--disable-log-requests",
        "--host",
        "--lora-modules",
        "--max-context-len-to-capture",
        "--model",
        "--quantization",
        "--ssl-cert-reqs",
        "--swap-space",
        "--trust-remote-code",
        "-q",
    ]
    assert found["--block-size"] == Option(("--block-size",), default="16", choices=("16", "32", "8"))
    assert found["-q"].choices == ("None", "awq", "gptq")
    assert found["--trust-remote-code"].takes == "0"
    assert found["--trust-remote-code"].default == "false"
    assert found["--lora-modules"].takes == "+"
    assert found["--ssl-cert-reqs"].default == "0"
    assert [name for name, option in found.items() if option.deprecated] == ["--max-context-len-to-capture"]


def test_reads_variables_where_no_file_declares_them(tmp_path: Path) -> None:
    assert snapshot_of("vllm", "0.4.0", unpack(tmp_path, PLAIN)).variables == {"VLLM_USE_RAY_COMPILED_DAG"}


def test_reads_only_the_serving_subcommand(tmp_path: Path) -> None:
    found = options_of(tmp_path, SUBCOMMANDS, "vllm", "0.6.0")
    assert sorted(found) == [
        "--config",
        "--enable-chunked-prefill",
        "--enable-prefix-caching",
        "--load-format",
        "--port",
        "--quantization",
    ]
    assert found["--load-format"].choices == ("auto", "pt")
    assert found["--quantization"].choices == ("None", "awq", "fp8", "gptq")
    assert found["--enable-chunked-prefill"].takes == "?"
    assert found["--enable-prefix-caching"].negations == ("--no-enable-prefix-caching",)


def test_reads_declared_variables(tmp_path: Path) -> None:
    assert snapshot_of("vllm", "0.6.0", unpack(tmp_path, SUBCOMMANDS)).variables == {"VLLM_LOGGING_LEVEL", "LOCAL_RANK"}


def test_reads_options_derived_from_configuration_classes(tmp_path: Path) -> None:
    found = options_of(tmp_path, DERIVED, "vllm", "0.33.0")
    assert found["--dtype"].choices == ("auto", "half")
    assert found["--max-model-len"].default is None
    assert found["--hf-token"] == Option(("--hf-token",), takes="?")
    assert found["--enable-prefix-caching"].negations == ("--no-enable-prefix-caching", "--disable-prefix-caching")
    assert found["--enable-prefix-caching"].default is None
    assert found["--prefix-caching-hash-algo"] == Option(
        ("--prefix-caching-hash-algo",), default="sha256", choices=("sha256",)
    )
    assert found["--skip-layers"] == Option(("--skip-layers",), default="[]", takes="+")
    assert found["--pair"].takes == "+"
    assert {name for name, option in found.items() if option.deprecated} == {"--calculate-kv-scales", "--old", "-o"}


def test_an_enum_of_numbers_is_written_by_its_values_and_any_other_by_its_names(tmp_path: Path) -> None:
    found = options_of(tmp_path, DERIVED, "vllm", "0.33.0")
    assert found["--optimization-level"] == Option(("--optimization-level",), default="2", choices=("0", "2"))
    assert found["--attention-backend"].choices == ("FLASH",)


def test_reads_options_made_in_a_loop_over_fields(tmp_path: Path) -> None:
    found = options_of(tmp_path, DERIVED, "vllm", "0.33.0")
    assert {"--chat-template", "--port", "--middleware", "--log-error-stack", "-asc"} <= set(found)
    assert found["--middleware"].takes == "1"
    assert found["--log-error-stack"].default == "expr:envs.VLLM_SERVER_DEV_MODE"
    assert found["--log-error-stack"].negations == ("--no-log-error-stack",)


def test_reads_annotated_fields(tmp_path: Path) -> None:
    found = options_of(tmp_path, ANNOTATED, "sglang", "0.5.23")
    assert found["--model"] is found["--model-path"]
    assert found["--load-format"] == Option(("--load-format",), default="auto", choices=("auto", "pt"))
    assert found["--trust-remote-code"].takes == "0"
    assert found["--cuda-graph-bs"].takes == "+"
    assert found["--device"].choices == ("cpu", "cuda")
    assert found["--tp-size"].names == ("--tensor-parallel-size", "--tp-size")
    assert found["--tool-call-parser"].choices == ("auto", "llama3", "qwen")
    assert found["--tool-call-parser"].default == "expr:_declared('x')"
    assert found["--sampling-backend"].default == "pytorch"
    assert found["--reasoning-parser"].default is None
    assert found["--disable-cuda-graph"].default == "false"
    assert found["--graph-backend"].choices == ("disabled", "full")
    assert {n for n, o in found.items() if o.deprecated} == {"--grpc-mode", "--disable-cuda-graph", "--enable-x-moe"}
    assert not {"--hidden", "--unannotated"} & set(found)


def test_reads_variables_of_a_class_and_of_plain_reads(tmp_path: Path) -> None:
    found = snapshot_of("sglang", "0.5.23", unpack(tmp_path, ANNOTATED)).variables
    assert found == {"SGLANG_PORT", "SGL_OLD", "SGLANG_SEEN"}


def test_a_wheel_an_sdist_and_a_folder_read_alike(tmp_path: Path) -> None:
    folder = unpack(tmp_path / "folder", PLAIN)
    wheel, sdist = tmp_path / "vllm-0.4.0-py3-none-any.whl", tmp_path / "vllm-0.4.0.tar.gz"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in PLAIN.items():
            archive.writestr(name, dedent(text))
        archive.writestr("vllm/_C.so", b"\x7fELF")
    with tarfile.open(sdist, "w:gz") as tar:
        for name, text in PLAIN.items():
            body = dedent(text).encode()
            member = tarfile.TarInfo(f"vllm-0.4.0/{name}")
            member.size = len(body)
            tar.addfile(member, BytesIO(body))
    snapshots = [snapshot_of("vllm", "0.4.0", path) for path in (folder, wheel, sdist)]
    assert snapshots[0].options
    assert snapshots[0] == snapshots[1] == snapshots[2]


def test_a_release_without_a_parser_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match=r"vllm 9\.0\.0: no parser found"):
        read_snapshot(Sources({"vllm/__init__.py": ""}), "vllm", "9.0.0")


def test_a_folder_without_the_package_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no Python files of sglang"):
        read_sources(tmp_path, "sglang")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Deprecated: use --other.", True),
        ("[DEPRECATED] Disable logging.", True),
        ("Largest context (DEPRECATED. Use --b instead)", True),
        ("--log-config-file is deprecated and will be removed.", True),
        ("Note: --x is deprecated now.", True),
        ("Enable deprecated metrics that were hidden.", False),
        ("", False),
    ],
)
def test_help_texts_that_call_their_option_deprecated(text: str, expected: bool) -> None:
    assert says_deprecated(text) is expected


# The record.

TINY = """{"engine":"vllm",
"releases":["0.1.0","0.2.0","0.4.0"],
"flags":{
"--a":{"in":"0.1.0..","takes":"0","default":[["0.1.0","false"]]},
"--b":{"in":"0.1.0..0.2.0","default":[["0.1.0","1"],["0.2.0","2"]]},
"--c":{"in":"0.2.0..","default":[["0.2.0","x"]],"choices":[["0.2.0",["x","y"]],["0.4.0",["z"],["y"]]]},
"-c":{"in":"0.4.0..","alias":"--c"}},
"env":{
"VLLM_A":"0.1.0..0.2.0"}}
"""


def snapshot(release: str, *options: Option, variables: tuple[str, ...] = ()) -> Snapshot:
    return Snapshot("vllm", release, options, frozenset(variables))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_shipped_record_is_written_as_this_code_writes_it(engine: str) -> None:
    assert text_of(load(engine)) == (DATA / f"{engine}.json").read_text("utf-8")


def test_a_new_release_changes_only_the_lines_that_it_changes() -> None:
    a = Option(("--a",), default="false", takes="0")
    c = Option(("--c", "-c"), default="x", choices=("x", "z"))
    after = text_of(merge(parse(TINY), snapshot("0.5.0", a, c)))
    before_lines, after_lines = TINY.splitlines(), after.splitlines()
    changed = [new for old, new in zip(before_lines, after_lines, strict=True) if old != new]
    assert changed == ['"releases":["0.1.0","0.2.0","0.4.0","0.5.0"],']


def test_a_new_release_closes_opens_and_moves() -> None:
    a = Option(("--a",), default="true", takes="0", deprecated=True)
    b = Option(("--b",), default="2")
    after = merge(parse(TINY), snapshot("0.5.0", a, b, variables=("VLLM_A", "VLLM_B")))
    assert after.flags["--a"] == {
        "in": "0.1.0..",
        "deprecated": "0.5.0..",
        "takes": "0",
        "default": [["0.1.0", "false"], ["0.5.0", "true"]],
    }
    assert after.flags["--b"]["in"] == "0.1.0..0.2.0 0.5.0.."
    assert after.flags["--c"]["in"] == "0.2.0..0.4.0"
    assert after.variables == {"VLLM_A": "0.1.0..0.2.0 0.5.0..", "VLLM_B": "0.5.0.."}


def test_a_release_in_between_narrows_the_ranges() -> None:
    after = merge(
        parse(TINY), snapshot("0.3.0", Option(("--b",), default="2"), Option(("--c",), choices=("x",), default="x"))
    )
    assert after.releases == ("0.1.0", "0.2.0", "0.3.0", "0.4.0")
    assert after.flags["--a"]["in"] == "0.1.0..0.2.0 0.4.0.."
    assert after.flags["--b"]["in"] == "0.1.0..0.3.0"
    assert after.flags["--c"]["choices"] == [["0.2.0", ["x", "y"]], ["0.3.0", [], ["y"]], ["0.4.0", ["z"]]]


def test_reading_a_recorded_release_again_changes_nothing() -> None:
    again = snapshot(
        "0.2.0",
        Option(("--a",), default="false", takes="0"),
        Option(("--b",), default="2"),
        Option(("--c",), default="x", choices=("x", "y")),
        variables=("VLLM_A",),
    )
    assert text_of(merge(parse(TINY), again)) == TINY


def test_an_alias_is_recorded_under_the_known_name() -> None:
    after = merge(parse(TINY), snapshot("0.5.0", Option(("--see", "--c"), default="x")))
    assert after.flags["--see"] == {"in": "0.5.0..", "alias": "--c"}


def test_entries_answer_release_by_release() -> None:
    history = parse(TINY)
    entry = history.entry("--c")
    assert entry is not None
    assert [entry.is_in(at) for at in range(3)] == [False, True, True]
    assert [entry.accepted(at) for at in range(3)] == [None, {"x", "y"}, {"x", "z"}]
    assert history.names(2) == {"--a", "--c", "-c"}
    assert history.entry("--nowhere") is None


def test_the_command_adds_a_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, source = tmp_path / "data", unpack(tmp_path / "source", PLAIN)
    data.mkdir()
    (data / "vllm.json").write_text(TINY, "utf-8")
    assert main(["add", "vllm==0.4.3", "--wheel", str(source), "--data", str(data)]) == 0
    assert capsys.readouterr().out == "vllm 0.4.3: 11 flags (11 never seen before), 1 variables (1 never seen before)\n"
    assert parse((data / "vllm.json").read_text("utf-8")).releases[-1] == "0.4.3"


@pytest.mark.parametrize("requirement", ["vllm", "torch==2.0", ""])
def test_the_command_says_what_it_needs(requirement: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add", requirement]) == 64
    assert "ENGINE==RELEASE" in capsys.readouterr().err


# Release numbers.


def test_releases_are_ordered_as_published() -> None:
    ordered = ["0.4.0", "0.4.0.post1", "0.4.1", "0.9.0rc1", "0.9.0", "0.9.0.1", "0.10.0.dev3", "0.10.0", "1.0"]
    backwards = ordered[::-1]
    assert sorted(backwards, key=release_key) == ordered
    assert release_key("v0.8.5.post1") == release_key("0.8.5.post1+cu118") == release_key("0.8.5.post1-cu124")


@pytest.mark.parametrize("text", ["latest", "", "nightly-abc"])
def test_what_is_not_a_release_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a release"):
        release_key(text)


def test_a_release_has_neighbours() -> None:
    known = ("0.4.0", "0.4.1", "0.6.0")
    assert (place(known, "0.4.1").exact, place(known, "v0.4.1").exact) == (1, 1)
    assert (place(known, "0.5.0").before, place(known, "0.5.0").after) == (1, 2)
    assert (place(known, "0.1.0").before, place(known, "0.1.0").after) == (None, 0)
    assert (place(known, "0.7.0").before, place(known, "0.7.0").after) == (2, None)


@pytest.mark.parametrize(
    ("release", "ranges", "expected"),
    [
        ("0.5.0", "", True),
        ("0.5.0", "0.4.0..0.5.0", True),
        ("0.5.1", "0.4.0..0.5.0", False),
        ("0.9.0", "0.8.0..", True),
        ("0.3.0", "..0.4.0", True),
        ("0.33.0", "0.4.0..0.16.0 0.33.0..", True),
        ("0.20.0", "0.4.0..0.16.0 0.33.0..", False),
    ],
)
def test_ranges_hold_both_ends(release: str, ranges: str, expected: bool) -> None:
    assert inside(release, ranges) is expected
