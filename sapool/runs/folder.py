"""A run's folder: choosing it, making it, and going on with the run in it. No torch here.

Every run keeps `recipe.toml` (every setting resolved) and, when it is done, `summary.json`. What else is in the folder
is its task's: see `sapool.classify.fit` and `sapool.detect.fit`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sapool.digests import has_digest, remark, with_digest
from sapool.errors import RecipeError
from sapool.recipes.reading import AnyRecipe, flat, read_recipe, to_toml
from sapool.runs.process.lock import LOCK, Lock, unusable
from sapool.runs.progress import Progress
from sapool.weights.atomic import leftover_of, remove_leftovers, write_text

RECIPE = "recipe.toml"
# What training writes. Half-written ones of a killed process go when the run goes on; what others write in the folder,
# an evaluation that is under way, is theirs.
_WRITTEN = (
    *(RECIPE, "base.py", "config.py", "*.ckpt", "*.pth", "last_checkpoint", "model.pt"),
    *("metrics.csv", "curves.png", "summary.json"),
)
_PROBE = ".probe"
# What may differ when a run is resumed: where it runs, not what it computes.
_FREE = frozenset(
    {"data.root", "data.workers", "weights", "train.checkpoint_every"}
    | {f"train.{name}" for name in ("accelerator", "devices", "nodes", "strategy", "log_every", "logger", "profile")}
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
    _lock: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

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

    @contextmanager
    def held(self, progress: Progress) -> Iterator[None]:
        """Meanwhile nobody else may train in the folder; of a new run from `begin` on.

        Args:
            progress: hears it where the disk has no locks.

        Raises:
            RecipeError: somebody else is training there.
        """
        if not is_main():
            yield
            return
        self._lock.progress, self._lock.kept = progress, True
        try:
            if self.resumed:
                self._lock.take(self.path)
            yield
        finally:
            self._lock.kept = False
            self._lock.release()

    def begin(self, recipe: AnyRecipe, before: Callable[[], object] | None = None) -> None:
        """Makes a new run's folder and keeps its recipe there; tidies that of a run which goes on.

        Args:
            recipe: what is trained.
            before: writes what else the folder needs to be a run's; the recipe is last, and makes it one.

        Raises:
            RecipeError: it can't be made, there is something in it, or somebody else trains in it.
        """
        if not self.resumed:
            make(self.path)
        self._lock.take(self.path)
        try:
            if not self.resumed:
                _check_empty(self.path)  # somebody else may have been quicker, and done
            self._lock.begun = True
            remove_leftovers(self.path, _WRITTEN)
            if not self.resumed:
                if before is not None:
                    before()
                write_text(self.path / RECIPE, with_digest(to_toml(recipe)))
        finally:
            if not self._lock.kept:
                self._lock.release()

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
        names = {file.name for file in path.iterdir()} if path.is_dir() else set()
    except OSError as error:
        raise unusable(path, error) from None
    # What a process that was killed while it began left behind: the lock tells that it was one.
    left = {LOCK, _PROBE} | ({"base.py"} if LOCK in names else set())
    if any(name not in left and leftover_of(name) not in (RECIPE, "base.py") for name in names):
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
        probe = path / _PROBE
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise unusable(path, error) from None


def recipe_of(path: str | Path) -> AnyRecipe:
    """The recipe of the run in a folder.

    Raises:
        RecipeError: there is no run.
    """
    file = Path(path) / RECIPE
    if not file.is_file():
        inside = sorted(Path(path).glob(f"*/{RECIPE}"), key=lambda found: found.stat().st_mtime)
        hint = f"; the last of those in it is {inside[-1].parent}" if inside else ""
        raise RecipeError(f"{path} holds no run: there is no recipe.toml in it{hint}")
    if not has_digest(file):
        remark(file)
    return read_recipe(str(file), of_run=True).model_copy(update={"title": Path(path).name})


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
