"""Where the command line prints, and how a table is fitted to it. Rich on a terminal, plain aligned lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from sapool.errors import visible
from sapool.runs.results import Table

Cell = str | Text

_ENDLESS = 100_000
_GAP = 2
# Narrower than this a column of words is no column.
_NARROWEST = 12


class _Output(Console):
    """A console that escapes what would steer a terminal, and leaves a closed pipe to the command line."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(visible(o, lines=True) if isinstance(o, str) else o for o in objects), **options)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """Standard output (or error): coloured on a terminal, plain and never wrapped where a program reads."""
    # The stream of this moment: an engine that works meanwhile may put another in its place.
    file = sys.stderr if stderr else sys.stdout
    out = _Output(file=file, highlight=False, emoji=False)
    return out if out.is_terminal else _Output(file=file, highlight=False, emoji=False, width=_ENDLESS, no_color=True)


def show_table(
    out: Console, columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, title: str = "", spare: Sequence[str] = ()
) -> None:
    """Prints a table, numbers to the right.

    On a terminal that is too narrow for it, columns are left out that can be spared, and then words are folded inside
    theirs; nothing is cut.

    Args:
        out: from `console`.
        columns, rows: as many cells each.
        title: above it.
        spare: columns that can be left out, those first that are missed least; a line says which were.
    """
    lines = [[_cell(cell) for cell in row] for row in rows]
    columns = [visible(name) for name in columns]  # a study's axes are named by its file
    kept = list(range(len(columns)))
    natural = [max(cell_len(name), *(line[i].cell_len for line in lines), 0) for i, name in enumerate(columns)]
    absent = []
    for name in (name for name in spare if name in columns):
        if _total(natural, kept) <= out.width:
            break
        kept.remove(columns.index(name))
        absent.append(name)
    plain = not out.is_terminal
    grid = Grid(box=None if plain else SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=not plain)
    widths = _fitted([_column(columns[i], [line[i].plain for line in lines]) for i in kept], out.width)
    for i, width in zip(kept, widths, strict=True):
        right = _numeric([line[i].plain for line in lines])
        grid.add_column(Text(columns[i]), justify="right" if right else "left", width=width, overflow="fold")
    for line in lines:
        grid.add_row(*(line[i] for i in kept))
    if title:
        out.print(visible(title), style=None if plain else "bold", markup=False)
    # Where even folding isn't enough, the terminal breaks lines.
    fitted, out.width = out.width, max(out.width, sum(widths) + _GAP * (len(widths) - 1))
    out.print(grid, crop=False)
    out.width = fitted
    if absent:
        left = columns_in_order(columns, absent)
        out.print(f"(no room for: {', '.join(left)})", style="dim", markup=False)


def _cell(cell: Cell) -> Text:
    if isinstance(cell, Text):
        return Text(visible(cell.plain), cell.style)
    return Text(visible(str(cell)))


def columns_in_order(columns: Sequence[str], some: Iterable[str]) -> list[str]:
    """Some of the columns, in the table's order."""
    chosen = set(some)
    return [name for name in columns if name in chosen]


def _total(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[i] for i in kept) + _GAP * (len(kept) - 1)


def _column(name: str, cells: Sequence[str]) -> tuple[int, int, int]:
    """How wide a column is, how wide its longest word is, and how narrow it may become at worst."""
    words = [cell_len(word) for text in (name, *cells) for word in text.split()]
    natural, longest = max(map(cell_len, (name, *cells))), max(words, default=0)
    return natural, longest, longest if _numeric(cells) else min(longest, _NARROWEST)


def _fitted(columns: Sequence[tuple[int, int, int]], room: int) -> list[int]:
    """Widths that fit, if any do: the widest column gives way first, words are broken only where that isn't enough."""
    widths = [natural for natural, _, _ in columns]
    for floors in ([longest for _, longest, _ in columns], [worst for _, _, worst in columns]):
        while sum(widths) + _GAP * (len(widths) - 1) > room:
            loose = [i for i, width in enumerate(widths) if width > floors[i]]
            if not loose:
                break
            widths[max(loose, key=widths.__getitem__)] -= 1
    return widths


def _numeric(cells: Sequence[str]) -> bool:
    return any(cells) and all(not cell or cell[0].isdigit() for cell in cells)


def show_report(out: Console, report: Iterable[Table | str]) -> None:
    """Prints tables and paragraphs with a blank line between them."""
    for number, block in enumerate(report):
        if number:
            out.print()
        if isinstance(block, Table):
            show_table(out, block.columns, block.rows, title=block.title, spare=block.spare)
        else:
            out.print(block, markup=False)
