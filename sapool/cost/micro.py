"""What TensorFlow Lite Micro will hold of a network, worked out before anything is converted.

The network is rewritten as its export rewrites it, laid out flat, and every operation that the converter leaves is
counted: it fuses activations into what stands before them, and layouts and free padding vanish; everything else has a
buffer of its own, for this runtime does nothing in place. Tokens that the converter lays out more than once are counted
once, so the figure of the written file, `sapool.export.tflite.memory`, can be larger.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, fx

from sapool.cost.bands.net import EACH, Net, Operator, Value, Window
from sapool.cost.bands.script import JOIN, SLICE
from sapool.cost.bands.search import as_it_stands, in_bands
from sapool.cost.micro_estimates import flash, mixes, requantized, tail, word
from sapool.errors import InputError
from sapool.inference import optimize
from sapool.ir.plan import Plan
from sapool.model import CompiledModel
from sapool.passes import rewrite_for_microcontroller
from sapool.passes.export.flat import flat_graph
from sapool.passes.export.padding import PAD, windows_of

_VANISH = frozenset(("dropout", "permute", "transpose", "contiguous", "clone", "detach", "alias", "to", "expand"))
_FUSED = frozenset(("relu", "relu_", "hardtanh", "hardtanh_", "relu6"))
_FUSE = frozenset(("conv2d", "add", "add_", "linear", "avg_pool2d", "max_pool2d", "mul", "sub"))
_EACH = frozenset(
    (
        *("add", "add_", "sub", "mul", "div", "sigmoid", "relu", "relu_", "hardtanh", "hardtanh_", "relu6"),
        *("exp", "sqrt", "rsqrt", "tanh", "neg", "hardswish", "hardswish_"),
    )
)
_MAPS = frozenset(
    (
        *("flip", "conv2d", "max_pool2d", "avg_pool2d", "constant_pad_nd"),
        *("reshape", "view", "upsample_nearest2d", "upsample_bilinear2d"),
    )
)
"""What makes maps, of which bands can be read, whether or not it can be computed in bands itself."""
_SUMMED = frozenset(("adaptive_avg_pool2d", "mean", "sum"))


@dataclass(frozen=True)
class MicroMemory:
    """What TensorFlow Lite Micro takes of a device; `head` is the part of its arena that holds activations.

    Attributes:
        head: bytes of it, with the plan that an exported file ships where that is smaller than the runtime's own.
        steps: what is held while each operation runs: the name of its node, what it computes, bytes.
        tail: bytes that the runtime keeps for itself in the same arena, estimated.
        flash: bytes of the model and of the code that runs it, estimated.
        bands: which part of it is in bands of rows, in words; "" where nothing is.
    """

    head: int
    steps: tuple[tuple[str, str, int], ...]
    tail: int
    flash: int
    bands: str = ""

    @property
    def sram(self) -> int:
        """Bytes of the arena, all of it."""
        return self.head + self.tail


def micro_memory(
    model: CompiledModel, *, integer: bool = True, streamed: bool = False, budget: int | None = None
) -> MicroMemory:
    """The head of TensorFlow Lite Micro's arena for a model as `.int8.tflite`, or as `.tflite`.

    A model on the meta device gets weights of noise, on which none of this depends.

    Args:
        model: compiled; it stays as it is.
        integer: whether the file is of int8.
        streamed: whether maps are computed in bands of rows, where that makes the arena smaller.
        budget: of a streamed one, bytes that head and tail may take together: as little is in bands as fits.

    Raises:
        InputError: it can't be had in this format; says why.
    """
    if reason := refusal(model.plan):
        raise InputError(reason)
    original = (_with_noise(model) if _is_meta(model) else copy.deepcopy(model)).eval().float().cpu()
    tuned = original if original.origin.optimized else optimize(original, channels_last=False, check=False)
    rewrite_for_microcontroller(tuned, tuned.plan, integer=integer)
    options = model.plan.options
    image = torch.zeros(1, options.in_chans, *options.image_size)
    flat = flat_graph(tuned, image, tuned.plan, turn=not options.features_only)
    return _counted(flat, 1 if integer else 4, streamed, budget)


def _counted(flat: fx.GraphModule, width: int, streamed: bool, budget: int | None) -> MicroMemory:
    net = _Fold(flat, width).net
    count, kinds = len(net.operators), {operator.kind for operator in net.operators}
    own = tail(flat, count, width)
    found = in_bands(net, budget, own=own) if streamed else as_it_stands(net)
    if found.stretches:
        count, kinds = len(found.script.steps), kinds | {SLICE, JOIN}
    steps = tuple(
        (step.kind if step.operator is None else net.operators[step.operator].name, step.kind, held)
        for step, held in zip(found.script.steps, found.script.held(net.inputs, net.outputs), strict=True)
    )
    return MicroMemory(found.head, steps, own + found.growth, flash(flat, kinds, count, width), str(found))


_SAMPLES = "it samples its map at places that it computes, which TensorFlow Lite has no operation for"
_CHOOSES = "it keeps a part of its map that it chooses while it runs, which TensorFlow Lite Micro has no operation for"
_WHOLE = "its matrices are worked out in whole numbers, which the rewrites for TensorFlow Lite can't follow"
REFUSED = {
    "aps": (_CHOOSES, "blur"),
    "lps": (_CHOOSES, "blur"),
    "flc": (_WHOLE, "blur"),
    "dfmnlp": (_SAMPLES, "nlp"),
    "dfmixp": (_SAMPLES, "mixp"),
}
"""Kinds that can't be had, why, and what to take in their place."""


def refusal(plan: Plan) -> str | None:
    """Why a network can't be had as `.tflite`, in a sentence; None where it can."""
    for site in plan.sites:
        if site.pool is not None and site.pool.kind in REFUSED:
            reason, instead = REFUSED[site.pool.kind]
            return f"{site.pool.kind} can't be written as .tflite: {reason}; write a .onnx, or take {instead}"
    return None


def _is_meta(model: CompiledModel) -> bool:
    return any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


@torch.no_grad()
def _with_noise(model: CompiledModel) -> CompiledModel:
    twin = copy.deepcopy(model).to_empty(device="cpu")
    for name, tensor in (*twin.named_parameters(), *twin.named_buffers()):
        if tensor.is_floating_point() and tensor.dim() > 1:
            tensor.normal_(0, max(prod(tensor.shape[1:]), 1) ** -0.5)
        else:
            tensor.fill_(1 if name.endswith(("running_var", "weight")) else 0)
    return twin


class _Fold:
    """The operators of a flat graph, as a file has them."""

    def __init__(self, flat: fx.GraphModule, width: int) -> None:
        self.width = width
        self.lies: dict[fx.Node, int] = {}
        self.tensors: list[Value] = []
        self.operators: list[Operator] = []
        self.wide: dict[int, int] = {}
        inputs: list[int] = []
        outputs: tuple[int, ...] = ()
        for node in flat.graph.nodes:
            sources = [self.lies[source] for source in node.all_input_nodes if source in self.lies]
            if node.op == "output":
                outputs = tuple(sources)
            elif node.op == "placeholder":
                self.lies[node] = self._tensor(prod(node.meta["val"].shape) * width, _map_rows(node))
                inputs.append(self.lies[node])
            elif node.op != "call_function" or not sources or not isinstance(node.meta.get("val"), Tensor):
                continue
            else:
                self.lies[node] = sources[0] if _vanishes(node) else self._add(node, sources)
        self.net = Net(tuple(self.tensors), tuple(self.operators), tuple(inputs), outputs)

    def _add(self, node: fx.Node, sources: list[int]) -> int:
        """What computes a node; the tensor of its result."""
        if self.width == 1 and mixes(node):
            sources = [sources[0], *(self._in_16_bits(node, number) for number in sources[1:])]
        window, channels = self._window(node, sources), requantized(node) if self.width == 1 else 0
        rows = _map_rows(node) if window is not None or word(node) in _MAPS else 0
        summed = word(node) in _SUMMED and self.width == 1
        for kind, size in _results(node, self.width):
            result = self._tensor(size, rows)
            scratch = (4 * prod(node.meta["val"].shape),) if summed else ()
            self.operators.append(Operator(node.name, kind, tuple(sources), (result,), window, channels, scratch))
            sources = [result]
        return sources[0]

    def _tensor(self, size: int, rows: int) -> int:
        self.tensors.append(Value(size, rows))
        return len(self.tensors) - 1

    def _in_16_bits(self, node: fx.Node, number: int) -> int:
        """Values that are converted for a product: once, for all that read them."""
        if number not in self.wide:
            self.wide[number] = self._tensor(2 * self.tensors[number].size, 0)
            self.operators.append(Operator(node.name, "quantize", (number,), (self.wide[number],)))
        return self.wide[number]

    def _window(self, node: fx.Node, sources: list[int]) -> Window | None:
        """Which rows each row of a map reads, as the runtime's padding has it; None where that can't be in bands."""
        kind = word(node)
        if kind in _EACH:
            return EACH if all(self._follows(node, source) for source in node.all_input_nodes) else None
        if kind == "avg_pool2d":
            return _averaged(node)
        windows, before = windows_of(node), node.all_input_nodes[0]
        if windows is None or not self.tensors[sources[0]].rows:
            return None
        apart = before.target is PAD and not _vanishes(before)
        if not apart and not windows.free:
            return None
        rows = windows.rows
        same = not apart and not (rows.valid and windows.columns.valid)
        return EACH if rows.reach == rows.stride == 1 else Window(rows.reach, rows.stride, same)

    def _follows(self, node: fx.Node, source: fx.Node) -> bool:
        """Whether an operand of an elementwise operation is a map like its result, or the same in each row."""
        shape = source.meta["val"].shape
        if len(shape) < 3 or (len(shape) == 4 and shape[2] == 1):
            return True
        alike = len(shape) == 4 and shape[2] == node.meta["val"].shape[2]
        return alike and source in self.lies and self.tensors[self.lies[source]].rows > 0


def _map_rows(node: fx.Node) -> int:
    shape = node.meta["val"].shape
    return int(shape[2]) if len(shape) == 4 else 0


def _averaged(node: fx.Node) -> Window | None:
    """The windows of an average that has no padding."""
    kernel, stride, padding = (
        node.args[place] if len(node.args) > place else default for place, default in ((1, None), (2, []), (3, 0))
    )
    rows = [value if isinstance(value, int) else value[0] for value in (kernel, stride or kernel)]  # type: ignore[index]
    return None if any(padding if isinstance(padding, (list, tuple)) else [padding]) else Window(rows[0], rows[1])


def _results(node: fx.Node, width: int) -> Iterator[tuple[str, int]]:
    """What an operation leaves behind, in order: operations of the file, and bytes of their results."""
    kind, size = word(node), prod(node.meta["val"].shape)
    if kind == "softmax" and width == 1:  # in 16 bits
        yield from (("quantize", 2 * size), ("softmax", 2 * size))
        if not all(mixes(user) for user in node.users):
            yield "quantize again", size
    elif width == 1 and mixes(node):
        yield from ((kind, 2 * size), ("quantize", size))
    else:
        yield kind, size * width


def _vanishes(node: fx.Node) -> bool:
    kind, source = word(node), node.all_input_nodes[0]
    if kind in _VANISH or (kind in ("reshape", "view", "unsqueeze", "flatten") and _same_order(node)):
        return True
    if kind in _FUSED:
        return len(source.users) == 1 and word(source) in _FUSE
    if node.target is PAD:
        found = [windows_of(user) for user in node.users]
        return all(windows is not None and windows.free for windows in found)
    return False


def _same_order(node: fx.Node) -> bool:
    """Whether a reshape only drops or adds sides of one."""
    before = [side for side in node.all_input_nodes[0].meta["val"].shape if side != 1]
    return before == [side for side in node.meta["val"].shape if side != 1]
