"""A page that explains itself: one HTML file with everything in it, which asks nothing of any server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from sapool.inspection.owners import owners
from sapool.report.payload import first_operands, graph_data
from sapool.report.templates import rendered
from sapool.runs.results import Table

if TYPE_CHECKING:
    from sapool.inspection.history import History
    from sapool.inspection.network import Network
    from sapool.inspection.owners import Arena
    from sapool.inspection.run import RunView
    from sapool.study.table import StudyTable

COSTS = {"macs": "MACs", "parameters": "parameters", "arena_bytes": "arena, bytes"}
"""What a study's networks cost, as its plots call it."""


class Page:
    """A page in the making: what is added stands on it in that order."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[dict[str, Any]] = []
        self._networks: list[dict[str, Any]] = []
        self._plots: list[Any] = []

    def add_graph(self, past: History, title: str, about: str) -> None:
        """Adds a network's graphs, and nothing else of it."""
        self._add_network(past, {"title": title, "about": about, "figures": (), "arenas": ()})
        self._networks.append({"graph": graph_data(past)})

    def add_network(self, network: Network) -> None:
        """Adds a network: its figures, its graphs, and its memory."""
        from sapool.report.figures import arena_plot  # noqa: PLC0415 - graphs alone need no plots

        arenas = [
            {
                "title": arena.title,
                "about": _about(arena),
                "plot": self._plot(arena_plot(arena, network.past, len(self._networks))),
            }
            for arena in network.arenas
        ]
        about = f"{network.backbone}, for images of {network.image}; {len(network.past.after.nodes)} nodes"
        self._add_network(
            network.past,
            {
                "title": network.architecture,
                "about": about,
                "image": network.image,
                "backbone": network.backbone,
                "figures": network.figures,
                "arenas": arenas,
            },
        )
        names, feeds = [node.name for node in network.past.after.nodes], first_operands(network.past.after)
        self._networks.append(
            {
                "graph": graph_data(network.past),
                "arenas": [_arena_data(arena) for arena in network.arenas],
                "owners": [
                    {name: owner for name, owner in owners(names, arena.buffers, feeds).items() if owner != name}
                    for arena in network.arenas
                ],
            }
        )

    def add_run(self, run: RunView) -> None:
        """Adds a run: its figures, curves, confusion, classes, sheets and recipe."""
        from sapool.report.figures import confusion_plot, curves_plot  # noqa: PLC0415 - graphs alone need no plots

        plots = [
            {"title": quantity, "number": self._plot(curves_plot(quantity, lines))}
            for quantity, lines in run.curves.items()
        ]
        if run.confusion:
            plots.append({"title": "confusion", "number": self._plot(confusion_plot(run.confusion, run.classes))})
        self._parts.append(
            {
                "kind": "run",
                "title": f"{run.name}: {run.architecture} on {run.data}",
                "notes": run.notes,
                "summary": run.summary,
                "plots": plots,
                "columns": run.columns,
                "per_class": run.per_class,
                "sheets": [{"title": name, "data": data} for name, data in run.sheets],
                "recipe": run.recipe,
            }
        )

    def add_table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], **more: Any) -> None:
        """Adds a table that can be sorted.

        Args:
            title: above it.
            columns: their names.
            rows: as many cells each.
            more: `notes` under it, `plots`, and `texts` that unfold, each with its name.
        """
        said = {"notes": (), "plots": (), "texts": (), **more}
        self._parts.append({"kind": "table", "title": title, "columns": columns, "rows": rows, **said})

    def add_study(self, study: StudyTable) -> None:
        """Adds a study: its table, what was reached against each cost, and the table as LaTeX and CSV."""
        from sapool.report.figures import front_plot  # noqa: PLC0415 - graphs alone need no plots

        table, *notes = study.report()
        assert isinstance(table, Table)
        plots = [
            {
                "title": f"{study.score.replace('_', ' ')} against {said}",
                "number": self._plot(front_plot(study, name, said)),
            }
            for name, said in COSTS.items()
            if any(row.mean is not None and name in row.costs for row in study.rows)
        ]
        texts = (("LaTeX", study.to_latex()), ("CSV", study.to_csv()))
        self.add_table(table.title, table.columns, table.rows, notes=notes, plots=plots, texts=texts)

    def html(self) -> str:
        """The whole page."""
        libraries: list[Markup] = []
        if self._plots:
            from bokeh.resources import INLINE  # noqa: PLC0415 - graphs alone need no plots

            # Of Bokeh's scripts the one that draws; widgets, tables and formulas would be three times as much.
            libraries = [Markup(text) for text in INLINE.clone(components=["bokeh"]).js_raw]
            assert not any("</script" in text for text in libraries)
        data = {"networks": self._networks, "plots": self._plots}
        return rendered("page.html.j2", title=self.title, parts=self._parts, data=data, libraries=libraries)

    def _add_network(self, past: History, said: dict[str, Any]) -> None:
        steps = [taken.title for taken in past.snapshots]
        self._parts.append(
            {"kind": "network", "number": len(self._networks), "steps": steps, "image": "", "backbone": "", **said}
        )

    def _plot(self, item: dict[str, Any]) -> int:
        self._plots.append(item)
        return len(self._plots) - 1


def _about(arena: Arena) -> str:
    counted = f"{len(arena.buffers):,} buffers in {len(arena.steps):,} steps; {arena.assumptions}"
    return f"arena of {arena.size:,} bytes, {arena.peak:,} held at the peak; {counted}"


def _arena_data(arena: Arena) -> dict[str, Any]:
    """Whose each buffer is: nodes by their numbers in `nodes`. Where it lies, its plot knows."""
    nodes = list(dict.fromkeys(name for buffer in arena.buffers for name in buffer.writers))
    number = {name: at for at, name in enumerate(nodes)}
    return {
        "title": arena.title,
        "nodes": nodes,
        "writers": [[number[name] for name in buffer.writers] for buffer in arena.buffers],
    }
