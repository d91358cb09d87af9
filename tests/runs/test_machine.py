"""More processes than a machine can use are refused before one is started; stored recipes stay readable anywhere."""

from __future__ import annotations

import os

import pytest

from sapool.errors import RecipeError, WeightsError
from sapool.recipes.reading import read_recipe
from sapool.runs.machine import check_machine
from sapool.tasks import dry_run, fit

CORES = os.cpu_count() or 1


@pytest.mark.parametrize("setting", ["data.workers", "train.devices"])
def test_processes(setting: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe("digits", [f"{setting}={8 * CORES + 1}"])
    for work in (check_machine, fit, dry_run):
        with pytest.raises(
            RecipeError, match=rf"{setting}: {8 * CORES + 1} processes .* it has {CORES} cores, so at most"
        ):
            work(recipe)
    assert not list(tmp_path.iterdir())
    check_machine(read_recipe("digits", [f"{setting}={8 * CORES}"]))


def test_detectors() -> None:
    with pytest.raises(RecipeError, match=r"data\.workers: 4000 processes"):
        check_machine(read_recipe("ssd-digits", ["data.workers=4000"]))


def test_torchvisions_detectors_train_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read_recipe("retinanet-torchvision-digits")
    check_machine(recipe)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="train in one process"):
        check_machine(recipe)
    check_machine(read_recipe("ssd-digits"))


def test_what_a_run_began_with_may_be_gone_when_it_goes_on() -> None:
    recipe = read_recipe("digits", ["weights=gone.pt"])
    with pytest.raises(WeightsError, match=r"no such file: gone\.pt"):
        check_machine(recipe)
    check_machine(recipe, resume=True)


@pytest.mark.parametrize(
    "override",
    [
        "data.workers=1000000",
        "data.image_size=100000",
        "train.devices=1000000",
        "train.nodes=1000000",
        "train.batch_size=100000000",
        "train.epochs=100000000",
        "train.accumulate=100000000",
    ],
)
def test_bounds_of_any_machine(override: str) -> None:
    name = override.partition("=")[0]
    with pytest.raises(RecipeError, match=name.replace(".", r"\.")):
        read_recipe("digits", [override])


def test_workers_of_many_devices_count_together() -> None:
    with pytest.raises(RecipeError, match=rf"of all train\.devices together: .* it has {CORES} cores"):
        check_machine(read_recipe("digits", [f"data.workers={8 * CORES}", "train.devices=2"]))


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("digits", ["data.image_size=8192", "train.batch_size=65536"]),
        ("ssd-digits", ["data.image_size=[8192, 8192]", "train.batch_size=65536"]),
    ],
)
def test_batches_fit_into_memory(recipe: str, settings: list[str]) -> None:
    with pytest.raises(RecipeError, match=r"65536 images of 8192x8192 pixels take 49,152\.0 GB, and this machine has"):
        check_machine(read_recipe(recipe, settings))
