"""The table of epochs: whole rows, one file, whatever was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from sapool.runs.progress import EpochTable, Stopwatch


def test_rows_are_appended_to_one_file(tmp_path: Path) -> None:
    table = EpochTable(tmp_path)
    assert table.rows() == []
    table.record(1, {"loss": 0.5, "accuracy": None})
    file = table.path.stat().st_ino
    table.record(2, {"loss": 0.25, "accuracy": 1})
    assert table.path.read_text() == "epoch,loss,accuracy\n1,0.5,\n2,0.25,1\n"
    assert table.path.stat().st_ino == file  # whoever follows it sees the row


def test_what_is_computed_again_takes_the_place_of_what_was(tmp_path: Path) -> None:
    table = EpochTable(tmp_path)
    for number in (1, 2, 3):
        table.record(number, {"loss": number})
    EpochTable(tmp_path).record(2, {"loss": 7})
    assert table.rows() == [{"epoch": "1", "loss": "1"}, {"epoch": "2", "loss": "7"}]


@pytest.mark.parametrize("end", ["2,0.1", "2", "\x00\x00\n"])
def test_half_a_row_is_no_row(tmp_path: Path, end: str) -> None:
    table = EpochTable(tmp_path)
    table.record(1, {"loss": 0.5, "accuracy": 1})
    with table.path.open("a") as file:
        file.write(end)
    assert [row["epoch"] for row in table.rows()] == ["1"]
    table.record(2, {"loss": 0.25, "accuracy": 1})
    assert table.path.read_text() == "epoch,loss,accuracy\n1,0.5,1\n2,0.25,1\n"


def test_a_new_column_is_empty_before(tmp_path: Path) -> None:
    table = EpochTable(tmp_path)
    table.record(1, {"loss": 0.5})
    table.record(2, {"loss": 0.25, "uniformity": 1})
    assert table.path.read_text() == "epoch,loss,uniformity\n1,0.5,\n2,0.25,1\n"


def test_seconds_of_all_starts_are_summed() -> None:
    watch = Stopwatch(100.0)
    watch.begin_epoch()
    watch.count(8)
    assert watch.images_per_second > 0
    seconds, remaining = watch.end_epoch(3)
    assert 0 <= seconds <= watch.total - 100
    assert remaining == pytest.approx(3 * (watch.total - 100), abs=0.1)
    assert Stopwatch(watch.total).total >= watch.total - 0.1


def test_part_of_an_epoch_is_not_taken_for_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    watch = Stopwatch()
    watch.begin_epoch(0.75)
    now = 10.0
    assert watch.end_epoch(2) == (10.0, 80.0)
    watch.begin_epoch()
    now = 50.0
    assert watch.end_epoch(1) == (40.0, 40.0)
