"""`compile`: from text to a plan, and from a plan to a model."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from sapool.analysis.shapes import on_meta
from sapool.analysis.source import Given, Named, Source
from sapool.catalogue.backbones import BACKBONES, OWN, PUBLISHED, TIMM
from sapool.catalogue.builders import published
from sapool.catalogue.passes import PASSES, check_passes
from sapool.errors import ArchitectureError, InputError, PlanError, WeightsError, did_you_mean
from sapool.grammar import check_strides, parse
from sapool.ir import planner
from sapool.ir.architecture import Architecture
from sapool.ir.options import Dialect, Options
from sapool.ir.plan import Plan
from sapool.ir.plan_file import EarlierPlan, from_json, is_plan_file, read_text
from sapool.ir.survey import Survey
from sapool.ir.validation import check, check_survey
from sapool.model import CompiledModel, Origin
from sapool.passes import rewrite
from sapool.passes.adapt_input import adapt_input
from sapool.passes.driver import Watcher
from sapool.passes.measure import measure
from sapool.passes.record import Log
from sapool.passes.verify import verify
from sapool.weights.authors import convert, in_our_names
from sapool.weights.files import read_state_dict
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

    Raises:
        ArchitectureError: the text isn't of the language.
        InputError: another argument can't be used, the backbone can't be rewritten, or images of that size are too
            small.
        WeightsError: the weights can't be read, or nothing of them fits.
    """
    options = Options(dialect, num_classes, in_chans, image_size, features_only, out_indices)  # type: ignore[arg-type]
    architecture = text if isinstance(text, Architecture) else parse(text, own=backbone is not None)
    source = _source(architecture.backbone, backbone, dialect)
    plan = _plan(architecture, source, options)
    try:
        return _executed(plan, source, weights, backbone)
    except PlanError as error:  # what was planned here is ours to carry out
        raise AssertionError(f"{plan.architecture}: {error}") from error


def make_plan(text: str | Architecture, *, backbone: nn.Module | None = None, **options: Any) -> Plan:
    """What will be done for an architecture: a plan to print, to edit, and to execute.

    Args:
        text: an architecture string, or a parsed one.
        backbone: a network of your own, as for `compile`.
        options: `num_classes`, `in_chans`, `image_size`, `dialect`, `features_only`, `out_indices`, as for `compile`.

    Raises:
        ArchitectureError, InputError: as `compile`.
    """
    architecture = text if isinstance(text, Architecture) else parse(text, own=backbone is not None)
    given = _options(options)
    return _plan(architecture, _source(architecture.backbone, backbone, given.dialect), given)


def execute(
    plan: Plan,
    *,
    weights: Weights | None = None,
    backbone: nn.Module | None = None,
    without: Collection[str] = (),
    watch: Watcher | None = None,
) -> CompiledModel:
    """Carries a plan out: one that `make_plan` made, that was edited, or that comes from a file.

    Args:
        plan: what is done, as it stands; its text isn't asked again.
        weights: as for `compile`.
        backbone: your own network again, where the plan was made for one.
        without: names of passes that are left out. What the plan says of them isn't done then.
        watch: is told of each pass that changed the graph, with its name and the graph.

    Raises:
        PlanError: the plan contradicts itself or its backbone; names the site and the field.
        InputError, WeightsError: as `compile`.
    """
    check_passes(without)
    _check_text(plan, own=backbone is not None)
    source = _source(plan.backbone, backbone, plan.options.dialect)
    check(plan)
    check_survey(plan.survey, source.survey)
    return _executed(plan, source, weights, backbone, without, watch)


def plan_for(text: str | Plan, **options: Any) -> Plan:
    """The plan of a text, or of a plan's file where the text names one; `options` take the place of the plan's own.

    Raises:
        InputError: it can't be read or planned.
    """
    if isinstance(text, Plan) or is_plan_file(text):
        plan = text if isinstance(text, Plan) else read_plan(text)
        return plan.with_options(**options)
    return make_plan(text, **options)


def read_plan(path: str | Path) -> Plan:
    """Reads the file that `sapoolc compile TEXT -o plan.json` wrote, of this version or an earlier one.

    Raises:
        InputError: it isn't a plan, or can't be read.
    """
    found = from_json(read_text(path), str(path))
    return _renewed(found) if isinstance(found, EarlierPlan) else found


def _renewed(earlier: EarlierPlan) -> Plan:
    """A plan of the format before this one, which didn't say what was found in the backbone."""
    plan = make_plan(earlier.architecture, **earlier.options)
    for site in earlier.sites:
        now = next((found for found in plan.sites if found.name == site["name"]), None)
        kind = site["kind"] or "skip"
        if now is None or (kind, site["stride"]) == (now.pool.kind if now.pool else "skip", now.stride):
            continue
        numbers = {name: site[name] for name in ("heads", "patch") if site[name] is not None}
        plan = plan.with_pool(site["name"], kind, stride=site["stride"], window=site["window"] is not False, **numbers)
    return plan


def edits(plan: Plan) -> tuple[str, ...]:
    """Where a plan differs from what its text says, in words: `stage3.pool.kind: nlp -> lip`."""
    own = planner.make_plan(parse(plan.architecture), plan.survey, plan.options)
    if own.sites == tuple(replace(site, map=None) for site in plan.sites):
        return ()
    pairs = zip(own.sites, plan.sites, strict=True)
    return tuple(
        f"{name}: {json.dumps(before)} -> {json.dumps(after)}"
        for ours, theirs in pairs
        for name, before, after in _differences(ours.name, asdict(ours), asdict(replace(theirs, map=None)))
    )


def _differences(name: str, before: Any, after: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        return [found for key in before for found in _differences(f"{name}.{key}", before[key], after[key])]
    return [] if before == after else [(name, before, after)]


def survey(backbone: str | nn.Module) -> Survey:
    """What there is to rewrite in a backbone: its stem, its stages and their strides, as measured.

    Args:
        backbone: a name of the catalogue, `timm:NAME`, or a network of your own.

    Raises:
        InputError: there is no such backbone, or it can't be rewritten; says why.
    """
    if isinstance(backbone, nn.Module):
        return Given(backbone).survey
    if backbone not in BACKBONES and not backbone.startswith(TIMM):
        hint = did_you_mean(backbone, BACKBONES)
        raise InputError(f"there is no backbone '{backbone}' (sapoolc list backbones).{hint}")
    return Named(backbone).survey


def baseline(plan: Plan, own: nn.Module | None = None) -> fx.GraphModule:
    """A plan's backbone as its builder, or its owner, made it, for the plan's images; without data."""
    if own is not None:
        return Given(own).traced
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


def _options(given: dict[str, Any]) -> Options:
    unknown = [name for name in given if name not in Options.__dataclass_fields__]
    if unknown:
        raise TypeError(f"there is no option {unknown[0]}.{did_you_mean(unknown[0], Options.__dataclass_fields__)}")
    return Options(**given)


def _source(name: str, backbone: nn.Module | None, dialect: Dialect) -> Source:
    if dialect == "paper" and name not in PUBLISHED:
        known = ", ".join(PUBLISHED)
        raise InputError(f"dialect: 'paper' is of the published networks, {known}; {name} isn't one of them")
    if backbone is None:
        return Named(name)
    if name != OWN:
        raise InputError(f"with a backbone of your own the text has no name for one: leave out '{name}', or backbone=")
    return Given(backbone)


def _plan(architecture: Architecture, source: Source, options: Options) -> Plan:
    check_strides(architecture, source.survey.unchanged)
    if isinstance(source, Given):
        classes = source.classes(options.image_size, features_only=options.features_only)
        options = replace(options, num_classes=classes, in_chans=source.channels())
    return planner.make_plan(architecture, source.survey, options)


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
    if weights is not None:
        loaded = (
            published(plan.backbone) if isinstance(weights, str) and weights == "DEFAULT" else _read(weights, model)
        )
        model.with_transfer(transfer(model, loaded))
    return model


def _read(weights: str | Path | Mapping[str, Tensor], model: CompiledModel) -> dict[str, Tensor]:
    state = weights if isinstance(weights, Mapping) else read_state_dict(weights)
    return in_our_names(state, model.state_dict(), model.plan)
