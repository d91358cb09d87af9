"""A study's second table: what `sapoolc evaluate` measured of its runs."""

from __future__ import annotations

import csv
import io
import json
from statistics import fmean, stdev

import pytest

from sapool.errors import InputError
from sapool.runs.outputs import save_json
from sapool.study.measures import read_measures
from sapool.study.sweep.definition import read_study
from sapool.study.sweep.folder import begin, open_study
from sapool.study.sweep.points import planned_runs
from sapool.study.table import study_table

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
