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
from sapoolc import main
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


class Nested(nn.Module):
    """Two named stages, the first of two blocks, and a block between them that belongs to none."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3, stride=2, padding=1)
        self.early = nn.Sequential(Block(4, 6, stride=2), Block(6, 6))
        self.between = Block(6, 6)
        self.late = nn.Sequential(Block(6, 8, stride=2), Block(8, 8))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.late(self.between(self.early(self.stem(x)))).mean((2, 3)))


def test_what_is_found_is_printed() -> None:
    assert str(survey(Residual())).splitlines() == [
        "place   channels  stride  reduction  downsampled by                         modules",
        "stem    4         2       2          stem",
        "stage1  4         1       2                                                 stages.0",
        "stage2  6         2       4          stages_1_conv1, stages_1_downsample_0  stages.1",
        "stage3  8         2       8          stages_2_conv1, stages_2_downsample_0  stages.2",
        "pools go after the last block of a stage; strides 122 change nothing",
    ]


def test_stages_can_be_named(tmp_path: Path) -> None:
    stages = ["early", ["between", "late.*"]]
    found = survey(Nested(), stages=stages, pools="first")
    assert (found.unchanged, found.pools, [len(stage.modules) for stage in found.stages]) == ("22", "first", [1, 3])
    model = sapool.compile("lip-22", backbone=Nested(), image_size=64, stages=["early", "late"], pools="first").eval()
    assert [site.name for site in model.plan.sites if site.action == "pool"] == ["stage1", "stage2"]
    names = [node.name for node in model.graph.nodes]
    assert names.index("pools_stage1") < names.index("between_conv1")
    assert names.index("pools_stage1") < next(n for n, name in enumerate(names) if name.startswith("early_1"))
    again = sapool.execute(model.plan, backbone=Nested())
    assert again.plan == model.plan
    sapool.save(model, tmp_path / "m.pt")
    assert torch.equal(sapool.load(tmp_path / "m.pt", backbone=Nested()).eval()(image()), model(image()))
    unchanged = sapool.compile("skip-22", backbone=(own := Nested().eval()), stages=["early", "late"]).eval()
    assert torch.equal(unchanged(image()), own(image()))


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (["early", "lat"], r"stages: Nested runs no module 'lat'. Did you mean 'late'\?"),
        (["late", "early"], "stages: early doesn't come behind the stages before it"),
        (["early", "early.1"], "stages: early.1 doesn't come behind"),
        ([], "stages: expected at least one module's path"),
        ([["early", "late"]], r"stage 1 \(early, ...\) is strided 2 times"),
    ],
)
def test_stages_that_cannot_be(stages: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        survey(Nested(), stages=stages)


def test_what_goes_with_a_network_of_ones_own_alone() -> None:
    with pytest.raises(InputError, match="stages: they are of a network of your own"):
        sapool.compile("resnet18-lip-1222", stages=["layer1"])
    with pytest.raises(InputError, match="pools: expected before, first, last, not 'behind'"):
        survey(Nested(), pools="behind")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="in_chans: Nested takes images of 3 channels, not of 1"):
        sapool.compile("lip-22", backbone=Nested(), stages=["early", "late"], in_chans=1)
    assert (
        sapool.compile("lip-22", backbone=Nested(2), stages=["early", "late"], image_size=32).plan.options.in_chans == 2
    )


def test_a_network_of_ones_own_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "from tests.test_own import Nested\nwrong = 3\ndef failing():\n    raise KeyError('there')\n"
    (tmp_path / "own_nets.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    named = ["--module", "own_nets:Nested", "--stages", "early,between+late"]
    assert main(["inspect", *named]) == 0
    assert "unchanged: skip-22" in capsys.readouterr().out
    assert main(["compile", "lip-22", *named, "--pools", "first", "--image-size", "64", "-o", "m.pt"]) == 0
    assert main(["compile", "m.pt", "--module", "own_nets:Nested"]) == 0
    capsys.readouterr()
    for words, said in (
        (["lip-22", "--module", "own_nets"], "expected PACKAGE.MODULE:NAME"),
        (["lip-22", "--module", "own_nets:Nest"], "own_nets:Nest can't be found: module 'own_nets' has no attribute"),
        (["lip-22", "--module", "absent_nets:make"], "can't be found: No module named 'absent_nets'"),
        (["lip-22", "--module", "own_nets:wrong"], "makes a int, and no torch.nn.Module"),
        (["lip-22", "--module", "own_nets:failing"], "own_nets:failing() ends in KeyError: 'there'"),
        (["resnet18-lip-1222", "--stages", "layer1"], "--stages and --pools are of a network of your own"),
        (["lip-22", "--module", "own_nets:Nested", "--num-classes", "3"], "has its own classifier"),
    ):
        assert main(["compile", *words]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ['q"x', "q'x", "q\\x", "q\nx"])
def test_names_that_code_cannot_be_written_with(name):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
    net.add_module(name, nn.Conv2d(4, 4, 3, 2, 1))
    with pytest.raises(InputError, match="a name that code can't be written with"):
        sapool.compile("lip-2", backbone=net, features_only=True)
