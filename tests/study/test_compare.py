"""Runs side by side: figures, plot, and what can't be compared."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

import sapool
from sapool.digests import read_json
from sapool.errors import InputError
from sapool.study.compare import compare
from tests.commands import sapoolc


def test_compared_are_what_training_reached_and_what_the_network_costs(classifier_run):
    comparison = compare([classifier_run, classifier_run.parent / "." / classifier_run.name])
    (run,) = comparison.runs
    assert comparison.notes == ("note: 1 of the runs were named twice and count once",)
    assert comparison.comparable
    summary = read_json(classifier_run / "summary.json")
    assert (run.run, run.architecture, run.test_accuracy) == (
        classifier_run.name, summary["architecture"], summary["test_accuracy"]
    )  # fmt: skip
    assert run.parameters == sum(p.numel() for p in sapool.load(classifier_run / "model.pt").parameters())
    assert run.macs > 0
    assert run.peak_bytes > 0


def test_the_command_prints_and_plots(classifier_run, tmp_path):
    plot = tmp_path / "c.png"
    out, _ = sapoolc("compare", classifier_run, "-o", plot)
    assert out.splitlines()[0].split()[:2] == ["run", "architecture"]
    assert out.endswith(f"\n\nplot in {plot}\n")
    assert Image.open(plot).size[0] > 1000
    out, _ = sapoolc("compare", classifier_run, "-o", plot, "--json")
    assert json.loads(out) == compare([classifier_run]).as_data()


def test_runs_whose_accuracies_mean_different_things(classifier_run, tmp_path):
    other = tmp_path / "on-test"
    other.mkdir()
    shutil.copy(classifier_run / "summary.json", other)
    recipe = (classifier_run / "recipe.toml").read_text()
    (other / "recipe.toml").write_text(recipe.partition("\n")[2].replace('select = "val"', 'select = "test"'))
    comparison = compare([classifier_run, other])
    assert not comparison.comparable
    assert "what chose their epoch" in comparison.report()[-1]


def test_a_run_that_goes_on_is_compared_by_its_best_epoch_so_far(classifier_run, tmp_path):
    going = tmp_path / "going"
    going.mkdir()
    for name in ("recipe.toml", "best.ckpt", "metrics.csv"):
        shutil.copy(classifier_run / name, going)
    comparison = compare([going, classifier_run])
    run, finished = comparison.runs
    best = json.loads((classifier_run / "summary.json").read_text())
    assert run.test_accuracy == pytest.approx(best["val_accuracy"], abs=1e-6)
    assert run.select == f"held-out images, epoch {best['best_epoch']} of {best['epochs']}"
    assert (run.parameters, run.macs) == (finished.parameters, finished.macs)
    assert comparison.notes[:1] == (f"note: going isn't finished: its accuracy is of {run.select}",)
    assert not comparison.comparable
    (going / "metrics.csv").unlink()
    with pytest.raises(InputError, match="has nothing of epoch"):
        compare([going])


def test_runs_that_cannot_be_compared(classifier_run, tmp_path):
    (tmp_path / "unfinished").mkdir()
    shutil.copy(classifier_run / "recipe.toml", tmp_path / "unfinished")
    with pytest.raises(InputError, match=r"has no best\.ckpt yet"):
        compare([tmp_path / "unfinished"])
    (tmp_path / "unfinished" / "summary.json").write_text("{}")
    with pytest.raises(InputError, match="is damaged"):
        compare([tmp_path / "unfinished"])
    with pytest.raises(InputError, match="holds no run"):
        compare([tmp_path])
