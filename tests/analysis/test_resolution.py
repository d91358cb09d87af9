"""Where resolution drops, in networks of a few operations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sapool.analysis.resolution import Resolution, measure
from sapool.analysis.trace import trace
from sapool.errors import InputError


class Net(nn.Module):
    """A forward of the test's."""

    def __init__(self, forward: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.body = [forward]
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.body[0](self, x)


def seen(forward: Callable[..., Tensor], **modules: nn.Module) -> Resolution:
    return measure(trace(Net(forward, **modules)), "net")


def drops(found: Resolution) -> list[tuple[str, int, int]]:
    return [(drop.node.name, drop.before, drop.after) for drop in found.drops]


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 7, 8])
@pytest.mark.parametrize("padding", [0, 1])
def test_factors_are_exact_whatever_borders_do(factor: int, padding: int) -> None:
    conv = nn.Conv2d(3, 4, 3, factor, padding)
    found = seen(lambda net, x: net.pool(F.relu(net.conv(x))), conv=conv, pool=nn.MaxPool2d(2))
    assert drops(found) == [("conv", 1, factor), ("pool", factor, 2 * factor)]


def test_branches_drop_side_by_side() -> None:
    found = seen(
        lambda net, x: net.conv(x) + net.pool(x), conv=nn.Conv2d(3, 3, 3, 2, 1), pool=nn.AvgPool2d(2, ceil_mode=True)
    )
    assert drops(found) == [("conv", 1, 2), ("pool", 1, 2)]


def test_what_is_undone_is_no_drop() -> None:
    """A gate that looks at the map from afar, and is upsampled again."""
    found = seen(
        lambda net, x: x * F.interpolate(net.gate(F.avg_pool2d(x, 4)), size=x.shape[-2:]).sigmoid(),
        gate=nn.Conv2d(3, 3, 3, 1, 1),
    )
    assert drops(found) == []


def test_global_pooling_is_no_drop() -> None:
    found = seen(lambda net, x: x * net.fc(F.adaptive_avg_pool2d(x, 1)), fc=nn.Conv2d(3, 3, 1))
    assert drops(found) == []


def test_an_operation_without_a_stride_is_seen_all_the_same() -> None:
    found = seen(lambda _, x: x[:, :, ::2, ::2])
    assert drops(found) == [("getitem", 1, 2)]
    assert found.drops[0].strided is None


def test_maps_with_channels_last() -> None:
    found = seen(lambda net, x: net.fc(net.conv(x).permute(0, 2, 3, 1)), conv=nn.Conv2d(3, 8, 4, 4), fc=nn.Linear(8, 6))
    (last,) = (node for node in found.channels_last if node.name == "fc")
    assert (found.reduction[last], found.channels[last]) == (4, 6)


def test_tokens_are_no_maps() -> None:
    found = seen(lambda net, x: net.conv(x).flatten(2).transpose(1, 2), conv=nn.Conv2d(3, 8, 4, 4))
    assert {node.name for node in found.reduction} == {"x", "conv"}


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: net.fc(x.flatten(1)),
        lambda net, x: net.fc(x.view(-1, 3 * 256 * 256)),
        lambda net, x: x + torch.zeros(1, 3, 256, 256, device="meta"),
    ],
)
def test_hard_coded_resolutions(forward: Callable[..., Tensor]) -> None:
    with pytest.raises(InputError, match=r"net can't be rewritten: .* hard-codes a resolution"):
        seen(forward, fc=nn.Linear(3 * 256 * 256, 4, device="meta"))
