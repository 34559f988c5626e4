"""The report of an evaluation: one HTML file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.gate import Comparison
from evals.metrics import by_group, confusion, rates, reliability
from evals.results import all_rates, answered, failure_kinds, failures, plain_figures, render_gate, wanted
from evals.run import Result
from evals.scoring import Score
from evals.split import family_of, family_of_document
from kb.errors import InputError

TEMPLATE = Path(__file__).parent / "report.html.j2"


def write_report(path: Path, result: Result, gate: Comparison | None = None) -> None:
    """Write the report; raises InputError where it cannot be written, or where the plots' packages are not installed."""
    text = render_report(result, gate)
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise InputError(f"cannot write the report {path}: {error.strerror}.") from error


def render_report(result: Result, gate: Comparison | None = None) -> str:
    """The report as HTML; everything that cases and answers say is escaped."""
    try:
        import jinja2
    except ImportError as error:
        raise InputError("the report needs two more packages: pip install 'crashcart[report]'.") from error
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text("utf-8"))
    scores = result.scores
    return template.render(
        result=result,
        rates=all_rates(scores),
        figures=plain_figures(result),
        groups={
            name: {key: rates(found) for key, found in groups.items()} for name, groups in by_group(scores).items()
        },
        baselines={name: all_rates(found) for name, found in {"everything": scores, **result.baselines}.items()},
        failures=[failure_row(s) for s in failures(scores)],
        gate=render_gate(gate) if gate else [],
        plots=plots(scores),
    )


def plots(scores: Sequence[Score]) -> dict[str, str]:
    """Each plot under its heading; raises InputError where matplotlib is not installed."""
    try:
        from evals.plots import confusion_plot, rates_plot, reliability_plot

        families = {key: rates(found)["right at 1"] for key, found in by_group(scores)["family"].items()}
        drawn = {
            "How far the confidence can be trusted": reliability_plot(reliability(scores)),
            "Families mixed up": confusion_plot(confusion(scores, family_of_document)),
            "Right at 1 by family": rates_plot(families, "right at 1, with the number of cases", "families"),
        }
    except ImportError as error:
        raise InputError("the report needs two more packages: pip install 'crashcart[report]'.") from error
    return {heading: plot for heading, plot in drawn.items() if plot}


def failure_row(item: Score) -> dict[str, str]:
    """A failure as the table shows it."""
    return {
        "id": item.case.id,
        "family": family_of(item.case),
        "kinds": ", ".join(name for name, held in failure_kinds(item).items() if held),
        "question": item.telling.case.question,
        "wanted": wanted(item),
        "answered": answered(item),
        "why": item.why,
    }
