"""Runs as points: what they reached against what their networks cost, and the line that no run is above."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

TICKS = 6
NAMED, NAME = 6, 18
"""Up to so many runs are named at their points, in so many characters."""
LISTED = 8
"""In a column of the legend, where there aren't too many columns."""
COLUMNS = 4
ACROSS = 200
"""So many characters fit beside each other there."""
NEAR = (0.12, 0.045)
"""Points that are nearer than these parts of the panel's width and height share a label."""


@dataclass(frozen=True)
class Point:
    """A run on every axis of cost.

    Attributes:
        name: of the run.
        says: what the legend says of it.
        score: what it reached.
        costs: by the axis.
        hollow: its epoch was chosen on the images that it is scored on.
    """

    name: str
    says: str
    score: float
    costs: dict[str, float]
    hollow: bool = False


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, score) pairs that none of the others beats in both, from the cheapest on."""
    best: list[tuple[float, float]] = []
    for cost, score in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not best or score > best[-1][1]:
            best.append((cost, score))
    return best


def count(value: float) -> str:
    """A number in thousands, millions or billions: 1.5 M."""
    return _scaled(value, 1000, ("", "k", "M", "G", "T"))


def size(value: float) -> str:
    """A number of bytes: 36 KiB."""
    return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def _scaled(value: float, base: int, units: Sequence[str]) -> str:
    place = 0
    while abs(value) >= base * 0.9995 and place < len(units) - 1:
        value, place = value / base, place + 1
    return f"{value:.3g} {units[place]}".rstrip()


def draw(
    points: Sequence[Point],
    axes: Mapping[str, tuple[str, Callable[[float], str]]],
    score: str,
    notes: Sequence[str] = (),
) -> Figure:
    """A panel for each cost.

    Args:
        points: the runs.
        axes: by its key, what an axis is called and how its numbers are written.
        score: what the vertical axis is called.
        notes: under the panels, why these runs don't compare.
    """
    columns = min(-(-len(points) // LISTED), COLUMNS)
    rows = -(-(len(points) + 1) // columns) + len(notes)
    figure = Figure(figsize=(14, 4.4 + 0.22 * rows), layout="constrained")
    panels = figure.subplots(1, len(axes), sharey=True)
    low, high = min(point.score for point in points), max(point.score for point in points)
    room = max(0.15 * (high - low), 0.01)
    panels[0].set_ylim(low - room, high + 1.5 * room)
    for panel, (key, (heading, shown)) in zip(panels, axes.items(), strict=True):
        line = frontier([(point.costs[key], point.score) for point in points])
        if len(line) > 1:
            style = {"color": "0.6", "linewidth": 1, "zorder": 1, "label": "best for its cost"}
            panel.step(*zip(*line, strict=True), where="post", **style)
        for number, point in enumerate(points):
            colour = f"C{number % 10}"
            face = "none" if point.hollow else colour
            at = (point.costs[key], point.score)
            label = f"{number + 1}  {_cut(point.says, ACROSS // columns)}"
            panel.scatter(*at, s=50, facecolor=face, edgecolor=colour, zorder=2, label=label)
        _scale(panel, [point.costs[key] for point in points], shown)
        _name_points(panel, [(point.costs[key], point.score) for point in points], [point.name for point in points])
        panel.set_xlabel(heading)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(score)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize="small")
    if notes:
        figure.suptitle("\n".join(notes), fontsize=9, color="firebrick")
    return figure


def _cut(text: str, most: int) -> str:
    """A text without its middle where it is too long: a name begins it, and what the run reached ends it."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def _name_points(panel: Axes, places: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Labels at the points: names of a few runs, else their numbers in the legend. Points close together share one."""
    on_panel = (panel.transScale + panel.transLimits).transform(places)  # 0 to 1 both ways
    for group in _groups(on_panel.tolist()):
        if len(names) <= NAMED:
            short = {at: name if len(name := names[at]) <= NAME else f"{name[: NAME - 1]}…" for at in group}
            said = "\n".join(f"{at + 1} {short[at]}" for at in group)
        else:
            ranges = _ranges([at + 1 for at in group])
            said = ranges if len(ranges) <= NAME else f"{len(group)} of them"
        top = max(group, key=lambda at: places[at][1])
        # Towards the middle, where there is room.
        side, shift = ("right", -7) if on_panel[top][0] > 0.5 else ("left", 7)
        panel.annotate(said, places[top], (shift, 6), textcoords="offset points", fontsize=8, ha=side)


def _groups(places: Sequence[Sequence[float]]) -> list[list[int]]:
    """The indices of points whose labels would lie on each other: each is near another of its group."""
    left, groups = list(range(len(places))), []
    while left:
        group = [left.pop(0)]
        for member in group:  # grows while it is gone through
            near = [
                at for at in left if all(abs(places[at][axis] - places[member][axis]) < NEAR[axis] for axis in (0, 1))
            ]
            group += near
            left = [at for at in left if at not in near]
        groups.append(sorted(group))
    return groups


def _ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 5 as 1-3, 5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def _scale(panel: Axes, values: Sequence[float], shown: Callable[[float], str]) -> None:
    """A logarithmic axis with a few ticks that are told apart."""
    least, most = min(values), max(values)
    panel.set_xscale("log")
    reach = max((most / least) ** 0.12, 1.12)
    panel.set_xlim(least / reach, most * reach)
    if most / least < 10:  # hardly any round number is between them: the ticks are the values themselves
        ticks: list[float] = []
        for value in sorted(set(values)):
            if not ticks or value / ticks[-1] > (most / least * reach**2) ** 0.2:
                ticks.append(value)
        panel.set_xticks(ticks)
    else:
        powers = range(math.floor(math.log10(least / reach)), math.ceil(math.log10(most * reach)) + 1)
        round_ones = [digit * 10.0**power for power in powers for digit in (1, 3)]
        inside = [value for value in round_ones if least / reach <= value <= most * reach]
        panel.set_xticks(inside[:: -(-len(inside) // TICKS)])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
