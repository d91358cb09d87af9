"""`stream`: a model that computes in bands of rows what it computes at once, with less memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from sapool.analysis.shapes import on_meta
from sapool.analysis.trace import trace
from sapool.cost.assumptions import Assumptions
from sapool.cost.budget import parse_size
from sapool.cost.unroll import unroll
from sapool.errors import InputError
from sapool.model import CompiledModel
from sapool.schedule.constants import templates
from sapool.schedule.execution import Execution, tensors_of
from sapool.schedule.heads.groups import Groups
from sapool.schedule.moves import Region
from sapool.schedule.planner import plan
from sapool.schedule.schedule import Schedule

TOLERANCE = 1e-4
"""Of the largest output: bound of the check. In float32 rounding differs with the kernels that torch picks."""


class Program:
    """What a streamed model does, without its parameters. Shared by copies of the model; made anew on unpickling.

    Args:
        module: the model on the meta device.
        size: height and width of the images.
        schedule: for the module unrolled at that size.
    """

    def __init__(self, module: fx.GraphModule, size: tuple[int, int], schedule: Schedule) -> None:
        self.module, self.size, self.schedule = module, size, schedule
        self.templates = templates(module, schedule.net.graph, *size, schedule.groups)

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        s = self.schedule
        return _rebuilt, (self.module, self.size, s.assumptions, s.input_by_rows, s.order, s.regions, s.groups)


def _rebuilt(
    module: fx.GraphModule,
    size: tuple[int, int],
    assumptions: Assumptions,
    input_by_rows: bool,
    order: Sequence[int],
    regions: Sequence[Region],
    groups: tuple[Groups, ...] = (),
) -> Program:
    graph = unroll(module, *size)
    return Program(module, size, Schedule.of(graph, assumptions, order, regions, input_by_rows, groups))


class StreamedModel(nn.Module):
    """A model that computes in bands of rows. Use it as any module: (N, 3, H, W) of the planned height and width.

    Its parameters are the model's own, under the same names. Traced or exported, it is a sequence of slices,
    concatenations and the model's operations. In training mode it is the model as it was: batch norms need whole maps
    for their statistics, and what is held for the backward pass is more than streaming saves.

    Attributes:
        program: what is done.
        budget: bytes that activations may take, as it was asked for; None for as few as possible.
    """

    def __init__(self, model: fx.GraphModule, program: Program, budget: int | None = None) -> None:
        super().__init__()
        shared: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
        twin = copy.deepcopy(model, shared)
        for kind in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            setattr(self, kind, vars(twin)[kind])
        self.program, self.budget = program, budget
        self.training = model.training

    @property
    def schedule(self) -> Schedule:
        """When each row is computed, and the memory that takes."""
        return self.program.schedule

    def forward(self, x: Tensor) -> Any:
        """(N, C, H, W) to what the model returns."""
        if self.training:
            return fx.Interpreter(self, graph=self.program.module.graph).run(x)
        if isinstance(x, Tensor) and tuple(x.shape[-2:]) != self.program.size:  # it may be a tracer's stand-in
            (height, width), given = self.program.size, "x".join(map(str, x.shape[-2:]))
            raise InputError(f"the model streams images of {height}x{width}, not {given}: stream it again for those")
        some = next(self.parameters(), None)
        dtype, device = (some.dtype, some.device) if some is not None else (torch.float32, None)
        return Execution(
            self.schedule, tensors_of(self), self.program.templates, dtype=dtype, device=device
        ).run(x)  # fmt: skip

    def extra_repr(self) -> str:
        return f"images of {self.program.size[0]}x{self.program.size[1]}, {len(self.schedule.moves) - 1} moves"


def stream(
    model: nn.Module,
    budget: int | str | None = None,
    bands: int | None = None,
    *,
    image_size: int | tuple[int, int] | None = None,
    assumptions: Assumptions | None = None,
    input_by_rows: bool = False,
    seconds: float = 2.0,
    check: bool = True,
) -> StreamedModel:
    """A model that computes the same in bands of rows, each row once, so that less has to be held at a time.

    Args:
        model: a compiled model, or another that `torch.fx` can trace. It stays as it is; parameters are shared.
        budget: what activations may take, in bytes or as `"256KB"`: as little is streamed as fits. None for as little
            memory as possible.
        bands: into how many bands to cut the maps, in place of a budget; few bands are fast, many take little memory.
        image_size: a side, or (height, width), of the images that it is for; the plan's where there is one, else 224.
        assumptions: what `budget` is measured under; the dtype is int8 unless another is given.
        input_by_rows: count the rows of the image from their first use to their last alone.
        seconds: the time limit of the search for a schedule.
        check: compare with the model on a random image before returning.

    Returns:
        In eval mode if the model is; in training mode there is nothing to stream.

    Raises:
        InputError: the model can't be traced, the budget can't be met, or an argument can't be used.
        AssertionError: the outputs differ, which is a fault of ours.
    """
    graph = model if isinstance(model, fx.GraphModule) else trace(model)
    size = _size(model, image_size)
    limit = parse_size(budget) if isinstance(budget, str) else budget
    twin: Any = on_meta(graph).float()
    graph_of_operations = unroll(twin, *size)
    schedule = plan(
        graph_of_operations, assumptions, budget=limit, bands=bands, input_by_rows=input_by_rows, seconds=seconds
    )
    if limit is not None and schedule.arena > limit:
        raise InputError(
            f"budget: the activations don't fit {limit:,} bytes; streamed row by row they still take {schedule.arena:,}"
        )
    streamed = StreamedModel(graph, Program(twin, size, schedule), limit)
    if check and not any(parameter.is_meta for parameter in model.parameters()):
        _compare(graph, streamed, size)
    return streamed


def _size(model: nn.Module, given: int | tuple[int, int] | None) -> tuple[int, int]:
    size = given
    if size is None:
        size = model.plan.options.image_size if isinstance(model, CompiledModel) else 224
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise InputError(f"image_size: expected positive numbers of pixels, not {height}x{width}")
    return height, width


def _compare(model: fx.GraphModule, streamed: StreamedModel, size: tuple[int, int]) -> None:
    some = next(model.parameters(), torch.empty(0))
    channels = streamed.schedule.net.operations[0].nodes[0].meta["value"].shape[1]
    x = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0)).to(some.device, some.dtype)
    modes = [(module, module.training) for module in (*model.modules(), *streamed.modules())]
    try:
        with torch.no_grad():
            expected, seen = model.eval()(x), streamed.eval()(x)
    finally:
        for module, mode in modes:
            module.training = mode
    pairs = zip(expected, seen, strict=True) if isinstance(expected, (list, tuple)) else [(expected, seen)]
    for wanted, found in pairs:
        distance, scale = (wanted - found).abs().max(), wanted.abs().max()
        assert not distance > TOLERANCE * scale, (
            f"streaming changed the output by {distance / scale:.1e} of its largest value"
        )
