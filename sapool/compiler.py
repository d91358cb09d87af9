"""`compile`: from text to a model, the whole way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from torch import Tensor, fx
from torchvision import models

from sapool.architecture import Architecture
from sapool.backbones import BACKBONES
from sapool.errors import InputError, WeightsError
from sapool.grammar import parse
from sapool.model import CompiledModel, Origin
from sapool.passes import rewrite
from sapool.passes.record import Log
from sapool.passes.trace import trace
from sapool.passes.verify import verify
from sapool.plan import Dialect, Plan, make_plan
from sapool.reference import convert_what_fits, is_reference
from sapool.survey import survey
from sapool.weights import read_checkpoint, state_dict_in, transfer


def compile(
    text: str | Architecture,
    *,
    num_classes: int = 1000,
    weights: Literal["DEFAULT"] | str | Path | None = None,
    dialect: Dialect = "torchvision",
    image_size: int = 224,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> CompiledModel:
    """Compiles an architecture into a model.

    Args:
        text: an architecture string, such as `prepool-nlp-4-resnet18-nlp-1222`, or a parsed one.
        num_classes: outputs of the classifier.
        weights: None for random ones, "DEFAULT" for the builder's published ones, or a path to a checkpoint: a state
            dict in torchvision's naming, in ours, or in that of the authors' code. What doesn't fit stays as
            initialised; `model.transfer` tells.
        dialect: "torchvision", or "paper" for the published network where the two differ.
        image_size: side of the square images that shapes are measured with. The model takes other sizes too.
        features_only: return a list of feature maps in place of logits.
        out_indices: which of them, from 0 as in timm; None for all.

    Raises:
        ArchitectureError: the text isn't of the language.
        InputError: another argument can't be used, or images of that size are too small.
        WeightsError: the weights can't be read, or nothing of them fits.
    """
    architecture = parse(text) if not isinstance(text, Architecture) else text
    _check(dialect, num_classes, image_size, features_only, out_indices)
    indices = None if out_indices is None else tuple(out_indices)
    module, plan, log = assemble(
        architecture,
        dialect=dialect,
        num_classes=num_classes,
        image_size=image_size,
        features_only=features_only,
        out_indices=indices,
    )
    measured = verify(module, plan)
    origin = Origin(
        plan=plan.with_maps(measured.maps),
        rewrites=tuple(log.rewrites),
        refusals=tuple(log.refusals),
        passes=tuple(log.runs),
        features=measured.features,
    )
    model = CompiledModel.of(module, origin)
    if weights is not None:
        published = weights == "DEFAULT"
        loaded = _published(BACKBONES[plan.backbone].builder) if published else _read(weights, architecture)
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
) -> tuple[fx.GraphModule, Plan, Log]:
    """The rewritten graph, its plan and what the passes reported, not yet verified or measured."""
    backbone = BACKBONES[architecture.backbone]
    module = trace(models.get_model(backbone.builder, weights=None, num_classes=num_classes))
    plan = make_plan(
        architecture,
        survey(module, backbone),
        dialect=dialect,
        num_classes=num_classes,
        image_size=image_size,
        features_only=features_only,
        out_indices=out_indices,
    )
    return module, plan, rewrite(module, plan)


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


def _published(builder: str) -> dict[str, Tensor]:
    """The builder's default published weights, from torchvision's cache or its hub."""
    entry = models.get_model_weights(builder)["DEFAULT"]
    try:
        return dict(entry.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:  # no network, or a file that isn't what its hash says
        raise WeightsError(
            f"the published weights {entry} can't be fetched from {entry.url} ({error}); download that file elsewhere "
            "and give its path as weights"
        ) from None


def _read(path: str | Path, architecture: Architecture) -> dict[str, Tensor]:
    state = state_dict_in(read_checkpoint(path), path)
    return convert_what_fits(state, architecture) if is_reference(state) else state
