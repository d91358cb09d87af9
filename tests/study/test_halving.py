"""Searches that train: what of the fitting is trained, which runs go on, and that a killed search ends the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sapool.cost.limits import Limits, Needs
from sapool.runs.progress import EpochTable
from sapool.study.search.found import Fitting, Found
from sapool.study.search.outcome import Trained, front_of
from sapool.study.search.space import Candidate
from sapool.study.search.training import chosen, plan_training, prepare
from sapool.study.sweep.folder import StudyFolder, begin, open_study
from sapool.study.sweep.halving import Judged, pruner_of
from sapool.study.sweep.records import Records
from sapool.study.table import study_table
from tests.commands import sapoolc

optuna = pytest.importorskip("optuna")

RECIPE = """
extends = "digits"
[model]
in_chans = 1
[train]
steps_per_epoch = 2
batch_size = 16
epochs = 6
logger = "none"
"""
SPACE = ("--backbone", "timm:test_resnet", "--pool", "lip", "--pool", "maxp", "--strides", "[12]22[12]", "--image-size",
         32, "--budget", "64KB")  # fmt: skip


def fitting(macs: int, arena: int = 10) -> Fitting:
    return Fitting(Candidate(f"resnet18-lip-{macs}", 32), Needs(arena, arena, macs, 1))


def found(*fits: Fitting, front: tuple[Fitting, ...]) -> Found:
    return Found(Limits(memory=20, macs=1000), len(fits), 0, fits, front, 1.0)


def test_the_front_is_trained_first_and_then_others_from_the_largest_to_the_smallest():
    fits = [fitting(macs) for macs in range(1, 10)]
    front = (fits[2], fits[8])
    some = chosen(found(*fits, front=front), 5)
    assert [one.needs.macs for one in some] == [9, 3, 8, 5, 1]
    assert chosen(found(*fits, front=front), 100) == (fits[8], fits[2], *fits[7:2:-1], *fits[1::-1])
    assert [one.needs.macs for one in chosen(found(*fits, front=tuple(fits)), 3)] == [9, 5, 1]
    assert [one.needs.macs for one in chosen(found(*fits, front=front), 1)] == [9]


def test_the_front_of_what_was_trained():
    def trained(score: float, *needs: int) -> Trained:
        return Trained("a", "b", 32, score, score, Needs(needs[0], needs[0], *needs[1:]))

    best, small, beaten = trained(0.9, 5, 5, 5), trained(0.8, 4, 9, 9), trained(0.8, 5, 5, 6)
    assert front_of([best, small, beaten]) == (best, small)
    assert front_of([best, best]) == (best, best)


@pytest.fixture
def study(tmp_path) -> StudyFolder:
    """A search of three networks, of which one in two goes on from the first epoch."""
    fits = [Fitting(Candidate(f"resnet18-{pool}-1222", 32), Needs(15, 15, 900, 1)) for pool in ("lip", "nlp", "maxp")]
    training = plan_training("digits", tmp_path / "s", trials=3, epochs=4, factor=2, jobs=1)
    prepared, _ = prepare(training, found(*fits, front=tuple(fits)))
    return begin(prepared.path, prepared.definition.title, "", 1, prepared.runs, prepared.pruning)


def records_of(study: StudyFolder) -> Records:
    return Records(study, pruner_of(study.pruning))


def goes_on(study: StudyFolder, number: int, scores: list[float], *, dies: bool = False) -> int:
    """Trains a run for so many epochs, or until it is stopped: the last epoch then. One that dies tells nobody."""
    run, records = study.wanted[number], records_of(study)
    trial, table = records.begin(run), EpochTable(study.folder(run.name))
    assert trial is not None
    table.path.parent.mkdir(exist_ok=True, parents=True)
    judged = Judged(records, trial, table, 4)
    for epoch, score in enumerate(scores, 1):
        if not judged.pruned and epoch > len(table.rows()):
            table.record(epoch, {"val_accuracy": score})
            judged.epoch(epoch, 4, {})
    if judged.pruned and not dies:
        records.prune(trial)
        study.settle(run.name, judged.pruned)
    return judged.pruned


def test_a_run_is_stopped_where_others_promise_more(study, monkeypatch):
    ended: list[int] = []
    monkeypatch.setattr(os, "kill", lambda process, number: ended.append(number))
    assert goes_on(study, 0, [0.5, 0.6, 0.7, 0.8]) == 0
    assert goes_on(study, 1, [0.4, 0.9]) == 1
    assert goes_on(study, 2, [0.6, 0.5]) == 2
    assert ended == [signal.SIGTERM, signal.SIGTERM]
    records = records_of(study)
    assert records.begin(study.wanted[1]) is None, "it doesn't come back"
    assert records.pruned() == {study.wanted[1].name: 1, study.wanted[2].name: 2}
    states = [(run.state, run.pruned) for run in study_table(study.path).runs]
    assert states == [("unfinished", None), ("pruned", 1), ("pruned", 2)]
    table, *_ = study_table(study.path).report()
    assert "pruned: 2 of 3 runs" in table.title
    assert [row[table.columns.index("score")] for row in table.rows] == ["-", "pruned at 1", "pruned at 2"]


@pytest.mark.parametrize("moment", ["before it was told", "before it was judged", "before it heard"])
def test_a_killed_run_keeps_its_trial_and_is_judged_as_if_it_had_lived(study, monkeypatch, moment):
    monkeypatch.setattr(os, "kill", lambda process, number: None)
    goes_on(study, 0, [0.5, 0.6, 0.7, 0.8])
    run = study.wanted[1]
    records = records_of(study)
    trial = records.begin(run)
    EpochTable(study.folder(run.name)).path.parent.mkdir(parents=True)
    EpochTable(study.folder(run.name)).record(1, {"val_accuracy": 0.4})
    if moment != "before it was told":
        trial.report(0.4, 1)
    if moment == "before it heard":
        assert trial.should_prune()
    again = records_of(study)
    resumed = again.begin(run)
    assert resumed.number == trial.number
    assert again.told(resumed) == ([] if moment == "before it was told" else [1])
    assert Judged(again, resumed, EpochTable(study.folder(run.name)), 4).pruned == 1


def test_a_killed_run_that_was_to_go_on_goes_on(study, monkeypatch):
    monkeypatch.setattr(os, "kill", lambda process, number: None)
    goes_on(study, 0, [0.5, 0.6])
    assert goes_on(study, 1, [0.6], dies=True) == 0
    assert goes_on(study, 1, [0.6, 0.3], dies=True) == 2
    assert goes_on(study, 1, [0.6, 0.3]) == 2


def test_what_a_network_needs_is_a_constraint_by_its_name(study):
    trial = records_of(study).begin(study.wanted[0])
    assert open_study(study.path).wanted[0].constraints == {"memory": -5, "macs": -100}
    again = records_of(study).begin(study.wanted[0])
    assert trial.number == again.number
    frozen = optuna.load_study(study_name=study.title, storage=records_of(study).storage).trials[trial.number]
    assert frozen.constraints == {"memory": -5, "macs": -100}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--recipe", "digitz"), "no recipe 'digitz'"),
        (("--recipe", "ssd-digits"), "is a detector's recipe"),
        (("--recipe", "digits", "--no-train"), "--no-train trains nothing"),
        (("--recipe", "digits", "--jobs", 0), "--jobs: expected at least 1"),
        (("--recipe", "digits", "--trials", 0), "--trials: expected at least 1"),
        (("--recipe", "digits", "--factor", 1), "--factor: expected at least 2"),
        (("--recipe", "digits", "--num-classes", 7), "num_classes: the space says 7, and the recipe digits 10"),
        (("--recipe", "digits", "--in-chans", 1), "in_chans: the space says 1, and the recipe digits 3"),
        (("--recipe", "digits", "--folder", "taken"), "isn't empty and holds no study"),
        (("--trials", 4), "--trials: nothing is trained without --recipe"),
        (("--retry",), "--retry: nothing is trained without --recipe"),
    ],
)
def test_a_training_that_makes_no_sense_is_one_sentence_and_writes_nothing(words, sentence, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").touch()
    _, said = sapoolc("search", *SPACE, *words, code=2, cwd=tmp_path)
    assert sentence in said
    assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["letter.txt", "taken"]


def search(folder: Path, *more: object) -> list[str]:
    (folder / "tiny.toml").write_text(RECIPE)
    words = ("search", *SPACE, "--recipe", "tiny.toml", "--folder", "s", "--trials", 2, "--epochs", 3, "--factor", 2)
    return [sys.executable, "-m", "sapoolc", *map(str, (*words, *more))]


def outcome(where: Path) -> tuple[dict, str, str]:
    """What a search that isn't disturbed says of its training, and leaves of its winner."""
    done = subprocess.run(search(where, "--json"), cwd=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    winner = (where / "s" / "winner.toml").read_text(), (where / "s" / "winner.plan.json").read_text()
    return json.loads(done.stdout)["training"], *winner


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_search_that_trains_ends_with_a_winner(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    training, recipe, _ = outcome(tmp_path)
    assert sum(training["states"].values()) == 2
    assert "epochs = 6" in recipe, "all of the recipe's"
    sapoolc("compile", tmp_path / "s" / "winner.plan.json")
    sapoolc("compare", "s", "-o", "s.png", "--csv", "s.csv", cwd=tmp_path)
    _, said = sapoolc("sweep", "digits", "--folder", tmp_path / "s", code=2)
    assert "holds another study" in said


@pytest.mark.exhaustive  # killed runs are judged above, and killed workers are in test_sweep.py
@pytest.mark.timeout(900)
def test_a_killed_search_ends_with_the_winner_of_one_that_lived(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    lives, dies = (tmp_path / name for name in ("lives", "dies"))
    lives.mkdir()
    dies.mkdir()
    process = subprocess.Popen(search(dies), cwd=dies, start_new_session=True, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + 200
    while not list(dies.glob("s/runs/*/metrics.csv")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(random.uniform(0, 20))
    os.killpg(process.pid, signal.SIGKILL)
    assert outcome(dies) == outcome(lives)
