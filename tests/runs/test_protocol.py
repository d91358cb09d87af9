"""What every task offers, whatever its engine: the same assertions on a small run of each."""

from __future__ import annotations

import json
import logging
import os
import warnings
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch
from PIL import Image

import sapool
from sapool.digests import read_json
from sapool.errors import InputError
from sapool.recipes.reading import AnyRecipe, read_recipe
from sapool.runs.progress import Progress
from sapool.runs.protocol import Run
from sapool.runs.results import Evaluation, Fit, Heatmaps, Predictions, Table
from sapool.tasks import dry_run, fit, task_of
from tests.tiers import in_tiers

RUNS = {"classification": "classifier_run", "detection": "detector_run", "torchvision": "torchvision_run"}
TASKS = tuple(RUNS)


def recipe_of(task: str, request: pytest.FixtureRequest) -> AnyRecipe:
    if task == "classification":
        settings = ["architecture=mobilenet-lip-1221111", "data.image_size=16", "train.batch_size=16"]
        return read_recipe("digits", [*settings, "train.steps_per_epoch=1", "train.epochs=1", "train.log_every=1"])
    if task == "torchvision":
        settings = request.getfixturevalue("torchvision_settings")
        return read_recipe("retinanet-torchvision-digits", [*settings, "train.epochs=1"])
    return read_recipe("ssd-digits", [*request.getfixturevalue("detector_settings"), "train.epochs=1"])


@pytest.fixture(params=TASKS)
def recipe(request: pytest.FixtureRequest) -> AnyRecipe:
    return recipe_of(request.param, request)


# Two trainings; the slow tier does it with detectors too.
@pytest.fixture(params=in_tiers(TASKS, ["classification"]))
def trained_twice(request: pytest.FixtureRequest) -> AnyRecipe:
    return recipe_of(request.param, request)


@pytest.fixture(params=TASKS)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(RUNS[request.param])


@pytest.fixture
def run(folder: Path) -> Run:
    return sapool.open_run(folder)


@pytest.fixture(autouse=True)
def silence(capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest):
    """No test of this file may print, on either stream, whoever does it."""
    for name in ("folder", "recipe", "trained_twice"):  # training what is shared may
        if name in request.fixturenames:
            request.getfixturevalue(name)
    capfd.readouterr()
    yield
    assert capfd.readouterr() == ("", "")


class Listener(Progress):
    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def started(self, text):
        self.heard.append(("started", text))

    def epoch(self, number, total, metrics, pace=None):
        assert all(isinstance(value, float) for value in metrics.values())
        self.heard.append(("epoch", number, total))


def test_fit_returns_a_record_and_tells_who_listens(recipe, tmp_path):
    listener = Listener()
    result = fit(recipe, tmp_path / "run", progress=listener)
    assert isinstance(result, Fit)
    assert (result.folder, result.stopped, result.checkpoint) == (tmp_path / "run", None, None)
    assert result.summary == read_json(tmp_path / "run" / "summary.json")
    (table,) = result.report()
    assert isinstance(table, Table)
    assert ("architecture", recipe.architecture) in table.rows
    with pytest.raises(FrozenInstanceError):
        result.folder = Path()
    assert listener.heard[0][0] == "started"
    assert str(tmp_path / "run") in str(listener.heard[0][1])
    assert ("epoch", 1, 1) in listener.heard


def test_two_fits_in_one_process_have_a_folder_each_and_leave_the_process_as_it_was(
    trained_twice, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    precision, filters = torch.get_float32_matmul_precision(), list(warnings.filters)
    level, variables = logging.getLogger("lightning.pytorch").level, {k for k in os.environ if k.startswith("SAPOOL")}
    first = fit(trained_twice)
    files = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    second = fit(trained_twice)
    assert first.folder != second.folder
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")} == files
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {first.folder.name, second.folder.name}
    assert all((result.folder / "summary.json").is_file() for result in (first, second))
    assert torch.get_float32_matmul_precision() == precision
    assert warnings.filters == filters
    assert logging.getLogger("lightning.pytorch").level == level
    assert {k for k in os.environ if k.startswith("SAPOOL")} == variables


def test_a_finished_run_is_resumed(folder):
    recipe = sapool.open_run(folder).recipe
    result = fit(recipe, folder, resume=True)
    assert result.summary["epochs"] == recipe.train.epochs
    other = recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": 1})})
    with pytest.raises(InputError, match=r"has another recipe: train\.seed is 0 there and 1 here"):
        fit(other, folder, resume=True)
    with pytest.raises(InputError, match="isn't empty"):
        fit(recipe, folder)


def test_dry_run_estimates_and_writes_nothing(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = dry_run(recipe)
    assert result.seconds > 0
    assert (result.steps >= 1, result.epochs) == (True, 1)
    assert "estimate: " in str(result.report()[-1])
    json.dumps(result.as_data())
    assert list(tmp_path.iterdir()) == []


def test_an_opened_run_is_what_was_trained(run, folder):
    assert run.path == folder
    assert run.recipe.title == folder.name
    assert task_of(run.recipe).open_run(folder, run.recipe).classes == run.classes == tuple("0123456789")
    assert 1 <= run.epoch <= run.recipe.train.epochs
    assert not run.model.training
    with pytest.raises(FrozenInstanceError):
        run.epoch = 7


def test_predictions(run, images, tmp_path):
    predictions = run.predict(images, top=2, threshold=0.0)
    assert isinstance(predictions, Predictions)
    assert predictions.images == tuple(map(str, images))
    assert [entry["image"] for entry in predictions.as_data()] == [str(image) for image in images]
    json.dumps(predictions.as_data())
    assert len(predictions.report()[0].rows) >= 2
    # One image, however it is named.
    assert run.predict(images[0]).images == run.predict(str(images[0])).images == (str(images[0]),)
    assert run.predict([]).as_data() == []
    with pytest.raises(InputError, match=r"nowhere\.png"):
        run.predict("nowhere.png")
    assert not (run.path / "predictions").exists()


def test_evaluation(run):
    evaluation = run.evaluate()
    assert isinstance(evaluation, Evaluation)
    assert evaluation.epoch == run.epoch
    assert evaluation.images > 0
    assert set(evaluation.per_class) == set(run.classes)
    for value in (*evaluation.scores.values(), *evaluation.per_class.values()):
        assert value is None or 0 <= value <= 1
    assert evaluation.as_data() == read_json(run.path / "evaluation.json")
    assert any(isinstance(block, Table) and len(block.rows) == 10 for block in evaluation.report())
    # The run predicts as before.
    assert not run.model.training


def test_heatmaps(run, images, tmp_path):
    heatmaps = run.heatmap(images, output=tmp_path / "maps")
    assert isinstance(heatmaps, Heatmaps)
    assert heatmaps.files == (tmp_path / "maps" / "one.png", tmp_path / "maps" / "two.png")
    for file in heatmaps.files:
        assert min(Image.open(file).size) > 200
    assert heatmaps.as_data() == [str(file) for file in heatmaps.files]


@pytest.mark.parametrize("task", TASKS)
def test_runs_that_cannot_be_opened(task, request, tmp_path):
    folder = request.getfixturevalue(RUNS[task])
    request.getfixturevalue("capfd").readouterr()
    with pytest.raises(InputError, match="holds no run"):
        sapool.open_run(tmp_path)
    (tmp_path / "recipe.toml").write_text((folder / "recipe.toml").read_text())
    with pytest.raises(InputError, match=r"has no (best\.ckpt|checkpoint) yet"):
        sapool.open_run(tmp_path)
