"""What is said of settings: the reference, spellings from elsewhere, and what is bent to fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from sapool.errors import RecipeError
from sapool.recipes.detection import DetectionRecipe
from sapool.recipes.reading import flat, read_recipe, to_toml
from sapool.recipes.reference import KINDS, reference
from sapool.recipes.settings import Recipe
from sapool.recipes.spelling import _ELSEWHERE, setting_called, settings_of
from sapoolc import main

ROOT = Path(__file__).parents[2]


def test_every_setting_has_a_type_and_a_meaning() -> None:
    for kind in KINDS.values():
        rows = reference(kind)
        assert [row.name for row in rows] == list(settings_of(kind))
        assert [row.name for row in rows if not row.type or not row.meaning] == []
    assert {row.name: row for row in reference(Recipe)}["train.epochs"].type == "integer from 1 to 1,000,000"


def test_a_prefix_chooses() -> None:
    assert {row.name.partition(".")[0] for row in reference(Recipe, "train.")} == {"train"}
    assert reference(DetectionRecipe, "nothing") == []


def test_the_page_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "--markdown"]) == 0
    assert capsys.readouterr().out == (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def test_spellings_from_elsewhere_mean_settings_that_there_are() -> None:
    known = {*settings_of(Recipe), *settings_of(DetectionRecipe)}
    assert set(_ELSEWHERE) <= known
    spelled = [word for words in _ELSEWHERE.values() for word in words]
    assert len(spelled) == len(set(spelled))
    assert setting_called("lr", Recipe) == "optimizer.lr"
    assert setting_called("BS", DetectionRecipe) == "train.batch_size"
    assert setting_called("name", Recipe) is None  # of several sections


def test_fewer_epochs_shorten_the_warm_up() -> None:
    recipe = read_recipe("folder", ["data.root=x", "train.epochs=3"])
    assert isinstance(recipe, Recipe)
    assert recipe.schedule.warmup_epochs == 0.3
    assert recipe.notes == (
        "schedule.warmup_epochs is 0.3 in place of the recipe's 3, which leaves nothing of train.epochs=3",
    )
    assert "notes" not in to_toml(recipe)
    assert "notes" not in flat(recipe)
    assert read_recipe("folder", ["data.root=x", "train.epochs=4"]).notes == ()
    with pytest.raises(RecipeError, match="leaves nothing"):
        read_recipe("folder", ["data.root=x", "train.epochs=3", "schedule.warmup_epochs=3"])
