"""From a study's axes to its runs: a recipe each, or the reason why there is none. No torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from sapool.errors import InputError, RecipeError, require_extra
from sapool.recipes.reading import AnyRecipe, flat, read_recipe
from sapool.study.sweep.definition import MOST_RUNS, SEED, Definition, Range, Value, override

if TYPE_CHECKING:
    import optuna

_LONGEST = 60
Point = dict[str, Value]
"""A value of every axis."""


@dataclass(frozen=True)
class Planned:
    """A run that a study asks for.

    Attributes:
        name: of its folder.
        axes: a value of each.
        seed: it is trained with.
        recipe: with every setting; None where it was refused.
        refused: why, in a sentence; "" where it wasn't.
        constraints: of a search, by the name of a limit, by how much its network's needs are above it.
    """

    name: str
    axes: Point
    seed: int
    recipe: AnyRecipe | None = None
    refused: str = ""
    constraints: Mapping[str, int] = field(default_factory=dict)

    def refuse(self, reason: str) -> Planned:
        """The same, refused."""
        return replace(self, recipe=None, refused=reason)


def planned_runs(definition: Definition) -> list[Planned]:
    """Every run that a study asks for, in order; two combinations that mean the same run are one.

    Raises:
        RecipeError: there are too many.
        MissingExtraError: Optuna is to draw them, and isn't installed.
    """
    found: dict[str, Planned] = {}
    for point in _points(definition):
        for seed in definition.study.seed_values:
            run = _planned(definition, point, seed)
            same = repr(flat(run.recipe)) if run.recipe is not None else f"{point} {seed}"
            found.setdefault(same, run)
            if len(found) > MOST_RUNS:
                raise RecipeError(f"{definition.title} has more than {MOST_RUNS:,} runs; leave some out")
    width = len(str(max(len(found) - 1, 0)))
    return [replace(run, name=f"{number:0{width}}-{run.name}") for number, run in enumerate(found.values())]


def shown(value: Any) -> str:
    """An axis' value as people read it: `96x160` for a size."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _planned(definition: Definition, point: Point, seed: int) -> Planned:
    words = {word: shown(point[word]) for word in definition.words}
    settings = {name: value for name, value in point.items() if name not in definition.words}
    if isinstance(text := settings.get("architecture"), str):
        settings["architecture"] = text.format(**words)
    named = [shown(settings["architecture"])] if "architecture" in settings else []
    single = {name for name, values in definition.axes.items() if not isinstance(values, Range) and len(values) == 1}
    named += [
        f"{name.rpartition('.')[2]}{shown(value)}"
        for name, value in settings.items()
        if name != "architecture" and name not in single
    ]
    name = re.sub(r"[^\w.+-]+", "_", "-".join(named))[:_LONGEST].strip("-_.") or "run"
    run = Planned(f"{name}-seed{seed}", point, seed)
    given = {**definition.study.settings, **settings, SEED: seed}
    try:
        recipe = read_recipe(definition.recipe, [override(key, value) for key, value in given.items()])
    except InputError as error:
        prefix = f"{definition.recipe}: "
        return run.refuse(error.given.splitlines()[0].removeprefix(prefix))
    return replace(run, recipe=recipe)


def _points(definition: Definition) -> Iterator[Point]:
    axes, expand = definition.axes, definition.study.expand
    if expand in ("grid", "random"):
        yield from _drawn(definition)
        return
    lists = {name: values for name, values in axes.items() if not isinstance(values, Range)}
    if expand == "product":
        if math.prod(len(values) for values in lists.values()) > MOST_RUNS:
            raise RecipeError(f"{definition.title} has more than {MOST_RUNS:,} runs; leave some out, or draw some")
        for chosen in product(*lists.values()):
            yield dict(zip(lists, chosen, strict=True))
        return
    count = max(len(values) for values in lists.values())
    for name, values in lists.items():
        if len(values) not in (1, count):
            raise RecipeError(
                f"axes.{name} has {len(values)} values and another axis {count}: of expand = 'list' all have as many, "
                "or one for all"
            )
    for place in range(count):
        yield {name: values[place if len(values) > 1 else 0] for name, values in lists.items()}


def _drawn(definition: Definition) -> list[Point]:
    """What Optuna's sampler draws, the same each time: in a study of its own, which is kept nowhere."""
    require_extra("study", "drawing a study's runs", ("optuna",))
    import optuna  # noqa: PLC0415 - an extra

    axes, study, found = definition.axes, definition.study, list[Point]()
    sampler: optuna.samplers.BaseSampler
    if study.expand == "grid":
        grid = {name: list(range(len(values))) for name, values in axes.items() if not isinstance(values, Range)}
        sampler = optuna.samplers.GridSampler(grid, seed=study.draw)
        count = math.prod(map(len, grid.values()))
        count = count if study.runs is None else min(count, study.runs)
    else:
        if study.runs is None:
            raise RecipeError(f"{definition.title}: runs is missing: of expand = 'random', how many are drawn")
        sampler, count = optuna.samplers.RandomSampler(seed=study.draw), study.runs
    if count > MOST_RUNS:
        raise RecipeError(f"{definition.title} has more than {MOST_RUNS:,} runs; draw fewer")

    def draw(trial: optuna.Trial) -> float:
        found.append({name: _value(trial, name, values) for name, values in axes.items()})
        return 0.0

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        optuna.create_study(sampler=sampler).optimize(draw, n_trials=count)
    finally:
        optuna.logging.set_verbosity(level)
    return found


def _value(trial: optuna.Trial, name: str, values: tuple[Value, ...] | Range) -> Value:
    value: Value
    if not isinstance(values, Range):
        value = values[trial.suggest_categorical(name, range(len(values)))]
    elif isinstance(values.low, int) and isinstance(values.high, int):
        value = trial.suggest_int(name, values.low, values.high, log=values.log)
    else:
        value = trial.suggest_float(name, values.low, values.high, log=values.log)
    return value
