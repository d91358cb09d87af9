"""Plots of a page, by Bokeh: each as the JSON that its script draws when it is first seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.embed import json_item
from bokeh.layouts import column
from bokeh.models import (
    AdaptiveTicker,
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    FactorRange,
    HoverTool,
    LabelSet,
    LinearColorMapper,
    NumeralTickFormatter,
)
from bokeh.plotting import figure

from sapool.report.colours import colours

if TYPE_CHECKING:
    from sapool.inspection.history import History
    from sapool.inspection.owners import Arena
    from sapool.study.table import StudyTable

_LINES = ("#1f77b4", "#e8710a", "#2a9d5c", "#b565c9", "#c0392b", "#7a7a7a")
"""Of curves: at least 3 to 1 on white and on the page's dark paper."""
_STAGES = ("#9db4c8", "#c3b59d")
"""Of buffers of nodes that are the backbone's own: one stage after the other."""
_TOOLS = "pan,wheel_zoom,box_zoom,reset"
_MOST_NAMES = 4
_QUIET = "#808a94"
"""Of words within plots: legible on white and on the page's dark paper."""
_IN_THOUSANDS = "return new Intl.NumberFormat('en', {notation: 'compact', maximumFractionDigits: 1}).format(tick)"
"""40M and 20K: Bokeh's own format writes millions as m."""


def arena_plot(arena: Arena, past: History, network: int) -> dict[str, Any]:
    """The bytes that are held over the steps, and under them the buffers where they lie in the arena.

    Args:
        arena: what is held when.
        past: the graphs of the network, whose last one's nodes own the buffers.
        network: its number on the page, which hears of buffers under the pointer.
    """
    timeline = _blank("bytes held", 150)
    steps = ColumnDataSource(
        {
            "step": np.arange(len(arena.steps)),
            "bytes": np.array([step.total for step in arena.steps]),
            "part": [step.part for step in arena.steps],
            "operation": [step.operation for step in arena.steps],
        }
    )
    line = timeline.step("step", "bytes", source=steps, mode="center", line_color=_LINES[0], line_width=1.5)
    says = [("step", "@step"), ("node", "@part"), ("operation", "@operation"), ("bytes", "@bytes{0,0}")]
    timeline.add_tools(HoverTool(renderers=[line], tooltips=says, mode="vline", line_policy="nearest"))
    lying = _blank("offset, bytes", 340, x_range=timeline.x_range)
    lying.xaxis.axis_label = "step"
    columns, palette = _rectangles(arena, past)
    source = ColumnDataSource(columns, name="buffers")
    shade = LinearColorMapper(palette=palette, low=-0.5, high=len(palette) - 0.5)
    look = {"left": "left", "right": "right", "bottom": "bottom", "top": "top", "source": source}
    boxes = lying.quad(
        **look, fill_color={"field": "colour", "transform": shade},
        line_color="#3a434d", line_width=0.5, line_alpha=0.5, fill_alpha=0.9,
        selection_fill_color="#d9480f", selection_fill_alpha=1.0, nonselection_fill_alpha=0.25,
        nonselection_line_alpha=0.4,
        hover_fill_color="#d9480f", hover_line_color="#d9480f",
    )  # fmt: skip
    says = [("nodes", "@nodes"), ("bytes", "@size{0,0}"), ("offset", "@bottom{0,0}")]
    heard = CustomJS(args={"network": network}, code="window.sapoolOver?.(network, cb_data.index.indices)")
    lying.add_tools(HoverTool(renderers=[boxes], tooltips=says, callback=heard))
    for plot in (timeline, lying):
        plot.yaxis.formatter = NumeralTickFormatter(format="0,0")
        plot.y_range.start = 0
    timeline.xaxis.visible = False
    return _item(column(timeline, lying, sizing_mode="stretch_width"))


def _rectangles(arena: Arena, past: History) -> tuple[dict[str, Any], list[str]]:
    """The columns of the buffers' table, and the colours that one of them numbers."""
    shades, owner = colours(past.rules), {node.name: node for node in past.after.nodes}
    stages = list(dict.fromkeys(node.stage for node in past.after.nodes))
    palette = [*_STAGES, *shades.values()]
    found = []
    for buffer in arena.buffers:
        nodes = [owner[name] for name in buffer.writers if name in owner]
        ruled = next((shades[node.rule] for node in nodes if node.rule in shades), None)
        plain = stages.index(nodes[0].stage) % len(_STAGES) if nodes else 0
        found.append(plain if ruled is None else palette.index(ruled))
    buffers = arena.buffers
    columns = {
        "left": np.array([buffer.first - 0.5 for buffer in buffers], dtype=np.float32),
        "right": np.array([buffer.last + 0.5 for buffer in buffers], dtype=np.float32),
        "bottom": np.array([buffer.offset for buffer in buffers], dtype=np.int32),
        "top": np.array([buffer.offset + buffer.size for buffer in buffers], dtype=np.int32),
        "size": np.array([buffer.size for buffer in buffers], dtype=np.int32),
        "nodes": [_named(buffer.writers) for buffer in buffers],
        "colour": np.array(found, dtype=np.uint8),
    }
    return columns, palette


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def curves_plot(quantity: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any]:
    """Metrics of a run over its epochs.

    Args:
        quantity: what they measure.
        lines: (epoch, value) of each, by its name.
    """
    plot = _blank(quantity, 300)
    plot.xaxis.axis_label = "epoch"
    plot.xaxis.ticker = AdaptiveTicker(min_interval=1, num_minor_ticks=0)
    for number, (name, points) in enumerate(lines.items()):
        colour = _LINES[number % len(_LINES)]
        source = ColumnDataSource(
            {"epoch": [x for x, _ in points], "value": [y for _, y in points], "name": [name] * len(points)}
        )
        plot.line("epoch", "value", source=source, color=colour, line_width=1.8, legend_label=name)
        dots = plot.scatter("epoch", "value", source=source, color=colour, size=5, legend_label=name)
        plot.add_tools(
            HoverTool(renderers=[dots], tooltips=[("", "@name"), ("epoch", "@epoch"), ("", "@value{0.0000}")])
        )
    plot.legend.click_policy = "hide"
    plot.legend.background_fill_alpha = 0.0
    plot.legend.border_line_alpha = 0.0
    plot.legend.label_text_color = _QUIET
    plot.legend.label_text_font_size = "11px"
    plot.add_layout(plot.legend[0], "above")
    plot.legend.orientation = "horizontal"
    plot.legend.ncols = 2  # as many as a phone has room for
    return _item(plot)


def confusion_plot(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> dict[str, Any]:
    """A confusion matrix, shaded by the share of the true class."""
    names = unique(classes)
    table = np.asarray(counts, dtype=float)
    share = 100 * table / np.maximum(table.sum(1, keepdims=True), 1)
    rows, columns = np.nonzero(table)
    source = ColumnDataSource(
        {
            "true": [names[row] for row in rows],
            "predicted": [names[at] for at in columns],
            "count": table[rows, columns].astype(np.int32),
            "share": share[rows, columns],
        }
    )
    plot = _blank("true class", 420, x_range=FactorRange(factors=names), y_range=FactorRange(factors=names[::-1]))
    shade = LinearColorMapper(
        palette=["#dbe9f6", "#bad6eb", "#89bedc", "#539ecd", "#2b7bba", "#0b559f"], low=0, high=100
    )
    cells = plot.rect(
        "predicted",
        "true",
        0.98,
        0.98,
        source=source,
        fill_color={"field": "share", "transform": shade},
        line_color=None,
    )
    says = [("true", "@true"), ("predicted", "@predicted"), ("images", "@count"), ("of the class", "@share{0.0} %")]
    plot.add_tools(HoverTool(renderers=[cells], tooltips=says))
    plot.xaxis.axis_label = "predicted class"
    plot.xaxis.major_label_orientation = 0.9 if max(map(len, names), default=0) > 3 else 0
    plot.grid.visible = False
    return _item(plot)


def front_plot(study: StudyTable, cost: str, said: str) -> dict[str, Any]:
    """What combinations reached, on average with their deviation over seeds, against a cost; a line along the front.

    Args:
        study: its table.
        cost: by its name there.
        said: what the axis is called.
    """
    rows = [row for row in study.rows if row.mean is not None and cost in row.costs]
    plot = _blank(study.score.replace("_", " "), 320)
    plot.xaxis.axis_label = said
    plot.xaxis.formatter = CustomJSTickFormatter(code=_IN_THOUSANDS)
    plot.x_range.range_padding = 0.25  # room for names beside points
    means = [row.mean or 0.0 for row in rows]
    source = ColumnDataSource(
        {
            "cost": [row.costs[cost] for row in rows],
            "mean": means,
            "low": [mean - (row.std or 0.0) for mean, row in zip(means, rows, strict=True)],
            "high": [mean + (row.std or 0.0) for mean, row in zip(means, rows, strict=True)],
            "n": [row.n for row in rows],
            "what": [", ".join(str(row.axes[name]) for name in study.axes) for row in rows],
            "colour": [_LINES[1] if row.front.get(cost) else _LINES[0] for row in rows],
        }
    )
    plot.segment("cost", "low", "cost", "high", source=source, line_color="colour", line_width=1.5)
    front = sorted(
        (row.costs[cost], mean, " ".join(str(row.axes[name]) for name in study.axes))
        for mean, row in zip(means, rows, strict=True) if row.front.get(cost)
    )  # fmt: skip
    along = ColumnDataSource(dict(zip(("cost", "mean", "what"), map(list, zip(*front, strict=True)), strict=False)))
    plot.line("cost", "mean", source=along, line_color=_LINES[1], line_dash="dashed")
    if front:
        plot.add_layout(
            LabelSet(
                x="cost", y="mean", text="what", source=along, x_offset=8, y_offset=4, text_font_size="11px",
                text_color=_QUIET,
            )
        )  # fmt: skip
    dots = plot.scatter("cost", "mean", source=source, color="colour", size=9)
    says = [("", "@what"), ("mean", "@mean{0.0000}"), ("n", "@n"), (said, "@cost{0,0}")]
    plot.add_tools(HoverTool(renderers=[dots], tooltips=says))
    return _item(plot)


def unique(names: Sequence[str]) -> list[str]:
    """Names that are told apart by a number where two are the same; an axis of factors needs that."""
    return [name if list(names).count(name) == 1 else f"{name} ({at})" for at, name in enumerate(names)]


def _blank(quantity: str, height: int, **more: Any) -> Any:
    plot = figure(
        height=height, sizing_mode="stretch_width", tools=_TOOLS, toolbar_location="right", background_fill_color=None,
        border_fill_color=None, outline_line_color=None, active_scroll=None, output_backend="canvas", **more,
    )  # fmt: skip
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.yaxis.axis_label = quantity
    plot.yaxis.axis_label_text_font_style = plot.xaxis.axis_label_text_font_style = "normal"
    return plot


def _item(model: Any) -> dict[str, Any]:
    return dict(json_item(model))
