"""Where a graph comes from: a backbone that is built by its name, or one that the caller brings; traced and surveyed.

Graph and survey of a named backbone are the same for every model made of it, whatever its weights, its classes and its
images. So they are made once, without data, and each model gets a copy of the graph over modules of its own.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, fx, nn

from sapool.analysis.classifier import replace_classifier
from sapool.analysis.shapes import ShapeError, image, propagate
from sapool.analysis.survey import Stages, survey
from sapool.analysis.trace import has_attribute, keep_order, trace
from sapool.catalogue.backbones import BACKBONES, PLACES, Pools
from sapool.catalogue.builders import build
from sapool.errors import InputError
from sapool.ir.survey import Survey

_KEPT, _CLASSES, _ANY_SIDE = 64, 1000, 256


class Source:
    """A traced backbone.

    Attributes:
        name: for messages.
        survey: what was found in it.

    Raises:
        InputError: there is no such backbone, or it can't be traced or rewritten; says why.
    """

    name: str
    survey: Survey

    def graph(self, num_classes: int) -> fx.GraphModule:
        """The backbone's graph with weights on the current default device, to be rewritten in place."""
        raise NotImplementedError


class Named(Source):
    """A backbone of the catalogue, or of timm."""

    def __init__(self, name: str) -> None:
        self.name = name
        entry = BACKBONES.get(name)
        # Someone may register another builder under a name.
        self.template, self.survey = _template(name, entry.target if entry else "")

    def graph(self, num_classes: int) -> fx.GraphModule:
        if num_classes == _CLASSES and torch.get_default_device().type == "meta":
            return copy.deepcopy(self.template)
        module = build(self.name, num_classes)
        if _has_constants(self.template):
            return trace(module, self.name)  # tensors that a forward makes belong to the trace
        for path, child in self.template.named_modules():
            if path and not has_attribute(module, path):  # tracing puts modules in the place of functional dropouts
                module_at(module, path.rpartition(".")[0]).add_module(path.rpartition(".")[2], copy.deepcopy(child))
        traced = fx.GraphModule(module, copy.deepcopy(self.template.graph), class_name=type(module).__name__)
        keep_order(traced, module)
        return traced


class Given(Source):
    """The caller's own backbone. A copy of it is traced, once; its graph can be taken once.

    Args:
        module: it.
        stages: paths of its stages' modules; None where they are to be found.
        pools: where a stage's pool goes; None where that is to be found.
        like: what was found in it before; it is taken apart as it was then, where that is possible.
    """

    def __init__(
        self,
        module: nn.Module,
        stages: Stages | None = None,
        pools: Pools | None = None,
        like: Survey | None = None,
    ) -> None:
        self.name = type(module).__name__
        self.traced = trace(copy.deepcopy(module), self.name)
        self.survey = self._found(stages, pools) if like is None else self._again(like)

    def _found(self, stages: Stages | None, pools: Pools | None) -> Survey:
        if pools is not None and pools not in PLACES:
            raise InputError(f"pools: expected {', '.join(PLACES)}, not '{pools}'")
        found = survey(self.traced, self.name, stages=stages)
        return found if pools is None else replace(found, pools=pools)

    def _again(self, like: Survey) -> Survey:
        error = None
        for stages in (None, [stage.modules for stage in like.stages]):
            try:
                found = self._found(stages, like.pools)
            except InputError as refused:
                error = error or refused
                continue
            if found == like:
                return found
        if error is not None:
            raise error
        return self._found(None, None)

    def graph(self, num_classes: int) -> fx.GraphModule:
        (values,) = propagate(self.traced, _ANY_SIDE)
        returned = values[self.traced.graph.output_node().name]
        classes = returned.shape[1] if isinstance(returned, Tensor) and returned.dim() == 2 else 0
        if num_classes and classes and num_classes != classes:  # the model was given another classifier
            replace_classifier(self.traced, num_classes, self.name)
        return self.traced

    def classes(self, size: tuple[int, int], *, features_only: bool) -> int:
        """How many classes it tells apart; 0 where it doesn't, and only maps are wanted.

        Raises:
            InputError: it doesn't take such images, or doesn't classify.
        """
        try:
            (values,) = propagate(self.traced, size)
        except ShapeError as error:
            sides = "x".join(map(str, size))
            raise InputError(f"{self.name} doesn't take images of {sides}: {error} (image_size)") from None
        returned = values[self.traced.graph.output_node().name]
        if isinstance(returned, Tensor) and returned.dim() == 2:
            return int(returned.shape[1])
        if features_only:
            return 0
        raise InputError(
            f"{self.name} doesn't return (N, classes): with features_only=True its stages' maps are returned"
        )

    def channels(self) -> int:
        """How many channels its images have."""
        return int(image(self.traced, 1).shape[1])


@lru_cache(_KEPT)
def _template(name: str, target: str) -> tuple[fx.GraphModule, Survey]:
    """A named backbone's graph, without data, and what was found in it."""
    with torch.device("meta"):
        traced = trace(build(name, _CLASSES), name)
    return traced, survey(traced, name, BACKBONES.get(name))


def _has_constants(module: fx.GraphModule) -> bool:
    return any(node.op == "get_attr" and "_tensor_constant" in str(node.target) for node in module.graph.nodes)


def module_at(module: nn.Module, path: str) -> nn.Module:
    """The submodule at a path, the module itself at ""."""
    return module.get_submodule(path) if path else module
