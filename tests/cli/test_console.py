"""Tables on terminals: they fit, and lose nothing silently."""

from __future__ import annotations

import pytest

from sapool.bench import Bench, Timed
from sapool.cli.console import console, show_report, show_table
from sapool.cli.tables import ratio
from sapool.study.compare import ComparedRun, Comparison
from sapoolc import main


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output goes to a terminal of 80 columns that shows no colour."""
    for name, value in (("TTY_COMPATIBLE", "1"), ("TTY_INTERACTIVE", "0"), ("NO_COLOR", "1"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    text = capsys.readouterr().out
    return [line.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "") for line in text.splitlines()]


@pytest.mark.parametrize(
    "words",
    [
        "compile prepool-dfmnlp_headfix2_nowin-4-mobilenet-nlpnosigmoid_reduced-1222121 --image-size 64 --stream",
        "compile resnet50-lip-2222 --image-size 64",
        "inspect resnet18-lip-2222 --image-size 64",
        "inspect resnet18-lip-2222 --image-size 64 --timeline",
        "inspect mobilenet",
        "list backbones",
        "list poolings",
        "list modifiers",
        "list passes",
        "list data-sets",
        "list devices",
        "list recipes",
        "list formats",
        "doctor",
    ],
)
@pytest.mark.usefixtures("terminal")
def test_everything_fits_80_columns(capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert main(words.split()) == 0
    assert [line for line in lines_of(capsys) if len(line) > 80] == []


@pytest.mark.usefixtures("terminal")
def test_long_names_of_compared_runs_fit(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ("resnet18-nlp_headfix2_nowin_reduced-1222", "prepool-nlp_headfix2_nowin_reduced-4-resnet18-skip-1222")
    figures = (13_533_514, 1_127_669_248, 1_124_576)
    runs = tuple(
        ComparedRun(f"run-of-20261125-13010{n}", text, "fashion-mnist", (96, 160), 0.9917, "test", *figures, 100)
        for n, text in enumerate(texts)
    )
    show_report(console(), Comparison(runs).report())
    lines = lines_of(capsys)
    assert [line for line in lines if len(line) > 80] == []
    assert sum("0.9917" in line and "1,124,576" in line and "test" in line for line in lines) == 2


@pytest.mark.usefixtures("terminal")
def test_times_and_why_there_are_none_fit(capsys: pytest.CaptureFixture[str]) -> None:
    absent = (
        'LiteRT needs litert_torch, which is not installed; install what it needs with: pip install "sapool[tflite]"'
    )
    rows = (Timed("torch.compile", 1234.5, (1034.5, 2345.5), 0.63, 12_345_678, 0.0), Timed("litert", reason=absent))
    text = "prepool-nlp_headfix2_nowin_reduced-4-resnet18-skip-1222"
    show_report(console(), Bench(text, (1, 3, 224, 224), 2, 15, rows).report())
    lines = lines_of(capsys)
    assert [line for line in lines[1:] if len(line) > 80] == []
    assert "12,345,678" in " ".join(lines)
    assert "sapool[tflite]" in "".join("".join(lines).split())


@pytest.mark.usefixtures("terminal")
def test_what_is_folded_is_all_there(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = " ".join(f"word{n}" for n in range(30))
    show_table(console(), ("name", "said", "bytes"), [("one", sentence, "12,345,678"), ("two", "short", "1")])
    lines = lines_of(capsys)
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines).split()).count("word") == 30
    assert "12,345,678" in lines[2]


@pytest.mark.usefixtures("terminal")
def test_columns_that_can_be_spared_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    columns = ("name", "a" * 30, "b" * 30, "c" * 30)
    show_table(console(), columns, [("x", "1", "2", "3")], spare=(columns[2], columns[1]))
    lines = lines_of(capsys)
    assert lines[0].split() == ["name", columns[1], columns[3]]
    assert lines[-1] == f"(no room for: {columns[2]})"


def test_nothing_is_folded_or_spared_where_a_program_reads(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    show_table(console(), ("a", "b"), [("x" * 60, "y" * 60)], spare=("b",))
    assert f"{'x' * 60}  {'y' * 60}" in capsys.readouterr().out


def test_ratios_are_coloured_by_what_they_say() -> None:
    styles = [ratio(value, 100).style for value in (99, 100, 100.1, 101)]
    assert styles == ["green", "", "", "red"]


def test_names_of_columns_are_shown_visibly(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(console(), ("a\u202eb\x1b[2J", "n"), [("x", "1")], title="t\u202e")
    assert lines_of(capsys)[1].split() == ["a\\u202eb\\x1b[2J", "n"]
