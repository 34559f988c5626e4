"""The plots of an evaluation's report, each an SVG element as text: matplotlib's one home."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evals.metrics import Bin, Rate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, GREY, RED = "#2f6db5", "#9aa4b0", "#c0392b"
MOST_FAMILIES = 24


def svg(figure: Figure, salt: str) -> str:
    """The figure as an `<svg>` element; `salt` keeps its ids apart from those of other plots on the page."""
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "text.parse_math": False}):
        figure.savefig(file, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """A figure that no window and no global state knows."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_inches, height_inches))


def reliability_plot(bins: Sequence[Bin]) -> str:
    """Share right against confidence: on the diagonal a confidence means what it says."""
    figure = new_figure(4.6, 4.2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
    axes.plot([b.confidence for b in bins], [b.right for b in bins], color=BLUE, linewidth=1)
    most = max((b.count for b in bins), default=1)
    axes.scatter([b.confidence for b in bins], [b.right for b in bins], [20 + 160 * b.count / most for b in bins], BLUE)
    for b in bins:
        axes.annotate(str(b.count), (b.confidence, b.right), textcoords="offset points", xytext=(8, -10), fontsize=8)
    axes.set(xlim=(0, 1.02), ylim=(-0.03, 1.05), xlabel="confidence said", ylabel="share right at 1")
    return svg(figure, "reliability")


def rates_plot(found: Mapping[str, Rate], label: str, salt: str) -> str:
    """A horizontal bar a name, with its 95 % interval and its number of cases."""
    names = list(found)[::-1]
    shares = [found[n].share for n in names]
    around = [[s - found[n].low for n, s in zip(names, shares, strict=True)]]
    around.append([found[n].high - s for n, s in zip(names, shares, strict=True)])
    figure = new_figure(7.5, 0.6 + 0.24 * len(names))
    axes = figure.add_subplot()
    axes.barh(names, shares, color=[BLUE if s >= 0.9 else GREY if s >= 0.6 else RED for s in shares], height=0.7)
    axes.errorbar(
        shares, names, xerr=[[max(0.0, x) for x in side] for side in around], fmt="none", ecolor="#333", lw=0.8
    )
    for name in names:
        axes.annotate(str(found[name].total), (1.01, name), va="center", fontsize=8, annotation_clip=False)
    axes.set(xlim=(0, 1), xlabel=label)
    axes.tick_params(axis="y", labelsize=8)
    axes.margins(y=0.01)
    return svg(figure, salt)


def confusion_plot(found: Mapping[tuple[str, str], int]) -> str:
    """Families mixed up: expected down, answered across. Only families with a wrong answer, those with most first."""
    wrong = {pair: n for pair, n in found.items() if pair[0] != pair[1]}
    weight: dict[str, int] = {}
    for pair, n in wrong.items():
        for name in pair:
            weight[name] = weight.get(name, 0) + n
    names = sorted(sorted(weight, key=lambda name: -weight[name])[:MOST_FAMILIES])
    rows = [name for name in names if any(pair[0] == name for pair in found)]
    if not rows:
        return ""
    figure = new_figure(1.8 + 0.34 * len(names), 1.8 + 0.3 * len(rows))
    axes = figure.add_subplot()
    table = [[found.get((row, name), 0) for name in names] for row in rows]
    axes.pcolormesh(range(len(names)), range(len(rows)), table, cmap="Blues", vmin=0, shading="nearest")
    axes.invert_yaxis()
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    middle = max(map(max, table)) / 2
    for y, row in enumerate(table):
        for x, n in enumerate(row):
            if n:
                axes.text(x, y, str(n), ha="center", va="center", fontsize=8, color="white" if n > middle else "black")
    axes.set(xlabel="answered", ylabel="expected")
    return svg(figure, "confusion")
