"""Networks of the caller's own."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sapool
from sapool.cost.comparison import compare
from sapool.errors import ArchitectureError, InputError
from sapool.planning import survey
from sapool.poolings.window import MaxPool
from tests.passes.tiny import Block, Net


class Plain(nn.Module):
    """Convolutions, functional activations, and one pooling that is called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(a, b, 3, padding=1) for a, b in ((3, 8), (8, 12), (12, 16)))
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = self.pool(F.relu(self.conv3(x)))
        x = F.dropout(x, 0.5, training=self.training)
        return self.fc(x.mean((2, 3)))


class Residual(nn.Module):
    """A stem and three blocks in a row, the last two with a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.stages = nn.ModuleList([Block(4, 4), Block(4, 6, stride=2), Block(6, 8, stride=2)])
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.fc(x.mean((2, 3)))


class Flattening(Plain):
    """Takes images of 32 pixels only."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        return self.fc(self.conv3(self.conv2(x)).view(-1, 16 * 16 * 16)[:, :16])


class Deciding(Residual):
    """Its control flow depends on values."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.mean() > 0 else -x)


class Moody(Residual):
    """Does other things in training."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 1 if self.training else x)


def image(size: int = 64) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_what_is_found() -> None:
    found = survey(Residual())
    assert (found.unchanged, found.stem_stride, found.pools) == ("122", 2, "last")
    assert [stage.modules for stage in found.stages] == [("stages.0",), ("stages.1",), ("stages.2",)]
    assert survey(Plain()).unchanged == "222"


def test_pools_take_their_places() -> None:
    own = Residual()
    model = sapool.compile("nlp-122", backbone=own, image_size=64)
    assert str(model.architecture) == "module-nlp-122"
    assert [(f.channels, f.reduction) for f in model.feature_info] == [(4, 2), (6, 4), (8, 8)]
    assert model(image()).shape == (2, 5)
    assert (model.plan.options.num_classes, model.plan.site("stage2").action) == (5, "pool")
    assert model.get_submodule("stages.1.conv1").stride == (1, 1)
    assert own.stages[1].conv1.stride == (2, 2), "the caller's network stays as it is"
    own.fc.weight.data.zero_()
    assert model.fc.weight.abs().sum() > 0


@pytest.mark.parametrize("training", [True, False])
def test_unchanged_strides_change_nothing(training: bool) -> None:
    for own in (Residual().train(training), Plain().train(training)):
        model = sapool.compile(f"skip-{survey(own).unchanged}", backbone=own, image_size=64).train(training)
        outputs = []
        for module in (own, model):
            torch.manual_seed(0)
            outputs.append(module(image()))
        assert torch.equal(*outputs)
        assert list(model.state_dict()) == list(own.state_dict())


def test_a_pooling_that_is_called_often_is_replaced_where_the_plan_says() -> None:
    own = Plain().eval()
    model = sapool.compile("maxp-222", backbone=own, image_size=64).eval()
    assert sum(isinstance(module, MaxPool) for module in model.modules()) == 3
    torch.testing.assert_close(model(image()), own(image()), rtol=0, atol=0)
    first = sapool.compile("skip-422", backbone=own, image_size=64).eval()
    kernels = sorted(module.kernel_size for module in first.modules() if isinstance(module, nn.MaxPool2d))
    assert kernels == [2, 4]
    assert [feature.reduction for feature in first.feature_info] == [4, 8, 16]


def test_a_prepool_and_placements() -> None:
    model = sapool.compile("prepool-lip-2-module_v2-avgp-212", backbone=Residual(), image_size=64)
    assert [site.name for site in model.plan.sites if site.action == "pool"] == ["prepool", "stage1", "stage3"]
    assert model.architecture.first_block
    strided = sapool.compile("skip-222", backbone=Residual(), image_size=64)
    assert [feature.reduction for feature in strided.feature_info] == [4, 8, 16]
    assert "stages.0.downsample.0.weight" in strided.state_dict()


class Shifted(Residual):
    """Has a buffer that no state dict holds, and makes a tensor in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.arange(3.0)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.shift + torch.arange(3.0)[:, None, None])


def test_tensors_that_no_state_dict_holds(tmp_path: Path) -> None:
    own = Shifted().eval()
    model = sapool.compile("skip-122", backbone=own, image_size=64).eval()
    assert list(model.state_dict()) == list(own.state_dict())
    assert torch.equal(model(image()), own(image()))
    sapool.save(model, tmp_path / "m.pt")
    again = sapool.load(tmp_path / "m.pt", backbone=Shifted()).eval()
    assert torch.equal(again(image()), own(image()))


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = sapool.compile("lip-122", backbone=Residual(), image_size=64).eval()
    sapool.save(model, tmp_path / "m.pt")
    again = sapool.load(tmp_path / "m.pt", backbone=Residual()).eval()
    assert torch.equal(again(image()), model(image()))
    with pytest.raises(InputError, match=r"made of a network of yours: sapool.load\(PATH, backbone=MODULE\)"):
        sapool.load(tmp_path / "m.pt")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_know_their_backbone(copied: object) -> None:
    model = copied(sapool.compile("lip-122", backbone=Residual(), image_size=64))  # type: ignore[operator]
    plain = compare(model).baseline
    assert plain.parameters == sum(parameter.numel() for parameter in Residual().parameters())


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (Flattening(), r"Flattening can't be rewritten: .*hard-codes a resolution"),
        (Deciding(), r"Deciding can't be traced by torch.fx: its own forward stops it"),
        (Moody(), r"Moody can't be traced: its forward does other things in training than in evaluation"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "hard-codes a resolution"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "has no stages to rewrite: nothing"),
        (Net(), r"stage3 \(side, ...\) doesn't read what stage2 hands on"),
    ],
)
def test_refusals(own: nn.Module, said: str) -> None:
    with pytest.raises(InputError, match=said):
        survey(own)


def test_without_a_backbone() -> None:
    with pytest.raises(ArchitectureError, match="a backbone is missing"):
        sapool.compile("nlp-122")
    with pytest.raises(InputError, match="stands for a module of your own"):
        sapool.compile("module-nlp-122")
    with pytest.raises(InputError, match="leave out 'resnet18'"):
        sapool.compile("resnet18-nlp-1222", backbone=Residual())
    with pytest.raises(ArchitectureError, match="module has 3 stages"):
        sapool.compile("nlp-1222", backbone=Residual())
    with pytest.raises(InputError, match="has no published weights"):
        sapool.compile("nlp-122", backbone=Residual(), weights="DEFAULT")


def test_maps_without_a_classifier() -> None:
    body = nn.Sequential(*list(Residual().children())[:1], *Residual().stages)
    with pytest.raises(InputError, match=r"doesn't return \(N, classes\)"):
        sapool.compile("lip-122", backbone=body, image_size=64)
    model = sapool.compile("lip-122", backbone=body, image_size=64, features_only=True)
    assert [tuple(value.shape) for value in model(image())] == [(2, 4, 32, 32), (2, 6, 16, 16), (2, 8, 8, 8)]
