"""`bench`: engines side by side, and what is said of those that can't be timed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

import sapoolc
from sapool import bench as room
from sapool.bench import ENGINES, bench
from sapool.errors import InputError, MissingExtraError
from sapool.model import CompiledModel
from tests.export.tiny import tiny


@pytest.fixture(scope="module")
def model() -> CompiledModel:
    return tiny("lip")


def engine(call: Callable[[CompiledModel, torch.Tensor], Any]) -> Any:
    return lambda model, images, threads, folder: (lambda: call(model, images), 1234)


def test_engines_take_turns(model: CompiledModel, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    def noted(name: str) -> Any:
        return engine(lambda model, images: turns.append(name) or model(images))

    monkeypatch.setattr(room, "ENGINES", {"eager": noted("a"), "other": noted("b")})
    monkeypatch.setattr(room, "TURN", 0.0)
    before = torch.get_num_threads()
    found = bench(model, batch=2, threads=1, rounds=4)
    assert torch.get_num_threads() == before
    assert "".join(turns).endswith("aaabbb" * 4)  # the timer warms up twice
    assert found.image == (2, 3, 32, 32)
    eager, other = found.timed
    assert (eager.ratio, eager.error, eager.memory) == (1, 0, 1234)
    assert other.middle is not None
    assert other.milliseconds is not None
    assert other.middle[0] <= other.milliseconds <= other.middle[1]


def test_what_cannot_be_timed_says_why(model: CompiledModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*arguments: object) -> Any:
        raise MissingExtraError("it needs much, which is not installed")

    def broken(model: CompiledModel, images: torch.Tensor) -> Any:
        raise ArithmeticError("no such kernel\nmore of it")

    wrong = engine(lambda model, images: model(images) + 1)
    monkeypatch.setattr(room, "ENGINES", {"absent": absent, "broken": engine(broken), "wrong": wrong})
    rows = bench(model, rounds=1).timed
    assert [row.milliseconds for row in rows] == [None, None, None]
    assert rows[0].reason == "it needs much, which is not installed"
    assert rows[1].reason == "no such kernel"
    assert rows[2].reason.endswith("of the largest value from PyTorch's")


def test_memory_grows_with_the_batch_and_a_tflite_takes_one_image(model: CompiledModel) -> None:
    (one,), (two,) = (bench(model, engines=["eager"], batch=n, threads=1, rounds=1).timed for n in (1, 2))
    assert one.memory is not None
    assert two.memory == 2 * one.memory
    (row,) = bench(model, engines=["litert"], batch=2, threads=1, rounds=1).timed
    assert "one image at a time" in row.reason or "not installed" in row.reason


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"engines": ["tensorrt"]}, "there is no engine 'tensorrt'.*; there are eager, -O"),
        ({"batch": 0}, "batch: expected a whole number from 1 on, not 0"),
        ({"rounds": -1}, "rounds: expected a whole number from 1 on, not -1"),
        ({"threads": 0}, "threads: expected a whole number from 1 on, not 0"),
    ],
)
def test_wrong_input(model: CompiledModel, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        bench(model, **given)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    words = "bench resnet18-lip-1222 --image-size 32 --num-classes 5 --rounds 1 --threads 1 --engine eager --engine=-O"
    assert sapoolc.main([*words.split(), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["engine"] for row in data["timed"]] == ["eager", "-O"]
    assert all(row["milliseconds"] > 0 for row in data["timed"])
    assert sapoolc.main(["bench", "x.onnx"]) == 2
    assert "x.onnx was written of a network" in capsys.readouterr().err


@pytest.mark.slow
def test_every_engine_computes_the_same(model: CompiledModel) -> None:
    found = bench(model, threads=1, rounds=2)
    assert [row.engine for row in found.timed] == list(ENGINES)
    for row in found.timed:
        assert row.milliseconds is not None or "not installed" in row.reason, row.reason
