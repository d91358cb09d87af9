"""Learning curves: what a run logged, over one axis of steps, with its best epoch marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


@dataclass(frozen=True)
class Line:
    """One metric over the steps.

    Attributes:
        label: in the legend.
        points: (step, value) in order; a line without any isn't drawn, and isn't in the legend.
        colour: a number of matplotlib's cycle.
        fine: many values that vary much, drawn faintly.
    """

    label: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    fine: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over one axis.

    Attributes:
        quantity: what it measures.
        lines: in the legend's order.
        bounds: of the axis, where small differences aren't to look large.
    """

    quantity: str
    lines: Sequence[Line]
    bounds: tuple[float, float] | None = None


def draw_curves(title: str, charts: Sequence[Chart], best: tuple[float, str] | None = None) -> Figure:
    """Charts side by side over the same steps.

    Args:
        title: above all.
        charts: those without a point are left out.
        best: the step of the epoch that was chosen, and what to call it; None where there is none.
    """
    drawn = [chart for chart in charts if any(line.points for line in chart.lines)]
    figure = Figure(figsize=(max(5.2 * len(drawn), 5.2), 4.2), layout="constrained")
    figure.suptitle(title)
    if not drawn:
        figure.text(0.5, 0.5, "nothing was logged yet", ha="center", va="center")
        return figure
    axes = figure.subplots(1, len(drawn), sharex=True, squeeze=False)[0]
    for axis, chart in zip(axes, drawn, strict=True):
        for line in chart.lines:
            if not line.points:
                continue
            style = {"alpha": 0.3, "linewidth": 0.8} if line.fine else {"marker": "o", "markersize": 3}
            axis.plot(*zip(*line.points, strict=True), color=f"C{line.colour}", label=line.label, **style)
        if best is not None:
            axis.axvline(best[0], color="0.35", linestyle="--", linewidth=1, label=best[1])
        if chart.bounds is not None:
            axis.set_ylim(*chart.bounds)
        axis.set_xlim(left=0)
        axis.set_xlabel("step")
        axis.set_ylabel(chart.quantity)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    return figure
