"""What is printed while a run goes on, and of what it returns."""

from __future__ import annotations

import contextlib
import io
import re

import pytest

from sapool.cli.console import console, show_report
from sapool.cli.runs.progress import ConsoleProgress
from sapool.diagnostics import Diagnostic
from sapool.runs.progress import Pace
from sapool.runs.results import Table


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def test_lines_where_a_program_reads(capsys):
    progress = ConsoleProgress()
    assert not progress.bars
    progress.started("resnet18-lip-1222: 5 parameters; run in [x] :smile:")
    progress.diagnosed([Diagnostic("one-token", "stage4", "it has one")])
    progress.epoch(1, 3, {"train loss": 0.5, "val accuracy": 1})
    progress.validated({"mAP": -1.0})
    assert capsys.readouterr().out.splitlines() == [
        "resnet18-lip-1222: 5 parameters; run in [x] :smile:",
        "",
        "note: one-token: it has one",
        "epoch 1/3  train loss 0.5000  val accuracy 1.0000",
        "  validation  mAP -1.0000",
    ]


def test_the_pace_stands_behind_the_figures(capsys):
    progress = ConsoleProgress()
    progress.advanced("epoch 1/3", 1, 9, {"loss": 1.0})  # only on a terminal
    progress.epoch(1, 3, {"train loss": 0.5}, Pace(rate=0.001, images=1234.5, remaining=3725.2))
    line = "epoch 1/3  train loss 0.5000  lr 0.001  1,234 images/s  ETA 1:02:05\n"
    assert capsys.readouterr().out == line


@pytest.mark.parametrize("selection", ["val", "selected on test"])
def test_on_a_terminal_lines_stay_and_the_bar_goes(capsys, monkeypatch, selection):
    for name, value in (("TTY_COMPATIBLE", "1"), ("TTY_INTERACTIVE", "1"), ("NO_COLOR", "1"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)
    metrics = {"train loss": 0.5, "train accuracy": 1.0, f"{selection} loss": 0.25, f"{selection} accuracy": 0.75}
    with ConsoleProgress() as progress:
        for number in (1, 2):
            progress.advanced(f"epoch {number}/2", 4, 4, {"loss": 0.5})
            progress.advanced("validating", 1, 1)
            progress.epoch(number, 2, metrics, Pace(rate=0.001, images=1234.5, remaining=61))
        progress.advanced("testing", 1, 1)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    assert "epoch 2/2" in shown
    lines = [line.split("\r")[-1] for line in shown.splitlines()]
    heads = [line.split() for line in lines if "train acc" in line]
    assert len(heads) == 1  # once, above all
    rows = [line for line in lines if line.split()[:2] in (["1/2", "0.5000"], ["2/2", "0.5000"])]
    assert [row.split()[-1] for row in rows] == ["1:01", "1:01"]
    assert max(map(len, rows)) <= 80


def test_an_engine_that_redirects_standard_output_is_not_followed(capsys):
    progress = ConsoleProgress()
    with contextlib.redirect_stdout(io.StringIO()) as elsewhere:
        progress.epoch(1, 1, {})
    assert elsewhere.getvalue() == ""
    assert capsys.readouterr().out == "epoch 1/1  \n"


def test_a_terminal_has_bars(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert ConsoleProgress().bars


def test_reports_have_a_blank_line_between_their_parts(capsys):
    show_report(console(), [Table(("a", "b"), (("x", "1"),), "title"), "a [paragraph]\nof two lines", "end"])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["title", "a  b", "x  1", "", "a [paragraph]", "of two lines", "", "end"]
    show_report(console(), [])
    assert capsys.readouterr().out == ""
