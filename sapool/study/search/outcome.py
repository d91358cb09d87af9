"""What a search ends with: of its runs that were trained to the end the front, and the best one's plan and recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sapool.cost.limits import Needs
from sapool.recipes.inputs import size_text
from sapool.recipes.reading import read_recipe, to_toml
from sapool.runs.results import Result, Table
from sapool.study.search.found import Fitting
from sapool.study.search.measuring import plan_of
from sapool.study.search.space import Space
from sapool.study.search.training import Training
from sapool.study.sweep.definition import override
from sapool.study.sweep.folder import WINNER, StudyFolder
from sapool.study.sweep.scores import SCORES, score_of
from sapool.study.table import StudyRun, study_table
from sapool.weights.atomic import write_text


@dataclass(frozen=True)
class Trained:
    """A run of a search that was trained to its end.

    Attributes:
        run: its name.
        text, image_size: its network.
        score: what it reached on the images that choose an epoch.
        test: on test images.
        needs: of its network.
    """

    run: str
    text: str
    image_size: Any
    score: float
    test: float
    needs: Needs


@dataclass(frozen=True)
class Outcome(Result):
    """What a search ends with.

    Attributes:
        path: its study's folder.
        score: what is compared, by its name in a summary.
        states: of so many runs, by what became of them.
        trained: those that were trained to the end, the best first.
        front: those of them that no other beats: none scores as high with as small an arena, as few MACs and as few
            parameters.
        failed: names of those that failed, with the sentence of each.
    """

    path: str
    score: str
    states: Mapping[str, int]
    trained: tuple[Trained, ...]
    front: tuple[Trained, ...]
    failed: Mapping[str, str]

    @property
    def winner(self) -> Trained | None:
        """The best of them; None where none was trained to its end."""
        return self.trained[0] if self.trained else None

    def report(self) -> tuple[Table | str, ...]:
        counts = ", ".join(f"{count} {state}" for state, count in self.states.items())
        failed = tuple(f"{name} failed: {sentence}" for name, sentence in self.failed.items())
        if self.winner is None:
            return (f"{counts}; none was trained to its end, so there is no winner", *failed)
        rows = tuple(
            (one.text, size_text(one.image_size), f"{one.score:.4f}", f"{one.test:.4f}", f"{one.needs.arena:,}",
             f"{one.needs.macs:,}", f"{one.needs.parameters:,}")
            for one in self.front
        )  # fmt: skip
        plan, recipe = (Path(self.path) / name for name in WINNER)
        columns = ("architecture", "size", self.score.replace("_", " "), "test accuracy", "arena", "MACs", "parameters")
        return (
            Table(columns, rows, title=f"the front of what was trained to the end ({counts})", spare=("parameters",)),
            *failed,
            f"the best is {self.winner.text} at {size_text(self.winner.image_size)}; its plan is in {plan}",
            f"train it fully: sapoolc train {recipe}",
        )

    def as_data(self) -> dict[str, Any]:
        return {
            "folder": self.path, "score": self.score, "states": dict(self.states), "failed": dict(self.failed),
            "trained": [_data(one) for one in self.trained], "front": [one.run for one in self.front],
            "winner": self.winner.run if self.winner else None,
        }  # fmt: skip


def conclude(training: Training, study: StudyFolder, known: Mapping[str, Fitting], space: Space) -> Outcome:
    """Reads what a search's runs reached, and writes the best one's plan and recipe.

    Args:
        training: what was spent.
        study: its folder.
        known: each run's network.
        space: they are of.

    Raises:
        InputError: a file of a run is damaged, or the folder can't be written to.
    """
    table = study_table(study.path)
    done = [run for run in table.runs if run.state == "done"]
    trained = [_trained(run, known[run.name]) for run in done]
    # Of as good ones the cheapest; then the first, so that there is one answer.
    trained.sort(key=lambda one: (-one.score, one.needs.macs, one.needs.parameters, one.needs.arena, one.run))
    counts: dict[str, int] = {}
    for run in table.runs:
        counts[run.state] = counts.get(run.state, 0) + 1
    failed = {run.name: run.sentence for run in table.runs if run.state == "failed"}
    score = next((name for name in SCORES for run in done if name in run.metrics), SCORES[0])
    outcome = Outcome(str(study.path), score, counts, tuple(trained), front_of(trained), failed)
    if outcome.winner is not None:
        plan, recipe = (study.path / name for name in WINNER)
        write_text(plan, plan_of(known[outcome.winner.run].candidate, space).to_json())
        write_text(recipe, _recipe(training, outcome.winner))
    return outcome


def front_of(trained: Sequence[Trained]) -> tuple[Trained, ...]:
    """Those that no other is as good as, or better than, in everything."""
    marks = [(-one.score, one.needs.arena, one.needs.macs, one.needs.parameters) for one in trained]
    return tuple(
        one
        for place, one in enumerate(trained)
        if not any(
            all(theirs <= ours for theirs, ours in zip(other, marks[place], strict=True)) and other != marks[place]
            for other in marks
        )
    )


def _trained(run: StudyRun, network: Fitting) -> Trained:
    one = network.candidate
    test = run.metrics.get("test_accuracy", float("nan"))
    return Trained(run.name, one.text, one.image_size, score_of(run.metrics), test, network.needs)


def _recipe(training: Training, winner: Trained) -> str:
    """The search's recipe with all of its epochs, for that network, every setting resolved."""
    settings = {"architecture": winner.text, "data.image_size": winner.image_size}
    recipe = read_recipe(training.source, [override(name, value) for name, value in settings.items()])
    return f"# the best network of the search in {training.path.name}\n\n{to_toml(recipe)}"


def _data(one: Trained) -> dict[str, Any]:
    needs = {"arena": one.needs.arena, "macs": one.needs.macs, "parameters": one.needs.parameters}
    return {
        "run": one.run,
        "text": one.text,
        "image_size": one.image_size,
        "score": one.score,
        "test": one.test,
        **needs,
    }
