"""A compiled model that is changed after it was made: another classifier, frozen parts; and images it can't take."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import sapool
from sapool.errors import InputError
from tests.test_own import Nested, image


@pytest.mark.parametrize("text", ["resnet18-lip-1222", "mobilenet-skip-1222121", "squeezenet1_1-lip-2221"])
def test_another_classifier(text: str, tmp_path: Path) -> None:
    model = sapool.compile(text, num_classes=10, image_size=64).eval()
    maps = {name: value.clone() for name, value in model.state_dict().items()}
    model.reset_classifier(4)
    assert model(image()).shape == (2, 4)
    assert model.plan.options.num_classes == 4
    changed = [name for name, value in model.state_dict().items() if maps[name].shape != value.shape]
    assert {name.rpartition(".")[2] for name in changed} == {"weight", "bias"}
    assert len(changed) == 2
    sapool.save(model, tmp_path / "m.pt")
    assert torch.equal(sapool.load(tmp_path / "m.pt").eval()(image()), model(image()))


def test_another_classifier_of_ones_own_network(tmp_path: Path) -> None:
    model = sapool.compile("lip-22", backbone=Nested(), stages=["early", "late"], image_size=64).eval()
    model.reset_classifier(3)
    sapool.save(model, tmp_path / "m.pt")
    assert torch.equal(sapool.load(tmp_path / "m.pt", backbone=Nested()).eval()(image()), model(image()))


def test_no_other_classifier() -> None:
    with pytest.raises(InputError, match="returns maps"):
        sapool.compile("resnet18-lip-1222", features_only=True).reset_classifier(3)
    with pytest.raises(InputError, match="num_classes: expected a positive number, not 0"):
        sapool.compile("resnet18-lip-1222").reset_classifier(0)


def test_frozen_parts() -> None:
    model = sapool.compile("prepool-lip-2-resnet18-lip-1222", num_classes=5, image_size=64)
    model.freeze("stage2")
    for frozen in (model, copy.deepcopy(model)):
        frozen.train()
        still = {name for name, p in frozen.named_parameters() if not p.requires_grad}
        assert {name.split(".")[0] for name in still} == {"conv1", "bn1", "layer1", "layer2", "pools"}
        assert {name.split(".")[1] for name in still if name.startswith("pools")} == {"prepool", "stage2"}
        norms = {name: m.training for name, m in frozen.named_modules() if isinstance(m, nn.BatchNorm2d)}
        assert (norms["bn1"], norms["layer2.1.bn2"], norms["layer3.0.bn1"]) == (False, False, True)
        before = frozen.get_submodule("bn1").running_mean.clone()
        frozen(image()).sum().backward()
        assert torch.equal(before, frozen.get_submodule("bn1").running_mean)
    model.freeze(None)
    assert all(p.requires_grad for p in model.parameters())
    assert model.get_submodule("bn1").training
    with pytest.raises(InputError, match="has the parts stem, stage1, stage2, stage3, stage4, not 'layer2'"):
        model.freeze("layer2")


def test_images_of_other_channels_are_called_so() -> None:
    for model in (
        sapool.compile("resnet18-lip-1222", image_size=64),
        sapool.optimize(sapool.compile("resnet18-lip-1222", image_size=64)),
        sapool.compile("resnet18-lip-1222", image_size=64, features_only=True),
    ):
        with pytest.raises(InputError, match=r"takes images of 3 channels \(in_chans\), not of 1.*with in_chans=1"):
            model.eval()(torch.rand(1, 1, 64, 64))
    with pytest.raises(RuntimeError):
        model(torch.rand(1, 3, 64, 64, dtype=torch.float64))
