"""Operations with a stride, one kind after the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from sapool.analysis.strided import Strided, set_stride, strided
from sapool.analysis.trace import trace


class Calls(nn.Module):
    """One operation on the image."""

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        if isinstance(operation, nn.Module):
            self.inner = operation
        self.operation = [operation]

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if hasattr(self, "inner") else self.operation[0](x)


def traced(operation: Callable[[Tensor], Tensor]) -> tuple[fx.GraphModule, fx.Node]:
    module = trace(Calls(operation))
    return module, list(module.graph.nodes)[-2]


WEIGHT = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
OPERATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Strided]] = {
    "a convolution": (nn.Conv2d(3, 4, 3, 2, 1), Strided("conv", 2, 3, 1, False)),
    "a dilated one": (nn.Conv2d(3, 4, 3, 2, 2, dilation=2), Strided("conv", 2, 5, 2, False)),
    "a depthwise one": (nn.Conv2d(3, 6, 3, 2, 1, groups=3), Strided("conv", 2, 3, 1, True)),
    "one that keeps the channels": (nn.Conv2d(3, 3, 3, 2, 1), Strided("conv", 2, 3, 1, False)),
    "one that pads as it needs": (nn.Conv2d(3, 4, 3, 1, "same"), Strided("conv", 1, 3, None, False)),
    "a max-pool": (nn.MaxPool2d(3, 2, 1), Strided("pool", 2, 3, 1, False)),
    "a pool whose stride is its kernel": (nn.AvgPool2d(2), Strided("pool", 2, 2, 0, False, averages=True)),
    "conv2d": (lambda x: F.conv2d(x, WEIGHT, None, 2, 1), Strided("conv", 2, None, 1, False)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), Strided("pool", 2, 2, 0, False)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 3, stride=2, padding=1), Strided("pool", 2, 3, 1, False, averages=True)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_seen(name: str) -> None:
    operation, expected = OPERATIONS[name]
    assert strided(*traced(operation)) == expected


@pytest.mark.parametrize(
    "operation",
    [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 3, (1, 2)), nn.MaxPool2d((2, 1)), lambda x: x[:, :, ::2, ::2]],
)
def test_what_has_no_stride_that_could_be_changed(operation: Callable[[Tensor], Tensor]) -> None:
    assert strided(*traced(operation)) is None


@pytest.mark.parametrize("name", [name for name in OPERATIONS if "needs" not in name])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_maps_of_a_multiple_shrink_by_the_stride(name: str, stride: int) -> None:
    module, node = traced(OPERATIONS[name][0])
    set_stride(module, node, stride)
    module.graph.lint()
    module.recompile()
    assert strided(module, node).stride == stride  # type: ignore[union-attr]
    x = torch.randn(1, 3, 24, 24)
    assert module(x).shape[2:] == (24 // stride, 24 // stride)


def test_a_convolution_keeps_its_values_where_both_strides_look() -> None:
    conv = nn.Conv2d(3, 4, 3, 2, 1)
    module, node = traced(conv)
    x = torch.randn(1, 3, 16, 16)
    before = module(x)
    set_stride(module, node, 1)
    torch.testing.assert_close(module(x)[..., ::2, ::2], before, rtol=0, atol=1e-6)


def test_an_even_kernel_is_padded_below_and_on_the_right() -> None:
    """The 2×2 convolutions of downsampling layers: at stride 1 no row is lost, and the old values stay."""
    module, node = traced(nn.Conv2d(3, 4, 2, 2))
    x = torch.randn(1, 3, 16, 16)
    before = module(x)
    set_stride(module, node, 1)
    module.recompile()
    after = module(x)
    assert after.shape[2:] == (16, 16)
    torch.testing.assert_close(after[..., ::2, ::2], before, rtol=0, atol=1e-6)
    assert [n.name for n in module.graph.nodes] == ["x", "inner_pad", "inner", "output"]


def test_an_unpadded_convolution_stays_unpadded() -> None:
    module, node = traced(nn.Conv2d(3, 4, 3, 2))
    set_stride(module, node, 1)
    assert module(torch.randn(1, 3, 16, 16)).shape[2:] == (14, 14)


def test_windows_grow_with_the_stride_only_where_they_do_not_overlap() -> None:
    for operation, kernel in ((nn.MaxPool2d(2), 4), (nn.MaxPool2d(3, 2, 1), 3)):
        module, node = traced(operation)
        set_stride(module, node, 4)
        pool = module.get_submodule("inner")
        assert (pool.kernel_size, pool.stride) == (kernel, 4)


class Twice(nn.Module):
    """A pooling and a convolution that are both called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.conv = nn.MaxPool2d(2), nn.Conv2d(3, 3, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pool(self.conv(self.pool(x))))


def test_what_is_called_twice() -> None:
    module = trace(Twice())
    nodes = {node.name: node for node in module.graph.nodes}
    assert strided(module, nodes["conv"]) is None, "its weight belongs to both calls"
    set_stride(module, nodes["pool_1"], 1)
    module.recompile()
    assert module(torch.randn(1, 3, 32, 32)).shape[2:] == (4, 4)
    assert strided(module, nodes["pool"]).stride == 2  # type: ignore[union-attr]
    assert list(module.state_dict()) == ["conv.weight", "conv.bias"]
