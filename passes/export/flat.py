"""A network as one flat graph of ATen operations, as converters read it."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from sapool.ir.plan import Plan
from sapool.passes.driver import Driver
from sapool.passes.export.mirror import mirror
from sapool.passes.export.padding import fit_padding
from sapool.passes.export.windows import PAD, argument_of


def flat_graph(network: nn.Module, image: Tensor, plan: Plan, *, turn: bool = True) -> fx.GraphModule:
    """A network for images of one shape as a flat graph of ATen operations, its windows laid for TensorFlow's rules.

    With `turn` the image, and with it every map that comes out, may be turned by 180 degrees.
    """
    exported = torch.export.export(network.eval(), (image,))
    module = exported.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    flat = fx.GraphModule(module, module.graph)  # an exported module refuses to be put in eval mode, where it is anyhow
    for node in flat.graph.nodes:
        if node.target is torch.ops.aten.pad.default and argument_of(node, 2, "constant") == "constant":
            node.target, node.args = PAD, (*node.args[:2], argument_of(node, 3, None) or 0.0)
    run = Driver(flat, plan)
    if turn:
        run(mirror)
    run(fit_padding)
    run.finish()
    return flat
