"""The rows of other engines, and that torch.compile follows our networks in one graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sapool
from benchmarks import engines
from sapool.bench import ENGINES, Bench, Timed


def test_rows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    timed = (
        Timed("eager", 20.0, (19.0, 21.0), 1.0, 12_345_678),
        Timed("torch.compile", 15.0, (14.0, 16.0), 0.75),
        Timed("onnxruntime", reason="it needs much"),
    )
    monkeypatch.setattr(engines, "bench", lambda model, **asked: Bench("x", (2, 3, 32, 32), 1, 3, timed))
    monkeypatch.setattr(engines, "graph_breaks", lambda model, x: 0)
    engines.tell(("resnet18-skip-1222",), batch=2, threads=1, rounds=3, size=32)
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| `resnet18-skip-1222` | eager | 20.0 | 1.00 | 12.3 |  |",
        "| `resnet18-skip-1222` | torch.compile | 15.0 | 0.75 |  | 0 |",
        "| `resnet18-skip-1222` | onnxruntime | not timed: it needs much | | | |",
    ]


def test_they_are_engines_of_the_command() -> None:
    assert set(engines.ENGINES) <= set(ENGINES)


class Broken(nn.Module):
    """What torch.compile can't follow in one graph."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.relu()
        return y + 1 if y.sum() > 0 else y


def test_breaks_are_counted() -> None:
    assert engines.graph_breaks(nn.Sequential(nn.ReLU(), Broken(), nn.ReLU()), torch.ones(1, 3)) == 1
    assert engines.graph_breaks(nn.Sequential(nn.ReLU(), nn.Sigmoid()), torch.ones(1, 3)) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*engines.NAMES, "mobilenet-dfmixp_reduced-1222121", "prepool-attnpool-4-resnet18-flc-1222"]
)
def test_no_graph_breaks(name: str) -> None:
    model = sapool.compile(name, image_size=64).eval()
    assert engines.graph_breaks(model, torch.randn(2, 3, 64, 64)) == 0
