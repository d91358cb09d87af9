"""Nets of a few operators, and what their scripts compute."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from sapool.cost.bands.net import EACH, Net, Operator, Value, Window
from sapool.cost.bands.script import JOIN, SLICE, Script


class Builder:
    """Writes a net, operator by operator; a map's row has as many bytes as is said."""

    def __init__(self, rows: int, row: int) -> None:
        self.values, self.operators = [Value(rows * row, rows)], list[Operator]()

    def window(
        self, row: int, kernel: int = 1, stride: int = 1, *, same: bool = True, source: int | None = None
    ) -> int:
        """A window operation on the last value, or on another; its result."""
        source = len(self.values) - 1 if source is None else source
        window = EACH if kernel == stride == 1 else Window(kernel, stride, same)
        return self._add((source,), window.count(self.values[source].rows), row, window)

    def add(self, *sources: int) -> int:
        """An elementwise operation; its result."""
        value = self.values[sources[0]]
        return self._add(sources, value.rows, value.size // value.rows, EACH)

    def _add(self, sources: tuple[int, ...], rows: int, row: int, window: Window) -> int:
        self.values.append(Value(rows * row, rows))
        made, number = len(self.values) - 1, len(self.operators)
        self.operators.append(Operator(f"o{number}", "window", sources, (made,), window, 8))
        return made

    def net(self, *outputs: int) -> Net:
        return Net(tuple(self.values), tuple(self.operators), (0,), outputs or (len(self.values) - 1,))


def computed(script: Script) -> Mapping[int, Tensor]:
    """What each value of a script is, of an image of noise; a window operation sums rows, weighted by their places."""
    net = script.net
    found = {0: torch.randn(1, 1, net.tensors[0].rows, 2, generator=torch.Generator().manual_seed(0)).double()}
    for step in script.steps:
        given = [found[number] for number in step.reads]
        if step.kind == SLICE:
            first = script.values[step.makes[0]].first - script.values[step.reads[0]].first
            rows = script.values[step.makes[0]].last - script.values[step.makes[0]].first
            found[step.makes[0]] = given[0].narrow(2, first, rows)
        elif step.kind == JOIN:
            found[step.makes[0]] = torch.cat(given, 2)
        else:
            assert step.operator is not None
            window = net.operators[step.operator].window
            assert window is not None
            found[step.makes[0]] = sum(given) if window == EACH else _windows(given[0], window)
    return found


def _windows(x: Tensor, window: Window) -> Tensor:
    rows = x.shape[2]
    before = window.before(rows)
    after = max((window.count(rows) - 1) * window.stride + window.kernel - rows - before, 0)
    padded = F.pad(x, (0, 0, before, after) if window.same else (0, 0, 0, 0))
    kernel = torch.arange(1, window.kernel + 1).double().view(1, 1, -1, 1)
    return F.conv2d(padded, kernel, stride=(window.stride, 1))
