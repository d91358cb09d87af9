"""What a recipe with a section `detector` can say. Validated by pydantic; no torch and no mmdet here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from sapool.recipes.inputs import (
    LARGEST_SIDE,
    Channels,
    ImageSize,
    Sides,
    check_statistics,
    positive,
    sides_of,
)
from sapool.recipes.network import NetworkRecipe
from sapool.recipes.section import Section
from sapool.recipes.settings import (
    MOST_EPOCHS,
    MOST_IMAGES,
    MOST_PROCESSES,
    Folder,
    Gamma,
    MinLR,
    Optimizer,
    ScheduleName,
    WarmupStart,
)

PUBLISHED_CLASSES = ("person", "bicycle", "car", "motorcycle", "bus", "train", "truck", "traffic light")
"""The classes of COCO that the published detectors were trained on."""

TORCHVISION = {"faster_rcnn": 4, "retinanet": 3, "fcos": 3, "ssdlite": 2}
"""torchvision's detectors that a compiled network goes into, and how many of its maps each takes."""

# Under data.root: annotations and images to train with, and to validate with.
_LAYOUTS = {
    "coco": ("annotations/instances_train2017.json", "train2017", "annotations/instances_val2017.json", "val2017"),
    "coco_folder": ("annotations/train.json", "train", "annotations/val.json", "val"),
    "digits-detection": ("annotations/train.json", "train", "annotations/val.json", "val"),
}
_SMALLEST = 32  # pixels
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PLACES = ("train_annotations", "train_images", "val_annotations", "val_images")


class Detector(Section):
    """Which detector, and what of the network it sees."""

    engine: Literal["mmdet", "torchvision"] = Field(
        "mmdet", description="whose detector, and who trains it: mmdet's on mmengine, or torchvision's on Lightning"
    )
    base: str = Field(
        description="of mmdet a config that it ships, such as ssd/ssd300_coco.py, or the path of one; of torchvision "
        "faster_rcnn, retinanet, fcos or ssdlite"
    )
    out_indices: tuple[int, ...] | None = Field(
        None, description="which maps the detector sees, from 0 (default: the deepest map of each size, as many as the "
        "base's neck takes)"
    )  # fmt: skip
    stages_only: bool = Field(
        False, description="without out_indices, leave a last convolution behind the stages out of the choice"
    )
    neck_channels: tuple[int, ...] | None = Field(
        None, description="channels that the neck puts out, in the order in which it is told them (default: the base's)"
    )
    head_channels: tuple[int, ...] | None = Field(
        None, description="channels inside the head, for each level (default: the base's)"
    )
    frozen_stages: int = Field(-1, ge=-1, description="-1 trains all; 0 freezes the stem, k the first k stages too")
    norm_eval: bool = Field(False, description="the backbone's batch norms keep their statistics")


class DetectionData(Section):
    """Images with boxes, in COCO's format."""

    name: Literal["coco", "coco_folder", "digits-detection"] = Field(description="the data set")
    root: Folder = Field(None, description="its folder (default: sapool/data/NAME in the cache)")
    train_annotations: str = Field("", description="under root; COCO's JSON")
    train_images: str = Field("", description="under root; the folder that file names are relative to")
    val_annotations: str = Field("", description="under root; COCO's JSON")
    val_images: str = Field("", description="under root; the folder that file names are relative to")
    classes: tuple[str, ...] | Literal["all", "published"] = Field(
        "all", description="names of categories; all of the annotations', or the published part of COCO's"
    )
    image_size: ImageSize | None = Field(
        None, description="side, or [height, width], that images are resized to, or into (default: the base's)"
    )
    augment: Literal["base", "flip", "none"] = Field(
        "base", description="how training images are varied: as the base does, mirrored at random, or not at all"
    )
    mean: Channels = Field(_MEAN, description="of the channels, from 0 to 1, red first; ImageNet's unless given")
    std: Channels = Field(_STD, description="of the channels; ImageNet's unless given")
    workers: int = Field(
        0, ge=0, le=MOST_PROCESSES, description="processes that load data, for training and for validation"
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, value: object) -> object:
        """What isn't given is the data set's own."""
        if not isinstance(value, dict) or not isinstance(name := value.get("name"), str) or name not in _LAYOUTS:
            return value
        return {**dict(zip(PLACES, _LAYOUTS[name], strict=True)), **value}

    @field_validator("std")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return positive(value)

    @field_validator("image_size")
    @classmethod
    def _possible(cls, value: int | Sides | None) -> int | Sides | None:
        if value is not None and min(sides_of(value)) < _SMALLEST:
            raise ValueError(f"expected a side, or height and width, of {_SMALLEST} to {LARGEST_SIDE} pixels")
        return value

    @property
    def sides(self) -> Sides | None:
        """Height and width of the images; None for the base's."""
        return None if self.image_size is None else sides_of(self.image_size)


class DetectionSchedule(Section):
    """How the learning rate falls, by epochs; warm-up is by steps."""

    name: ScheduleName = Field("step", description="how the learning rate falls")
    milestones: tuple[int, ...] = Field((8, 11), description="for step: epochs after which the rate falls")
    gamma: Gamma = 0.1
    warmup_steps: int = Field(0, ge=0, description="steps in which the rate rises to lr first")
    warmup_start: WarmupStart = 0.001
    min_lr: MinLR = 0.0

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)) or (value and value[0] < 1):
            raise ValueError("expected ascending numbers of epochs")
        return value


class DetectionTrain(Section):
    """How long, how much at once."""

    epochs: int | None = Field(
        None, ge=1, le=MOST_EPOCHS, description="how often all training images are seen (default: the base's)"
    )
    batch_size: int = Field(8, ge=1, le=MOST_IMAGES, description="images in a batch of one process")
    accumulate: int = Field(1, ge=1, le=MOST_IMAGES, description="batches whose gradients make one step")
    seed: int = Field(0, ge=0, lt=2**31, description="of everything random")
    clip_norm: float | None = Field(None, gt=0, description="the longest gradient; longer ones are scaled to it")
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = Field("32-true", description="Lightning's names")
    sync_batchnorm: bool = Field(False, description="batch norm over the processes' batches together")
    validate_every: int = Field(1, ge=1, description="epochs between measurements of AP")
    save_every: int = Field(1, ge=1, description="epochs between checkpoints to resume from")
    log_every: int = Field(50, ge=1, description="steps between rows of the metrics")


class DetectionRecipe(NetworkRecipe):
    """A detection recipe of `sapoolc train`. Without a section `optimizer` or `schedule` the base's own holds.

    Attributes:
        title: the recipe's name, from its file; it names the run.
    """

    weights: str | None = Field(
        None,
        description="DEFAULT for published weights of the backbone, a checkpoint's path or address, or the folder of a "
        "classifier's finished run",
    )
    detector: Detector
    data: DetectionData
    optimizer: Optimizer | None = None
    schedule: DetectionSchedule | None = None
    train: DetectionTrain = DetectionTrain()  # type: ignore[call-arg]

    @staticmethod
    def _statistics(name: str) -> dict[str, tuple[float, ...]]:
        return {"mean": _MEAN, "std": _STD}

    @model_validator(mode="after")
    def _possible(self) -> DetectionRecipe:
        if self.model.in_chans not in (1, 3):
            raise ValueError(f"model.in_chans: detectors see images of 1 channel or 3, not of {self.model.in_chans}")
        check_statistics(self.model.in_chans, mean=self.data.mean, std=self.data.std)
        if self.data.name == "coco_folder" and self.data.root is None:
            raise ValueError("data.root: name the folder that holds annotations and images")
        if self.detector.engine == "torchvision":
            self._has_no_base()
        elif self.train.epochs is not None and self.schedule is None:
            raise ValueError("train.epochs needs a section [schedule]: the base's schedule is made for its own epochs")
        return self

    def _has_no_base(self) -> None:
        """torchvision's detectors bring no settings of training: the recipe has them all.

        Raises:
            ValueError: it hasn't, or it has one that only mmdet's detectors know.
        """
        if self.detector.base not in TORCHVISION:
            raise ValueError(
                f"detector.base: torchvision has {', '.join(TORCHVISION)}, not '{self.detector.base}'; configs of "
                'mmdet\'s go with detector.engine = "mmdet"'
            )
        given = {"data.image_size": self.data.image_size, "optimizer": self.optimizer, "schedule": self.schedule}
        for name, value in {**given, "train.epochs": self.train.epochs}.items():
            if value is None:
                raise ValueError(f"{name}: a detector of torchvision's has no base to take it from; set it")
        if self.detector.head_channels is not None:
            raise ValueError("detector.head_channels: torchvision's heads have the pyramid's; leave it out")
        if self.detector.neck_channels is not None and len(self.detector.neck_channels) != 1:
            raise ValueError("detector.neck_channels: torchvision's pyramid has one number for all levels")
        if self.detector.base == "ssdlite" and self.train.batch_size < 2:
            raise ValueError("train.batch_size: SSDLite's last map may be one pixel, and batch norm needs two images")
        if self.train.sync_batchnorm:
            raise ValueError("train.sync_batchnorm: a detector of torchvision's is trained by one process")
