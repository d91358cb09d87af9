"""Images with boxes, as torchvision's detectors take them, for Lightning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler
from torchvision.transforms.v2 import functional as TF

from sapool.boxes.coco import AnnotatedImages, BoxDataset, check_dataset, find_dataset
from sapool.errors import InputError
from sapool.recipes.detection import DetectionRecipe
from sapool.runs.images import read_image
from sapool.training.loading import Loader, Seeded, seed_of

Target = dict[str, Tensor]
Batch = tuple[list[Tensor], list[Target]]


class BoxSamples(Seeded):
    """Annotated images: float32 (C, H, W) from 0 to 1, and targets with `boxes` (K, 4), `labels` (K,) from 1, `id`.

    Args:
        part: where they are.
        classes: names in the order of labels.
        seed: of mirroring at random; None for images as they are.
        every: images without boxes too; COCO's AP counts what is found in them.
        channels: of the images, as many as the network takes.
    """

    def __init__(
        self, part: AnnotatedImages, classes: Sequence[str], seed: int | None, *, every: bool, channels: int = 3
    ) -> None:
        super().__init__()
        self.part, self.seed, self.channels = part, seed, channels
        content = json.loads(part.annotations.read_text(encoding="utf-8"))
        names = {category["id"]: category["name"] for category in content["categories"]}
        self.found: dict[int, list[dict[str, Any]]] = {}
        labels = {name: number for number, name in enumerate(classes, start=1)}
        for entry in content["annotations"]:
            label, (x, y, width, height) = labels.get(names[entry["category_id"]]), entry["bbox"]
            if label is not None and width > 0 and height > 0:
                crowd = bool(entry.get("iscrowd", 0))
                box = {"label": label, "box": (x, y, x + width, y + height), "crowd": crowd}
                self.found.setdefault(entry["image_id"], []).append({**box, "area": entry.get("area", width * height)})
        learned = {id_ for id_, boxes in self.found.items() if not all(box["crowd"] for box in boxes)}
        self.images = [image for image in content["images"] if every or image["id"] in learned]
        self.every = every

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        pairs = [self._one(position) for position in positions]
        return [image for image, _ in pairs], [target for _, target in pairs]

    def _one(self, position: int) -> tuple[Tensor, Target]:
        entry = self.images[position]
        image = TF.to_dtype(read_image(self.part.images / entry["file_name"], self.channels), torch.float32, scale=True)
        # Crowds are measured with, not learned from.
        found = [box for box in self.found.get(entry["id"], []) if self.every or not box["crowd"]]
        boxes = torch.tensor([box["box"] for box in found], dtype=torch.float32).view(-1, 4)
        target = {
            "boxes": boxes,
            "labels": torch.tensor([box["label"] for box in found], dtype=torch.int64),
            "iscrowd": torch.tensor([box["crowd"] for box in found], dtype=torch.int64),
            "area": torch.tensor([float(box["area"]) for box in found]),
        }
        if self.seed is not None and seed_of(self.seed, int(self.epoch), position) % 2:
            image, target["boxes"] = image.flip(-1), _mirrored(boxes, image.shape[-1])
        return image, target


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack((width - right, top, width - left, bottom), 1)


class BoxModule(L.LightningDataModule):
    """The recipe's data set.

    Attributes:
        dataset: where it is, and its classes.
        train, val: what is trained on, and what is measured and chooses the epoch.

    Raises:
        InputError: it isn't there, or isn't COCO's, or is too small.
    """

    def __init__(self, recipe: DetectionRecipe, dataset: BoxDataset | None = None) -> None:
        super().__init__()
        self.recipe, self.dataset = recipe, dataset or find_dataset(recipe.data)
        check_dataset(self.dataset, recipe.train.batch_size)
        seed = None if recipe.data.augment == "none" else recipe.train.seed
        channels = recipe.model.in_chans
        self.train = BoxSamples(self.dataset.train, self.dataset.classes, seed, every=False, channels=channels)
        if len(self.train) < recipe.train.batch_size:
            raise InputError(
                f"{self.dataset.train.annotations}: {len(self.train)} images with boxes don't fill a batch of "
                f"{recipe.train.batch_size} (train.batch_size)"
            )
        self.val = BoxSamples(self.dataset.val, self.dataset.classes, None, every=True, channels=channels)

    def train_dataloader(self) -> Loader:
        order: DistributedSampler[object] = DistributedSampler(
            self.train, 1, 0, shuffle=True, seed=self.recipe.train.seed
        )
        return self._loader(self.train, order, drop_last=True)

    def val_dataloader(self) -> Loader:
        return self._loader(self.val, None)

    def test_dataloader(self) -> Loader:
        return self.val_dataloader()

    def _loader(self, samples: BoxSamples, order: object, *, drop_last: bool = False) -> Loader:
        settings = self.recipe
        return Loader(
            samples, order, settings.train.batch_size, workers=settings.data.workers, drop_last=drop_last,
            pin=torch.cuda.is_available(),
        )  # fmt: skip
