"""`compile` and `execute`: from a plan to a model."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, fx, nn

from sapool.analysis.shapes import on_meta
from sapool.analysis.source import Named, Source
from sapool.analysis.survey import Stages
from sapool.analysis.trace import trace
from sapool.catalogue.backbones import PUBLISHED, Pools
from sapool.catalogue.builders import published
from sapool.catalogue.passes import PASSES, check_passes
from sapool.errors import ArchitectureError, InputError, PlanError, WeightsError
from sapool.grammar import parse
from sapool.ir.architecture import Architecture
from sapool.ir.options import Dialect, Options
from sapool.ir.plan import Plan
from sapool.ir.validation import check, check_survey
from sapool.model import CompiledModel, Origin
from sapool.passes import rewrite
from sapool.passes.adapt_input import adapt_input
from sapool.passes.driver import Watcher
from sapool.passes.measure import measure
from sapool.passes.record import Log
from sapool.passes.verify import verify
from sapool.planning import plan_on, source_of
from sapool.weights.authors import convert, in_our_names
from sapool.weights.files import read_state_dict
from sapool.weights.initialization import PoolsStart, initialize
from sapool.weights.transfer import transfer

Weights = Literal["DEFAULT"] | str | Path | Mapping[str, Tensor]


def compile(
    text: str | Architecture,
    *,
    num_classes: int = 1000,
    in_chans: int = 3,
    weights: Weights | None = None,
    dialect: Dialect = "torchvision",
    image_size: int | tuple[int, int] = 224,
    features_only: bool = False,
    out_indices: Collection[int] | None = None,
    backbone: nn.Module | None = None,
    stages: Stages | None = None,
    pools: Pools | None = None,
    pools_start: PoolsStart = "backbone",
) -> CompiledModel:
    """Compiles an architecture into a model: plans it, and carries the plan out.

    Args:
        text: an architecture string, such as `prepool-nlp-4-resnet18-nlp-1222`, or a parsed one.
        num_classes: outputs of the classifier.
        in_chans: channels of the images. Pretrained weights of the first convolution are adapted.
        weights: None for random ones, "DEFAULT" for the builder's published ones, a state dict, or a path to a
            checkpoint: in the builder's naming, in ours, or in that of the authors' code. What doesn't fit stays as
            initialised; `model.transfer` tells.
        dialect: "torchvision", or "paper" for the published network where the two differ.
        image_size: side of the square images that shapes are measured with, or (height, width). The model takes other
            sizes too.
        features_only: return a list of feature maps in place of logits.
        out_indices: which of them, from 0 as in timm; None for all.
        backbone: a network of your own, (N, C, H, W) to (N, classes), whose name the text then leaves out: `nlp-1222`.
            It stays as it is; the model has a copy of its weights, and its channels and classes.
        stages: of that network, paths of its stages' modules in order, such as `["layer1", "layer2"]`; several paths in
            a list are one stage. None where they are to be found; `sapool.survey` tells what is.
        pools: of that network, where a stage's pool goes: `before`, `first` or `last` of its blocks; None as is usual.
        pools_start: how the pools' convolutions and linear layers start: as the backbone's do, which is published, or
            "torch", as PyTorch builds them.

    Raises:
        ArchitectureError: the text isn't of the language.
        InputError: another argument can't be used, the backbone can't be rewritten, or images of that size are too
            small.
        WeightsError: the weights can't be read, or nothing of them fits.
    """
    options = Options(dialect, num_classes, in_chans, image_size, features_only, out_indices)  # type: ignore[arg-type]
    architecture = text if isinstance(text, Architecture) else parse(text, own=backbone is not None)
    source = source_of(architecture.backbone, backbone, dialect, stages, pools)
    plan = plan_on(architecture, source, options)
    try:
        return _executed(plan, source, weights, backbone, pools_start=pools_start)
    except PlanError as error:  # what was planned here is ours to carry out
        raise AssertionError(f"{plan.architecture}: {error}") from error


def execute(
    plan: Plan,
    *,
    weights: Weights | None = None,
    backbone: nn.Module | None = None,
    without: Collection[str] = (),
    watch: Watcher | None = None,
    pools_start: PoolsStart = "backbone",
) -> CompiledModel:
    """Carries a plan out: one that `make_plan` made, that was edited, or that comes from a file.

    Args:
        plan: what is done, as it stands; its text isn't asked again.
        weights: as for `compile`.
        backbone: your own network again, where the plan was made for one.
        without: names of passes that are left out. What the plan says of them isn't done then.
        watch: is told of each pass: its name, the graph as it is then, and whether it rewrote something.
        pools_start: as for `compile`.

    Raises:
        PlanError: the plan contradicts itself or its backbone; names the site and the field.
        InputError, WeightsError: as `compile`.
    """
    check_passes(without)
    _check_text(plan, own=backbone is not None)
    source = source_of(plan.backbone, backbone, plan.options.dialect, like=plan.survey)
    check(plan)
    check_survey(plan.survey, source.survey)
    return _executed(plan, source, weights, backbone, without, watch, pools_start)


def baseline(plan: Plan, own: nn.Module | None = None) -> fx.GraphModule:
    """A plan's backbone as its builder, or its owner, made it, for the plan's images; without data."""
    if own is not None:
        return trace(copy.deepcopy(own), type(own).__name__)
    with torch.device("meta"):
        module = Named(plan.backbone).graph(plan.options.num_classes)
        adapt_input(module, plan, Log())
    return module


def convert_reference_state_dict(
    state_dict: Mapping[str, Tensor], architecture: Architecture | str
) -> dict[str, Tensor]:
    """Renames a state dict of the published code to the keys of the compiled model (`dialect="paper"`).

    Tensors are handed on as they are. Keys may begin with `module.` and `net.`.

    Args:
        state_dict: the authors' names to tensors.
        architecture: which network they are of, as text or parsed.

    Raises:
        WeightsError: a key fits nowhere in that network; names it. Or nothing was published of that backbone.
    """
    parsed = parse(architecture) if isinstance(architecture, str) else architecture
    if parsed.backbone not in PUBLISHED:
        raise WeightsError(f"the authors' checkpoints are of {', '.join(PUBLISHED)}, not of {parsed.backbone}")
    with torch.device("meta"):
        model = compile(parsed, dialect="paper")
    return convert(state_dict, model.state_dict(), model.plan)


def _check_text(plan: Plan, *, own: bool) -> None:
    """A plan's text names it; it has to be of the language, and of that backbone."""
    try:
        written = parse(plan.architecture, own=own)
    except ArchitectureError as error:
        raise PlanError("", "architecture", f"it isn't of the language: {error.problem}") from None
    for name, value, right in (
        ("architecture", plan.architecture, str(written)),
        ("backbone", plan.backbone, written.backbone),
        ("dynamic", plan.dynamic, written.dynamic),
    ):
        if value != right:
            raise PlanError("", name, f"the architecture '{plan.architecture}' means {right}, not {value}")


def _executed(
    plan: Plan,
    source: Source,
    weights: Weights | None,
    backbone: nn.Module | None,
    without: Collection[str] = (),
    watch: Watcher | None = None,
    pools_start: PoolsStart = "backbone",
) -> CompiledModel:
    if backbone is not None and isinstance(weights, str) and weights == "DEFAULT":
        raise InputError("weights: a backbone of your own has no published weights; its own are kept")
    module = source.graph(plan.options.num_classes)
    log = rewrite(module, plan, without=without, watch=watch)
    measured = measure(module, plan)
    if not without:
        verify(module, plan, measured)
    origin = Origin(
        plan=plan.with_maps(measured.maps),
        rewrites=tuple(log.rewrites),
        refusals=tuple(log.refusals),
        passes=tuple(log.runs),
        features=measured.features,
        guests=tuple(entry.name for entry in PASSES.values() if entry.target and entry.name not in without),
        without=tuple(without),
        own=None if backbone is None else on_meta(backbone),
    )
    model = CompiledModel.of(module, origin)
    initialize(model, model.plan, pools_start)
    if weights is not None:
        loaded = (
            published(plan.backbone) if isinstance(weights, str) and weights == "DEFAULT" else _read(weights, model)
        )
        model.with_transfer(transfer(model, loaded, plan.backbone))
    return model


def _read(weights: str | Path | Mapping[str, Tensor], model: CompiledModel) -> dict[str, Tensor]:
    state = weights if isinstance(weights, Mapping) else read_state_dict(weights)
    return in_our_names(state, model.state_dict(), model.plan)
