"""A study's second table: what `sapoolc evaluate` measured of its runs."""

from __future__ import annotations

import csv
import io
import json
from statistics import fmean, stdev
from types import SimpleNamespace

import pytest

from sapool.errors import InputError
from sapool.runs.outputs import save_json
from sapool.study.measures import read_measures
from sapool.study.sweep.definition import read_study
from sapool.study.sweep.folder import begin, open_study
from sapool.study.sweep.points import planned_runs
from sapool.study.table import study_table
from tests.commands import sapoolc

STUDY = """
recipe = "digits"
seeds = 2
[axes]
architecture = "resnet18-{pool}-2221"
pool = ["maxp", "lip"]
"""


@pytest.fixture
def folder(tmp_path):
    """A study whose four runs are done, by their summaries; the runs of `lip` are measured."""
    (tmp_path / "tiny.toml").write_text(STUDY)
    runs = planned_runs(read_study(str(tmp_path / "tiny.toml")))
    study = begin(tmp_path / "study", "tiny", "journal.log", 1, runs)
    for number, run in enumerate(study.runs):
        path = study.folder(run.name)
        path.mkdir(parents=True)
        save_json({"test_accuracy": 0.8 + number / 100, "parameters": 1, "macs": 1, "arena_bytes": 1},
                  path / "summary.json")  # fmt: skip
        if run.axes["pool"] == "lip":
            measured = {"shift_consistency": 0.5 + number / 10, "corrupted_top1": None, "calibration_error": 0.1}
            save_json({**measured, "uniformity": {"stage1": 0.2, "stage2": 0.2 * number}}, path / "steadiness.json")
    return tmp_path / "study"


def test_measures_are_averaged_over_seeds_and_shown_beside_the_scores(folder):
    table = study_table(folder)
    assert table.measures == ("shift_consistency", "calibration_error", "uniformity")
    maxp, lip = table.rows
    assert maxp.measures == {}
    assert lip.measures["shift_consistency"].mean == pytest.approx(fmean([0.7, 0.8]))
    assert lip.measures["shift_consistency"].std == pytest.approx(stdev([0.7, 0.8]))
    assert lip.measures["uniformity"].mean == pytest.approx(fmean([0.3, 0.4]))
    _, _, shown = table.report()
    assert shown.columns == ("pool", "same class when moved", "calibration error", "uniformity")
    assert shown.rows == (("maxp", "-", "-", "-"), ("lip", "0.7500±0.0707", "0.1000±0.0000", "0.3500±0.0707"))
    lines = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert lines[0]["uniformity_mean"] == ""
    assert float(lines[1]["uniformity_mean"]) == pytest.approx(0.35)
    assert json.loads(json.dumps(table.as_data()))["rows"][1]["measures"]["uniformity"]["n"] == 2


def test_a_whole_study_is_measured_where_it_isnt_yet(folder, monkeypatch):
    asked = []

    class Opened:
        def __init__(self, path):
            self.path = path

        def steadiness(self, *, shifts, corruptions):
            asked.append((self.path.name, shifts, len(corruptions)))
            found = {"shifts": shifts, "shift_consistency": 0.5, "corruptions": {name: {} for name in corruptions}}
            save_json({**found, "corrupted_top1": 0.4, "calibration_error": 0.1, "uniformity": {}},
                      self.path / "steadiness.json")  # fmt: skip
            return SimpleNamespace(top1=0.8)

    monkeypatch.setattr("sapool.tasks.open_run", Opened)
    study = open_study(folder)
    (study.folder(study.runs[0].name) / "summary.json").unlink()  # it goes on
    finished = [run.name for run in study.runs[1:]]
    out, _ = sapoolc("evaluate", folder, "--shifts", 4)
    assert asked == [(name, 4, 0) for name in finished]
    assert f"3 of 3: {finished[-1]}, top1 0.8000" in out
    assert "same class when moved" in out
    sapoolc("evaluate", folder, "--shifts", 4)
    assert len(asked) == 3
    (study.folder(finished[1]) / "steadiness.json").unlink()
    sapoolc("evaluate", folder, "--shifts", 4)
    assert asked[3:] == [(finished[1], 4, 0)]
    out, _ = sapoolc("evaluate", folder, "--shifts", 4, "--corruptions", "noise,blur", "--json")
    assert asked[4:] == [(name, 4, 2) for name in finished]
    assert json.loads(out)["rows"][1]["measures"]["corrupted_top1"]["n"] == 2
    sapoolc("evaluate", folder, "--corruptions", "noise")  # part of what is there
    assert len(asked) == 7
    _, said = sapoolc("evaluate", folder, code=2)
    assert "is a study, and each of its runs was evaluated when it ended" in said
    for name in finished:
        (study.folder(name) / "summary.json").unlink()
    _, said = sapoolc("evaluate", folder, "--shifts", code=2)
    assert "no run of this study is finished yet" in said


def test_without_measures_there_is_one_table(folder):
    for file in folder.glob("runs/*/steadiness.json"):
        file.unlink()
    table = study_table(folder)
    assert table.measures == ()
    assert len(table.report()) == 2
    assert table.to_csv().splitlines()[0].endswith("front_arena_bytes")


def test_a_damaged_file_is_a_sentence(folder):
    run = open_study(folder).runs[-1]
    file = folder / "runs" / run.name / "steadiness.json"
    file.write_text('{"uniformity": 3}')
    with pytest.raises(InputError, match="damaged"):
        read_measures(file.parent)


@pytest.mark.filterwarnings("ignore::sapool.errors.NoDigestWarning")
@pytest.mark.parametrize("value", ["NaN", "1" + "0" * 400, '"high"', "[]", "{}"])
def test_a_measure_that_is_no_number_is_damage(folder, value):
    damaged = next(folder.glob("runs/*lip*")) / "steadiness.json"
    others = '"corrupted_top1": null, "calibration_error": 0, "uniformity": {}'
    damaged.write_text(f'{{"shift_consistency": {value}, {others}}}')
    with pytest.raises(InputError, match="evaluate"):
        study_table(folder)
