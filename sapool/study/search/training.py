"""Which networks of those that fit are trained, on what, and how long: a search's runs, as a study's folder has them.

Successive halving gives each run few epochs, and of so many one goes on to as many times more; see
`sapool.study.sweep.halving`. No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sapool.cost.limits import Limits
from sapool.errors import RecipeError, require_extra
from sapool.recipes.inputs import size_text
from sapool.recipes.reading import Recipe, read_recipe
from sapool.study.search.found import Fitting, Found
from sapool.study.search.space import Space
from sapool.study.sweep.definition import Definition, Study, override
from sapool.study.sweep.points import planned_runs
from sapool.study.sweep.sweep import Prepared, check_possible

_RUNGS = 3
"""How often the runs of a search are thinned out, where their epochs allow it."""


@dataclass(frozen=True)
class Training:
    """What a search spends on training; checked, as far as that is cheap.

    Attributes:
        source: the recipe, as `read_recipe` takes it.
        base: it, with all of its epochs.
        path: the folder of the search's study.
        trials: networks that are begun.
        epochs: of those that go to the end.
        factor: of so many one goes on.
        jobs: processes at a time.
    """

    source: str
    base: Recipe
    path: Path
    trials: int
    epochs: int
    factor: int
    jobs: int

    @property
    def pruning(self) -> dict[str, int]:
        """As the study's folder keeps it."""
        return {"first": max(1, self.epochs // self.factor**_RUNGS), "factor": self.factor}

    def report(self, count: int) -> tuple[str, ...]:
        """What is going to be done with so many networks, as people read it."""
        first = self.pruning["first"]
        each = f"{first} {'epoch' if first == 1 else 'epochs'} each"
        return (
            f"{count} of them are trained on {self.base.data.name}: {each}, and of {self.factor} one goes on to "
            f"{self.factor} times as many, up to {self.epochs}; study in {self.path}",
        )


def plan_training(
    source: str, folder: str | Path | None, *, trials: int, epochs: int | None, factor: int, jobs: int
) -> Training:
    """Reads a search's recipe, and refuses what can't be trained; writes nothing.

    Args:
        source: a recipe's file, or a shipped one's name.
        folder: of the study; None for `studies/search-RECIPE`.
        trials, epochs, factor, jobs: as `Training` has them; epochs None for the recipe's.

    Raises:
        InputError: it can't be used, or a number is too small; says which and why.
    """
    for name, value, least in (("trials", trials, 1), ("epochs", epochs, 1), ("factor", factor, 2)):
        if value is not None and value < least:
            raise RecipeError(f"--{name}: expected at least {least}, not {value}")
    base = read_recipe(source)
    if not isinstance(base, Recipe):
        raise RecipeError(f"{source} is a detector's recipe; a search trains classifiers")
    if base.plan is not None:
        raise RecipeError(f"{source} holds a plan, and a search chooses its networks; take `plan` out of it")
    require_extra("study", "a search that trains", ("optuna",))
    require_extra("train", "a search that trains", ("lightning", "filelock"))
    path = Path(folder) if folder is not None else Path("studies") / f"search-{base.title}"
    check_possible(path, jobs, base)
    return Training(source, base, path, trials, epochs or base.train.epochs, factor, jobs)


def space_on(training: Training, space: Space, classes: int) -> Space:
    """A space whose networks take the recipe's images and tell its classes apart.

    Args:
        training: on what.
        space: as it was given.
        classes: of the recipe's data.

    Raises:
        RecipeError: it says otherwise.
    """
    own = {"num_classes": classes, "in_chans": training.base.model.in_chans, "dialect": training.base.dialect}
    for name, value in own.items():
        if name in space.model_fields_set and getattr(space, name) != value:
            raise RecipeError(
                f"{name}: the space says {getattr(space, name)}, and the recipe {training.source} {value}; leave it "
                "out, it is the recipe's"
            )
    return space.model_copy(update=own)


def chosen(found: Found, trials: int) -> tuple[Fitting, ...]:
    """The networks that are trained: the front first, from the most MACs on, then others, spread evenly by MACs."""
    front = _spread(found.front[::-1], trials)
    rest = sorted(
        (one for one in found.fitting if one not in found.front),
        key=lambda one: (-one.needs.macs, one.needs.arena, one.candidate.text, size_text(one.candidate.image_size)),
    )
    return (*front, *_spread(rest, trials - len(front)))


def prepare(training: Training, found: Found) -> tuple[Prepared, dict[str, Fitting]]:
    """A search's runs as a study, and by the name of each what its network is and needs.

    Raises:
        InputError: a recipe of one of them makes no sense.
    """
    some = chosen(found, training.trials)
    axes = {
        "architecture": tuple(one.candidate.text for one in some),
        "data.image_size": tuple(one.candidate.image_size for one in some),
    }
    title = f"search-{training.base.title}"
    study = Study.model_validate(
        {"recipe": training.source, "expand": "list", "seeds": (training.base.train.seed,), "axes": axes,
         "settings": {"train.epochs": training.epochs}}
    )  # fmt: skip
    base = read_recipe(training.source, [override("train.epochs", training.epochs)])
    runs = planned_runs(Definition(title, study, training.source, base, axes, (), found.limits))
    known = {run.name: one for run, one in zip(runs, some, strict=True)}
    constrained = tuple(replace(run, constraints=_constraints(found.limits, known[run.name])) for run in runs)
    return Prepared(Definition(title, study, training.source, base, axes, (), found.limits), constrained,
                    training.path, training.jobs, training.pruning), known  # fmt: skip


def _constraints(limits: Limits, one: Fitting) -> dict[str, int]:
    return {name: needed - limit for name, (needed, limit) in limits.shares(one.needs).items()}


def _spread(some: Sequence[Fitting], count: int) -> tuple[Fitting, ...]:
    """So many of them, from the first to the last, as evenly as can be."""
    if count >= len(some):
        return tuple(some)
    if count < 2:
        return tuple(some[: max(count, 0)])
    return tuple(some[round(place * (len(some) - 1) / (count - 1))] for place in range(count))
