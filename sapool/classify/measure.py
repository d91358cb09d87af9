"""Weights from elsewhere to a number: what a checkpoint, the authors' own included, gets right on a test set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torchmetrics.classification import MulticlassAccuracy

from sapool.catalogue.backbones import PUBLISHED
from sapool.catalogue.data_sets import DATA_SETS
from sapool.classify.data.module import DataModule
from sapool.classify.published import table
from sapool.compiler import compile
from sapool.errors import InputError, WeightsError, some_of
from sapool.grammar import parse
from sapool.ir.architecture import Architecture
from sapool.model import CompiledModel
from sapool.model_file import load
from sapool.recipes.inputs import Sides, size_text
from sapool.recipes.reading import explained
from sapool.recipes.settings import Recipe
from sapool.runs.results import Result, Table
from sapool.weights.authors import is_reference
from sapool.weights.files import read_checkpoint, state_dict_in
from sapool.weights.recognition import folded

TOP = 5
_SUFFIXES = (".pt", ".pth")
_PUBLISHED_SIZE = 128


@dataclass(frozen=True)
class Measurement(Result):
    """What a model gets right on the test images of a data set.

    Attributes:
        architecture: canonical text.
        dialect: whose network it is.
        data: the data set.
        image_size: side of the images in pixels, or (height, width).
        images: how many.
        top1, top5: parts of them, from 0 to 1.
        per_class: top-1 by class.
        told: the accuracy that the checkpoint itself tells, and its epoch, where it does.
        published: the accuracy in the authors' log of that network on images of that size, where there is one.
    """

    architecture: str
    dialect: str
    data: str
    image_size: int | Sides
    images: int
    top1: float
    top5: float
    per_class: dict[str, float]
    told: dict[str, float]
    published: float | None

    def report(self) -> tuple[Table | str, ...]:
        rows = [
            ("architecture", self.architecture),
            ("dialect", self.dialect),
            ("data", self.data),
            ("image size", size_text(self.image_size)),
            ("test images", str(self.images)),
            ("top1", f"{self.top1:.6g}"),
            (f"top{TOP}", f"{self.top5:.6g}"),
            *((f"{name} in the checkpoint", f"{value:.6g}") for name, value in self.told.items()),
            *([("accuracy in the authors' log", str(self.published))] if self.published is not None else []),
        ]
        classes = tuple((name, f"{value:.4f}") for name, value in self.per_class.items())
        return Table(("result", "value"), tuple(rows)), Table(("class", "accuracy"), classes, "per class")

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    source: str | Path,
    data: str,
    *,
    weights: str | Path | None = None,
    root: str | Path | None = None,
    image_size: int | Sides | None = None,
    in_chans: int | None = None,
    dialect: str | None = None,
    batch_size: int = 32,
    workers: int = 0,
) -> Measurement:
    """Measures a network's accuracy on a data set's test images, with weights that come from a file.

    Args:
        source: an architecture string, or a model that `sapool.save` wrote, with its own weights.
        data: name of the data set.
        weights: for an architecture, a checkpoint: the authors', torchvision's, a trainer's; or "DEFAULT".
        root: the folder that holds the data; None for the user's cache.
        image_size: side of the images, or (height, width); None for the model's own, that of the authors' runs, or the
            data set's.
        in_chans: channels of the images; None for the model's own, or 3.
        dialect: None for the paper's where the weights are in the authors' naming, and torchvision's otherwise.
        batch_size: images at once.
        workers: processes that load data.

    Raises:
        InputError: the text, the model, the data or an option can't be used.
        WeightsError: the weights aren't whole: a tensor is missing, or one of theirs fits nowhere.
    """
    path = Path(source)
    if path.suffix in _SUFFIXES:
        if weights is not None:
            raise InputError(f"{path} has its own weights; give an architecture to measure others")
        own: CompiledModel | None = load(path)
        assert own is not None
        text, dialect, told = own.plan.architecture, own.plan.options.dialect, {}
        options = own.plan.options
        image_size = image_size or options.image_size
        if in_chans not in (None, options.in_chans):
            raise InputError(f"in_chans: {path} takes images of {options.in_chans} channels, not of {in_chans}")
        in_chans = options.in_chans
    elif weights is None:
        raise InputError(f"which weights of {source}? Name a checkpoint, or DEFAULT")
    else:
        own, parsed = None, parse(str(source))
        text, found = str(parsed), _Weights(str(weights), parsed)
        dialect, told = dialect or found.dialect, found.told
        image_size = image_size or _usual_size(text, data)
    recipe = _recipe(text, dialect, data, root, image_size, batch_size, workers, in_chans or 3)
    module = DataModule(recipe)
    model = own if own is not None else _whole(recipe, len(module.classes), str(weights))
    if model.plan.options.num_classes != len(module.classes):
        raise InputError(
            f"{source} tells {model.plan.options.num_classes} classes apart, and {data} has {len(module.classes)}"
        )
    top1, top5, per_class = _accuracies(model, module)
    return Measurement(
        architecture=text,
        dialect=recipe.dialect,
        data=data,
        image_size=recipe.data.image_size,
        images=len(module.test),
        top1=top1,
        top5=top5,
        per_class=dict(zip(module.classes, per_class, strict=True)),
        told=told,
        published=_logged(text, data, recipe.data.image_size),
    )


class _Weights:
    """What a file of weights says of itself."""

    def __init__(self, source: str, architecture: Architecture) -> None:
        self.told: dict[str, float] = {}
        self.dialect = "torchvision"
        if source == "DEFAULT":
            return
        content = read_checkpoint(source)
        state = state_dict_in(content, source)
        if architecture.backbone in PUBLISHED and is_reference(state):
            self.dialect = "paper"
        for name in ("accuracy", "epoch"):
            value = content.get(name)
            if isinstance(value, (int, float)) or (isinstance(value, torch.Tensor) and value.numel() == 1):
                self.told[name] = float(value)


def _usual_size(text: str, data: str) -> int:
    """The size of the authors' runs of a network on STL-10, and of their commands where they ran several."""
    sizes = {row.image_size for row in table() if row.architecture == text}
    if data != "stl10":
        return DATA_SETS.find(data).size
    return sizes.pop() if len(sizes) == 1 else _PUBLISHED_SIZE


def _logged(text: str, data: str, image_size: int | Sides) -> float | None:
    rows = [row for row in table() if (row.architecture, row.image_size) == (text, image_size)]
    return min(rows, key=lambda row: row.epochs).accuracy if rows and data == "stl10" else None


def _recipe(
    text: str,
    dialect: str | None,
    data: str,
    root: str | Path | None,
    size: int | Sides,
    batch_size: int,
    workers: int,
    channels: int,
) -> Recipe:
    given = {"name": data, "root": None if root is None else str(root), "image_size": size, "workers": workers}
    try:
        return Recipe.model_validate(
            {
                "architecture": text,
                "dialect": dialect,
                "select": "test",
                "model": {"in_chans": channels},
                "data": given,
                "train": {"batch_size": batch_size},
            }
        )
    except ValidationError as error:
        raise InputError(explained(error, Recipe)) from None


def _whole(recipe: Recipe, classes: int, weights: str) -> CompiledModel:
    """The model, every tensor of which came from the weights."""
    model = compile(
        recipe.architecture,
        num_classes=classes,
        in_chans=recipe.model.in_chans,
        dialect=recipe.dialect,
        weights=weights,
        image_size=recipe.data.image_size,
    )
    transfer = model.transfer
    assert transfer is not None
    new = [key for key in transfer.new if not key.endswith("num_batches_tracked")]
    if new or transfer.dropped:
        missing = folded(new, (*transfer.transferred, *new))
        odd = [f"{keys[0]} is missing" if len(keys) == 1 else f"{word} are missing" for word, keys in missing]
        odd += transfer.leftovers()
        text = recipe.architecture
        hint = f" They are the weights of {transfer.other}." if transfer.other else ""
        if "mixp" in text and "dfmixp" not in text and any("offset_conv" in key for key, _ in transfer.dropped):
            hint = f" The published 'mixp' is deformable: try {text.replace('mixp', 'dfmixp')}."
        raise WeightsError(f"{weights} isn't a whole {text}: {some_of(odd, 3)}.{hint}")
    return model


@torch.inference_mode()
def _accuracies(model: CompiledModel, module: DataModule) -> tuple[float, float, list[float]]:
    """Top-1, top-5, and top-1 of each class."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval()
    classes = model.plan.options.num_classes
    top1 = MulticlassAccuracy(classes, average="micro").to(device)
    top5 = MulticlassAccuracy(classes, average="micro", top_k=min(TOP, classes)).to(device)
    each = MulticlassAccuracy(classes, average="none").to(device)
    for x, labels in module.test_dataloader():
        logits, wanted = model(x.to(device)), labels.to(device)
        for metric in (top1, top5, each):
            metric.update(logits, wanted)
    return float(top1.compute()), float(top5.compute()), [round(float(value), 6) for value in each.compute()]
