"""What the tests of schedules share: networks ready to run, and an execution that weighs what it holds."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

import sapool
from sapool.analysis.trace import trace
from sapool.catalogue.backbones import BACKBONES
from sapool.catalogue.builders import build
from sapool.cost.unroll import unroll
from sapool.passes.inference.fold_norms import fold_norms
from sapool.passes.record import Log
from sapool.schedule.execution import Execution, tensors_of
from sapool.schedule.schedule import Schedule


def network_of(text: str, size: int, classes: int = 7) -> fx.GraphModule:
    """A backbone of the catalogue or of timm, or a compiled architecture, in eval mode and with lively batch norms."""
    torch.manual_seed(0)
    if text in BACKBONES or (text.startswith("timm:") and "-" not in text):
        model: fx.GraphModule = trace(build(text, classes), text)
    else:
        model = sapool.compile(text, num_classes=classes, image_size=size)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def folded(model: fx.GraphModule, height: int, width: int) -> fx.GraphModule:
    """A model unrolled as memory reports unroll it: batch norms folded."""
    module: Any = copy.deepcopy(model)
    fold_norms(module, getattr(model, "plan", None), Log())  # type: ignore[arg-type]
    module.recompile()
    return unroll(module, height, width)


def image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def outputs(value: Any) -> list[Tensor]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def distance(one: Any, other: Any) -> float:
    """The largest difference, relative to the largest value."""
    pairs = zip(outputs(one), outputs(other), strict=True)
    return max(float(((a - b).abs().max() / a.abs().max().clamp(min=1e-30)).detach()) for a, b in pairs)


class Weighing(Execution):
    """Frees rows at their last use, and weighs the tensors that it then holds at each move.

    It cuts bands into rows, each a tensor of its own, and asks the schedule only which rows lie where others lay.
    """

    def __init__(self, schedule: Schedule, graph: fx.GraphModule) -> None:
        super().__init__(schedule, tensors_of(graph))
        self.seen: list[int] = []

    @staticmethod
    def _alone(x: Any) -> bool:
        return False  # no map in one piece

    def store(self, number: int, start: int, stop: int, value: Any) -> None:
        where = self.rows.get(self.net.operations[number].nodes[0])
        if where is None:
            super().store(number, start, stop, value)
            return
        for row in range(start, stop):
            super().store(number, row, row + 1, where.band(value, row - start, row - start + 1).clone())

    def finish(self, at: int) -> None:
        weights: dict[int, int] = {}
        for number, pieces in enumerate(self.held):
            for start, _, value in pieces:
                storage = self.schedule.where[number][start]
                weights[storage] = max(weights.get(storage, 0), value.numel() * value.element_size())
        self.seen.append(sum(weights.values()))
        super().finish(at)
