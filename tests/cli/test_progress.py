"""What is printed while a run goes on, and of what it returns."""

from __future__ import annotations

import contextlib
import io

import pytest

from sapool.cli.console import console, show_report
from sapool.cli.runs.progress import ConsoleProgress
from sapool.diagnostics import Diagnostic
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
