"""A run's folder: choosing it, making it, and going on with the run in it. No torch here.

Every run keeps `recipe.toml` (every setting resolved) and, when it is done, `summary.json`. What else is in the folder
is its task's: see `sapool.classify.fit` and `sapool.detect.fit`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sapool.errors import RecipeError
from sapool.recipes.reading import AnyRecipe, flat, read_recipe, to_toml
from sapool.weights.atomic import write_text

RECIPE = "recipe.toml"
# What may differ when a run is resumed: where it runs, not what it computes.
_FREE = frozenset(
    {"data.root", "data.workers", "weights", "train.checkpoint_every"}
    | {f"train.{name}" for name in ("accelerator", "devices", "nodes", "strategy", "log_every", "profile")}
)
# By what the processes of one run that starts others tell them its folder.
_VARIABLE = "SAPOOL_RUN_DIR"
# Ranks, by the variables of torchrun, of Lightning and of Slurm. The first process has rank 0 in each that is set.
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


def is_main() -> bool:
    """Whether this is the one process of a run that writes and prints."""
    return all(int(os.environ.get(name) or 0) == 0 for name in _RANKS)


@dataclass(frozen=True)
class RunFolder:
    """Where a run is kept.

    Attributes:
        path: the folder; of a new run it isn't made before `begin`.
        resumed: whether a run was begun there, which is to go on.
    """

    path: Path
    resumed: bool = False

    @classmethod
    def choose(cls, recipe: AnyRecipe, where: str | Path | None = None, *, resume: bool = False) -> RunFolder:
        """The folder of a run: the one given, or a new name under `runs`. Nothing is written yet.

        Args:
            recipe: what is to be trained; names a new folder.
            where: the folder, or None.
            resume: go on with the run that is there; one that was killed in its first moments left nothing, and begins
                anew.

        Raises:
            RecipeError: there is something in the folder of a new run, or a run of another recipe in that of one to be
                resumed; or several processes were started from outside, and would each choose another name.
        """
        path = Path(where) if where is not None else _new_name(recipe.title)
        if resume and (path / RECIPE).is_file():
            _check_same(recipe, path)
            return cls(path, resumed=True)
        # Other processes of a run may come when the first one has begun it.
        if is_main():
            _check_empty(path)
        return cls(path)

    def begin(self, recipe: AnyRecipe) -> None:
        """Makes a new run's folder and keeps its recipe there; tidies that of a run which goes on.

        Raises:
            RecipeError: it can't be made, or there is something in it.
        """
        if self.resumed:
            for partial in self.path.glob(".*.ckpt"):  # half-written by a killed process
                partial.unlink(missing_ok=True)
            return
        make(self.path)
        write_text(self.path / RECIPE, to_toml(recipe))

    @contextmanager
    def announced(self) -> Iterator[None]:
        """Tells the folder to the processes that are started meanwhile, which couldn't choose the same name."""
        before = os.environ.get(_VARIABLE)
        os.environ[_VARIABLE] = str(self.path.absolute())
        try:
            yield
        finally:
            if before is None:
                del os.environ[_VARIABLE]
            else:
                os.environ[_VARIABLE] = before


def _new_name(title: str) -> Path:
    if not is_main() and _VARIABLE in os.environ:
        return Path(os.environ[_VARIABLE])
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        raise RecipeError("many processes need one folder between them: name it with --run-dir")
    name = f"{title}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path("runs") / name, 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{name}-{number}"
    return path


def _check_empty(path: Path) -> None:
    try:
        taken = path.is_dir() and any(path.iterdir())
    except OSError as error:
        raise _unusable(path, error) from None
    if taken:
        raise RecipeError(
            f"the run directory {path} isn't empty; go on with that run with --resume, or choose another with --run-dir"
        )


def make(path: Path) -> None:
    """Makes a new folder for a run.

    Raises:
        RecipeError: it can't be made or written to, or there is something in it.
    """
    _check_empty(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unusable(path, error) from None


def _unusable(path: Path, error: OSError) -> RecipeError:
    return RecipeError(f"the run directory {path} can't be used: {error.strerror}; choose another with --run-dir")


def recipe_of(path: str | Path) -> AnyRecipe:
    """The recipe of the run in a folder.

    Raises:
        RecipeError: there is no run.
    """
    file = Path(path) / RECIPE
    if not file.is_file():
        raise RecipeError(f"{path} holds no run: there is no recipe.toml in it")
    return read_recipe(str(file)).model_copy(update={"title": Path(path).name})


def _check_same(given: AnyRecipe, path: Path) -> None:
    """Refuses to go on with a run under another recipe; names the settings that differ and matter."""
    ours, theirs = flat(given), flat(recipe_of(path))
    odd = [
        f"{name} is {_shown(theirs.get(name))} there and {_shown(ours.get(name))} here"
        for name in {**theirs, **ours}
        if name not in _FREE and ours.get(name) != theirs.get(name)
    ]
    if odd:
        raise RecipeError(f"the run in {path} has another recipe: {'; '.join(odd)}. Resume it with its own settings.")


def _shown(value: object) -> str:
    """A setting's value; a plan's is another one, and that is enough."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:40]}... ({len(text):,} characters)"
