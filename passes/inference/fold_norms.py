"""Inference: batch norms become part of the convolutions before them."""

from __future__ import annotations

import copy

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sapool.ir.plan import Plan
from sapool.passes.record import Log
from sapool.poolings.dynamic import DynamicConv2d


def fold_norms(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Folds each batch norm whose convolution feeds nothing else, in the backbone and inside the pools.

    Exact in eval mode: γ(Wx + b − μ)/σ + β is a convolution with W' = γW/σ and b' = γ(b − μ)/σ + β.
    """
    for node in list(module.graph.find_nodes(op="call_module")):
        norm = module.get_submodule(str(node.target))
        if isinstance(norm, BatchNorm):
            _fold_node(module, node, norm, log)
        elif str(node.target).startswith("pools."):
            for path, child in norm.named_modules():
                if isinstance(child, nn.Sequential):
                    _fold_sequence(child, f"{node.target}.{path}", str(node.target), log)


def _fold_node(module: fx.GraphModule, node: fx.Node, norm: BatchNorm, log: Log) -> None:
    source, path = node.args[0], str(node.target)
    conv = (
        module.get_submodule(str(source.target)) if isinstance(source, fx.Node) and source.op == "call_module" else None
    )
    if not isinstance(source, fx.Node) or not _is_plain(conv):
        log.refused("", path, "no plain convolution stands right before it")
        return
    if len(source.users) > 1 or len(module.graph.find_nodes(op="call_module", target=source.target)) > 1:
        log.refused("", path, f"{source.target} is also used elsewhere")
        return
    assert isinstance(conv, (nn.Conv2d, DynamicConv2d))
    module.set_submodule(str(source.target), folded(conv, norm))
    rest = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if part is not None]
    if any(not isinstance(part, nn.Identity) for part in rest):
        module.set_submodule(path, nn.Sequential(*rest))  # timm's norms bring their activation
    else:
        node.replace_all_uses_with(source)
        source.meta.update({key: node.meta[key] for key in ("feature",) if key in node.meta})
        module.graph.erase_node(node)
    log.rewrote("", path, "batch norm", f"folded into {source.target}")


def _is_plain(conv: nn.Module | None) -> bool:
    """Whether a module convolves with its weight as it is, which those derived from torch's may not."""
    return type(conv) in (nn.Conv2d, DynamicConv2d) or type(conv).__name__ == "Conv2dSame"


def _fold_sequence(sequence: nn.Sequential, path: str, site: str, log: Log) -> None:
    for name, after in zip(list(sequence._modules), list(sequence._modules)[1:], strict=False):
        conv, norm = sequence._modules[name], sequence._modules[after]
        if isinstance(conv, (nn.Conv2d, DynamicConv2d)) and isinstance(norm, BatchNorm):
            sequence._modules[name], sequence._modules[after] = folded(conv, norm), nn.Identity()
            log.rewrote(site.removeprefix("pools."), f"{path}.{after}", "batch norm", f"folded into {path}.{name}")


def folded(conv: nn.Conv2d | DynamicConv2d, norm: BatchNorm) -> nn.Conv2d | DynamicConv2d:
    """A convolution that does what `conv` and then `norm` do in eval mode."""
    if isinstance(conv, nn.Conv2d) and conv.weight.is_meta:  # without numbers, one with a bias
        conv = copy.deepcopy(conv).eval()
        conv.bias = nn.Parameter(conv.weight.new_empty(conv.out_channels))
        return conv
    conv, norm = copy.deepcopy(conv).eval(), copy.deepcopy(norm).eval()
    if isinstance(conv, nn.Conv2d):
        return fuse_conv_bn_eval(conv, norm)
    # Shares of the kernels add up to one, so a shift of every kernel's bias is a shift of their mixture's.
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = conv.bias if conv.bias is not None else torch.zeros_like(conv.weight[:, :, 0, 0, 0])
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    conv.bias = nn.Parameter((bias - norm.running_mean) * scale + norm.bias)
    return conv
