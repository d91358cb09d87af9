"""The stand-in for mmcv's extension: against torchvision, against plain PyTorch, with gradients."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import mmcv.ops
import pytest
import torch
import torchvision
from torch.nn import functional as F

from sapool.detect.mmcv_ops import extension
from sapool.detect.mmcv_ops.missing import SERVED, MissingOperatorError

ROIS = torch.tensor([[0, 1.3, 2.1, 9.7, 8.2], [1, 0.0, 0.5, 15.2, 11.9], [1, 4.2, 3.3, 6.1, 5.9]], dtype=torch.float64)


@pytest.fixture
def maps() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 3, 10, 13, dtype=torch.float64, requires_grad=True)


def boxes(count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    corners = torch.rand(count, 2, generator=draw) * 40
    return torch.cat([corners, corners + 5 + torch.rand(count, 2, generator=draw) * 30], 1), torch.rand(
        count, generator=draw
    )


def iou(one: torch.Tensor, other: torch.Tensor, offset: int) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0]) + offset
    height = min(one[3], other[3]) - max(one[1], other[1]) + offset
    common = max(float(width), 0.0) * max(float(height), 0.0)
    areas = [float((b[2] - b[0] + offset) * (b[3] - b[1] + offset)) for b in (one, other)]
    return common / (sum(areas) - common)


def sample(image: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Bilinear values (C, ...) of an image (C, H, W) at pixel coordinates; zero outside."""
    height, width = image.shape[1:]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    flat = grid.reshape(1, 1, -1, 2)
    return F.grid_sample(image[None], flat, padding_mode="zeros", align_corners=False)[0, :, 0].unflatten(1, y.shape)


# Boxes


@pytest.mark.parametrize("offset", [0, 1])
def test_nms_keeps_what_the_greedy_definition_keeps(offset):
    corners, scores = boxes()
    dets, kept = mmcv.ops.nms(corners, scores, 0.5, offset=offset)
    expected: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        if all(iou(corners[index], corners[other], offset) <= 0.5 for other in expected):
            expected.append(index)
    assert kept.tolist() == expected
    assert 3 < len(expected) < len(corners)
    assert torch.equal(dets, torch.cat([corners[kept], scores[kept][:, None]], 1))
    if not offset:
        assert torch.equal(kept, torchvision.ops.nms(corners, scores, 0.5))


def test_batched_nms_of_mmcv_is_torchvisions():
    corners, scores = boxes()
    labels = torch.arange(len(scores)) % 3
    _, kept = mmcv.ops.batched_nms(corners, scores, labels, {"type": "nms", "iou_threshold": 0.4})
    assert kept.tolist() == torchvision.ops.batched_nms(corners, scores, labels, 0.4).tolist()


def plain_soft_nms(corners, scores, threshold, sigma, least, method, offset):
    left = [(float(score), index) for index, score in enumerate(scores)]
    taken = []
    while left:
        score, index = max(left)
        left.remove((score, index))
        taken.append((index, score))
        lowered = []
        for value, other in left:
            overlap = iou(corners[index], corners[other], offset)
            factor = {
                "naive": float(overlap < threshold),
                "linear": 1 - overlap if overlap >= threshold else 1.0,
                "gaussian": math.exp(-(overlap**2) / sigma),
            }[method]
            if value * factor >= least:
                lowered.append((value * factor, other))
        left = lowered
    return taken


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms_is_the_papers_algorithm(method, offset):
    corners, scores = boxes(40)
    dets, kept = mmcv.ops.soft_nms(corners, scores, 0.3, sigma=0.5, min_score=0.05, method=method, offset=offset)
    expected = plain_soft_nms(corners, scores, 0.3, 0.5, 0.05, method, offset)
    assert kept.tolist() == [index for index, _ in expected]
    torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in expected]), rtol=1e-4, atol=1e-5)
    assert torch.equal(dets[:, :4], corners[kept])
    assert 0 < len(kept) < 40


def test_nothing_to_suppress():
    none = torch.zeros(0, 4), torch.zeros(0)
    assert mmcv.ops.nms(*none, 0.5)[1].tolist() == []
    assert mmcv.ops.soft_nms(*none)[0].shape == (0, 5)


# Regions


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 2])
def test_roi_align_is_torchvisions_and_has_its_gradient(maps, aligned, sampling):
    rois = ROIS.to(maps)
    ours = mmcv.ops.roi_align(maps, rois, (3, 2), 0.5, sampling, "avg", aligned)
    theirs = torchvision.ops.roi_align(maps, rois, (3, 2), 0.5, sampling, aligned)
    assert torch.equal(ours, theirs)
    seed = torch.randn_like(ours)
    assert torch.equal(torch.autograd.grad(ours, maps, seed)[0], torch.autograd.grad(theirs, maps, seed)[0])
    assert torch.autograd.gradcheck(
        lambda x: mmcv.ops.roi_align(x, rois, (3, 2), 0.5, sampling, "avg", aligned), maps, fast_mode=True
    )


def test_roi_align_averages_bilinear_samples(maps):
    """Regions inside the map, two samples a side of each bin, as He et al. (ICCV 2017) describe it."""
    rois = torch.tensor([[0, 2.0, 4.0, 20.0, 16.0], [1, 6.0, 2.0, 14.0, 18.0]], dtype=torch.float64)
    ours = mmcv.ops.roi_align(maps, rois, (2, 3), 0.5, 2, "avg", True)
    for n, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        rows = (torch.arange(4, dtype=torch.float64) + 0.5) * (y2 - y1) * 0.5 / 4 + y1 * 0.5 - 0.5
        columns = (torch.arange(6, dtype=torch.float64) + 0.5) * (x2 - x1) * 0.5 / 6 + x1 * 0.5 - 0.5
        values = sample(maps[int(image)], *torch.meshgrid(rows, columns, indexing="ij"))
        torch.testing.assert_close(ours[n], F.avg_pool2d(values[None], 2)[0])


def test_roi_pool_is_torchvisions_and_has_its_gradient(maps):
    rois = ROIS.to(maps)
    ours = mmcv.ops.roi_pool(maps, rois, (3, 2), 0.5)
    theirs = torchvision.ops.roi_pool(maps, rois, (3, 2), 0.5)
    assert torch.equal(ours, theirs)
    seed = torch.randn_like(ours)
    assert torch.equal(torch.autograd.grad(ours, maps, seed)[0], torch.autograd.grad(theirs, maps, seed)[0])
    assert torch.autograd.gradcheck(lambda x: mmcv.ops.roi_pool(x, rois, (3, 2), 0.5), maps, fast_mode=True)
    # One bin over a region of whole pixels: its largest value.
    whole = mmcv.ops.roi_pool(maps, torch.tensor([[1, 2.0, 1.0, 6.0, 4.0]], dtype=torch.float64), 1, 1.0)
    assert torch.equal(whole[0, :, 0, 0], maps[1, :, 1:5, 2:7].amax((1, 2)))


# Deformable convolution

GEOMETRY = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}


def deformed(maps, weight, offset, mask=None, bias=None, groups=1, deform_groups=1):
    """Deformable convolution from its definition: sample, weigh, add up."""
    kernel, (n, channels) = weight.shape[2:], maps.shape[:2]
    size = offset.shape[2:]
    rows = torch.arange(size[0]).double() * GEOMETRY["stride"][0] - GEOMETRY["padding"][0]
    columns = torch.arange(size[1]).double() * GEOMETRY["stride"][1] - GEOMETRY["padding"][1]
    shifts = offset.view(n, deform_groups, *kernel, 2, *size)
    patches = []
    for image in range(n):
        taps = []
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                parts = []
                for group, part in enumerate(maps[image].chunk(deform_groups)):
                    dy, dx = shifts[image, group, i, j]
                    y = rows[:, None] + i * GEOMETRY["dilation"][0] + dy
                    x = columns[None, :] + j * GEOMETRY["dilation"][1] + dx
                    value = sample(part, y, x)
                    if mask is not None:
                        value = value * mask.view(n, deform_groups, *kernel, *size)[image, group, i, j]
                    parts.append(value)
                taps.append(torch.cat(parts))
        patches.append(torch.stack(taps, 1).view(channels, *kernel, *size))
    stacked = torch.stack(patches)
    outputs = [
        torch.einsum("ncijhw,ocij->nohw", part, kernels)
        for part, kernels in zip(stacked.chunk(groups, 1), weight.chunk(groups), strict=True)
    ]
    result = torch.cat(outputs, 1)
    return result if bias is None else result + bias[:, None, None]


@pytest.fixture
def deformable():
    torch.manual_seed(2)
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    size = F.conv2d(x, weight, None, **GEOMETRY, groups=2).shape[2:]
    offset = (torch.randn(2, 2 * 2 * 6, *size, dtype=torch.float64)).requires_grad_()
    mask = torch.rand(2, 2 * 6, *size, dtype=torch.float64).requires_grad_()
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True)
    return x, offset, mask, weight, bias


ARGUMENTS = (GEOMETRY["stride"], GEOMETRY["padding"], GEOMETRY["dilation"], 2, 2)


def compare(ours, literal, inputs):
    torch.testing.assert_close(ours, literal)
    seed = torch.randn_like(ours)
    for one, other in zip(
        torch.autograd.grad(ours, inputs, seed, retain_graph=True),
        torch.autograd.grad(literal, inputs, seed),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_deform_conv_is_its_definition_with_gradients(deformable):
    x, offset, _, weight, _ = deformable
    ours = mmcv.ops.deform_conv2d(x, offset, weight, *ARGUMENTS)
    compare(ours, deformed(x, weight, offset, groups=2, deform_groups=2), (x, offset, weight))
    theirs = torchvision.ops.deform_conv2d(x, offset, weight, None, *ARGUMENTS[:3])
    assert torch.equal(ours, theirs)
    assert torch.autograd.gradcheck(
        lambda *inputs: mmcv.ops.deform_conv2d(*inputs, *ARGUMENTS), (x, offset, weight), fast_mode=True
    )


def test_modulated_deform_conv_is_its_definition_with_gradients(deformable):
    x, offset, mask, weight, bias = deformable
    ours = mmcv.ops.modulated_deform_conv2d(x, offset, mask, weight, bias, *ARGUMENTS)
    compare(ours, deformed(x, weight, offset, mask, bias, 2, 2), (x, offset, mask, weight, bias))
    assert torch.autograd.gradcheck(
        lambda *inputs: mmcv.ops.modulated_deform_conv2d(*inputs, *ARGUMENTS), deformable, fast_mode=True
    )


def test_modulated_deform_conv_without_bias(deformable):
    x, offset, mask, weight, _ = deformable
    ours = mmcv.ops.modulated_deform_conv2d(x, offset, mask, weight, None, *ARGUMENTS)
    compare(ours, deformed(x, weight, offset, mask, None, 2, 2), (x, offset, mask, weight))


def test_undeformed_is_a_convolution(deformable):
    x, offset, mask, weight, bias = deformable
    still, ones = torch.zeros_like(offset), torch.ones_like(mask)
    plain = F.conv2d(x, weight, None, **GEOMETRY, groups=2)
    torch.testing.assert_close(mmcv.ops.deform_conv2d(x, still, weight, *ARGUMENTS), plain)
    modulated = mmcv.ops.modulated_deform_conv2d(x, still, ones, weight, bias, *ARGUMENTS)
    torch.testing.assert_close(modulated, plain + bias[:, None, None])


def test_layers_of_mmcv_train():
    torch.manual_seed(0)
    for layer in (
        mmcv.ops.DeformConv2dPack(4, 6, 3, padding=1),
        mmcv.ops.ModulatedDeformConv2dPack(4, 6, 3, padding=1),
    ):
        layer(torch.randn(2, 4, 5, 5)).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
        assert layer.weight.grad.abs().sum() > 0


# Focal loss


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_focal_loss_is_its_formula_with_gradient(weighted, reduction):
    torch.manual_seed(3)
    logits = (torch.randn(7, 4, dtype=torch.float64) * 3).requires_grad_()
    target = torch.tensor([0, 3, 4, 1, 4, 2, 0])  # 4 is the background
    weight = torch.rand(4, dtype=torch.float64) + 0.5 if weighted else None
    ours = mmcv.ops.sigmoid_focal_loss(logits, target, 1.5, 0.3, weight, reduction)
    p = logits.sigmoid()
    hot = torch.zeros(7, 5, dtype=torch.float64).scatter(1, target[:, None], 1)[:, :4]
    losses = -0.3 * hot * (1 - p) ** 1.5 * p.log() - 0.7 * (1 - hot) * p**1.5 * (1 - p).log()
    if weight is not None:
        losses = losses * torch.cat([weight, torch.ones(1, dtype=torch.float64)])[target][:, None]
    literal = {"none": losses, "sum": losses.sum(), "mean": losses.sum() / 7}[reduction]
    torch.testing.assert_close(ours, literal)
    seed = torch.ones_like(ours)
    torch.testing.assert_close(
        torch.autograd.grad(ours, logits, seed)[0], torch.autograd.grad(literal, logits, seed)[0]
    )
    assert torch.autograd.gradcheck(
        lambda x: mmcv.ops.sigmoid_focal_loss(x, target, 1.5, 0.3, weight, reduction), logits, fast_mode=True
    )


# What isn't served


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("nms_match", lambda: mmcv.ops.nms_match(torch.rand(3, 5), 0.5)),
        ("nms_rotated", lambda: mmcv.ops.nms_rotated(torch.rand(3, 5), torch.rand(3), 0.5)),
        ("box_iou_rotated", lambda: mmcv.ops.box_iou_rotated(torch.rand(3, 5), torch.rand(3, 5))),
        ("carafe", lambda: mmcv.ops.carafe(torch.rand(1, 4, 4, 4), torch.rand(1, 25, 8, 8), 5, 1, 2)),
        (
            "roi_align with pool_mode='max'",
            lambda: mmcv.ops.roi_align(torch.rand(1, 2, 4, 4), torch.rand(1, 5), 2, 1, 0, "max"),
        ),
    ],
)  # fmt: skip
def test_other_operators_say_so_when_they_are_called(name, call):
    with pytest.raises(MissingOperatorError) as error:
        call()
    assert f"mmcv's operator {name} needs mmcv's compiled extension" in str(error.value)
    assert "Served without it: nms, softnms, roi_align" in str(error.value)


def test_reports_of_the_environment_name_the_stand_in():
    assert "torchvision" in mmcv.ops.get_compiler_version()
    assert dict(SERVED).items() < extension.sources().items()
    assert extension.is_stand_in(sys.modules["mmcv._ext"])
    assert mmcv._ext is sys.modules["mmcv._ext"]


@pytest.mark.slow
@pytest.mark.parametrize(("content", "served"), [("", False), ("raise ImportError('undefined symbol')", True)])
def test_a_compiled_extension_goes_first_if_it_imports(tmp_path: Path, content, served):
    (tmp_path / "_ext.py").write_text(f"{content}\ndef __getattr__(name):\n    return lambda *a, **k: 'compiled'\n")
    program = f"""
import mmcv
mmcv.__path__.append({str(tmp_path)!r})
import sapool.detect.mmcv_ops.extension as extension
print(extension.install())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(served)
