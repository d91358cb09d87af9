"""Every record of the published code's figures is reproduced in `dialect="paper"`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import sapool
from tests.reference import RECORDS, image, name, weights


@pytest.mark.parametrize("record", RECORDS, ids=name)
def test_record(record: dict[str, Any]) -> None:
    text = record["architecture"]
    model = sapool.compile(text, num_classes=record["num_classes"], dialect="paper", image_size=record["input"][-1])
    assert sum(p.numel() for p in model.parameters()) == record["parameters"]
    model.load_state_dict(sapool.convert_reference_state_dict(weights(record["state_dict"]), text))
    x = image(record)

    stages: dict[str, Tensor] = {}
    wanted = {f.node: f.name for f in model.feature_info if f.name != "head"}

    class Watch(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            value = super().run_node(n)
            if n.name in wanted:
                stages[wanted[n.name]] = value
            return value

    model.eval()
    with torch.no_grad():
        logits = Watch(model).run(x)
        assert torch.equal(logits, model(x))
    assert [list(s.shape) for s in stages.values()] == [s["shape"] for s in record["stages"]]
    for stage, seen in zip(record["stages"], stages.values(), strict=True):
        if "first" in stage:
            first = seen.flatten()[: len(stage["first"])]
            assert (first - torch.tensor(stage["first"])).abs().max() <= 1e-4 * stage["std"]
            assert seen.mean() == pytest.approx(stage["mean"], abs=1e-4 * stage["std"])
            assert seen.std() == pytest.approx(stage["std"], rel=1e-3)
    if "logits" in record:
        expected = torch.tensor(record["logits"])
        assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()
    if "train" in record:
        _check_training_step(model, record, x)


def _check_training_step(model: sapool.CompiledModel, record: dict[str, Any], x: Tensor) -> None:
    model.train()
    loss = F.cross_entropy(model(x), torch.arange(len(x)) % 10)
    assert loss.item() == pytest.approx(record["train"]["loss"], rel=1e-4)
    loss.backward()
    norms = {key: torch.tensor(value) for key, value in record["train"]["grad_norm"].items()}
    expected = sapool.convert_reference_state_dict(norms, record["architecture"])
    largest = max(value.item() for value in expected.values())
    seen = {key: p.grad.norm().item() for key, p in model.named_parameters() if p.grad is not None}
    assert set(seen) == set(expected)
    wrong = {
        key: (seen[key], value.item())
        for key, value in expected.items()
        if abs(seen[key] - value.item()) > 1e-3 * value.item() + 1e-6 * largest
    }
    assert not wrong
