"""In what poolings differ beside accuracy: how steady a classifier is when images move or worsen, and how it knows.

Every figure is of a model in evaluation mode on labelled images, and is the same each time: what is drawn at random is
drawn from a seed, for each image its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from sapool.classify.data.module import DataModule
from sapool.classify.data.samples import Batch, Samples
from sapool.errors import InputError, did_you_mean
from sapool.model import CompiledModel
from sapool.poolings.weights import uniformity
from sapool.recipes.settings import Recipe
from sapool.runs.outputs import save_json
from sapool.runs.protocol import Run
from sapool.runs.results import Result, Table
from sapool.training.loading import Loader

SEVERITIES = (1, 2, 3, 4, 5)

CORRUPTIONS: Mapping[str, Callable[[int], nn.Module]] = MappingProxyType(
    {
        "gaussian_noise": lambda level: v2.GaussianNoise(sigma=(0.04, 0.08, 0.12, 0.18, 0.26)[level - 1]),
        "gaussian_blur": lambda level: v2.GaussianBlur(2 * level + 1, (0.5, 0.75, 1.0, 1.5, 2.0)[level - 1]),
        "pixelate": lambda level: Pixelate((0.8, 0.65, 0.5, 0.4, 0.3)[level - 1]),
        "jpeg": lambda level: v2.JPEG((60, 40, 25, 15, 8)[level - 1]),
        "brightness": lambda level: v2.ColorJitter(brightness=((1.2, 1.4, 1.6, 1.8, 2.0)[level - 1],) * 2),
        "contrast": lambda level: v2.ColorJitter(contrast=((0.75, 0.6, 0.45, 0.3, 0.2)[level - 1],) * 2),
    }
)
"""Corruptions by name: what gives, for a severity from 1 to 5, a transform of one uint8 image (C, H, W).

Kinds as in Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
(ICLR 2019), done by torchvision; severities are our own, and comparable only with themselves.
"""


class Pixelate(nn.Module):
    """An image (C, H, W) of fewer pixels at the same size: shrunk by a factor, and enlarged by copying.

    Args:
        factor: of the side.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, image: Tensor) -> Tensor:
        sides = [int(side) for side in image.shape[-2:]]
        small = TF.resize(image, [max(round(side * self.factor), 1) for side in sides], antialias=True)
        enlarged: Tensor = TF.resize(small, sides, interpolation=v2.InterpolationMode.NEAREST)
        return enlarged


def corruption(name: str, severity: int) -> nn.Module:
    """The transform of a corruption.

    Raises:
        InputError: there is no such corruption or severity.
    """
    if name not in CORRUPTIONS:
        raise InputError(
            f"there is no corruption '{name}'; there are {', '.join(CORRUPTIONS)}.{did_you_mean(name, CORRUPTIONS)}"
        )
    if severity not in SEVERITIES:
        raise InputError(f"severity: expected a number from {SEVERITIES[0]} to {SEVERITIES[-1]}, not {severity}")
    return CORRUPTIONS[name](severity)


@torch.inference_mode()
def accuracy_and_calibration(model: nn.Module, batches: Iterable[Batch], classes: int) -> tuple[float, float]:
    """Top-1 accuracy, and the expected calibration error over 15 bins of confidence (Guo et al., ICML 2017).

    Args:
        model: images (N, C, H, W) to logits (N, classes), in evaluation mode.
        batches: images as the model takes them, and labels (N,).
        classes: how many.
    """
    top1, error = MulticlassAccuracy(classes, average="micro"), MulticlassCalibrationError(classes, n_bins=15)
    device = next(iter(model.parameters()), torch.empty(0)).device
    for metric in (top1, error):
        metric.to(device)
    for images, labels in batches:
        chances, wanted = model(images.to(device)).softmax(1), labels.to(device)
        top1.update(chances, wanted)
        error.update(chances, wanted)
    return float(top1.compute()), float(error.compute())


@torch.inference_mode()
def shift_consistency(model: nn.Module, batches: Iterable[Batch], *, most: int = 8, seed: int = 0) -> float:
    """How often two shifted crops of an image get the same class, from 0 to 1 (Zhang, ICML 2019).

    The image is mirrored around its border, by `most` pixels at most, and cropped twice at random to its own size.

    Args:
        model: images (N, C, H, W) to logits, in evaluation mode.
        batches: images as the model takes them, and labels, which aren't used.
        most: how far a crop lies from the image, in pixels along each axis.
        seed: of the places of the crops.

    Raises:
        InputError: there are no images, or `most` is no number of pixels that an image could be moved by.
    """
    generator, same, count = torch.Generator().manual_seed(seed), 0, 0
    device = next(iter(model.parameters()), torch.empty(0)).device
    for images, _ in batches:
        height, width = images.shape[-2:]
        if not 1 <= most < min(height, width):
            raise InputError(f"shifts: expected a number from 1 to {min(height, width) - 1} pixels, not {most}")
        around = F.pad(images, (most,) * 4, mode="reflect")
        # An image after the other, so that batches of another size draw the same.
        places = torch.randint(0, 2 * most + 1, (len(images), 2, 2), generator=generator)
        one, other = (
            model(_crops(around, places[:, crop].tolist(), height, width).to(device)).argmax(1) for crop in (0, 1)
        )
        same, count = same + int((one == other).sum()), count + len(images)
    if count == 0:
        raise InputError("there are no images to shift")
    return same / count


def _crops(images: Tensor, places: Sequence[Sequence[int]], height: int, width: int) -> Tensor:
    pairs = zip(images, places, strict=True)
    return torch.stack([image[:, top : top + height, left : left + width] for image, (top, left) in pairs])


@dataclass(frozen=True)
class Steadiness(Result):
    """How steady a run's best model is, on the run's test images; also written into the run as `steadiness.json`.

    Attributes:
        epoch: of the model, from 1.
        images: how many.
        top1: part of them that is right, as they are.
        calibration_error: by how much confidence and accuracy differ, from 0 to 1.
        shifts: pixels by which crops were moved at most, or None where none were.
        shift_consistency: how often two crops of an image got the same class, or None.
        corruptions: of each, top-1 by severity.
        uniformity: of each pool that weighs, how evenly it does (`sapool.uniformity`).
        seed: of what was drawn at random.
    """

    epoch: int
    images: int
    top1: float
    calibration_error: float
    shifts: int | None
    shift_consistency: float | None
    corruptions: Mapping[str, Mapping[str, float]]
    uniformity: Mapping[str, float]
    seed: int

    @property
    def corrupted_top1(self) -> float | None:
        """Top-1 on corrupted images, averaged over corruptions and severities; None where there are none."""
        found = [value for levels in self.corruptions.values() for value in levels.values()]
        return sum(found) / len(found) if found else None

    def as_data(self) -> dict[str, Any]:
        return {**asdict(self), "corrupted_top1": self.corrupted_top1}

    def report(self) -> tuple[Table | str, ...]:
        rows = [("test images", str(self.images)), ("top1", f"{self.top1:.4f}")]
        rows.append(("calibration error", f"{self.calibration_error:.4f}"))
        if self.shift_consistency is not None:
            rows.append((f"same class when moved by up to {self.shifts} pixels", f"{self.shift_consistency:.4f}"))
        if self.corrupted_top1 is not None:
            rows.append(("top1, corrupted", f"{self.corrupted_top1:.4f}"))
        rows += [(f"uniformity of {name}", f"{value:.4f}") for name, value in self.uniformity.items()]
        tables = [Table(("measure", "value"), tuple(rows))]
        if self.corruptions:
            levels = tuple(str(level) for level in SEVERITIES)
            lines = ((name, *(f"{found[n]:.4f}" for n in levels)) for name, found in self.corruptions.items())
            tables.append(Table(("corruption", *levels), tuple(lines), "top1 by severity"))
        return tuple(tables)


def measure_steadiness(
    run: Run[Recipe, CompiledModel], *, shifts: int | None = None, corruptions: Sequence[str] = (), seed: int = 0
) -> Steadiness:
    """Measures a run's best model on its test images; writes `steadiness.json` into the run.

    Args:
        run: of a classifier.
        shifts: how far crops are moved at most, in pixels; None for none.
        corruptions: names of `CORRUPTIONS`, each of which is tried at every severity.
        seed: of what is drawn at random, for each image its own.

    Raises:
        InputError: there is no such corruption, shifts are larger than an image, or the data isn't there.
    """
    transforms = {(name, level): corruption(name, level) for name in corruptions for level in SEVERITIES}
    if shifts is not None and not 1 <= shifts < min(run.recipe.data.sides):
        raise InputError(f"shifts: expected a number from 1 to {min(run.recipe.data.sides) - 1} pixels, not {shifts}")
    data, classes = DataModule(run.recipe), len(run.classes)
    top1, error = accuracy_and_calibration(run.model, data.test_dataloader(), classes)
    steady = shift_consistency(run.model, data.test_dataloader(), most=shifts, seed=seed) if shifts else None
    found: dict[str, dict[str, float]] = {name: {} for name in corruptions}
    for (name, level), transform in transforms.items():
        worse, _ = accuracy_and_calibration(run.model, _corrupted(data, transform, seed), classes)
        found[name][str(level)] = round(worse, 6)
    images, _ = next(iter(data.test_dataloader()))
    maps = run.model.weight_maps(images.to(next(run.model.parameters()).device))
    measured = Steadiness(
        epoch=run.epoch,
        images=len(data.test),
        top1=round(top1, 6),
        calibration_error=round(error, 6),
        shifts=shifts,
        shift_consistency=None if steady is None else round(steady, 6),
        corruptions=found,
        uniformity={name: round(uniformity(weight), 6) for name, weight in maps.items()},
        seed=seed,
    )
    save_json(measured.as_data(), run.path / "steadiness.json")
    return measured


def _corrupted(data: DataModule, transform: nn.Module, seed: int) -> Loader:
    """The test images as they are evaluated, then corrupted."""
    test, recipe = data.test, data.recipe
    both = cast(nn.Module, v2.Compose([test.transform, transform]))
    samples = Samples(test.source, test.indices, both, test.normalise, seed, test.channels)
    return Loader(samples, None, recipe.train.batch_size, workers=recipe.data.workers)
