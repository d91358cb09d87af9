"""`compile`: from text to a model, the whole way."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, fx, nn

from sapool.analysis.shapes import ShapeError, on_meta, propagate
from sapool.analysis.survey import Survey, survey
from sapool.analysis.trace import trace
from sapool.catalogue.backbones import BACKBONES, OWN, PUBLISHED, TIMM, has_paper_dialect
from sapool.catalogue.builders import build, published
from sapool.errors import InputError, did_you_mean
from sapool.grammar import parse
from sapool.ir.architecture import Architecture
from sapool.ir.plan import Dialect, Plan, make_plan
from sapool.model import CompiledModel, Origin
from sapool.passes import rewrite
from sapool.passes.record import Log
from sapool.passes.verify import verify
from sapool.weights.authors import in_our_names
from sapool.weights.initialization import initialize
from sapool.weights.transfer import read_checkpoint, state_dict_in, transfer


def compile(
    text: str | Architecture,
    *,
    num_classes: int = 1000,
    weights: Literal["DEFAULT"] | str | Path | None = None,
    dialect: Dialect = "torchvision",
    image_size: int = 224,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    backbone: nn.Module | None = None,
) -> CompiledModel:
    """Compiles an architecture into a model.

    Args:
        text: an architecture string, such as `prepool-nlp-4-resnet18-nlp-1222`, or a parsed one.
        num_classes: outputs of the classifier.
        weights: None for random ones, "DEFAULT" for the builder's published ones, or a path to a checkpoint: a state
            dict in the builder's naming, in ours, or in that of the authors' code. What doesn't fit stays as
            initialised; `model.transfer` tells.
        dialect: "torchvision", or "paper" for the published network where the two differ.
        image_size: side of the square images that shapes are measured with. The model takes other sizes too.
        features_only: return a list of feature maps in place of logits.
        out_indices: which of them, from 0 as in timm; None for all.
        backbone: a network of your own, (N, 3, H, W) to (N, classes), whose name the text then leaves out: `nlp-1222`.
            It stays as it is; the model has a copy of its weights, and as many classes.

    Raises:
        ArchitectureError: the text isn't of the language.
        InputError: another argument can't be used, the backbone can't be rewritten, or images of that size are too
            small.
        WeightsError: the weights can't be read, or nothing of them fits.
    """
    architecture = parse(text, own=backbone is not None) if not isinstance(text, Architecture) else text
    _check(dialect, num_classes, image_size, features_only, out_indices)
    _check_backbone(architecture, backbone, dialect, weights)
    indices = None if out_indices is None else tuple(out_indices)
    module, plan, log = assemble(
        architecture,
        dialect=dialect,
        num_classes=num_classes,
        image_size=image_size,
        features_only=features_only,
        out_indices=indices,
        backbone=backbone,
    )
    measured = verify(module, plan)
    origin = Origin(
        plan=plan.with_maps(measured.maps),
        rewrites=tuple(log.rewrites),
        refusals=tuple(log.refusals),
        passes=tuple(log.runs),
        features=measured.features,
        own=None if backbone is None else on_meta(backbone),
    )
    model = CompiledModel.of(module, origin)
    initialize(model, model.plan)
    if weights is not None:
        loaded = published(plan.backbone) if weights == "DEFAULT" else _read(weights, architecture)
        model.with_transfer(transfer(model, loaded))
    return model


def assemble(
    architecture: Architecture,
    *,
    dialect: Dialect = "torchvision",
    num_classes: int = 1000,
    image_size: int = 224,
    features_only: bool = False,
    out_indices: tuple[int, ...] | None = None,
    backbone: nn.Module | None = None,
) -> tuple[fx.GraphModule, Plan, Log]:
    """The rewritten graph, its plan and what the passes reported, not yet verified or measured."""
    name = architecture.backbone
    if backbone is None:
        module = trace(build(name, num_classes), name)
    else:
        name = type(backbone).__name__
        module = trace(copy.deepcopy(backbone), name)
        num_classes = _classes_of(module, name, image_size, features_only=features_only)
    plan = make_plan(
        architecture,
        survey(module, name, BACKBONES.get(architecture.backbone)),
        dialect=dialect,
        num_classes=num_classes,
        image_size=image_size,
        features_only=features_only,
        out_indices=out_indices,
    )
    return module, plan, rewrite(module, plan)


def examine(backbone: str | nn.Module) -> Survey:
    """What there is to rewrite in a backbone: its stem, its stages and their strides, as measured.

    Args:
        backbone: a name of the catalogue, `timm:NAME`, or a network of your own.

    Raises:
        InputError: there is no such backbone, or it can't be rewritten; says why.
    """
    if isinstance(backbone, nn.Module):
        name = type(backbone).__name__
        return survey(trace(copy.deepcopy(backbone), name), name)
    if backbone not in BACKBONES and not backbone.startswith(TIMM):
        hint = did_you_mean(backbone, BACKBONES)
        raise InputError(f"there is no backbone '{backbone}' (sapoolc list backbones).{hint}")
    with torch.device("meta"):
        return survey(trace(build(backbone, 1000), backbone), backbone, BACKBONES.get(backbone))


def unmodified(model: CompiledModel) -> fx.GraphModule:
    """A model's backbone as its builder, or its owner, made it, without numbers."""
    if model.origin.own is not None:
        return trace(copy.deepcopy(model.origin.own))
    with torch.device("meta"):
        return trace(build(model.plan.backbone, model.plan.num_classes), model.plan.backbone)


def _classes_of(module: fx.GraphModule, name: str, size: int, *, features_only: bool) -> int:
    """How many classes a backbone of the caller's tells apart."""
    try:
        (values,) = propagate(module, size)
    except ShapeError as error:
        raise InputError(f"{name} doesn't take images of {size}x{size}: {error} (image_size)") from None
    returned = values[module.graph.output_node().name]
    if isinstance(returned, Tensor) and returned.dim() == 2:
        return int(returned.shape[1])
    if features_only:
        return 0
    raise InputError(f"{name} doesn't return (N, classes): with features_only=True its stages' maps are returned")


def _check_backbone(
    architecture: Architecture, backbone: nn.Module | None, dialect: Dialect, weights: str | Path | None
) -> None:
    name = architecture.backbone
    if backbone is not None and name != OWN:
        raise InputError(f"with a backbone of your own the text has no name for one: leave out '{name}', or backbone=")
    if backbone is not None and weights == "DEFAULT":
        raise InputError("weights: a backbone of your own has no published weights; its own are kept")
    if dialect == "paper" and not has_paper_dialect(name):
        known = ", ".join((*PUBLISHED, f"{TIMM}mobilenetv2_..."))
        raise InputError(f"dialect: 'paper' is of the published networks, {known}; {name} isn't one of them")


def _check(
    dialect: str, num_classes: int, image_size: int, features_only: bool, out_indices: Sequence[int] | None
) -> None:
    if dialect not in get_args(Dialect):
        raise InputError(f"dialect: expected {' or '.join(get_args(Dialect))}, not '{dialect}'")
    if num_classes < 1:
        raise InputError(f"num_classes: expected a positive number, not {num_classes}")
    if image_size < 1:
        raise InputError(f"image_size: expected a positive number of pixels, not {image_size}")
    if out_indices is not None and not features_only:
        raise InputError("out_indices chooses among feature maps: it needs features_only=True")
    if out_indices is not None and (not out_indices or len(set(out_indices)) != len(out_indices)):
        raise InputError(f"out_indices: expected different stage numbers, not {list(out_indices)}")


def _read(path: str | Path, architecture: Architecture) -> dict[str, Tensor]:
    state = state_dict_in(read_checkpoint(path), path)
    return in_our_names(state, architecture)
