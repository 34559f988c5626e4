"""The memory arithmetic against what vLLM and SGLang printed in public reports: `python -m evals.benchmarks.sizing [--json]`.

Three questions a report, each where it has the numbers: are the bytes a token right; are the tokens right, given what the log says is left
for the cache; and what comes out from nothing but the GPU's memory and the flags. Errors are (ours − printed) / printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from kb.sizing.architecture import read_architecture
from kb.sizing.cache import pool_shape, request_bytes
from kb.sizing.plan import cache_for, plan
from kb.sizing.setup import GIB, Setup
from kb.sizing.tables import known_model

REPORTS = Path(__file__).parent.parent / "sizing.yaml"
ROUNDED_GIB = 0.006
"""Logs round GiB to a hundredth: a difference within this is none."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One report. Errors are ratios, None where the report does not tell; `exact` is whether bytes a token agree within rounding."""

    source: str
    model: str
    engine: str
    release: str
    exact: bool | None
    tokens: tuple[float, float] | None
    tokens_error: float | None
    concurrency_error: float | None
    weights_error: float | None
    blind: tuple[float, float] | None
    blind_error: float | None
    fitted: bool = False
    remark: str = ""


def load_reports(path: Path = REPORTS) -> list[dict[str, Any]]:
    """The reports, as the file has them."""
    reports: list[dict[str, Any]] = yaml.safe_load(path.read_text("utf-8"))
    return reports


def compare(report: dict[str, Any]) -> Compared:
    """Ours against one report. Raises KeyError for a model that the shipped table lacks."""
    known = known_model(report["model"])
    if known is None:
        raise KeyError(report["model"])
    printed = report["printed"]
    gib = report.get("gpu_gib")
    setup = Setup(
        gpu_name=report.get("gpu", ""),
        gpu_memory_bytes=int(gib * GIB) if gib else None,
        free_bytes=int(report["free_gib"] * GIB) if "free_gib" in report else None,
        **{**report["setup"], "release": str(report["setup"].get("release", ""))},
    )
    setup = replace(setup, gpus=setup.split.tensor * setup.pipeline)
    told = told_bytes(known.config, setup, printed)
    given = plan(known.config, replace(setup, available_bytes=told)) if told is not None else None
    blind = plan(known.config, setup) if gib else None
    tokens = printed.get("tokens")
    ours = given.value("kv_tokens") if given and tokens and "available_gib" in printed else None
    concurrency = given.value("max_concurrency") if given and "concurrency" in printed else None
    estimate, real = against(blind, printed)
    weights = plan(known.config, setup).value("weights_bytes_per_gpu")
    return Compared(
        report["source"],
        report["model"],
        setup.engine,
        setup.release,
        is_exact(known.config, setup, printed),
        (ours, tokens) if ours is not None else None,
        error(ours, tokens),
        error(concurrency, printed.get("concurrency")),
        error(weights / GIB if weights is not None else None, printed.get("weights_gib")),
        (estimate, real) if estimate is not None and real is not None else None,
        error(estimate, real),
        bool(report.get("fitted")),
        printed.get("remark", ""),
    )


def told_bytes(config: dict[str, Any], setup: Setup, printed: dict[str, Any]) -> int | None:
    """What the report says is left for the cache, in bytes; of a mixed model that prints only tokens, the pool they take."""
    if "available_gib" in printed:
        return int(printed["available_gib"] * GIB)
    cache = cache_for(read_architecture(config), setup)
    if "tokens" in printed and len(cache.groups) > 1:
        size, rows = pool_shape(cache.groups)
        return int(printed["tokens"] * rows * size * cache.layer_bytes)
    return None


def against(blind: Any, printed: dict[str, Any]) -> tuple[float | None, float | None]:
    """What comes out of the GPU's memory alone, and what was printed for it: tokens, else GiB left for the cache."""
    if blind is None:
        return None, None
    if "tokens" in printed:
        return blind.value("kv_tokens"), printed["tokens"]
    available = blind.value("kv_available_bytes_per_gpu")
    return (available / GIB if available is not None else None), printed.get("available_gib")


def is_exact(config: dict[str, Any], setup: Setup, printed: dict[str, Any]) -> bool | None:
    """Whether the bytes a token are those of the report: by the GiB that a request of a length needs, else by the pool's tokens.

    The pool has whole blocks in every layer, so up to one block of every layer may be left over. None where it tells neither.
    """
    cache = cache_for(read_architecture(config), setup)
    if "needed_gib" in printed:
        return bool(abs(request_bytes(cache, printed["needed_length"]) / GIB - printed["needed_gib"]) < ROUNDED_GIB)
    if "tokens" not in printed or "available_gib" not in printed or "remark" in printed or len(cache.groups) > 1:
        return None
    rounded = printed.get("rounded_gib", ROUNDED_GIB)
    spare = cache.token_bytes * cache.block / GIB
    left = printed["available_gib"] - printed["tokens"] * cache.token_bytes / GIB
    return bool(-rounded < left < spare + rounded)


def error(ours: float | None, printed: float | None) -> float | None:
    """The relative error; None where one of both is not known or nothing was printed to compare with."""
    return None if ours is None or not printed else (ours - printed) / abs(printed)


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:+.1%}"


def median(values: Sequence[float | None]) -> tuple[float, int]:
    """The median of the errors' sizes, and how many there are."""
    sizes = [abs(value) for value in values if value is not None]
    return (statistics.median(sizes) if sizes else float("nan")), len(sizes)


def render(rows: Sequence[Compared]) -> str:
    """A row a report, then the medians."""
    lines = [
        f"{'model':46}{'engine':15}{'bytes':>6}{'tokens':>9}{'at once':>9}{'weights':>9}{'blind':>9}  ours / printed"
    ]
    for row in rows:
        exact = {True: "exact", False: "off", None: ""}[row.exact]
        pair = row.blind or row.tokens
        numbers = f"{pair[0]:,.10g} / {pair[1]:,.10g}" if pair else ""
        cells = (row.tokens_error, row.concurrency_error, row.weights_error, row.blind_error)
        engine = f"{row.engine} {row.release}"
        lines.append(
            f"{row.model[:45]:46}{engine:15}{exact:>6}" + "".join(f"{percent(c):>9}" for c in cells) + f"  {numbers}"
        )
    lines += [f"    {row.model}: {row.remark}" for row in rows if row.remark]
    told = [row.exact for row in rows if row.exact is not None]
    lines += [
        "",
        f"{len(rows)} reports from {len({row.source for row in rows})} places; bytes a token exact in {sum(told)} of {len(told)}",
    ]
    for name, errors in (
        ("tokens, given what is left for the cache", [row.tokens_error for row in rows]),
        ("requests at once, likewise", [row.concurrency_error for row in rows]),
        ("weights a GPU", [row.weights_error for row in rows]),
        ("tokens or GiB, from the GPU's memory alone", [row.blind_error for row in rows]),
        ("the same, of reports that nothing was fitted to", [row.blind_error for row in rows if not row.fitted]),
    ):
        middle, count = median(errors)
        worst = max((abs(e) for e in errors if e is not None), default=0.0)
        lines.append(f"median error of {name}: {middle:.2%} over {count}, worst {worst:.1%}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, default=REPORTS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [compare(report) for report in load_reports(given.reports)]
    print(json.dumps([asdict(row) for row in rows], indent=2) if given.json else render(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
