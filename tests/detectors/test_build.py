"""torchvision's detectors on compiled networks: their numbers follow the network's strides."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torchvision.ops.poolers import LevelMapper

import sapool
from sapool.detectors.build import CellsOfRegions
from sapool.errors import InputError
from tests.commands import ENVIRONMENT

KINDS = ("faster_rcnn", "retinanet", "fcos", "ssdlite")
CHEAP = "mobilenet-lip-1222121"
TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 50, 60], [40, 20, 60, 30]]), "labels": torch.tensor([1, 3])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]


def detector(kind: str, text: str = CHEAP, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return sapool.torchvision_detector(kind, text, 3, **{"image_size": (64, 96), "channels": 32, **options})


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_and_finds(kind):
    model = detector(kind)
    images = [torch.rand(3, 64, 96), torch.rand(3, 60, 80)]
    loss = torch.stack(list(model.train()(images, TARGETS).values())).sum()
    loss.backward()
    gradients = [p.grad for p in model.backbone.body.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in gradients)
    assert sum(float(grad.abs().sum()) for grad in gradients) > 0
    found = model.eval()(images)
    assert [set(boxes) for boxes in found] == [{"boxes", "scores", "labels"}] * 2
    assert all((boxes["labels"] >= 1).all() and (boxes["labels"] <= 3).all() for boxes in found)


@pytest.mark.parametrize("kind", ["faster_rcnn", "retinanet", "fcos"])
def test_anchors_grow_with_the_networks_strides(kind):
    """A network that downsamples once more has everything twice as large, as has the recipe's mmdet detector."""
    usual, coarse = (detector(kind, f"resnet18-avgp-{strides}", image_size=128) for strides in ("1222", "2222"))
    cells = {"faster_rcnn": 8, "retinanet": 4, "fcos": 1}[kind]
    first = {"faster_rcnn": 4, "retinanet": 8, "fcos": 8}[kind]
    found = []
    for model in (usual, coarse):
        anchors = model.rpn.anchor_generator if kind == "faster_rcnn" else model.anchor_generator
        found.append([sizes[0] for sizes in anchors.sizes])
    assert found[0] == [first * cells * 2**level for level in range(5)]
    assert found[1] == [2 * size for size in found[0]]
    assert coarse.transform.size_divisible == 64
    strides = [feature.reduction for feature in coarse.backbone.body.feature_info]
    levels = coarse.eval().backbone(torch.rand(1, 3, 128, 128))
    assert [128 / level.shape[-1] for level in list(levels.values())[: len(strides)]] == strides


def test_regions_go_to_the_level_that_torchvision_gives_them_and_to_the_right_one_beyond():
    boxes = [torch.rand(500, 4) * torch.tensor([50.0, 50, 800, 800])]
    boxes[0][:, 2:] += boxes[0][:, :2]
    theirs = LevelMapper(2, 5)(boxes)
    assert torch.equal(CellsOfRegions((4, 8, 16, 32))(boxes), theirs)
    assert set(theirs.tolist()) == {0, 1, 2, 3}
    sides = torch.tensor([10.0, 60, 223, 225, 1000])
    squares = torch.stack((sides * 0, sides * 0, sides, sides), 1)
    # 14 cells: of stride 4 are 56 pixels, of 16 are 224; there is no stride of 8 or 32 to go to.
    assert CellsOfRegions((4, 16, 64))([squares]).tolist() == [0, 0, 0, 1, 2]


def test_frozen_stages_and_statistics_stay():
    model = detector("retinanet", frozen_stages=1, norm_eval=True).train()
    body = model.backbone.body
    stem = next(body.parameters())
    assert not stem.requires_grad
    before = {name: value.clone() for name, value in body.named_buffers()}
    model([torch.rand(3, 64, 96)] * 2, TARGETS)
    assert all(torch.equal(value, before[name]) for name, value in body.named_buffers())


def test_grey_images():
    model = detector("ssdlite", in_chans=1).eval()
    assert len(model.transform.image_mean) == 1
    assert len(model([torch.rand(1, 64, 96)])) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fasterrcnn", CHEAP, 3), "Did you mean 'faster_rcnn'"),
        (("fcos", CHEAP, 0), "at least one class"),
        (("fcos", "resnet18-nlq-1222", 3), "nlq"),
    ],
)
def test_what_is_not_possible(arguments, said):
    with pytest.raises(InputError, match=said):
        sapool.torchvision_detector(*arguments)
    with pytest.raises(InputError, match="has maps 0 to"):
        detector("fcos", out_indices=(0, 99))
    with pytest.raises(InputError, match="that 32 divides, not 48"):
        detector("fcos", channels=48)


def test_no_mmdet_is_needed_nor_imported():
    """In a process in which mmdet can't be imported at all."""
    program = (
        "import sys\n"
        "for name in ('mmdet', 'mmcv', 'mmengine'): sys.modules[name] = None\n"
        "import sapool\n"
        f"sapool.torchvision_detector('ssdlite', {CHEAP!r}, 3, image_size=64)\n"
        "import sapool.detectors.fit, sapool.detectors.run, sapool.detectors.heatmap, sapool.detectors.dry_run\n"
        "import sapool.detectors.evaluate, sapool.tasks, sapool.study.compare\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
