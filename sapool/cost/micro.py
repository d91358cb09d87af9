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

from sapool.cost.arena import Buffer, arena_size, greedy_by_size
from sapool.cost.micro_estimates import flash, mixes, tail, word
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
_SUMMED = frozenset(("adaptive_avg_pool2d", "mean", "sum"))


@dataclass(frozen=True)
class MicroMemory:
    """What TensorFlow Lite Micro takes of a device; `head` is the part of its arena that holds activations.

    Attributes:
        head: bytes of it, with the plan that an exported file ships where that is smaller than the runtime's own.
        steps: what is held while each operation runs: the name of its node, what it computes, bytes.
        tail: bytes that the runtime keeps for itself in the same arena, estimated.
        flash: bytes of the model and of the code that runs it, estimated.
    """

    head: int
    steps: tuple[tuple[str, str, int], ...]
    tail: int
    flash: int

    @property
    def sram(self) -> int:
        """Bytes of the arena, all of it."""
        return self.head + self.tail


def micro_memory(model: CompiledModel, *, integer: bool = True) -> MicroMemory:
    """The head of TensorFlow Lite Micro's arena for a model as `.int8.tflite`, or as `.tflite`.

    A model on the meta device gets weights of noise, on which none of this depends.

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
    return _fold(flat, 1 if integer else 4)


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


def _fold(flat: fx.GraphModule, width: int) -> MicroMemory:
    lies: dict[fx.Node, str] = {}
    buffers: dict[str, Buffer] = {}
    scratch: list[Buffer] = []
    operations: list[tuple[str, str]] = []
    for node in flat.graph.nodes:
        sources = [lies[source] for source in node.all_input_nodes if source in lies]
        place = len(operations) + 1
        if node.op == "output":
            for name in sources:
                buffers[name] = _until(buffers[name], len(operations))
        elif node.op == "placeholder":
            lies[node] = node.name
            buffers[node.name] = Buffer(node.name, prod(node.meta["val"].shape) * width, 0, 0)
        elif node.op != "call_function" or not sources or not isinstance(node.meta.get("val"), Tensor):
            continue
        elif _vanishes(node):
            lies[node] = sources[0]
        else:
            if width == 1 and mixes(node):
                sources = [sources[0], *(_in_16_bits(name, buffers, operations) for name in sources[1:])]
            for kind, size in _results(node, width):
                place = len(operations) + 1
                operations.append((node.name, kind))
                for name in sources:
                    buffers[name] = _until(buffers[name], place)
                name = f"{node.name}.{kind}"
                buffers[name] = Buffer(name, size, place, place)
                sources = [name]
            lies[node] = name
            if word(node) in _SUMMED and width == 1:
                scratch.append(Buffer(f"{node.name}.scratch", 4 * prod(node.meta["val"].shape), place, place))
    held = [*(Buffer(b.name, -(-b.size // 16) * 16, b.first, b.last) for b in buffers.values()), *scratch]
    steps = tuple(
        (name, kind, sum(b.size for b in held if b.first <= place <= b.last))
        for place, (name, kind) in enumerate(operations, start=1)
    )
    count, kinds = len(operations), {kind for _, kind in operations}
    head = min(greedy_by_size(held), arena_size(held)[0])
    return MicroMemory(head, steps, tail(flat, count, width), flash(flat, kinds, count, width))


def _until(buffer: Buffer, last: int) -> Buffer:
    return Buffer(buffer.name, buffer.size, buffer.first, max(buffer.last, last))


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


def _in_16_bits(name: str, buffers: dict[str, Buffer], operations: list[tuple[str, str]]) -> str:
    """The buffer of values that are converted for a product: once, for all that read them."""
    wide = f"{name}.16 bits"
    if wide not in buffers:
        operations.append((name, "quantize"))
        place = len(operations)
        buffers[name] = _until(buffers[name], place)
        buffers[wide] = Buffer(wide, 2 * buffers[name].size, place, place)
    return wide


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
