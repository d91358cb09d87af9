"""Packed convolutions: they compute the same, follow their kernel, and are ordinary wherever it matters."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import sapool
from sapool.packed import WORTH, PackedConv2d, pack

CONVOLUTIONS = {
    "3x3": nn.Conv2d(8, 16, 3, padding=1),
    "strided": nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
    "dilated": nn.Conv2d(8, 16, 3, dilation=2),
    "depthwise": nn.Conv2d(8, 8, 3, padding=1, groups=8),
    "1x1": nn.Conv2d(8, 16, 1),
}


def _packed(x: Tensor, conv: nn.Module) -> bool:
    """Whether the last call took the packed way."""
    conv._packed = None
    conv(x)
    return conv._packed is not None


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("conv", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_same_numbers_for_every_shape(conv: nn.Conv2d, layout: torch.memory_format) -> None:
    packed = PackedConv2d.of(copy.deepcopy(conv).to(memory_format=layout))
    for size in ((1, 9, 7), (4, 9, 7), (1, 12, 12)):
        x = torch.randn(size[0], 8, *size[1:]).contiguous(memory_format=layout)
        with torch.no_grad():
            assert _packed(x, packed)
            torch.testing.assert_close(packed(x), conv(x), rtol=1e-5, atol=1e-5)


def test_a_changed_kernel_is_packed_anew() -> None:
    packed, x = PackedConv2d.of(nn.Conv2d(8, 16, 3)), torch.randn(1, 8, 5, 5)
    with torch.no_grad():
        before = packed(x)
        packed.weight.mul_(2)
        packed.bias.mul_(2)
        torch.testing.assert_close(packed(x), 2 * before)
        packed.load_state_dict({name: value / 2 for name, value in packed.state_dict().items()})
        torch.testing.assert_close(packed(x), before)


def test_ordinary_where_numbers_are_learned_or_others() -> None:
    packed, x = PackedConv2d.of(nn.Conv2d(8, 16, 3)), torch.randn(1, 8, 5, 5)
    assert not _packed(x, packed)
    packed(x).sum().backward()
    assert packed.weight.grad is not None
    with torch.no_grad():
        assert not _packed(x.double(), copy.deepcopy(packed).double())
        assert not _packed(x.to("meta"), copy.deepcopy(packed).to("meta"))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert packed(x).dtype == torch.bfloat16


def test_copies_and_files_hold_no_packed_kernel() -> None:
    packed, x = PackedConv2d.of(nn.Conv2d(8, 16, 3)), torch.randn(1, 8, 5, 5)
    with torch.no_grad():
        expected = packed(x)
        for twin in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
            assert twin._packed is None
            assert torch.equal(twin(x), expected)
    assert packed.state_dict().keys() == {"weight", "bias"}


def test_small_kernels_stay_as_they_are() -> None:
    layers = nn.Sequential(nn.Conv2d(512, 511, 1), nn.Conv2d(511, 512, 1), nn.Conv2d(2048, 2048, 3, groups=2048))
    pack(layers)
    assert [isinstance(layer, PackedConv2d) for layer in layers] == [False, False, False]
    layers.append(nn.Conv2d(512, 512, 1))
    pack(layers)
    assert [isinstance(layer, PackedConv2d) for layer in layers] == [False, False, False, True]


def test_an_optimized_model_is_packed_and_still_exported() -> None:
    torch.manual_seed(0)
    model = sapool.compile("mobilenet-nlp_reduced-1222121", image_size=64, num_classes=10).eval()
    tuned = sapool.optimize(model, packed=True)
    packed = [module for module in tuned.modules() if isinstance(module, PackedConv2d)]
    assert packed
    assert all(module.weight.numel() >= WORTH for module in packed)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        assert (tuned(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
        program = torch.export.export(tuned, (x,))
        assert not [node for node in program.graph.nodes if "mkldnn" in str(node.target)]
        torch.testing.assert_close(program.module()(x), expected)
    assert not any(isinstance(module, PackedConv2d) for module in sapool.optimize(model).modules())
