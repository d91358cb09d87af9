"""A detector's run from its recipe to its summary. The loop, the logs and the checkpoints are mmengine's.

A run's folder holds `recipe.toml` (every setting resolved), `config.py` (what mmdet sees), `epoch_N.pth` (the last two)
and `best_coco_bbox_mAP_epoch_N.pth`, `last_checkpoint`, `summary.json`, and a folder of logs for each start.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.runner import Runner

from sapool.cli.tables import console, count, show_table
from sapool.detect.binding.config import Bound, bind, try_once, write_config
from sapool.detect.binding.schedule import BEST
from sapool.detect.checkpoints import last_of, read_run_checkpoint
from sapool.detect.data.coco import Boxes, check, find
from sapool.detect.evaluate import FIGURES
from sapool.detect.progress import Lines, make_runner, quietly
from sapool.errors import InputError
from sapool.recipes.detection import DetectionRecipe
from sapool.recipes.reading import to_toml
from sapool.runs import folder
from sapool.weights.atomic import write_text


def run(recipe: DetectionRecipe, where: str | Path | None = None, *, resume: bool = False) -> int:
    """Trains what a recipe describes; returns the exit code: 0, or 130 where Ctrl-C ended it.

    Args:
        recipe: what to train.
        where: the run's folder; None for a new one under `runs`.
        resume: go on with the run in `where` from its last finished epoch.

    Raises:
        InputError: the folder, the base, the data or the checkpoint can't be used; before the first step wherever that
            can be known.
        WorkError: the loss is no number, or the disk is full. What was saved before is kept.
    """
    path = folder.choose(where, recipe.title)
    begun = resume and folder.has_run(path)
    if begun:
        folder.check_same(recipe, path)
    last = last_of(path) if begun else None
    if last is not None:
        read_run_checkpoint(last, recipe.architecture)
    with quietly() as out:
        boxes = find(recipe.data)
        images = check(boxes, recipe.train.batch_size)
        bound = bind(recipe, boxes, path)
        if last is None:
            try_once(bound)
        config = bound.config
        config.launcher = _launcher()
        if last is not None:
            # By name: the run's folder may have moved since it was written down.
            config.load_from, config.resume = str(last), True
        if folder.is_main():
            if not begun:
                folder.make(path)
                write_text(path / "recipe.toml", to_toml(recipe))
            print(_opening(recipe, boxes, bound, images, path), file=out, flush=True)
        started = time.monotonic()
        runner = make_runner(config)
        if folder.is_main():
            # Without where to go on from, which is for this start only.
            config.load_from, config.resume = None, False
            write_config(config, path / "config.py")
        runner.register_hook(Lines(out))
        try:
            runner.train()
        except KeyboardInterrupt:
            return _stopped(path)
        except InputError as error:
            raise InputError(_sentence(error)) from None
        seconds = time.monotonic() - started
    if folder.is_main():
        _finish(recipe, boxes, runner, path, seconds)
    return 0


def _launcher() -> str:
    """Which of mmengine's launchers started this process, by the variables that it sets."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "pytorch"
    return "slurm" if int(os.environ.get("SLURM_NTASKS", "1")) > 1 else "none"


def _opening(recipe: DetectionRecipe, boxes: Boxes, bound: Bound, images: tuple[int, int], path: Path) -> str:
    return (
        f"{recipe.architecture} in {Path(recipe.detector.base).stem}: {describe(bound)}\n"
        f"{recipe.data.name}: {count(images[0])} training images, {count(images[1])} validation images, "
        f"{len(boxes.classes)} classes; run in {path}"
    )


def describe(bound: Bound) -> str:
    """The maps that feed the neck and the strides that the heads see, in a line."""
    maps = ", ".join(f"{f.name} ({f.channels} channels, 1/{f.reduction})" for f in bound.binding.features)
    strides = ", ".join(f"{level.stride[0]:.4g}" for level in bound.binding.levels)
    return f"{maps}; strides {strides}"


def _stopped(path: Path) -> int:
    if folder.is_main():
        last = last_of(path)
        what = f"saved in {last}" if last is not None else "before the first epoch was saved"
        console(stderr=True).print(
            f"stopped, {what}; go on with: sapoolc train --resume --run-dir {path}", markup=False
        )
    return 130


def _sentence(error: InputError) -> str:
    """What an error says. From a worker it arrives as a traceback in a string, with the sentence behind its name."""
    return str(error).rpartition(f"{InputError.__module__}.{InputError.__name__}: ")[2].strip()


def _finish(recipe: DetectionRecipe, boxes: Boxes, runner: Runner, path: Path, seconds: float) -> None:
    """Writes and prints the best epoch's figures, from the history that the checkpoints carry."""
    scores = _history(runner, BEST)
    best = int(np.argmax(scores)) if len(scores) else None
    summary: dict[str, Any] = {
        "architecture": recipe.architecture,
        "detector": Path(recipe.detector.base).stem,
        "data": recipe.data.name,
        "classes": len(boxes.classes),
        "epochs": runner.max_epochs,
    }
    if best is not None:
        every = recipe.train.validate_every
        summary["best_epoch"] = min((best + 1) * every, runner.max_epochs)
        figures = {name: round(float(_history(runner, f"coco/{name}")[best]), 4) for name in FIGURES}
        # COCO's evaluation gives -1 where no box is of a size.
        summary |= {name: value for name, value in figures.items() if value >= 0}
        summary["bbox_mAP_is"] = "of the epoch that is best on the validation images, which are those measured"
    summary["training_seconds"] = round(seconds, 1)
    write_text(path / "summary.json", json.dumps(summary, indent=2) + "\n")
    show_table(console(), ("result", "value"), [(key.replace("_", " "), str(value)) for key, value in summary.items()])


def _history(runner: Runner, name: str) -> np.ndarray:
    scalars = runner.message_hub.log_scalars
    key = f"val/{name}"
    values: np.ndarray = scalars[key].data[0] if key in scalars else np.zeros(0)
    return values
