"""`skipblur` against networks that were rebuilt by hand, and what stays of the backbone as it was published."""

from __future__ import annotations

from math import comb

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

import sapool
from sapool.errors import InputError
from sapool.poolings.rivals.blur import SkipBlurPool
from tests.poolings.cases import gradients, randomise


class Blurred(nn.Module):
    """Every s-th pixel of a map that was filtered one pixel after the other, from its first pixel on."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride, self.reach = stride, stride - 1

    def forward(self, x: Tensor) -> Tensor:
        taps = 2 * self.reach + 1
        mode = "reflect" if self.reach < min(x.shape[2:]) else "replicate"
        wide = F.pad(x, (self.reach,) * 4, mode=mode)
        whole = torch.zeros_like(x)
        for i in range(taps):
            for j in range(taps):
                share = comb(taps - 1, i) * comb(taps - 1, j) / 4 ** (taps - 1)
                whole = whole + share * wide[:, :, i : i + x.shape[2], j : j + x.shape[3]]
        return whole[:, :, :: self.stride, :: self.stride]


def by_hand(stride: int = 2) -> nn.Module:
    """torchvision's ResNet-18 as the paper rewrites it: conv, batch norm, ReLU, blur; blur and projection beside."""
    net = models.resnet18(num_classes=3)
    for layer in (net.layer2, net.layer3, net.layer4):
        block = layer[0]
        block.conv1.stride = (1, 1)
        block.conv2 = nn.Sequential(Blurred(stride), block.conv2)
        block.downsample[0].stride = (1, 1)
        block.downsample = nn.Sequential(Blurred(stride), *block.downsample)
    return net


def plain_names(state: dict[str, Tensor], like: nn.Module) -> dict[str, Tensor]:
    """A state dict under the keys of the network rebuilt by hand, whose tensors are in the same order."""
    return dict(zip(like.state_dict(), state.values(), strict=True))


@pytest.mark.parametrize(
    ("digits", "size", "training"),
    [
        ("1222", (64, 64), True),
        ("1222", (41, 59), True),
        ("1222", (41, 59), False),
        ("1333", (64, 51), False),
    ],
)
def test_a_resnet_rebuilt_by_hand(digits: str, size: tuple[int, int], training: bool) -> None:
    torch.manual_seed(0)
    model = sapool.compile(f"resnet18-skipblur-{digits}", num_classes=3, image_size=64)
    randomise(model)
    twin = by_hand(int(digits[1]))
    twin.load_state_dict(plain_names(model.state_dict(), twin))
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    found = [gradients(net.double().train(training), x) for net in (model, twin)]
    # Gradients of all parameters, in the same order; some batch norms make them 0.
    for (name, mine), other in zip(found[0].items(), found[1].values(), strict=True):
        error = float((mine - other).abs().max())
        assert error <= 1e-5 * float(other.abs().max()) + 1e-9, name
    for mine, other in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, other)


def test_pretrained_weights_are_the_backbones() -> None:
    backbone = models.resnet18()
    model = sapool.compile("resnet18-skipblur-1222", weights=backbone.state_dict())
    assert model.state_dict().keys() == backbone.state_dict().keys()
    assert model.transfer is not None
    assert not model.transfer.new
    assert torch.equal(model.get_parameter("layer4.0.conv1.weight"), backbone.layer4[0].conv1.weight)


def test_what_isnt_filtered_is_the_backbone() -> None:
    torch.manual_seed(0)
    plan = sapool.make_plan("resnet18-skipblur-1222", image_size=64)
    model = sapool.execute(plan, without=("filter_strides",)).eval()
    plain = sapool.compile("resnet18-skip-1222", image_size=64).eval()
    plain.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(x), plain(x))
    # With one tap the filters subsample, at the pixels that a stride would compute.
    model = sapool.execute(plan).eval()
    model.load_state_dict(plain.state_dict())
    for path, pool in list(model.named_modules()):
        if isinstance(pool, SkipBlurPool):
            model.set_submodule(path, SkipBlurPool(pool.channels, pool.stride, taps=1))
    x = torch.randn(2, 3, 57, 64)
    with torch.no_grad():
        y = plain(x)
        torch.testing.assert_close(model(x), y, rtol=1e-5, atol=1e-5 * float(y.abs().max()))


def test_features_have_the_sizes_of_strided_convolutions() -> None:
    options = {"features_only": True, "out_indices": (0, 1, 2), "image_size": (75, 97)}
    x = torch.randn(1, 3, 75, 97)
    for text in ("resnet18", "timm:test_resnet", "mobilenet"):
        if text.startswith("timm:"):
            pytest.importorskip("timm")
        digits = sapool.survey("mobilenet" if text == "mobilenet" else text).unchanged
        blurred, plain = (sapool.compile(f"{text}-{kind}-{digits}", **options) for kind in ("skipblur", "skip"))
        with torch.no_grad():
            assert [y.shape for y in blurred(x)] == [y.shape for y in plain(x)]
        assert not any(path.startswith("pools.stage4") for path, _ in blurred.named_modules())
        assert blurred.feature_info.reduction() == plain.feature_info.reduction()


def test_a_prepool_blurs_the_stem() -> None:
    """On maps that the stride divides it is `blur` as a prepool."""
    torch.manual_seed(0)
    one, other = (sapool.compile(f"prepool-{kind}-4-resnet18-skip-1222").eval() for kind in ("skipblur", "blur"))
    other.load_state_dict(one.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(one(x), other(x))
        assert one(torch.randn(1, 3, 61, 63)).shape == (1, 1000)


def test_a_stride_that_cannot_be_taken_apart_is_refused() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
            self.one = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(16, 8, 3, padding=1), nn.ReLU())
            self.fc = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.one(self.stem(x)).mean((2, 3)))

    with pytest.raises(InputError, match="can't be carried out at stride 1 before skipblur; choose skip"):
        sapool.compile("skipblur-2", backbone=Own(), image_size=32)
