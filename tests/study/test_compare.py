"""Runs side by side: figures, plot, and what can't be compared."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

import sapool
from sapool.errors import InputError
from sapool.study.compare import compare
from tests.commands import sapoolc


def test_compared_are_what_training_reached_and_what_the_network_costs(classifier_run):
    comparison = compare([classifier_run, classifier_run])
    run, other = comparison.runs
    assert run == other
    assert comparison.comparable
    summary = json.loads((classifier_run / "summary.json").read_text())
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
    (other / "recipe.toml").write_text(recipe.replace('select = "val"', 'select = "test"'))
    comparison = compare([classifier_run, other])
    assert not comparison.comparable
    assert "what chose their epoch" in comparison.report()[-1]


def test_runs_that_cannot_be_compared(classifier_run, tmp_path):
    (tmp_path / "unfinished").mkdir()
    shutil.copy(classifier_run / "recipe.toml", tmp_path / "unfinished")
    with pytest.raises(InputError, match=r"isn't finished: there is no summary\.json"):
        compare([tmp_path / "unfinished"])
    (tmp_path / "unfinished" / "summary.json").write_text("{}")
    with pytest.raises(InputError, match="is damaged"):
        compare([tmp_path / "unfinished"])
    with pytest.raises(InputError, match="holds no run"):
        compare([tmp_path])
