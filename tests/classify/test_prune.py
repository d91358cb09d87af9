"""A run pruned and trained again, through the command line: it is kept, opened, resumed and compared as any run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import sapool
from sapool.classify.module import build_model
from sapool.classify.prune import prune_run
from sapool.digests import read_json
from sapool.errors import InputError, RecipeError
from sapool.prune.search import _narrowed, _state
from sapool.prune.selection import select
from sapool.recipes.reading import read_recipe
from sapool.study.compare import compare
from tests.commands import sapoolc

pytest.importorskip("torch_pruning")

SETTINGS = [
    *("architecture=resnet18-nlp_headfix2_nowin_reduced-1222", "data.image_size=32", "data.augment=none"),
    *("train.batch_size=32", "train.steps_per_epoch=3", "train.epochs=2", "train.log_every=1"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    sapoolc("train", "digits", *SETTINGS, "--run-dir", folder)
    return folder


@pytest.mark.slow
def test_a_run_is_pruned_and_trained_again(trained: Path) -> None:
    again = trained.parent / "again"
    said, _ = sapoolc("prune", trained, "--macs", "0.5", "train.epochs=1", "--run-dir", again)
    assert "pruned model in" in said
    assert "test accuracy" in said
    whole, pruned = sapool.load(trained / "model.pt"), sapool.load(again / "model.pt")
    assert sum(p.numel() for p in pruned.parameters()) < 0.8 * sum(p.numel() for p in whole.parameters())
    # It began with the pruned model's weights, and no network that its text alone would give has them.
    assert sapool.load(trained / "pruned.pt").plan == pruned.plan
    summary = read_json(again / "summary.json")
    assert (summary["pruned"], summary["epochs"]) == (True, 1)
    opened = sapool.open_run(again)
    with torch.no_grad():
        x = torch.randn(2, 3, 32, 32)
        assert torch.equal(opened.model(x), pruned.eval()(x))
    assert opened.evaluate().scores["top1"] is not None
    costs = compare([trained, again]).runs
    assert costs[1].macs <= costs[0].macs / 2
    assert costs[1].peak_bytes < costs[0].peak_bytes
    # Resuming needs the checkpoint alone.
    (trained / "pruned.pt").unlink()
    (again / "model.pt").unlink()
    sapoolc("train", "--resume", "--run-dir", again)
    assert sapool.load(again / "model.pt").plan == pruned.plan


@pytest.mark.slow
def test_a_model_file_is_pruned_to_a_budget(trained: Path, tmp_path: Path) -> None:
    said, _ = sapoolc("prune", trained / "model.pt", "--budget", "16KB", "-o", tmp_path / "small.pt", "--json")
    told = json.loads(said)
    assert told["after"]["peak"] <= 16 * 1024 < told["before"]["peak"]
    said, _ = sapoolc("compile", tmp_path / "small.pt", "--json")
    assert json.loads(said)["memory"]["peak"] == told["after"]["peak"]
    said, _ = sapoolc("evaluate", tmp_path / "small.pt", "--data", "digits", "--json")
    assert json.loads(said)["images"] == 360


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere", "--macs", "0.5"), "holds no run"),
        (("m.pt", "--macs", "0.5"), "where to"),
        (("m.pt", "--macs", "0.5", "-o", "n.pt", "--no-train"), "is a model and no run"),
        (("m.pt", "--macs", "0.5", "-o", "n.pt"), "no such file"),
    ],
)
def test_what_cannot_be_pruned(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    assert said in sapoolc("prune", *words, code=2, cwd=tmp_path)[1]


def test_a_detectors_run_is_not_pruned(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('extends = "ssd-digits"')
    with pytest.raises(RecipeError, match="is of a detector"):
        prune_run(tmp_path, macs=0.5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("resnet18-lip-1222", "--data", "digits"), "which weights of resnet18-lip-1222"),
        (("resnet18-lipp-1222", "--data", "digits", "--weights", "w.pt"), "nearest valid spelling"),
        (("resnet18-lip-1222", "--data", "digit", "--weights", "w.pt"), "digits"),
        (("resnet18-lip-1222", "--data", "digits", "--weights", "w.pt"), "no such file"),
        (("run", "--weights", "w.pt"), "--weights goes with --data"),
    ],
)
def test_what_cannot_be_evaluated(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    assert said in sapoolc("evaluate", *words, code=2, cwd=tmp_path)[1]


def test_pruned_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    model = sapool.compile("resnet18-skip-1222", num_classes=10, image_size=32)
    small = _narrowed(model, _state(model, select(model, 0.3, "magnitude", 8)))
    sapool.save(small, tmp_path / "small.pt")
    weights = f"weights={tmp_path / 'small.pt'}"
    recipe = read_recipe("digits", ["architecture=resnet18-skip-1222", weights])
    assert build_model(recipe, 10).origin.shapes == small.origin.shapes
    with pytest.raises(InputError, match="is a pruned resnet18-skip-1222"):
        build_model(read_recipe("digits", ["architecture=resnet18-lip-1222", weights]), 10)
    with pytest.raises(InputError, match="of 10 classes"):
        build_model(recipe, 7)
