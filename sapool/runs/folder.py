"""A run's folder: what is in it, making one, and going on with one.

* `recipe.toml`: every setting resolved.
* `last.ckpt`: Lightning's checkpoint, to resume from; `best.ckpt`: the same, of the epoch with the best accuracy on the
  images that select.
* `model.pt`: the best epoch's model, for `sapool.load`.
* `metrics.csv`: what was logged; `logs/` has each start's own part, and TensorBoard's files.
* `curves.png`: loss and accuracy over the steps; `summary.json`: what the final table shows.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only

from sapool.errors import InputError, RecipeError, WeightsError
from sapool.recipes.reading import AnyRecipe, flat, read_recipe
from sapool.recipes.settings import Recipe
from sapool.weights.files import read_checkpoint

FORMAT = "sapool-run-1"
# What may differ when a run is resumed: where it runs, not what it computes.
_FREE = frozenset(
    {"data.root", "data.workers", "weights", "train.checkpoint_every"}
    | {f"train.{name}" for name in ("accelerator", "devices", "nodes", "strategy", "log_every", "profile")}
)
_VARIABLE = "SAPOOL_RUN_DIR"


def is_main() -> bool:
    """Whether this is the one process that writes and prints."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0


def choose(folder: str | Path | None, title: str) -> Path:
    """The folder of a new run: the one given, or a new name under `runs`.

    Raises:
        RecipeError: several processes were started from outside, and would each choose another name.
    """
    if folder is not None:
        return Path(folder)
    if _VARIABLE in os.environ:  # set by the process that started this one
        return Path(os.environ[_VARIABLE])
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        raise RecipeError("many processes need one folder between them: name it with --run-dir")
    chosen = Path("runs") / f"{title}-{time.strftime('%Y%m%d-%H%M%S')}"
    # Where Lightning starts further processes, they read the name here.
    os.environ[_VARIABLE] = str(chosen.absolute())
    return chosen


def make(path: Path) -> None:
    """Makes a new folder for a run.

    Raises:
        RecipeError: it can't be made, or there is something in it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise RecipeError(
                f"the run directory {path} isn't empty; go on with that run with --resume, or choose another with "
                "--run-dir"
            )
        probe = path / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RecipeError(
            f"the run directory {path} can't be used: {error.strerror}; choose another with --run-dir"
        ) from None


def any_recipe_of(path: str | Path) -> AnyRecipe:
    """The recipe of the run in a folder, of either kind.

    Raises:
        RecipeError: there is no run.
    """
    file = Path(path) / "recipe.toml"
    if not file.is_file():
        raise RecipeError(f"{path} holds no run: there is no recipe.toml in it")
    return read_recipe(str(file)).model_copy(update={"title": Path(path).name})


def recipe_of(path: str | Path) -> Recipe:
    """The recipe of the classifier's run in a folder.

    Raises:
        RecipeError: there is no run, or it is of a detector.
    """
    recipe = any_recipe_of(path)
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"the run in {path} is of a detector; what is asked for needs a classifier's")
    return recipe


def has_run(path: Path) -> bool:
    """Whether a run was begun there; one that was killed in its first moments left nothing."""
    return (path / "recipe.toml").is_file()


def check_same(given: AnyRecipe, path: Path) -> None:
    """Refuses to go on with a run under another recipe.

    Raises:
        RecipeError: a setting that matters differs; names it.
    """
    ours, theirs = flat(given), flat(any_recipe_of(path))
    odd = [
        f"{name} is {theirs.get(name)!r} there and {ours.get(name)!r} here"
        for name in {**theirs, **ours}
        if name not in _FREE and ours.get(name) != theirs.get(name)
    ]
    if odd:
        raise RecipeError(f"the run in {path} has another recipe: {'; '.join(odd)}. Resume it with its own settings.")


def clean(path: Path) -> None:
    """Removes what a killed process left half-written."""
    for stale in path.glob(".*.ckpt"):
        stale.unlink(missing_ok=True)


def checkpoint_to_resume(path: Path, recipe: Recipe) -> Path | None:
    """The checkpoint to go on from, or None where the run ended before its first.

    Raises:
        WeightsError: it is damaged, or of another run.
    """
    last = path / "last.ckpt"
    if not last.exists():
        return None
    read_own(last, recipe)
    return last


def read_own(path: Path, recipe: Recipe) -> dict[str, Any]:
    """A checkpoint of a recipe's run.

    Raises:
        WeightsError: it can't be read, isn't a run's checkpoint, or is of another architecture.
    """
    try:
        content = read_checkpoint(path)
    except WeightsError as error:
        other = "best.ckpt" if path.name == "last.ckpt" else "last.ckpt"
        raise WeightsError(
            f"{error}. If {path.parent / other} is whole, copy it to {path.name}; nothing was changed"
        ) from None
    own = content.get("sapool")
    if not isinstance(own, dict) or own.get("format") != FORMAT or "state_dict" not in content:
        raise WeightsError(f"{path} isn't a checkpoint of a run of sapoolc train; nothing was changed")
    if (own["architecture"], own["dialect"]) != (recipe.architecture, recipe.dialect):
        raise WeightsError(
            f"{path} is of {own['architecture']} ({own['dialect']} dialect), and the recipe of {recipe.architecture} "
            f"({recipe.dialect} dialect); nothing was changed"
        )
    return content


def model_of(path: str | Path) -> tuple[Any, Recipe, tuple[str, ...], int]:
    """The best model of a run, ready to predict: model, recipe, class names, epoch (from 1).

    Raises:
        InputError: no run, or one without a checkpoint yet.
    """
    from sapool.compiler import compile  # noqa: PLC0415 - torch only where a model is made

    folder = Path(path)
    recipe = recipe_of(folder)
    best = folder / "best.ckpt"
    if not best.exists():
        raise InputError(f"the run in {folder} has no best.ckpt yet; let it finish its first epoch")
    content = read_own(best, recipe)
    classes = tuple(content["sapool"]["classes"])
    model = compile(
        recipe.architecture, num_classes=len(classes), dialect=recipe.dialect, image_size=recipe.data.image_size
    )
    load_into(model, content, best)
    return model.eval(), recipe, classes, content["epoch"] + 1


def load_into(model: Any, content: dict[str, Any], path: Path) -> None:
    """A checkpoint's weights, and its temperature where the backbone is dynamic, into a compiled model.

    Raises:
        WeightsError: they don't fit.
    """
    from sapool.poolings.dynamic import KernelAttention  # noqa: PLC0415

    prefix = "model."
    weights = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise WeightsError(f"{path} doesn't fit its architecture: {str(error).splitlines()[0]}") from None
    temperature = content["sapool"]["temperature"]
    for module in model.modules():
        if isinstance(module, KernelAttention) and temperature is not None:
            module.temperature = temperature
