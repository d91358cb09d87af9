"""Sweeps: what a study's file means, what is refused of it, and that each run is trained once, whoever dies."""

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

from sapool.errors import InputError
from sapool.recipes import studies
from sapool.study.differences import paired
from sapool.study.sweep import records
from sapool.study.sweep.definition import read_study
from sapool.study.sweep.folder import begin, open_study
from sapool.study.sweep.points import planned_runs
from sapool.study.sweep.records import Records
from sapool.study.sweep.sweep import prepare, sweep
from sapool.study.table import study_table
from tests.commands import ROOT, sapoolc
from tests.fences import blocks

optuna = pytest.importorskip("optuna")

STUDY = """
recipe = "digits"
seeds = 2
threads = 1
[axes]
architecture = "resnet18-{pool}-2221"
pool = ["maxp", "lip"]
[settings]
train.epochs = 2
train.steps_per_epoch = 3
train.logger = "none"
data.augment = "padded_crop"
"""


@pytest.fixture
def written(tmp_path):
    """Writes a study's file."""

    def write(text: str = STUDY, name: str = "tiny") -> str:
        (tmp_path / f"{name}.toml").write_text(text)
        return str(tmp_path / f"{name}.toml")

    return write


def names(source: str) -> list[str]:
    return [run.name for run in planned_runs(read_study(source))]


def test_the_product_of_axes_in_order_and_each_run_once(written):
    assert names(written()) == [
        "0-resnet18-maxp-2221-seed0", "1-resnet18-maxp-2221-seed1", "2-resnet18-lip-2221-seed0",
        "3-resnet18-lip-2221-seed1",
    ]  # fmt: skip
    both = STUDY.replace('"resnet18-{pool}-2221"', '["resnet18-{pool}-2221", "resnet18-skip-1222"]')
    assert len(names(written(both))) == 6, "a text without the word is the same run for each of its values"


def test_lists_go_along_and_dotted_axes_are_settings(written):
    text = 'expand = "list"' + STUDY + "\n[axes.optimizer]\nlr = [1e-3, 3e-3]"
    runs = planned_runs(read_study(written(text)))
    assert [run.recipe.optimizer.lr for run in runs] == [1e-3, 1e-3, 3e-3, 3e-3]
    assert [run.recipe.architecture for run in runs[::2]] == ["resnet18-maxp-2221", "resnet18-lip-2221"]


def test_optunas_samplers_draw_the_same_each_time(written):
    rate = '"optimizer.lr" = {low = 1e-4, high = 1e-1, log = true}'
    drawn = written('expand = "random"\nruns = 5\n' + STUDY.replace("[settings]", f"{rate}\n[settings]"))
    runs = planned_runs(read_study(drawn))
    rates = [run.recipe.optimizer.lr for run in runs]
    assert len(runs) == 10
    assert len(set(rates)) == 5
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)
    assert rates == [run.recipe.optimizer.lr for run in planned_runs(read_study(drawn))]
    grid = names(written('expand = "grid"\n' + STUDY, "grid"))
    assert sorted(name.partition("-")[2] for name in grid) == sorted(
        name.partition("-")[2] for name in names(written())
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (('pool = ["maxp", "lip"]', "pool = []"), "axes.pool is empty, so there is no run"),
        (("[settings]", "optimizer.lrr = [1]\n[settings]"), "axes.optimizer.lrr: the recipe has no such setting"),
        (("[settings]", "detector.name = ['ssd']\n[settings]"), "axes.detector.name: the recipe has no such setting"),
        (("[settings]", "colour = ['red']\n[settings]"), r"nor does {colour} stand in axes.architecture"),
        (("{pool}", "{pol}"), r"{pol} is no axis. Did you mean 'pool'"),
        (("seeds = 2", "seeds = 0"), "there is no run without a seed"),
        (("[axes]", "[axis]"), "unknown setting 'axis'"),
        (('"digits"', '"digitz"'), "no recipe 'digitz'"),
        (("[settings]", "[settings]\ntrain.epoch = 3"), "Did you mean 'train.epochs'"),
        (("[settings]", "[budget]\nflash = 3\n[settings]"), "budget.flash: there is no such limit"),
        (("seeds = 2", 'seeds = 2\nstorage = "/nowhere/there/journal.log"'), "there is no folder /nowhere/there"),
        (("seeds = 2", 'seeds = 2\nstorage = "sqlite:////nowhere/x.db"'), "can't be reached"),
        (("seeds = 2", 'seeds = 2\nexpand = "random"'), "how many are drawn"),
    ],
)
def test_a_study_that_makes_no_sense_is_one_sentence_and_writes_nothing(written, tmp_path, change, sentence):
    source = written(STUDY.replace(*change))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as told:
        prepare(source, tmp_path / "study")
    assert sentence in str(told.value)
    assert "\n" not in str(told.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_pages_study_and_the_shipped_one(written):
    (text,) = blocks((ROOT / "docs" / "studies.md").read_text(encoding="utf-8"), "toml")
    runs = planned_runs(read_study(written(text)))
    assert len(runs) == 3 * 2 * 2 * 3
    assert not [run for run in runs if run.refused]
    assert {name: len(planned_runs(read_study(name))) for name in studies.names()} == {
        "digits": 12, "fashion": 120, "fashion-start": 12,
    }  # fmt: skip


def test_the_command_ends_with_code_2(written, tmp_path):
    _, said = sapoolc("sweep", written(STUDY.replace('["maxp", "lip"]', "[]")), "--folder", tmp_path / "s", code=2)
    assert said.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_what_does_not_compile_or_fit_is_refused_with_its_reason(written, tmp_path):
    text = STUDY.replace('["maxp", "lip"]', '["maxp", "lipp", "nlp"]') + '[budget]\nmemory = "20500"'
    prepared = prepare(
        written(text.replace('-2221"', '-{strides}"\nstrides = ["2221", "1222", "222"]')), tmp_path / "s"
    )
    told = {(run.axes["pool"], run.axes["strides"]): run.refused for run in prepared.runs}
    assert told["maxp", "2221"] == ""
    assert told["maxp", "1222"].startswith("memory: 24,576 needed, 20,500 allowed")
    assert "222" in told["nlp", "222"]
    assert "lipp" in told["lipp", "2221"]
    table, *_ = prepared.report()
    assert table.columns == ("strides", "pool", "why it is refused")
    assert not (tmp_path / "s").exists()


def test_a_lock_that_leads_nowhere_is_not_waited_for(tmp_path):
    study = begin(tmp_path / "study", "tiny", "", 1, [])
    (study.path / "journal.log.lock").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="is no lock of this version; remove it"):
        Records(study)


@pytest.mark.slow
def test_the_lock_of_a_process_that_died_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "GRACE", 3)
    monkeypatch.chdir(tmp_path)
    study = begin(Path("study"), "tiny", "", 1, [])
    (study.path / "journal.log.lock").touch()
    Records(study)
    assert not (study.path / "journal.log.lock").exists()


def test_another_study_in_the_folder_or_in_the_storage(written, tmp_path):
    storage = f'storage = "{tmp_path / "shared.log"}"\n'
    one = prepare(written(storage + STUDY), tmp_path / "one")
    begin(one.path, "tiny", str(tmp_path / "shared.log"), 1, one.runs)
    Records(open_study(one.path))
    before = (tmp_path / "one" / "study.json").read_bytes()
    other = prepare(written(storage + STUDY.replace("epochs = 2", "epochs = 3")), tmp_path / "one")
    with pytest.raises(InputError, match="holds another study: the run 0-resnet18-maxp-2221-seed0 has another recipe"):
        sweep(other)
    assert (tmp_path / "one" / "study.json").read_bytes() == before
    with pytest.raises(InputError, match="has a study tiny that is kept in another folder"):
        prepare(written(storage + STUDY), tmp_path / "two")
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "letter.txt").touch()
    with pytest.raises(InputError, match="isn't empty and holds no study"):
        prepare(written(), tmp_path / "three")


def test_a_run_has_one_lease_which_ends_with_its_process(written, tmp_path):
    prepared = prepare(written(), tmp_path / "s")
    study = begin(prepared.path, "tiny", "", 1, prepared.runs)
    name = study.wanted[0].name
    holds = (
        "import time; from sapool.study.sweep.folder import open_study; "
        f"lease = open_study({str(study.path)!r}).lease({name!r}); assert lease.take(); "
        "print('had', flush=True); time.sleep(60)"
    )
    holding = subprocess.Popen([sys.executable, "-c", holds], stdout=subprocess.PIPE)
    assert holding.stdout is not None
    assert holding.stdout.readline() == b"had\n"
    assert not study.lease(name).free
    holding.kill()
    holding.wait()
    assert study.lease(name).free


def test_differences_are_paired_over_seeds():
    gap = paired({0: 0.9, 1: 0.8, 2: 0.7}, {0: 0.8, 1: 0.7, 2: 0.6, 3: 0.1})
    assert gap.n == 3
    assert gap.mean == pytest.approx(0.1)
    assert gap.clear, "the seeds differ much, and the pairs not at all"
    assert paired({0: 0.9, 1: 0.7}, {0: 0.8, 1: 0.75}).clear is False
    assert paired({0: 0.9}, {0: 0.8}).clear is None


SBATCH = """#!/bin/bash
# Stands in for SLURM's: starts the script as often as its array has numbers, each as the one task of its job.
array=$(sed -n 's/^#SBATCH.*--array=\\([0-9]*\\)-\\([0-9]*\\).*/\\1 \\2/p' "$1")
for id in $(seq $array); do
  SLURM_JOB_ID=1 SLURM_ARRAY_TASK_ID=$id SLURM_PROCID=0 SLURM_NTASKS=1 setsid bash "$1"  &> task-$id < /dev/null &
  echo $!
done
"""


def submit(source: str, folder: Path, tasks: int, where: Path) -> list[int]:
    """The page's SLURM script, submitted; the process groups of its tasks."""
    (script,) = [block for block in blocks((ROOT / "docs" / "studies.md").read_text(), "bash") if "#SBATCH" in block]
    script = script.replace("0-7", f"0-{tasks - 1}").replace("/shared/studies/one", str(folder))
    script = script.replace("study.toml", source).replace("sapoolc sweep", f"exec {sys.executable} -m sapoolc sweep")
    (where / "job.sh").write_text(script)
    (where / "sbatch").write_text(SBATCH)
    said = subprocess.run(["bash", "sbatch", "job.sh"], cwd=where, stdout=subprocess.PIPE, check=True, text=True)
    return [int(word) for word in said.stdout.split()]


def start(source: str, folder: Path, jobs: int = 1) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sapoolc", "sweep", source, "--folder", str(folder), "--jobs", str(jobs), "--json"]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_workers_runs_are_taken_over_and_end_in_the_same_bits(written, tmp_path):
    source = written(STUDY.replace("seeds = 2", "seeds = 1"))
    alone, _ = start(source, tmp_path / "alone").communicate()
    first, _ = submit(source, tmp_path / "shared", 2, tmp_path)
    deadline = time.monotonic() + 200
    while not list((tmp_path / "shared").glob("runs/*/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(random.uniform(0, 3))
    os.killpg(first, signal.SIGKILL)
    out, _ = start(source, tmp_path / "shared").communicate()
    assert json.loads(out)["rows"] == json.loads(alone)["rows"]
    trials = optuna.load_study(
        study_name="tiny",
        storage=optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(tmp_path / "shared" / "journal.log"))
        ),
    ).trials
    complete = [trial.user_attrs["run"] for trial in trials if trial.state.name == "COMPLETE"]
    assert sorted(complete) == sorted(run.name for run in open_study(tmp_path / "shared").wanted)
    table = study_table(tmp_path / "shared")
    assert [row.n for row in table.rows] == [1, 1]
    csv, latex = table.to_csv().splitlines(), table.to_latex()
    assert csv[0].startswith("pool,n,test_accuracy_mean")
    assert len(csv) == 3
    assert latex.count("\\\\") == 3


def test_a_dry_run_opens_no_storage(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    database = tmp_path / "elsewhere.db"
    source = written(STUDY.replace("seeds = 2", f'seeds = 2\nstorage = "sqlite:///{database}"'))
    sapoolc("sweep", source, "--dry-run")
    assert not database.exists()


def test_a_recipe_that_was_put_into_a_studys_folder_is_not_trained(written, tmp_path):
    prepared = prepare(written(), tmp_path / "s")
    study = begin(prepared.path, "tiny", "", 1, prepared.runs)
    one, other = (run.name for run in study.wanted[:2])
    assert study.recipe(one)
    (tmp_path / "s" / "recipes" / f"{one}.toml").write_bytes((tmp_path / "s/recipes" / f"{other}.toml").read_bytes())
    with pytest.raises(InputError, match="isn't the recipe that its study asked for"):
        study.recipe(one)
