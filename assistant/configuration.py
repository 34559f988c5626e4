"""A serving command as facts that checklists ask about: sizes and switches as given, else as the release has them by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assistant.serving import Setting, number_of, serving_calls, settings_of
from probes.types import ProbeResult

FAILING = frozenset({"removed", "renamed", "never", "not-yet", "refused"})
IDLE = frozenset({"deprecated", "no-op"})
SIZES = {
    "tensor_parallel": {"vllm": "--tensor-parallel-size", "sglang": "--tp-size"},
    "pipeline_parallel": {"vllm": "--pipeline-parallel-size", "sglang": "--pp-size"},
    "data_parallel": {"vllm": "--data-parallel-size", "sglang": "--dp-size"},
    "memory_share": {"vllm": "--gpu-memory-utilization", "sglang": "--mem-fraction-static"},
    "max_model_len": {"vllm": "--max-model-len", "sglang": "--context-length"},
    "max_num_seqs": {"vllm": "--max-num-seqs", "sglang": "--max-running-requests"},
}
SWITCHES = {
    "prefix_caching": {"vllm": "--enable-prefix-caching", "sglang": "--disable-radix-cache"},
    "chunked_prefill": {"vllm": "--enable-chunked-prefill"},
    "eager": {"vllm": "--enforce-eager", "sglang": "--disable-cuda-graph"},
}
INVERTED = frozenset({"--disable-radix-cache"})
NAMES = frozenset({*SIZES, *SWITCHES, "engine", "release", "parallel_gpus", "flags_refused", "flags_idle"})
"""Every name that `configuration_facts` may give."""


def serving_command(given: str, results: Sequence[ProbeResult]) -> str:
    """The command to judge: the one given, else that of the first server that runs here; empty for none."""
    if given.strip():
        return given
    servers = next((r.data.get("servers") for r in results if r.probe == "engine_processes"), None) or []
    return next((str(server.get("command", "")) for server in servers if server.get("command")), "")


def configuration_facts(command: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a command means under the installed release, which is taken from its image's tag or from the probes' facts.

    Empty for a text that starts no server. What neither the command nor the record of flags tells is left out.
    """
    from kb.catalog.history import load
    from kb.flags import check_command, release_of

    calls = serving_calls(command, "")
    if not calls:
        return {}
    call = calls[0]
    engine = call.engine
    release = release_of(command) or str(facts.get(f"{engine}_version") or "")
    given = {setting.key: setting for setting in settings_of(load(engine), release, call)}
    found: dict[str, Any] = {"engine": engine, **_sizes(engine, release, given), **_switches(engine, release, given)}
    if release:
        statuses = [item.status for item in check_command(command, engine, release)]
        found["release"] = release
        if "unknown-release" not in statuses:
            found["flags_refused"] = sum(status in FAILING for status in statuses)
            found["flags_idle"] = sum(status in IDLE for status in statuses)
    return found


def _sizes(engine: str, release: str, given: Mapping[str, Setting]) -> dict[str, Any]:
    """Numbers; without a release only what the command itself says, and 1 for what is parallel."""
    found: dict[str, Any] = {}
    for name, flags in SIZES.items():
        value = _number(given, flags[engine], _default(engine, release, flags[engine]))
        if value is None and name.endswith("_parallel"):
            value = 1
        if value is not None:
            found[name] = value
    data_parallel = 1 if "--dp-attention" in given else found["data_parallel"]
    found["parallel_gpus"] = found["tensor_parallel"] * found["pipeline_parallel"] * data_parallel
    return found


def _switches(engine: str, release: str, given: Mapping[str, Setting]) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for name, flags in SWITCHES.items():
        value = _switch(engine, release, given, flags[engine]) if engine in flags else None
        if value is not None:
            found[name] = value
    if engine == "sglang":
        size = _number(given, "--chunked-prefill-size", None)
        found["chunked_prefill"] = size is None or size > 0
    return found


def _number(given: Mapping[str, Setting], flag: str, default: str | None) -> int | float | None:
    """A size as it was given, else the default; None where neither is a number. `-1` is a number here."""
    setting = given.get(flag)
    text = setting.value if setting else default or ""
    value = -1.0 if text == "-1" else number_of(text)
    return None if value is None else int(value) if value == int(value) else value


def _switch(engine: str, release: str, given: Mapping[str, Setting], flag: str) -> bool | None:
    """Whether a switch is on: as given, else by default (`on for models that support it` counts as on)."""
    stem = "--" + flag.removeprefix("--enable-").removeprefix("--disable-").removeprefix("--")
    setting = given.get(stem)
    if setting:
        return not setting.meaning[0] if flag in INVERTED or not flag.startswith("--disable-") else setting.meaning[0]
    default = _default(engine, release, flag)
    if default is None:
        return None
    on = default == "true" or default.startswith("on")
    return not on if flag in INVERTED else on


def _default(engine: str, release: str, flag: str) -> str | None:
    from kb.flags import default_of

    found = default_of(engine, release, flag) if release else None
    return found.value if found else None
