"""Grey images of 96×160, as microcontrollers have them, and other channels: the laws of RGB squares hold for them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sapool
from sapool.catalogue.builders import build
from sapool.cost.lifetimes import Lifetimes
from sapool.cost.memory import Assumptions, analyse
from sapool.cost.unroll import unroll
from sapool.errors import InputError
from sapool.passes.inference.fold_norms import fold_norms
from sapool.passes.record import Log
from sapool.planning import survey
from tests.classify.support import train
from tests.commands import sapoolc
from tests.cost.test_memory import Execution, InArena
from tests.passes.tiny import Block
from tests.tiers import in_tiers

HEIGHT, WIDTH = SIZE = (96, 160)
BACKBONES = (
    *("resnet18", "resnet50", "mobilenet", "squeezenet1_1", "mnasnet0_5", "shufflenet_v2_x0_5", "efficientnet_b0"),
    *("regnet_y_400mf", "timm:resnet10t", "timm:mobilenetv3_small_050", "timm:ghostnet_050"),
)
QUICK = ("mobilenet", "timm:resnet10t")


def image(channels: int, batch: int = 2, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(0))


def plain(name: str) -> Any:
    """The backbone as it is built, on images of three channels."""
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    return build(name, 5).eval()


@pytest.mark.parametrize("name", in_tiers(BACKBONES, QUICK))
def test_unchanged_strides_change_nothing_for_grey_images(name: str) -> None:
    """Grey is three equal channels to a network whose first weights are summed."""
    own = plain(name)
    text = f"{name}-skip-{survey(name).unchanged}"
    model = sapool.compile(text, num_classes=5, in_chans=1, image_size=SIZE, weights=own.state_dict()).eval()
    assert model.transfer is not None
    assert not model.transfer.new
    assert not model.transfer.dropped
    assert list(model.state_dict()) == list(own.state_dict())
    x = image(1)
    with torch.no_grad():
        expected = own(x.expand(-1, 3, -1, -1))
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("channels", [2, 4, 7])
def test_first_weights_are_adapted_as_timm_does(channels: int) -> None:
    timm = pytest.importorskip("timm")
    own = plain("resnet18")
    model = sapool.compile("resnet18-lip-1222", num_classes=5, in_chans=channels, weights=own.state_dict())
    adapted = timm.models.adapt_input_conv(channels, own.conv1.weight.detach())
    assert torch.equal(model.get_submodule("conv1").weight, adapted)


@pytest.mark.parametrize("name", in_tiers(BACKBONES, QUICK))
def test_pools_and_memory_on_grey_images(name: str) -> None:
    """Every map is as large as its reduction says; what is held is what execution holds, in one arena too."""
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    model = sapool.compile(f"{name}-lip-{survey(name).unchanged}", num_classes=5, in_chans=1, image_size=SIZE).eval()
    assert any(site.action == "pool" for site in model.plan.sites)
    for site in model.plan.sites:
        if site.pool is not None:
            assert site.map is not None
            assert site.map[0] < site.map[1]
    folded: Any = copy.deepcopy(model)
    fold_norms(folded, model.plan, Log())
    graph = unroll(folded, HEIGHT, WIDTH)
    memory = analyse(graph, Assumptions("fp32"))
    life = Lifetimes(graph, memory.assumptions)
    execution, x = Execution(graph, life), image(1, batch=1)
    with torch.no_grad():
        result, expected = execution.run(x.clone()), model(x)
        inside = InArena(graph, life, memory).run(x.clone())
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert torch.equal(inside, result)
    assert {step.node: step.live for step in memory.steps} == {s.node: execution.seen[s.node] for s in memory.steps}
    report = sapool.memory(model)
    assert report.steps[0].live >= HEIGHT * WIDTH  # the grey image itself, a byte a pixel


@pytest.mark.parametrize("channels", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 4, 6))])
def test_everything_takes_them(channels: int, tmp_path: Path) -> None:
    size = (72, 40)
    text = "prepool-lip-2-resnet18-nlp_headfix2_nowin-1222"
    model = sapool.compile(text, num_classes=3, in_chans=channels, image_size=size).eval()
    x = image(channels, size=size)
    expected = model(x)
    sapool.save(model, tmp_path / "m.pt")
    streamed = sapool.stream(model, bands=2, seconds=0.2)
    for made in (sapool.load(tmp_path / "m.pt").eval(), sapool.optimize(model), streamed):
        torch.testing.assert_close(made(x), expected, rtol=1e-3, atol=1e-4)
    assert sapool.cost(model).total.macs > 0
    sapool.export(model, tmp_path / "m.py")
    assert sapool.execute(model.plan).plan == model.plan


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "size"), [(1, "24x40"), (4, "[40, 24]")])
def test_a_classifiers_run(channels: int, size: str, tmp_path: Path, images: list[Path]) -> None:
    """Trained, asked and measured: a run on images as they are."""
    run, settings = tmp_path / "run", (f"model.in_chans={channels}", f"data.image_size={size}")
    train(run, *settings, "train.epochs=1", "train.steps_per_epoch=2", "schedule.warmup_epochs=0")
    opened = sapool.open_run(run)
    sides = opened.recipe.data.sides
    assert (opened.model.plan.options.in_chans, opened.model.plan.options.image_size) == (channels, sides)
    sapoolc("predict", run, *images)
    sapoolc("heatmap", run, images[0])
    assert (run / "heatmaps" / "one.png").is_file()
    measured = json.loads(sapoolc("evaluate", run / "model.pt", "--data", "digits", "--json")[0])
    assert measured["image_size"] == list(sides)


@pytest.mark.slow
def test_a_detectors_run(tmp_path: Path, detector_settings: list[str], images: list[Path]) -> None:
    run = tmp_path / "run"
    settings = ("model.in_chans=1", "data.image_size=96x160", "train.epochs=1")
    sapoolc("train", "ssd-digits", *detector_settings, *settings, "--run-dir", run)
    opened = sapool.open_run(run)
    assert opened.model.backbone.plan.options.in_chans == 1
    assert opened.model.data_preprocessor.mean.numel() == 1
    sapoolc("predict", run, *images)
    sapoolc("heatmap", run, images[0])
    assert (run / "heatmaps" / "one.png").is_file()


class Depthwise(nn.Module):
    """Gives each channel of the image a kernel of its own first."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, groups=channels)
        self.early, self.late = Block(2 * channels, 6), Block(6, 8, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.early(self.stem(x))).mean((2, 3))


def test_channels_that_cannot_be() -> None:
    with pytest.raises(InputError, match="in_chans: Depthwise takes images of 3 channels, not of 1"):
        sapool.compile("lip-12", backbone=Depthwise(), in_chans=1)
    assert sapool.compile("lip-12", backbone=Depthwise(4), image_size=32).plan.options.in_chans == 4
    pytest.importorskip("timm")
    text = f"timm:tresnet_m-lip-{survey('timm:tresnet_m').unchanged}"
    with pytest.raises(InputError, match="in_chans: timm:tresnet_m takes images of 3 channels, not of 1"):
        sapool.compile(text, in_chans=1)
