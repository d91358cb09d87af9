"""A dry run of a detector: everything is bound and tried on real batches, and time is estimated. No run is begun."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner

from sapool.cli.tables import console, count, show_table
from sapool.detect.binding.config import Bound, bind, build_model, try_once, write_config
from sapool.detect.data.coco import check, find
from sapool.detect.progress import quietly
from sapool.errors import InputError
from sapool.recipes.detection import DetectionRecipe


def dry_run(recipe: DetectionRecipe, output: str | None = None) -> int:
    """Binds what a recipe describes, runs a batch twice, and prints what was bound and an estimate of the time.

    Args:
        recipe: what to try.
        output: where the bound config is written; None for nowhere.

    Raises:
        InputError: the recipe, the data or the base can't be used, or the output isn't a `.py` file.
        WorkError: the detector doesn't run.
    """
    _check_output(output)
    with tempfile.TemporaryDirectory() as folder, quietly():
        boxes = find(recipe.data)
        images = check(boxes, recipe.train.batch_size)
        bound = bind(recipe, boxes, Path(folder))
        loss = try_once(bound)
        seconds = _time_a_batch(bound)
    show_binding(bound)
    steps, epochs = images[0] // recipe.train.batch_size, bound.config.train_cfg.max_epochs
    out = console()
    out.print(
        f"\n{recipe.data.name}: {count(images[0])} training images, {count(images[1])} validation images, "
        f"{len(boxes.classes)} classes\n"
        f"the first loss, on noise, is {loss:.4g}; a training batch of {recipe.train.batch_size} took {seconds:.2f} s\n"
        f"estimate: {count(steps)} batches an epoch, {steps * seconds * epochs / 60:.0f} min for {epochs} epochs on "
        "this machine, without validation",
        markup=False,
    )
    if output:
        write_for_user(bound, output)
    else:
        out.print("dry run: nothing was written")
    return 0


def write(recipe: DetectionRecipe, output: str) -> int:
    """Binds what a recipe describes and writes the config, without the data where COCO's own is meant.

    Raises:
        InputError: as in `dry_run`.
        WorkError: the detector doesn't run.
    """
    _check_output(output)
    with quietly():
        bound = bind(recipe, find(recipe.data, present=False), Path("work_dirs") / recipe.title)
        try_once(bound)
    show_binding(bound)
    write_for_user(bound, output)
    return 0


def _check_output(output: str | None) -> None:
    if output and Path(output).suffix != ".py":
        raise InputError(f"{output}: a detector's recipe is written as a config of mmdet; expected .py")


def write_for_user(bound: Bound, output: str) -> None:
    """Writes a config for mmdet's own tools, which choose the folder of their files by its name."""
    bound.config.pop("work_dir")
    write_config(bound.config, output)
    console().print(f"config in {output}", markup=False)


def show_binding(bound: Bound) -> None:
    """Prints what the heads see, and what feeds the neck."""
    out, binding = console(), bound.binding
    rows = [
        (str(index), feature.name, str(feature.channels), f"1/{feature.reduction}")
        for index, feature in zip(binding.indices, binding.features, strict=True)
    ]
    show_table(out, ("out index", "map", "channels", "size"), rows, title="what the neck takes")
    out.print()
    strides = [" x ".join(dict.fromkeys(f"{edge:.5g}" for edge in level.stride)) for level in binding.levels]
    levels = [(str(n), str(level.channels), strides[n]) for n, level in enumerate(binding.levels)]
    show_table(out, ("level", "channels", "stride"), levels, title="what the heads see")
    out.print()
    show_table(out, ("head", "type", "family"), binding.heads)
    width, height = bound.size
    out.print(
        f"\nimages of {width}x{height}, padded to multiples of {binding.divisor}; {bound.classes} classes", markup=False
    )


def _time_a_batch(bound: Bound) -> float:
    """Seconds that a training step takes, loading included. The first one warms up, the second is timed."""
    model = build_model(bound.config)
    model.init_weights()
    model.train()
    optimiser = build_optim_wrapper(model, bound.config.optim_wrapper)
    MessageHub.get_current_instance().update_info("iter", 0)  # some augmentations of batches ask which step it is
    batches = itertools.islice(itertools.cycle(Runner.build_dataloader(bound.config.train_dataloader, seed=0)), 2)
    seconds = 0.0
    for _ in range(2):
        started = time.monotonic()
        model.train_step(next(batches), optimiser)
        seconds = time.monotonic() - started
    return seconds
