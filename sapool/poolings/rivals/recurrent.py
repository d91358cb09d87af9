"""RNNPool (Saha et al., "RNNPool: Efficient Non-linear Pooling for RAM Constrained Inference", NeurIPS 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sapool.catalogue.poolings import register_pooling
from sapool.poolings.base import Pooling


@register_pooling(
    "rnnpool",
    summary="recurrent sweeps over each window's rows and columns, and over what they found",
    use="downsampling early and hard where memory is short, as a prepool of stride 4; the rival of prepool-nlp",
    source="Saha et al., NeurIPS 2020",
    rank=9,
)
class RecurrentPool(Pooling):
    """`rnnpool`: a window is read by two recurrent cells.

    1. the first cell runs along each of the window's s rows and s columns; its last states sum them up;
    2. the second runs over the sums of the rows and over those of the columns, there and back;
    3. y is the last states of these four sweeps, one behind the other, of which the first C values are kept.

    Both cells are FastGRNNs of ⌈C/4⌉ states (Kusupati et al., NeurIPS 2018), as in the paper. Windows don't overlap
    here (kernel = stride = s), as for every pooling of the language. (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋).

    All windows make a step at the same time, by 1×1 convolutions over the map of windows, so it works by rows.

    Args:
        channels: C.
        stride: s.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, stride)
        states = -(-channels // 4)
        self.lines, self.summary = FastGRNN(channels, states), FastGRNN(states, states)

    def start(self) -> None:
        """Small weights, as FastGRNN's authors start them: a state isn't multiplied up from step to step."""
        for cell in (self.lines, self.summary):
            for weight in (cell.read.weight, cell.keep.weight):
                nn.init.normal_(weight, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        side = self.stride
        height, width = x.shape[-2] // side * side, x.shape[-1] // side * side
        if x.shape[-2:] != (height, width):
            x = x[:, :, :height, :width]
        pixels = torch.unflatten(F.pixel_unshuffle(x, side), 1, (self.channels, side, side))
        # Of step t: pixel t of every row, then pixel t of every column.
        steps = [torch.cat((pixels[:, :, :, t], pixels[:, :, t]), 2).transpose(1, 2) for t in range(side)]
        found = torch.unflatten(self.lines([step.flatten(0, 1) for step in steps]), 0, (-1, 2 * side))
        sweeps = []
        for there in range(side):
            back = side - 1 - there
            lines = (found[:, there], found[:, back], found[:, side + there], found[:, side + back])
            sweeps.append(torch.stack(lines, 1).flatten(0, 1))
        last = self.summary(sweeps)
        pooled = torch.unflatten(last, 0, (-1, 4)).flatten(1, 2)
        return pooled if pooled.shape[1] == self.channels else pooled[:, : self.channels]


class FastGRNN(nn.Module):
    """A gated recurrent cell whose gate and candidate share their weights (FastGRNN: Kusupati et al., NeurIPS 2018).

    z = σ(Wx + Uh + b), c = tanh(Wx + Uh + b′), h ← (σ(ζ)(1 − z) + σ(ν))·c + z·h, from h = 0. W and U are 1×1
    convolutions, so that every pixel of a map is a sequence of its own.

    Args:
        channels: of what is read.
        states: of h.
    """

    def __init__(self, channels: int, states: int) -> None:
        super().__init__()
        self.read = nn.Conv2d(channels, states, 1, bias=False)
        self.keep = nn.Conv2d(states, states, 1, bias=False)
        self.gate = nn.Parameter(torch.ones(states, 1, 1))
        self.candidate = nn.Parameter(torch.ones(states, 1, 1))
        self.zeta = nn.Parameter(torch.ones(1))
        self.nu = nn.Parameter(torch.full((1,), -4.0))

    def forward(self, steps: list[Tensor]) -> Tensor:
        """The last state, (N, states, h, w), of a sequence of (N, channels, h, w)."""
        zeta, nu = self.zeta.sigmoid(), self.nu.sigmoid()
        state: Tensor | None = None
        for step in steps:
            both = self.read(step) if state is None else self.read(step) + self.keep(state)
            gate, candidate = (both + self.gate).sigmoid(), (both + self.candidate).tanh()
            fresh = (zeta * (1 - gate) + nu) * candidate
            state = fresh if state is None else fresh + gate * state
        assert state is not None
        return state
