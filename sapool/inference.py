"""`optimize`: exact rewrites for inference."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import replace

import torch
from torch import nn

from sapool.errors import InputError
from sapool.model import CompiledModel
from sapool.packed import pack
from sapool.passes import rewrite_for_inference

TOLERANCE = 1e-4
"""Of the largest output; float32 rounding of folded weights through tens of layers stays an order below."""


def optimize(
    model: CompiledModel,
    *,
    channels_last: bool = True,
    packed: bool = False,
    check: bool = True,
    without: Collection[str] = (),
) -> CompiledModel:
    """A faster copy of a model for inference, in eval mode. Each rewrite is appended to `rewrites`.

    Batch norms are folded into convolutions, attention that window normalisation cancels becomes average pooling,
    projections become part of the convolutions behind them, what is dead goes, and weights are laid out channels-last.

    Args:
        model: stays as it is.
        channels_last: lay convolution weights out channels-last, which oneDNN and cuDNN prefer.
        packed: keep large kernels in oneDNN's own order too, for inference on a CPU: faster, above all for few images,
            in as many bytes again. Files and devices aren't concerned.
        check: compare the result with the original on random inputs before returning it.
        without: passes that are left out, by name.

    Raises:
        InputError: the model is optimized already.
        AssertionError: the outputs differ, which is a fault of ours.
    """
    if model.origin.optimized:
        raise InputError("the model is optimized already")
    original = copy.deepcopy(model).eval()
    tuned = copy.deepcopy(original)
    log = rewrite_for_inference(tuned, model.plan, without=without)
    origin = replace(
        model.origin,
        rewrites=(*model.rewrites, *log.rewrites),
        refusals=(*model.refusals, *log.refusals),
        passes=(*model.origin.passes, *log.runs),
        optimized=True,
    )
    result = CompiledModel.of(tuned, origin).requires_grad_(False)
    # A dynamic convolution makes its kernel anew for each batch, in the usual layout.
    if channels_last and not model.plan.dynamic:
        for module in result.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)
    if packed:
        pack(result)
    if check and not any(parameter.is_meta for parameter in model.parameters()):
        _compare(original, result)
    return result


def prepare(model: CompiledModel) -> CompiledModel:
    """A copy of a model for its way into another runtime's file; one that is optimized already stays as it is.

    Projections aren't folded: integers are fitted to what lies between two maps, and with one map of both, weights of
    an untrained `attnpool` correlated less with the model's than a file may have them.
    """
    if model.origin.optimized:
        return copy.deepcopy(model)
    return optimize(model, channels_last=False, check=False, without=("fold_projections",))


def _compare(original: CompiledModel, result: CompiledModel) -> None:
    parameter = next(original.parameters())
    generator = torch.Generator().manual_seed(0)
    options = original.plan.options
    x = torch.randn(2, options.in_chans, *options.image_size, generator=generator).to(parameter.device, parameter.dtype)
    with torch.no_grad():
        expected, seen = original(x), result(x)
    pairs = zip(expected, seen, strict=True) if isinstance(expected, list) else [(expected, seen)]
    for wanted, found in pairs:
        distance, scale = (wanted - found).abs().max(), wanted.abs().max()
        assert distance <= TOLERANCE * scale, (
            f"optimization changed the output by {distance / scale:.1e} of its largest value"
        )
