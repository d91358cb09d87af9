"""A detector's run from its recipe to its summary. The loop, the logs and the checkpoints are mmengine's.

Beside `recipe.toml` and `summary.json` a run's folder holds `config.py` (what mmdet sees), `epoch_N.pth` (the last two)
and `best_coco_bbox_mAP_epoch_N.pth`, `stopped.pth` where a signal ended it inside an epoch, `last_checkpoint` (which of
them to go on from), `curves.png`, and a folder of logs for each start.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from sapool.boxes.coco import BoxDataset, check_dataset, find_dataset
from sapool.boxes.evaluation import FIGURES
from sapool.cost.comparison import compare
from sapool.detect import curves
from sapool.detect.binding.base import KEPT, is_program, load_base
from sapool.detect.binding.config import BoundConfig, bind, check_fits, smoke_test, write_config
from sapool.detect.checkpoints import BEST, epochs_in, last_of, read_run_checkpoint
from sapool.detect.engine import EpochHook, make_runner, quiet_mmengine
from sapool.detect.training.hooks import StopHook
from sapool.errors import InputError, WeightsError, visible
from sapool.recipes.detection import DetectionRecipe
from sapool.runs.folder import RunFolder, is_main
from sapool.runs.networks import compile_network
from sapool.runs.outputs import save_json
from sapool.runs.process.signals import Heeding, Stopped
from sapool.runs.progress import Progress
from sapool.runs.results import Fit


def fit(recipe: DetectionRecipe, folder: RunFolder, progress: Progress) -> Fit:
    """Trains what a recipe describes, or goes on from the folder's last checkpoint, exactly.

    Args:
        recipe: what to train.
        folder: where the run is kept.
        progress: what hears of it meanwhile.

    Raises:
        InputError: the folder, the base, the data or the checkpoint can't be used; before the first step wherever that
            can be known.
        WorkError: the loss is no number, or the disk is full. What was saved before is kept.
    """
    progress = progress if is_main() else Progress()
    with folder.held(progress), quiet_mmengine():
        return _fit(recipe, folder, progress)


def _fit(recipe: DetectionRecipe, folder: RunFolder, progress: Progress) -> Fit:
    path = folder.path
    last = last_of(path) if folder.resumed else None
    content = _checked(last, recipe) if last is not None else None
    dataset = find_dataset(recipe.data)
    images = check_dataset(dataset, recipe.train.batch_size)
    bound = bind(recipe, dataset, path, run=path if folder.resumed else None)
    if last is None or content is None:
        smoke_test(bound)
    else:
        check_fits(bound, content, last)
    if is_main():
        own = is_program(recipe.detector.base) if not folder.resumed else False
        folder.begin(recipe, (lambda: write_config(load_base(recipe.detector.base), path / KEPT)) if own else None)
        progress.started(_opening(recipe, dataset, bound, images, path))
    heeding, heard = Heeding(), EpochHook(progress, path if is_main() else None)
    with heeding.installed():
        runner = _start(bound.config, path, last)
        for hook in (heard, StopHook(heeding)):
            runner.register_hook(hook)
        try:
            runner.train()
        except Stopped:
            pass
        except InputError as error:
            raise InputError(_sentence(error)) from None
        heeding.disarm()
    if heeding.wanted is not None:
        if is_main():
            _plot(recipe, runner, path)
        return Fit(path, stopped=heeding.wanted, checkpoint=last_of(path))
    if not is_main():
        return Fit(path)
    return Fit(path, _finish(recipe, dataset, runner, path, _cost(recipe, bound, runner, heard.watch.total)))


def _cost(recipe: DetectionRecipe, bound: BoundConfig, runner: Runner, seconds: float) -> dict[str, float]:
    """What training took, and what the detector and its backbone cost for one image."""
    with torch.device("meta"):
        network = compile_network(
            recipe, features_only=True, out_indices=bound.binding.indices, image_size=bound.size[::-1]
        )
    figures = compare(network).figures()
    return {
        "training_seconds": round(seconds, 1),
        "parameters": sum(parameter.numel() for parameter in runner.model.parameters()),
        **{f"backbone_{name}": value for name, value in figures.items()},
    }


def _checked(last: Path, recipe: DetectionRecipe) -> dict[str, Any]:
    """The checkpoint to go on from; refuses one that isn't whole, and says which one is left."""
    try:
        return read_run_checkpoint(last, recipe.architecture)
    except WeightsError as error:
        others = [file.name for file in epochs_in(last.parent) if file != last]
        hint = f". Take it away to go on from {others[-1]}" if others else ""
        raise WeightsError(f"{error}{hint}") from None


def _start(config: Config, path: Path, last: Path | None) -> Runner:
    """The runner of a config, which goes on from a checkpoint where there is one; keeps the config in the run."""
    config.launcher = _launcher()
    first = None
    if last is not None:
        # By name: the run's folder may have moved since it was written down. The checkpoint has all weights: those
        # that the run began with aren't read, or fetched, again.
        config.load_from, config.resume = str(last), True
        first = config.model.backbone.pop("init_cfg", None)
    runner = make_runner(config)
    if is_main():
        # Without where to go on from, which is for this start only.
        config.load_from, config.resume = None, False
        if first is not None:
            config.model.backbone.init_cfg = first
        write_config(config, path / "config.py")
    return runner


def _launcher() -> str:
    """Which of mmengine's launchers started this process, by the variables that it sets."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "pytorch"
    return "slurm" if int(os.environ.get("SLURM_NTASKS", "1")) > 1 else "none"


def _opening(
    recipe: DetectionRecipe, dataset: BoxDataset, bound: BoundConfig, images: tuple[int, int], path: Path
) -> str:
    return (
        f"{recipe.architecture} in {Path(recipe.detector.base).stem}: {describe(bound)}\n"
        f"{recipe.data.name}: {images[0]:,} training images, {images[1]:,} validation images, "
        f"{len(dataset.classes)} classes; run in {visible(str(path))}"
    )


def describe(bound: BoundConfig) -> str:
    """The maps that feed the neck and the strides that the heads see, in a line."""
    maps = ", ".join(f"{f.name} ({f.channels} channels, 1/{f.reduction})" for f in bound.binding.features)
    strides = ", ".join(f"{level.stride[0]:.4g}" for level in bound.binding.levels)
    return f"{maps}; strides {strides}"


def _sentence(error: InputError) -> str:
    """What an error says. From a worker it arrives as a traceback in a string, with the sentence behind its name."""
    return error.given.rpartition(f"{InputError.__module__}.{InputError.__name__}: ")[2].strip()


def _finish(
    recipe: DetectionRecipe, dataset: BoxDataset, runner: Runner, path: Path, cost: dict[str, float]
) -> dict[str, Any]:
    """Writes the best epoch's figures, from the history that the checkpoints carry; returns the summary."""
    scores = _history(runner, BEST)
    best = int(np.argmax(scores)) if len(scores) else None
    summary: dict[str, Any] = {
        "architecture": recipe.architecture,
        "detector": Path(recipe.detector.base).stem,
        "data": recipe.data.name,
        "classes": len(dataset.classes),
        "epochs": runner.max_epochs,
    }
    if best is not None:
        every = recipe.train.validate_every
        summary["best_epoch"] = min((best + 1) * every, runner.max_epochs)
        figures = {name: round(float(_history(runner, f"coco/{name}")[best]), 4) for name in FIGURES}
        # COCO's evaluation gives -1 where no box is of a size.
        summary |= {name: value for name, value in figures.items() if value >= 0}
        summary["bbox_mAP_is"] = "of the epoch that is best on the validation images, which are those measured"
    summary |= cost
    _plot(recipe, runner, path)
    save_json(summary, path / "summary.json")
    return summary


def _plot(recipe: DetectionRecipe, runner: Runner, path: Path) -> None:
    title = f"{recipe.architecture} in {Path(recipe.detector.base).stem} on {recipe.data.name}"
    curves.plot(path, title, len(runner.train_dataloader))


def _history(runner: Runner, name: str) -> np.ndarray:
    scalars = runner.message_hub.log_scalars
    key = f"val/{name}"
    values: np.ndarray = scalars[key].data[0] if key in scalars else np.zeros(0)
    return values
