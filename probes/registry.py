"""Finds the probes, runs them side by side under one deadline, and replays recorded ones."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import Any, get_args

import probes
from kb.errors import InputError
from probes.judging import GRAVITY
from probes.types import ProbeResult, Status, Target

NOT_PROBES = frozenset({"judging", "registry", "types"})
STATUSES: tuple[str, ...] = get_args(Status)
DEADLINE_SECONDS = 10.0

OnResult = Callable[[ProbeResult], object]


class UnknownProbe(InputError):
    """No probe has this name."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A named way to look at the machine. `passive`: puts no load on a server, so that `checkup` may run it unasked."""

    name: str
    description: str
    passive: bool
    look: Callable[[Target], ProbeResult]

    def __call__(self, target: Target) -> ProbeResult:
        return self.look(target)

    @property
    def title(self) -> str:
        """The first sentence of the description."""
        return " ".join(self.description.split()).partition(". ")[0].rstrip(".")


def probe(*, passive: bool = True) -> Callable[[Callable[[Target], ProbeResult]], Probe]:
    """Make a probe of the one function of a module that bears the module's name; its docstring is the description."""

    def decorate(look: Callable[[Target], ProbeResult]) -> Probe:
        name = look.__module__.rpartition(".")[2]
        if look.__name__ != name:
            raise TypeError(f"The probe in {look.__module__} must be called {name}, not {look.__name__}.")
        return Probe(name, (look.__doc__ or "").strip(), passive, look)

    return decorate


def probe_names() -> tuple[str, ...]:
    """Name every probe there is, without importing any."""
    files = {name for folder in probes.__path__ for name in os.listdir(folder)}
    names = {name.removesuffix(".py") for name in files if name.endswith(".py") and not name.startswith("_")}
    return tuple(sorted(names - NOT_PROBES))


def load_probe(name: str) -> Probe:
    """Import one probe. Raises UnknownProbe for a name that no file bears."""
    check_names((name,))
    found = getattr(import_module(f"probes.{name}"), name)
    if not isinstance(found, Probe):
        raise TypeError(f"probes/{name}.py has no @probe() function called {name}.")
    return found


def load_probes() -> tuple[Probe, ...]:
    """Import every probe."""
    return tuple(load_probe(name) for name in probe_names())


def probe_descriptions() -> dict[str, str]:
    """Give the first sentence of every probe's description by its name."""
    return {found.name: found.title for found in load_probes()}


def check_names(names: Iterable[str]) -> None:
    """Raise UnknownProbe, with the names that there are, for the first name that is none of them."""
    known = probe_names()
    for name in names:
        if name not in known:
            raise UnknownProbe(f"There is no probe {name!r}; the probes are {', '.join(known)}.")


def run_probe(name: str, target: Target, deadline_seconds: float = DEADLINE_SECONDS) -> ProbeResult:
    """Run one probe; like run_probes, it never raises for what a probe does."""
    return run_probes((name,), target, deadline_seconds)[0]


def run_probes(
    names: Iterable[str],
    target: Target,
    deadline_seconds: float = DEADLINE_SECONDS,
    on_result: OnResult | None = None,
) -> list[ProbeResult]:
    """Run probes side by side and give their results in the order asked, after at most `deadline_seconds`.

    `on_result` is called in this thread as each comes in. A probe that is late or crashes is `unknown`. Late threads
    are left behind as daemons, so that they hold up neither the answer nor the end of the program.
    Raises UnknownProbe before anything runs.
    """
    asked = tuple(dict.fromkeys(names))
    check_names(asked)
    finished: SimpleQueue[ProbeResult] = SimpleQueue()
    started = time.monotonic()
    for name in asked:
        threading.Thread(target=_look, args=(name, target, finished), name=f"probe {name}", daemon=True).start()
    results: dict[str, ProbeResult] = {}
    while len(results) < len(asked):
        try:
            result = finished.get(timeout=max(0.0, started + deadline_seconds - time.monotonic()))
        except Empty:
            break
        results[result.probe] = result
        if on_result:
            on_result(result)
    for name in asked:
        if name not in results:
            results[name] = _late(name, deadline_seconds)
            if on_result:
                on_result(results[name])
    return [results[name] for name in asked]


def checkup(
    target: Target, deadline_seconds: float = DEADLINE_SECONDS, on_result: OnResult | None = None
) -> list[ProbeResult]:
    """Run every passive probe, then, where the target allows it, the active ones, whose load the others shall not see."""
    started = time.monotonic()
    names = checkup_names(target)
    calm = [name for name in names if _is_passive(name)]
    results = run_probes(calm, target, deadline_seconds, on_result)
    left = max(0.0, started + deadline_seconds - time.monotonic())
    return results + run_probes((name for name in names if name not in calm), target, left, on_result)


def checkup_names(target: Target) -> tuple[str, ...]:
    """Name the probes that a checkup of this target runs."""
    return tuple(name for name in probe_names() if target.active or _is_passive(name))


def worst_status(results: Iterable[ProbeResult]) -> Status:
    """Give the status of many results: the worst that one has; `unknown` where there are none."""
    seen = {result.status for result in results}
    return next((status for status in GRAVITY if status in seen), "unknown")


def facts_of(results: Iterable[ProbeResult]) -> dict[str, Any]:
    """Gather the facts of many results under their names."""
    return {name: value for result in results for name, value in result.facts.items()}


def record(results: Iterable[ProbeResult]) -> dict[str, dict[str, Any]]:
    """Turn results into the recorded host that `checkup --json` prints: JSON values by probe name. `replay` reads it."""
    return {result.probe: to_json(result) for result in results}


def to_json(result: ProbeResult) -> dict[str, Any]:
    """Turn a result into JSON values; `from_json` gives back an equal result."""
    return {**asdict(result), "advice": list(result.advice), "advice_zh": list(result.advice_zh)}


def from_json(name: str, recorded: Any) -> ProbeResult:
    """Read one recorded result. What is missing or of another form is left empty, and without a status it is `unknown`.

    Text is masked again: a recording may have been written by hand or by something else.
    """
    if not isinstance(recorded, Mapping):
        recorded = {"summary": str(recorded)}
    status = recorded.get("status")
    result = ProbeResult(
        probe=name,
        status=status if status in STATUSES else "unknown",
        summary=str(recorded.get("summary") or ""),
        summary_zh=str(recorded.get("summary_zh") or ""),
        facts=_mapping(recorded.get("facts")),
        data=_mapping(recorded.get("data")),
        source=str(recorded.get("source") or ""),
        seconds=_number(recorded.get("seconds")),
        advice=_texts(recorded.get("advice")),
        advice_zh=_texts(recorded.get("advice_zh")),
    )
    return masked(result)


def replay(host_json: Mapping[str, Any]) -> dict[str, ProbeResult]:
    """Read a recorded host: results by probe name. Raises InputError for something else."""
    if not isinstance(host_json, Mapping):
        raise InputError(
            "A recorded host is a JSON object of probe results by name, as `crashcart checkup --json` prints."
        )
    recorded = host_json.get("probes", host_json)
    if isinstance(recorded, list):
        recorded = {item.get("probe", ""): item for item in recorded if isinstance(item, Mapping)}
    if not isinstance(recorded, Mapping):
        raise InputError("The `probes` of a recorded host must be results by probe name.")
    return {name: from_json(name, result) for name, result in recorded.items()}


def masked(result: ProbeResult) -> ProbeResult:
    """Mask every text of a result. All results pass here, so a new probe cannot forget it."""
    from probes.reading.mask import mask_values

    values = {name: mask_values(getattr(result, name)) for name in ("summary", "summary_zh", "facts", "data", "source")}
    return replace(
        result, **values, advice=_texts(mask_values(result.advice)), advice_zh=_texts(mask_values(result.advice_zh))
    )


def _look(name: str, target: Target, finished: SimpleQueue[ProbeResult]) -> None:
    started = time.monotonic()
    try:
        result = masked(load_probe(name)(target))
    except Exception as error:  # noqa: BLE001 - the one broad except: whatever a probe does becomes a line of the report
        result = _crashed(name, error)
    finished.put(replace(result, probe=name, seconds=round(time.monotonic() - started, 4)))


def _crashed(name: str, error: Exception) -> ProbeResult:
    from probes.reading.mask import mask

    what = mask(f"{type(error).__name__}: {error}"[:300])
    return ProbeResult(
        name,
        "unknown",
        f"The probe {name} crashed and read nothing ({what}).",
        f"探针 {name} 崩溃，什么也没读到（{what}）。",
        advice=("Report this as a bug of Crashcart with the output of `crashcart report`.",),
        advice_zh=("这是 Crashcart 的缺陷，请附上 `crashcart report` 的输出提交。",),
    )


def _late(name: str, deadline_seconds: float) -> ProbeResult:
    return ProbeResult(
        name,
        "unknown",
        f"The probe {name} did not finish within {deadline_seconds:g} s.",
        f"探针 {name} 在 {deadline_seconds:g} 秒内没有完成。",
        seconds=deadline_seconds,
        advice=(f"Run `crashcart probe run {name}` with a longer deadline; a driver that hangs shows up like this.",),
        advice_zh=(f"用更长的时限运行 `crashcart probe run {name}`；驱动卡死时就是这种表现。",),
    )


def _is_passive(name: str) -> bool:
    """Tell whether a probe may run unasked; one whose module cannot be imported is run, to be reported as crashed."""
    try:
        return load_probe(name).passive
    except (ImportError, SyntaxError, AttributeError, TypeError):
        return True


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else ()


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
