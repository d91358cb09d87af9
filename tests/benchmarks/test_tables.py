"""The benchmark's tables: what is measured, the ratios that are told, and what is said of wrong input."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import measure
from benchmarks.cases import TABLES, Case
from sapool.catalogue.poolings import POOLINGS
from tests.commands import ROOT


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The command sets how many threads torch takes."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_calls_take_turns_and_medians_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    seconds = {"one": iter([3.0, 1.0, 2.0]), "other": iter([9.0, 4.0, 5.0])}

    class Timer:
        def __init__(self, statement: str, *, globals: dict[str, object], num_threads: int) -> None:
            self.call = globals["call"]

        def timeit(self, number: int) -> Timer:
            self.mean = next(seconds[self.call()])  # type: ignore[operator]
            return self

    monkeypatch.setattr(measure, "Timer", Timer)
    found = measure.in_turn(lambda: turns.append("a") or "one", lambda: turns.append("b") or "other", 3)  # type: ignore[func-returns-value]
    assert found == (2.0, 5.0)
    assert "".join(turns) == "ab" * 4  # the first of each isn't timed


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_resident_peak_is_what_a_call_takes() -> None:
    program = (
        "import torch; from benchmarks.measure import resident; print(resident(lambda: torch.ones(16 * 2**20).sum()))"
    )
    # In a process of its own: one that ran hundreds of tests has memory that it doesn't need, and gives it back.
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 60 * 1024 <= int(done.stdout) <= 80 * 1024  # of 64 MiB


def test_a_step_leaves_gradients_and_a_forward_none() -> None:
    model, x = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10)), torch.ones(12, 3, 2, 2)
    measure.work(model, "forward", x)()
    assert not model.training
    assert model[1].weight.grad is None
    measure.work(model, "step", x)()
    assert model.training
    assert model[1].weight.grad is not None


def test_ratios_are_of_ours_to_the_baseline(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {"time": [1.0, 2.0], "compiled": 1024, "literal": 4096}
    case = Case("resnet18-nlp-1222", 128, "forward", most=(0.4, None))
    monkeypatch.setitem(TABLES, "readme", (case, case))
    monkeypatch.setattr(command, "_child", lambda number, what, options: numbers[what])
    assert command.main(["--only", "1"]) == 0
    line, _, last = capsys.readouterr().out.splitlines()
    assert line.endswith(": time 0.50 (at most 0.40) (1.000/2.000 s), memory 0.25 (1/4 MiB)")
    assert last.startswith("batch 8, 2 threads")
    assert command.main(["--markdown", "--no-memory"]) == 0
    head, rule, *rows, _, _ = capsys.readouterr().out.splitlines()
    assert (head, rule) == ("| network | time |", "|---|---|")
    assert rows == ["| `resnet18-nlp-1222` 128x128, forward, against literal | 0.50 (at most 0.40) |"] * 2


def test_every_kind_of_pool_is_in_the_table_of_inference() -> None:
    assert len(TABLES["inference"]) == 2 * len(POOLINGS)
    assert all(case.most == (1.0, None) for case in TABLES["inference"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--only 99", "--only: the table has comparisons 0 to 9, not 99"),
        ("--only -1", "--only: the table has comparisons 0 to 9, not -1"),
        ("--batch 0", "--batch: expected a whole number from 1 on, not 0"),
        ("--threads 0", "--threads: expected a whole number from 1 on, not 0"),
        ("--repeats -3", "--repeats: expected a whole number from 1 on, not -3"),
        ("--table published", "--table published: say where the authors' code is, with --published PATH"),
    ],
)
def test_wrong_input_is_one_sentence(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(words.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"python -m benchmarks: {said}\n")


def test_help_names_what_can_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    told = capsys.readouterr().out
    for flag in ("--table", "--floor", "--engines", "--published PATH", "--published-factory MODULE:FUNCTION"):
        assert flag in told
