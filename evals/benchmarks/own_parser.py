"""What an engine's own argument parser says when the engine itself builds it, as JSON on standard output.

    PYTHON own_parser.py ENGINE RELEASE FOLDER < '{"stubs": ["triton"], "values": {"--dtype": ["half"]}}'

`own_help.py` starts this under the interpreter of an environment that has the engine's requirements; it needs nothing of
Crashcart's. FOLDER holds the unpacked package. The modules named in `stubs` are compiled ones: where they are missing they
become empty modules, which define no option. Each of `values` is handed to the parser as that option's value.
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import json
import os
import runpy
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

NONSENSE = "no-such-value"


class Shown(BaseException):
    """The parser that was asked for its help; nothing of the engine's may catch it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


class _Anything(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything

    def __call__(cls, *arguments: Any, **keywords: Any) -> Any:
        if cls is not Anything:
            return super().__call__(*arguments, **keywords)
        decorates = len(arguments) == 1 and not keywords and callable(arguments[0]) and arguments[0] is not Anything
        return arguments[0] if decorates else Anything

    def __getitem__(cls, key: Any) -> Any:
        return Anything

    def __or__(cls, other: Any) -> Any:
        return cls

    __ror__ = __or__

    def __bool__(cls) -> bool:
        return False

    def __lt__(cls, other: Any) -> bool:
        return True

    __gt__ = __le__ = __ge__ = __lt__


class Anything(metaclass=_Anything):
    """Stands for everything that a missing compiled module would hold: a base class, a decorator, a constant."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None: ...

    def __init_subclass__(cls, **keywords: Any) -> None: ...


class _NoDriver:
    """Triton on a machine without a GPU: it imports, and asking for the device raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("0 active drivers ([]). There should only be one.")


class Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the named modules, and all below them, after every real finder has failed; `used` says which."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self.used: set[str] = set()

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        stubbed = any(fullname == name or fullname.startswith(f"{name}.") for name in self.names)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if stubbed else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        self.used.update(name for name in self.names if module.__name__.startswith(name))


class _Stub(types.ModuleType):
    __version__ = "99.0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self.__name__ == "triton" and name in ("runtime", "language"):
            return importlib.import_module(f"triton.{name}")
        return _NoDriver() if (self.__name__, name) == ("triton.runtime", "driver") else Anything


def shown(value: Any) -> Any:
    """A default as JSON. `expr:` stands before what is an object of the engine's."""
    if value is argparse.SUPPRESS:
        return "expr:argparse.SUPPRESS"
    if isinstance(value, enum.Enum):
        return shown(value.value if isinstance(value, (int, str)) else value.name)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [shown(each) for each in value]
    if isinstance(value, dict):
        return {str(key): shown(each) for key, each in value.items()}
    return f"expr:{type(value).__name__}()"


def refused(parser: argparse.ArgumentParser, action: argparse.Action, values: Iterable[str]) -> list[str]:
    """The values that the parser does not take for an option."""
    found = []
    for value in values:
        try:
            parser._check_value(action, parser._get_value(action, value))
        except argparse.ArgumentError:
            found.append(value)
    return found


def described(parser: argparse.ArgumentParser, values: dict[str, list[str]]) -> dict[str, Any]:
    """The parser's whole help text, and its options with every spelling that it accepts, also those that help hides."""
    flags: dict[argparse.Action, list[str]] = {}
    for name, action in parser._option_string_actions.items():
        flags.setdefault(action, []).append(name)
    deprecated: set[argparse.Action] = getattr(parser, "_deprecated", set())
    options = [
        {
            "names": names,
            "default": shown(action.default),
            "choices": None if action.choices is None else [shown(each) for each in action.choices],
            "listed": shown(action.metavar) if isinstance(action.metavar, list) else None,
            "refused": refused(parser, action, [v for name in names for v in values.get(name, ())]),
            "open": not refused(parser, action, [NONSENSE]),
            "deprecated": bool(getattr(action, "deprecated", False))
            or action in deprecated
            or "Deprecated" in type(action).__name__,
            "help": "" if action.help is argparse.SUPPRESS else str(action.help or ""),
        }
        for action, names in flags.items()
    ]
    os.environ["COLUMNS"] = "200"
    return {"help": argparse.ArgumentParser.format_help(parser), "options": options}


def serve(engine: str, folder: Path) -> None:
    """`vllm serve --help` as the release's own program answers it."""
    programs = ("vllm/entrypoints/cli/main.py", "vllm/scripts.py")
    program = next((each for each in programs if (folder / each).is_file()), None)
    if program is None:
        raise FileNotFoundError("this release has no `vllm serve`")
    sys.argv = ["vllm", "serve", "--help"]
    runpy.run_module(program.removesuffix(".py").replace("/", "."), run_name="__main__")


def api_server(engine: str, folder: Path) -> None:
    """The parser of `python -m vllm.entrypoints.openai.api_server`, from the function that makes it."""
    sys.argv = ["api_server.py", "--help"]
    written = sorted((folder / "vllm" / "entrypoints").rglob("cli_args.py"))
    path = next(each for each in written if "def make_arg_parser" in each.read_text("utf-8"))
    maker = importlib.import_module(".".join(path.relative_to(folder).with_suffix("").parts)).make_arg_parser
    try:
        parser = maker()
    except TypeError:  # from 0.5.1 on it is handed the parser
        apart = (folder / "vllm/utils/argparse_utils.py").is_file()
        utilities = importlib.import_module("vllm.utils.argparse_utils" if apart else "vllm.utils")
        parser = maker(utilities.FlexibleArgumentParser())
    raise Shown(parser)


def launch_server(engine: str, folder: Path) -> None:
    """`python -m sglang.launch_server --help`, `sglang serve --help`: both ask this function."""
    arguments = importlib.import_module("sglang.srt.server_args")
    if hasattr(arguments, "prepare_server_args"):
        arguments.prepare_server_args(["--help"])
    parser = argparse.ArgumentParser()
    arguments.ServerArgs.add_cli_args(parser)
    raise Shown(parser)


FORMS: dict[str, tuple[Callable[[str, Path], None], ...]] = {"vllm": (serve, api_server), "sglang": (launch_server,)}


def parser_of(form: Callable[[str, Path], None], engine: str, folder: Path) -> argparse.ArgumentParser:
    """The parser that a form of the serving command shows the help of."""

    def show(
        action: argparse.Action, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: Any = None
    ) -> None:
        raise Shown(parser)

    argparse._HelpAction.__call__ = show  # type: ignore[method-assign, assignment]
    try:
        form(engine, folder)
    except Shown as found:
        return found.parser
    raise RuntimeError(f"{form.__name__}: no help was shown")


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """Every form that the release has; a form that could not be built comes as its error."""
    engine, release, folder = arguments[0], arguments[1], Path(arguments[2])
    given = json.load(sys.stdin)
    sys.path.insert(0, str(folder))
    finder = Stubs(given["stubs"])
    sys.meta_path.append(finder)
    real = importlib.metadata.version
    # `+cpu` is what vLLM's builds without CUDA call themselves; without any platform 0.33 builds no parser.
    own = release + ("+cpu" if engine == "vllm" else "")

    def version(distribution_name: str) -> str:
        return own if distribution_name == engine else real(distribution_name)

    importlib.metadata.version = version
    found: dict[str, Any] = {}
    for form in FORMS[engine]:
        try:
            found[form.__name__] = described(parser_of(form, engine, folder), given["values"])
        except Exception as error:  # noqa: BLE001  # the engine's own code may fail in any way; the report names it
            found[form.__name__] = {"error": f"{type(error).__name__}: {error}"}
    return {"forms": found, "stubbed": sorted(finder.used)}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        result = main(sys.argv[1:])
    sys.stdout.write(json.dumps(result))
    sys.stdout.flush()
    os._exit(0)  # engines leave threads behind
