"""How well the recorded flag catalogue agrees with what the releases' own parsers say when they are run.

    python -m evals.benchmarks.own_help vllm==0.33.0 sglang==0.5.23 --python ENV/bin/python --folder DIR

DIR/ENGINE/RELEASE holds the unpacked package of each release: `pip download --no-deps vllm==0.33.0`, then unzip. ENV has
what importing it asks for, no GPU and no CUDA: `python -m venv ENV`, then `ENV/bin/pip install` of a CPU build of torch first, and
after it transformers and the other requirements of the release's METADATA. What is compiled (triton, sgl_kernel, vllm._C) is
replaced by empty modules where it is missing, which are named. One environment serves many releases; `--path` puts another
version of a package, such as transformers, in front of the environment's.

For each release the engine's own program is asked for its help: `vllm serve --help` and the parser of
`python -m vllm.entrypoints.openai.api_server`, or `sglang serve --help`. Compared with the record are the names in the help text
and those that the parser takes, defaults, choices and deprecations; every recorded value is also handed to the parser.
Exits 1 where a name differs, 2 where a release could not be run. What differs with a good reason is excused: a value under
REASONS, and a default of which the record says itself that only the running program knows it (`expr:`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kb.catalog.history import Entry, History, load
from kb.catalog.options import says_deprecated, shown
from kb.catalog.status import ALWAYS

CHILD = Path(__file__).with_name("own_parser.py")
COMPILED = ("torchvision", "torchaudio")
STUBS = {
    "vllm": ("vllm._C", "vllm._moe_C", "vllm._rocm_C", *COMPILED),
    "sglang": ("sgl_kernel", "flashinfer", "triton", *COMPILED),
}
"""vLLM and torch do without Triton where it is missing, and fail with an empty one; SGLang, and vLLM up to 0.5, import it."""
RELEASES = (
    *(f"vllm=={v}" for v in ("0.4.3", "0.6.3.post1", "0.8.5", "0.10.2", "0.14.1", "0.20.2", "0.26.0", "0.33.0")),
    *(f"sglang=={v}" for v in ("0.3.6", "0.4.6", "0.5.3", "0.5.9", "0.5.16", "0.5.23")),
)
REASONS = {
    ("vllm", "--mm-processor-device", "auto"): "the list ends with the machine's own device, so the record has none",
    ("vllm", "--mm-processor-device", "cpu"): "likewise",
    ("sglang", "--sampling-backend", "token_oracle"): "a choice only where SGLANG_KV_CANARY_ENABLE_TOKEN_ORACLE is set",
}


@dataclass(slots=True)
class Differences:
    """Of one release: `missing` names the record has not, `extra` ones only it has; the others are sentences by option."""

    help_names: int = 0
    names: int = 0
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    """Names that the parser takes and its help does not show."""
    choices: list[str] = field(default_factory=list)
    defaults: list[str] = field(default_factory=list)
    deprecated: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    """Differences that have a reason."""


def names_in(text: str) -> frozenset[str]:
    """The options that a help text lists: `  --model MODEL, -m MODEL` begins an entry."""
    entries = re.findall(r"(?m)^ {2}(-\S.*)$", text)
    found = (re.findall(r"(?:^|, )(--?[A-Za-z0-9][\w.-]*)", entry) for entry in entries)
    return frozenset(name for names in found for name in names)


def main_entry(history: History, at: int, names: Iterable[str]) -> Entry | None:
    """The recorded entry that holds default and choices of an option with these spellings."""
    known = [entry for name in names if (entry := history.entry(name)) and entry.is_in(at)]
    if not known:
        return None
    return history.entry(known[0].alias) if known[0].alias else known[0]


def recorded_values(history: History, at: int) -> dict[str, list[str]]:
    """The values that the record says each option accepts."""
    entries = {name: history.entry(name) for name in history.names(at)}
    lists = {name: entry.accepted(at) for name, entry in entries.items() if entry and not entry.alias}
    return {name: sorted(values - {"None"}) for name, values in lists.items() if values}


def compare(history: History, release: str, forms: Iterable[Mapping[str, Any]]) -> Differences:
    """What the record and the release's own parsers do not agree about; `forms` as own_parser.py describes each."""
    at = history.index(release)
    recorded = history.names(at)
    found = Differences()
    in_help: set[str] = set()
    options: dict[str, Mapping[str, Any]] = {}
    for form in forms:
        in_help |= names_in(form["help"])
        for option in form["options"]:
            for name in option["names"]:
                options.setdefault(name, option)
    found.help_names, found.names = len(in_help), len(options)
    found.missing = sorted((options.keys() | in_help) - recorded - {*ALWAYS})
    found.extra = sorted(recorded - options.keys())
    found.hidden = sorted(options.keys() - in_help)
    for option in {id(each): each for each in options.values()}.values():
        entry = main_entry(history, at, option["names"])
        if entry is not None:
            compare_option(history, at, entry, option, found)
    return found


def compare_option(history: History, at: int, entry: Entry, option: Mapping[str, Any], found: Differences) -> None:
    """Default, deprecation and choices of one option."""
    default, recorded = shown(option["default"]), entry.default(at)
    if default != recorded:
        place = found.excused if is_open(recorded) else found.defaults
        place.append(f"{entry.name}: default {default}, recorded {recorded}")
    said = option["deprecated"] or says_deprecated(option["help"])
    if said != any(each.is_deprecated(at) for name in option["names"] if (each := history.entry(name))):
        found.deprecated.append(f"{entry.name}: {'deprecated' if said else 'not deprecated'}, recorded otherwise")
    accepted = entry.accepted(at)
    listed = option["choices"] if option["choices"] is not None else option["listed"]
    texts = {str(shown(each)) for each in listed or ()}
    theirs = {each for each in texts if each != "None" and "," not in each}
    ours = None if accepted is None else accepted - {"None"}
    wrong = {*option["refused"]} | (theirs ^ (ours or set()) if theirs else set())
    for value in sorted(wrong):
        reason = REASONS.get((history.engine, entry.name, value))
        place = found.excused if reason else found.choices
        place.append(f"{entry.name} {value}: {reason or ('not recorded' if value not in (ours or ()) else 'refused')}")


def is_open(recorded: str | None) -> bool:
    """Whether the record says itself that only the running program knows: a variable or the machine decides."""
    return (recorded or "").startswith("expr:")


def ask(
    python: str, engine: str, release: str, folder: Path, in_front: str = "", more: Iterable[str] = ()
) -> dict[str, Any]:
    """What own_parser.py prints for a release. Raises RuntimeError with the last line of what it complains about."""
    history = load(engine)
    given = json.dumps({"stubs": [*STUBS[engine], *more], "values": recorded_values(history, history.index(release))})
    quiet = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(
        [python, str(CHILD), engine, release, str(folder.absolute())],
        input=given,
        capture_output=True,
        text=True,
        env={**os.environ, **quiet, "PYTHONPATH": in_front},
    )
    if done.returncode or not done.stdout:
        raise RuntimeError(next(iter(reversed(done.stderr.strip().splitlines())), f"exit status {done.returncode}"))
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def report(requirement: str, answer: Mapping[str, Any], verbose: bool) -> int:
    """Print the row of a release, and its differences; returns 0, 1 where a name differs, 2 where nothing could be run."""
    engine, _, release = requirement.partition("==")
    errors = {name: form["error"] for name, form in answer["forms"].items() if "error" in form}
    forms = [form for form in answer["forms"].values() if "error" not in form]
    if not forms:
        print(f"{requirement:20} could not be run: {'; '.join(errors.values())}")
        return 2
    found = compare(load(engine), release, forms)
    counts = [found.help_names, found.names, len(found.hidden), len(found.missing), len(found.extra)]
    counts += [len(found.choices), len(found.defaults), len(found.deprecated), len(found.excused)]
    print(f"{requirement:20}", *(f"{each:8}" for each in counts), " ", ", ".join(answer["stubbed"]) or "-")
    for name, error in errors.items():
        print(f"    {name} could not be run: {error}")
    lists = {"missing": found.missing, "extra": found.extra}
    for what, names in lists.items():
        if names:
            print(f"    {what}: {' '.join(names)}")
    for line in [*found.choices, *found.defaults, *found.deprecated, *(found.excused if verbose else ())]:
        print(f"    {line}")
    return 1 if found.missing or found.extra else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("releases", nargs="*", default=RELEASES, metavar="ENGINE==RELEASE")
    parser.add_argument("--python", required=True, help="the interpreter of the environment")
    parser.add_argument("--folder", type=Path, required=True, help="DIR/ENGINE/RELEASE holds each unpacked release")
    parser.add_argument("--path", default="", help="folders to import from before the environment's, as PYTHONPATH")
    parser.add_argument("--stub", action="append", default=[], help="one more module to replace where it is missing")
    parser.add_argument("--verbose", action="store_true", help="name the differences that have a reason, too")
    given = parser.parse_args()
    columns = ("in help", "names", "hidden", "missing", "extra", "choices", "defaults", "deprec.", "excused")
    print(f"{'release':20}", *(f"{each:>8}" for each in columns), "  replaced by empty modules")
    worst = 0
    for requirement in given.releases:
        engine, _, release = requirement.partition("==")
        try:
            answer = ask(given.python, engine, release, given.folder / engine / release, given.path, given.stub)
        except RuntimeError as error:
            answer = {"forms": {"all": {"error": str(error)}}, "stubbed": []}
        worst = max(worst, report(requirement, answer, given.verbose))
    return worst


if __name__ == "__main__":
    sys.exit(main())
