"""Which channels stay: torch-pruning ranks the groups of channels that must go together, over the whole network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from sapool.errors import InputError, first_line
from sapool.model import CompiledModel
from sapool.prune.surrogate import surrogate

Importance = Literal["magnitude", "batchnorm"]
_LARGEST = 0.9
"""Of a layer, at most this part goes: what is left must still tell something apart."""

_KNOWN = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.PReLU)


@dataclass(frozen=True)
class Kept:
    """What stays of a network.

    Attributes:
        outputs, inputs: of each layer that lost channels, by path, the numbers of those that stay, ascending.
        state: the plain layers' tensors, narrowed.
    """

    outputs: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor]
    state: Mapping[str, Tensor]


def select(model: CompiledModel, ratio: float, importance: Importance, round_to: int) -> Kept:
    """Chooses the least important channels of a whole network.

    Args:
        model: stays as it is.
        ratio: which part of all channels goes, from 0 to 1.
        importance: `magnitude`, the mean square norm of everything that belongs to a channel, relative to its group's
            mean (Fang et al., "DepGraph", CVPR 2023); `batchnorm`, its batch norms' scales (Liu et al., "Network
            Slimming", ICCV 2017).
        round_to: layers keep multiples of so many channels.

    Raises:
        InputError: torch-pruning isn't installed, or can't follow the network.
    """
    library = import_torch_pruning()
    twin = surrogate(model)
    names = {layer: path for path, layer in twin.named_modules()}
    measures = {
        "magnitude": library.importance.GroupMagnitudeImportance,
        "batchnorm": library.importance.BNScaleImportance,
    }
    example = torch.zeros(2, model.plan.options.in_chans, *model.plan.options.image_size)
    try:
        with warnings.catch_warnings(), torch.enable_grad():  # it traces what autograd records
            warnings.simplefilter("ignore")
            pruner = _pruner(library)(
                twin,
                example,
                importance=measures[importance](),
                global_pruning=True,
                pruning_ratio=ratio,
                round_to=round_to,
                # Its own defaults are one dictionary for all, which would keep every network alive.
                in_channel_groups={},
                out_channel_groups={},
                num_heads={},
                ignored_layers=[twin.get_submodule(path) for path in _returned(model)],
            )
            layers = _Layers(pruner.DG, names)
            for group in pruner.step(interactive=True):
                if layers.can_prune(group):
                    layers.note(group)
                    group.prune()
    except (RuntimeError, AssertionError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        reason = first_line(error)
        raise InputError(
            f"{model.plan.architecture} can't be pruned: torch-pruning doesn't follow it ({reason})"
        ) from None
    return Kept(layers.kept(layers.outputs), layers.kept(layers.inputs), twin.state_dict())


def _pruner(library: ModuleType) -> Any:
    """torch-pruning's, which otherwise rounds down, to no channels at all, and leaves such layers whole."""

    class Pruner(library.BasePruner):  # type: ignore[name-defined, misc]
        def _round_to(self, n_pruned: int, current_channels: int, round_to: int) -> int:
            left = max(current_channels - n_pruned, current_channels * (1 - _LARGEST))
            return int(max(current_channels - math.ceil(left / round_to) * round_to, 0))

    return Pruner


def _returned(model: CompiledModel) -> list[str]:
    """Paths of the layers whose outputs the model returns: their number is somebody else's."""
    if model.plan.options.features_only:
        return []
    (node,) = model.graph.output_node().all_input_nodes
    while not (node.op == "call_module" and any(True for _ in _layer(model, node).parameters())):
        node = node.all_input_nodes[0]
    return [str(node.target)]


def _layer(model: CompiledModel, node: fx.Node) -> nn.Module:
    return model.get_submodule(str(node.target))


class _Layers:
    """Keeps account of the channels that go, under the numbers that they had at first."""

    def __init__(self, graph: Any, names: Mapping[nn.Module, str]) -> None:
        self.graph, self.names = graph, names
        self.outputs: dict[str, list[int]] = {}
        self.inputs: dict[str, list[int]] = {}

    def can_prune(self, group: Any) -> bool:
        """Whether everything in a group is of a kind that is narrowed here, and something of each layer is left."""
        layers = [dep.target.module for dep, _ in group]
        known = all(isinstance(layer, _KNOWN) for layer in layers if layer in self.names or isinstance(layer, Tensor))
        return known and bool(self.graph.check_pruning_group(group))

    def note(self, group: Any) -> None:
        """Records a group before it is pruned."""
        for dep, numbers in group:
            layer = dep.target.module
            path = self.names.get(layer)
            if path is None:  # an operation without parameters
                continue
            is_output = self.graph.is_out_channel_pruning_fn(dep.handler)
            own = isinstance(layer, (nn.BatchNorm2d, nn.PReLU)) or (
                isinstance(layer, nn.Conv2d) and _is_depthwise(layer)
            )
            for side, chosen in ((self.outputs, is_output or own), (self.inputs, not is_output or own)):
                if chosen:
                    left = side.setdefault(path, list(range(_width(layer, is_output=side is self.outputs))))
                    gone = set(numbers)
                    side[path] = [number for place, number in enumerate(left) if place not in gone]

    @staticmethod
    def kept(side: Mapping[str, list[int]]) -> Mapping[str, Tensor]:
        """As tensors of indices."""
        return MappingProxyType({path: torch.tensor(numbers) for path, numbers in side.items()})


def _is_depthwise(layer: nn.Conv2d) -> bool:
    return layer.groups == layer.out_channels > 1


def _width(layer: nn.Module, *, is_output: bool) -> int:
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels if is_output else layer.in_channels
    if isinstance(layer, nn.Linear):
        return layer.out_features if is_output else layer.in_features
    return layer.num_features if isinstance(layer, nn.BatchNorm2d) else len(layer.get_parameter("weight"))


def import_torch_pruning() -> ModuleType:
    """torch-pruning, which is an extra.

    Raises:
        InputError: it isn't installed.
    """
    try:
        import torch_pruning  # noqa: PLC0415 - an extra
    except ImportError:
        raise InputError('pruning needs torch-pruning: pip install "sapool[prune]"') from None
    module: ModuleType = torch_pruning
    return module
