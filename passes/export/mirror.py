"""A network that sees its image turned by 180 degrees, so that windows start where runtimes let them start."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx

from sapool.ir.plan import Plan
from sapool.passes.export.padding import constant, extra_macs, lay, weights_of
from sapool.passes.export.windows import CONVOLUTIONS, PAD, takes_in, windows_of
from sapool.passes.record import Log

FLIP = torch.ops.aten.flip.default
TOLERANCE = 1e-2
"""Of a map's largest deviation from its mean: float32 stays far below, and a map that isn't turned reaches one."""


def mirror(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Turns a flat graph's image, its kernels and its constants with places by 180 degrees. Exact, and tried.

    At stride 2 torch pads an even map in front, and the rule SAME behind it. On the turned map the two agree: strided
    convolutions keep their kernels, and max-poolings, which no zeros can widen, need no padding of their own. What it
    costs is one turn of the image. It is left alone where it would save nothing, and where the network isn't the same
    network turned: one that lays its pixels out in a vector, for instance. Maps that are returned come out turned.
    """
    straight, turned = (extra_macs(module, mirrored=flag) for flag in (False, True))
    if turned >= straight:
        if straight:
            log.refused("", "image", "turned by 180 degrees the network needs no less padding")
        return
    twin = copy.deepcopy(module)
    if (reason := _turn(twin)) is not None:
        log.refused("", "image", reason)
        return
    twin.recompile()
    if not _alike(module, twin):
        log.refused("", "image", "turned by 180 degrees the network isn't the same network")
        return
    for name, buffer in twin.named_buffers():
        if "." not in name and name not in dict(module.named_buffers()):
            module.register_buffer(name, buffer)
    module.graph = twin.graph
    module.meta["turned"] = True
    log.rewrote("", "image", "as it is", "turned by 180 degrees")


def _alike(module: fx.GraphModule, twin: fx.GraphModule) -> bool:
    """Whether each map of a graph is, turned, the map of its twin, on an image of noise."""
    values, turned = _Values(module), _Values(twin)
    image = next(iter(module.graph.find_nodes(op="placeholder"))).meta["val"]
    x = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        values.run(x)
        turned.run(x)
    for name, expected in values.seen.items():
        found = turned.seen.get(name)
        if found is None or expected.dim() not in (2, 4):
            continue  # of tokens, which are checked by what is made of them
        error = (expected - (found.flip((2, 3)) if found.dim() == 4 else found)).abs().max()
        places = expected.dim() == 4 and expected.shape[2:].numel() > 1
        spread = (expected - expected.mean((2, 3) if places else 1, keepdim=True)).abs().max()
        if error > max(float(TOLERANCE * spread), float(1e-5 * expected.abs().max())):
            return False
    return True


_ATEN = torch.ops.aten
_LAID_OUT = (_ATEN.permute.default, _ATEN.transpose.int, _ATEN.reshape.default, _ATEN.view.default)
"""What lays tokens out, whose places aren't a map's; they are checked by the maps that are made of them."""


class _Values(fx.Interpreter):
    """Keeps what each operation of a graph that isn't padding returns, by the name of the node that it was once."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.seen: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op == "call_function" and n.target not in (PAD, FLIP, *_LAID_OUT) and isinstance(value, Tensor):
            self.seen[n.meta.get("was", n.name)] = value.clone()
        return value


def _turn(module: fx.GraphModule) -> str | None:
    """Turns a graph in place; the reason where that can't be done."""
    graph = module.graph
    for node in list(graph.nodes):
        windows = windows_of(node)
        if windows is None:
            _turn_constants(module, node)
            _turn_sides(node)
            continue
        turned = windows.mirrored()
        if node.target in CONVOLUTIONS:
            if not isinstance(node.args[1], fx.Node) or node.args[1].op != "get_attr":
                return f"the kernel of {node.name} isn't a weight"
            (_, _, weight), *_ = weights_of(module, node)
            arguments = list(node.args)
            arguments[1] = constant(module, node, weight.flip((2, 3)), "turned")
            node.args = tuple(arguments)
            front = [-(min(axis.before, 0) // axis.dilation) for axis in (turned.rows, turned.columns)]
            wider = type(turned)(turned.rows.wider(front[0], 0), turned.columns.wider(front[1], 0))
            lay(module, node, wider, (front[1], 0, front[0], 0))
        elif turned != windows:
            if min(turned.rows.before, turned.columns.before) < 0:
                return f"{node.name} leaves out pixels at one side of its map"
            lay(module, node, turned, (0, 0, 0, 0))
    image = next(iter(graph.find_nodes(op="placeholder")))
    with graph.inserting_after(image):
        flipped = graph.call_function(FLIP, (image, [2, 3]))
    flipped.meta["val"] = image.meta["val"]
    image.replace_all_uses_with(flipped, delete_user_cb=lambda user: user is not flipped)
    graph.lint()
    return None


def _turn_sides(node: fx.Node) -> None:
    """Turns padding that no windows take in: what it put in front it puts behind."""
    if node.target in (PAD, torch.ops.aten.pad.default) and not all(map(takes_in, node.users)):
        given: Any = node.args[1]
        sides = list(given)  # of the last axis, of the one before, ...: channels aren't turned, nor are tokens
        for first in range(0, min(len(sides), 4) if node.meta["val"].dim() == 4 else 0, 2):
            sides[first : first + 2] = reversed(sides[first : first + 2])
        node.args = (node.args[0], sides, *node.args[2:])


def _turn_constants(module: fx.GraphModule, node: fx.Node) -> None:
    """Turns what a map is added to or multiplied with place by place."""
    if node.target not in (torch.ops.aten.add.Tensor, torch.ops.aten.mul.Tensor):
        return
    for place, _, value in list(weights_of(module, node)):
        if value.dim() == 4 and max(value.shape[2:]) > 1:
            arguments = list(node.args)
            arguments[place] = constant(module, node, value.flip((2, 3)), f"turned{place}")
            node.args = tuple(arguments)
