"""Small plots of the last minutes as SVG: no script, both themes, read aloud by their labels."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 300, 64
COLOURS = 8


@dataclass(frozen=True, slots=True)
class Series:
    """A line: its name, and its points as (seconds, value), oldest first."""

    name: str
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        return self.points[-1][1]


def plot(title: str, series: Sequence[Series], form: str, upper: float | None = None) -> str:
    """Lines over a common time, from 0 to `upper` or the highest value; `form` writes a value (`{:.0%}`)."""
    times = [t for line in series for t, _ in line.points]
    highest = upper or max((v for line in series for _, v in line.points), default=0.0) or 1.0
    start, span = min(times), max(max(times) - min(times), 1.0)
    lines = [draw(line, place % COLOURS, start, span, highest) for place, line in enumerate(series)]
    said = [f"{line.name} {form.format(line.last)}".strip() for line in series]
    key = "".join(f'<span class="s{i % COLOURS}">{html.escape(text)}</span>' for i, text in enumerate(said))
    label = html.escape(f"{title}: {', '.join(said)}", quote=True)
    return (
        f'<figure class="plot"><figcaption><b>{html.escape(title)}</b> {key}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{label}">{"".join(lines)}</svg>'
        f"</figure>"
    )


def draw(line: Series, colour: int, start: float, span: float, highest: float) -> str:
    """One line; a single point is drawn across, so that it can be seen."""
    at = [
        (WIDTH * (t - start) / span, HEIGHT - 2 - (HEIGHT - 4) * min(max(v / highest, 0.0), 1.0))
        for t, v in line.points
    ]
    if len(at) == 1:
        at = [(0.0, at[0][1]), (float(WIDTH), at[0][1])]
    return f'<polyline class="s{colour}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at)}"/>'
