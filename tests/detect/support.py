"""A small data set, bound recipes, and commands."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from sapool.boxes.coco import AnnotatedImages, BoxDataset, digits, find_dataset
from sapool.detect.binding.config import BoundConfig, bind
from sapool.recipes.detection import DetectionRecipe
from sapool.recipes.reading import read_recipe
from tests.commands import sapoolc

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
CHEAP = "resnet18-nlp_headfix2_nowin_reduced-2222"

SHIPPED = {
    "faster_rcnn": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "ssd": "ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py",
    "yolov3": "yolo/yolov3_d53_8xb8-ms-608-273e_coco.py",
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "rtmdet": "rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
}


def made(folder: Path, train: int = 16, val: int = 4) -> Path:
    """A folder of digits in COCO's format."""
    digits.make(folder, {"train": train, "val": val})
    return folder


def overrides(root: Path) -> list[str]:
    """A run of seconds on such a folder."""
    return [
        "data.name=coco_folder",
        f"data.root={root}",
        f"architecture={CHEAP}",
        "train.batch_size=4",
        "train.epochs=2",
        "train.validate_every=1",
        "schedule.warmup_steps=0",
    ]


def recipe_for(base: str, architecture: str, **sections: object) -> DetectionRecipe:
    """A recipe on COCO, which needn't be there."""
    given = {"architecture": architecture, "detector": {"base": base}, "data": {"name": "coco", "classes": "published"}}
    return DetectionRecipe.model_validate({**given, **sections})


def bound(base: str, architecture: str, **sections: object) -> BoundConfig:
    recipe = recipe_for(base, architecture, **sections)
    return bind(recipe, coco(recipe), Path("work"))


def coco(recipe: DetectionRecipe) -> BoxDataset:
    part = AnnotatedImages(Path("annotations.json"), Path("images"))
    return BoxDataset(Path(), part, part, find_dataset(recipe.data, present=False).classes)


def digits_recipe(name: str, root: Path, *more: str) -> DetectionRecipe:
    recipe = read_recipe(name, [*overrides(root), *more])
    assert isinstance(recipe, DetectionRecipe)
    return recipe


def command(*words: object, code: int = 0, program: tuple[str, ...] = ()) -> tuple[str, str]:
    """Standard output and error of `sapoolc` here, or of another program, that must end with `code`."""
    if not program:
        return sapoolc(*words, code=code)
    done = subprocess.run(
        [*program, *map(str, words)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout, done.stderr
