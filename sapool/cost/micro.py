"""What TensorFlow Lite Micro will hold of a network, worked out before anything is converted.

The network is rewritten as its export rewrites it, laid out flat, and every operation that the converter leaves is
counted (`micro_operators`); everything has a buffer of its own, for this runtime does nothing in place.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import prod

import torch
from torch import fx

from sapool.cost.bands.script import JOIN, SLICE
from sapool.cost.bands.search import as_it_stands, in_bands
from sapool.cost.micro_estimates import flash, tail, word
from sapool.cost.micro_operators import operators_of
from sapool.errors import InputError
from sapool.inference import prepare
from sapool.ir.plan import Plan
from sapool.model import CompiledModel
from sapool.passes import rewrite_for_microcontroller
from sapool.passes.export.flat import flat_graph


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
    tuned = prepare(original)
    rewrite_for_microcontroller(tuned, tuned.plan, integer=integer)
    options = model.plan.options
    image = torch.zeros(1, options.in_chans, *options.image_size)
    flat = flat_graph(tuned, image, tuned.plan, turn=not options.features_only)
    for node in flat.graph.nodes:
        if word(node) in ABSENT:
            raise InputError(f"TensorFlow Lite Micro has no operation for a {ABSENT[word(node)]}, which {node.name} is")
    return _counted(flat, 1 if integer else 4, streamed, budget)


def _counted(flat: fx.GraphModule, width: int, streamed: bool, budget: int | None) -> MicroMemory:
    net = operators_of(flat, width)
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


ABSENT = {"gelu": "GELU", "erf": "Gauss error function"}
"""Operations that LiteRT has and TensorFlow Lite Micro hasn't, by their words in a graph."""
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
