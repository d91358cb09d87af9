"""What a recipe can say: its sections, their settings, limits and defaults. Validated by pydantic; no torch here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from sapool.catalogue.data_sets import DATA_SETS, Augmentation
from sapool.catalogue.diagnostics import CODES, check_codes
from sapool.recipes.inputs import (
    Channels,
    ImageSize,
    Sides,
    check_statistics,
    positive,
    sides_of,
)
from sapool.recipes.network import NetworkRecipe
from sapool.recipes.section import Section


def _absolute(value: str | None) -> str | None:
    return None if value is None else str(Path(value).expanduser().absolute())


# Bounds that no sensible recipe comes near; what a machine can do besides is asked when training begins.
MOST_EPOCHS, MOST_IMAGES, MOST_PROCESSES = 10**6, 2**16, 2**12

Folder = Annotated[str | None, AfterValidator(_absolute)]
"""A folder, wherever the recipe is read."""

# What every learning-rate schedule has, with each kind of recipe's own defaults and units.
ScheduleName = Literal["constant", "step", "cosine"]
Gamma = Annotated[float, Field(gt=0, le=1, description="for step: by which it is multiplied there")]
WarmupStart = Annotated[float, Field(gt=0, le=1, description="the part of lr with which that begins")]
MinLR = Annotated[float, Field(ge=0, description="for cosine: where it ends")]


def _known_names(schema: dict[str, Any]) -> None:
    """What editors complete: the data sets that there are, those of other packages included."""
    schema["enum"] = list(DATA_SETS)


class Data(Section):
    """What is learned."""

    name: str = Field(description="the data set", json_schema_extra=_known_names)
    root: Folder = Field(
        None, description="the folder that holds it, or that it is downloaded to (default: sapool/data in the cache)"
    )
    image_size: ImageSize = Field(
        0, description="side of the images in pixels, or [height, width] (default: the data set's)"
    )
    validation: float = Field(
        0.1, gt=0, lt=1, description="share of the training set that is held out to choose the best epoch"
    )
    workers: int = Field(0, ge=0, le=MOST_PROCESSES, description="processes that load data")
    augment: Augmentation = Field("none", description="how training images are cropped (default: the data set's way)")
    flip: bool = Field(False, description="mirror training images at random (default: the data set's way)")
    crop_ratio: float = Field(
        1.0, gt=0, le=1, description="for testing, what the centre crop keeps of a side (default: the data set's)"
    )
    mean: Channels = Field((0.5, 0.5, 0.5), description="of the channels, from 0 to 1 (default: the data set's)")
    std: Channels = Field((0.5, 0.5, 0.5), description="of the channels (default: the data set's)")
    randaugment: int = Field(0, ge=0, le=10, description="RandAugment operations an image; 0 for none")
    magnitude: int = Field(9, ge=0, le=30, description="RandAugment's magnitude")
    mixup: float = Field(0.0, ge=0, description="MixUp's alpha; 0 for none")
    cutmix: float = Field(0.0, ge=0, description="CutMix's alpha; 0 for none. With both, each batch takes one of them")

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, value: Any) -> Any:
        """What isn't given is the data set's own."""
        if not isinstance(value, dict) or not isinstance(name := value.get("name"), str) or name not in DATA_SETS:
            return value
        own = DATA_SETS[name]
        names = ("augment", "flip", "mean", "std", "crop_ratio")
        given = {"image_size": own.size, **{name: getattr(own, name) for name in names}}
        return {**given, **value}

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        return DATA_SETS.find(value).name

    @field_validator("std")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return positive(value)

    @property
    def sides(self) -> Sides:
        """Height and width of the images."""
        return sides_of(self.image_size)


class Optimizer(Section):
    """How weights follow gradients; names and defaults are torch.optim's."""

    name: Literal["sgd", "adam", "adamw"] = Field("sgd", description="which of torch's")
    lr: float = Field(0.01, gt=0, description="the highest learning rate, from which the schedule goes")
    momentum: float = Field(0.9, ge=0, lt=1, description="for sgd")
    nesterov: bool = Field(False, description="for sgd")
    amsgrad: bool = Field(False, description="for adam and adamw")
    weight_decay: float = Field(0.0, ge=0, description="torch's: of adamw decoupled from the gradient")

    @model_validator(mode="after")
    def _possible(self) -> Optimizer:
        if self.nesterov and self.name == "sgd" and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Schedule(Section):
    """How the learning rate falls, step by step of the optimizer."""

    name: ScheduleName = Field("step", description="how the learning rate falls")
    milestones: tuple[float, ...] = Field(
        (0.6, 0.8, 0.9), description="for step: parts of the epochs after which the rate falls"
    )
    gamma: Gamma = 0.2
    warmup_epochs: float = Field(0.0, ge=0, description="epochs in which the rate rises to lr first")
    warmup_start: WarmupStart = 0.01
    min_lr: MinLR = 0.0

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)) or not all(0 < part < 1 for part in value):
            raise ValueError("expected ascending parts between 0 and 1")
        return value


def _which_devices(value: object) -> object:
    """How many devices, or their numbers; `0,1` on a command line is two numbers."""
    if isinstance(value, str) and re.fullmatch(r"\d+(,\d+)+", value):
        value = [int(number) for number in value.split(",")]
    if isinstance(value, (list, tuple)):
        value = tuple(value)
        possible = all(type(number) is int and number >= 0 for number in value) and 0 < len(value) == len(set(value))
    else:
        possible = type(value) is int and 0 < value <= MOST_PROCESSES
    if not possible:
        raise ValueError("expected how many devices, or the different numbers of some, such as 0,1")
    return value


Devices = Annotated[
    int | tuple[int, ...],
    BeforeValidator(_which_devices),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MOST_PROCESSES},
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True},
            ]
        }
    ),
]
"""How many devices, or which."""


def _named_loggers(value: object) -> object:
    """Loggers as a command line names them: `wandb`, `tensorboard,mlflow`, `none`."""
    if value == "none":
        return ()
    return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value


Loggers = Annotated[tuple[Literal["tensorboard", "wandb", "mlflow"], ...], BeforeValidator(_named_loggers)]
"""Lightning's loggers."""


class Train(Section):
    """How long, how much at once, on what."""

    epochs: int = Field(300, ge=1, le=MOST_EPOCHS, description="how often all training images are seen")
    batch_size: int = Field(
        8, ge=2, le=MOST_IMAGES, description="images in a batch of one process; batch norm needs two"
    )
    drop_last: bool = Field(True, description="leave out an epoch's last batch where it is smaller than the others")
    steps_per_epoch: int | None = Field(None, ge=1, description="batches in an epoch (default: the whole data set)")
    accumulate: int = Field(1, ge=1, le=MOST_IMAGES, description="batches whose gradients make one step")
    seed: int = Field(0, ge=0, lt=2**32, description="of everything random: weights, order, augmentation")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="part of each label that is spread over all classes")
    clip_norm: float | None = Field(None, gt=0, description="the longest gradient; longer ones are scaled to it")
    ema: float | None = Field(None, gt=0, lt=1, description="decay of a moving average of the weights, e.g. 0.999")
    temperature_epochs: int = Field(
        0, ge=0, description="for dy backbones: epochs in which the kernel attention's temperature falls to 1"
    )
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "64-true"] = Field(
        "32-true", description="Lightning's names"
    )
    channels_last: bool = Field(False, description="torch's memory format, faster on some GPUs")
    compile: bool = Field(False, description="torch.compile")
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field("auto", description="Lightning's")
    devices: Devices = Field(1, description="processes on each machine, one a GPU; or the GPUs' numbers, as in 0,1")
    nodes: int = Field(1, ge=1, le=MOST_PROCESSES, description="machines")
    strategy: Literal["auto", "ddp", "fsdp"] = Field("auto", description="Lightning's; auto is ddp for many devices")
    sync_batchnorm: bool = Field(False, description="batch norm over the processes' batches together")
    checkpoint_every: int | None = Field(None, ge=1, description="steps between checkpoints inside an epoch")
    log_every: int = Field(50, ge=1, description="steps between those that are logged")
    logger: Loggers = Field(
        ("tensorboard",), description="where metrics go beside metrics.csv: names such as tensorboard,wandb, or none"
    )
    profile: bool = Field(False, description="write Lightning's profile of the run to profile.txt")

    @property
    def processes(self) -> int:
        """How many train together."""
        return self.nodes * (self.devices if isinstance(self.devices, int) else len(self.devices))

    @model_validator(mode="after")
    def _possible(self) -> Train:
        if self.strategy == "fsdp":
            if self.ema is not None:
                raise ValueError("ema keeps whole weights, and fsdp has only shards of them; use ddp")
            if self.clip_norm is not None:
                raise ValueError("clip_norm isn't available with fsdp in Lightning; use ddp")
        return self


class Recipe(NetworkRecipe):
    """A classifier's recipe of `sapoolc train`, with every setting."""

    weights: str | None = Field(None, description="DEFAULT for published weights, or a checkpoint's path")
    pools_start: Literal["backbone", "torch"] = Field(
        "backbone", description="how pools start: as the backbone's convolutions (published), or as PyTorch builds them"
    )
    select: Literal["val", "test"] = Field(
        "val", description="what chooses the best epoch: held-out training images, or (published practice) the test set"
    )
    acknowledge: tuple[str, ...] = Field(
        (),
        description="codes of diagnostics that are known, see docs/diagnostics.md",
        json_schema_extra={"items": {"enum": list(CODES)}},
    )
    data: Data
    optimizer: Optimizer = Optimizer()  # type: ignore[call-arg]
    schedule: Schedule = Schedule()  # type: ignore[call-arg]
    train: Train = Train()  # type: ignore[call-arg]

    @field_validator("acknowledge")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_codes(value)
        return value

    @staticmethod
    def _statistics(name: str) -> dict[str, tuple[float, ...]]:
        return {"mean": DATA_SETS[name].mean, "std": DATA_SETS[name].std} if name in DATA_SETS else {}

    @model_validator(mode="after")
    def _possible(self) -> Recipe:
        channels, data = self.model.in_chans, self.data
        check_statistics(channels, mean=data.mean, std=data.std)
        if data.randaugment and channels not in (1, 3):
            raise ValueError(f"data.randaugment changes colours: of 1 channel or 3, not of {channels} (model.in_chans)")
        if self.schedule.warmup_epochs >= self.train.epochs:
            raise ValueError(
                f"schedule.warmup_epochs ({self.schedule.warmup_epochs:g}) leaves nothing of train.epochs "
                f"({self.train.epochs})"
            )
        return self
