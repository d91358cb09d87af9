"""Each operation that works by rows, row by row and in bands: the same numbers, and no multiply-accumulate more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from sapool.cost.assumptions import Assumptions
from sapool.cost.unroll import unroll
from sapool.schedule.execution import Execution, tensors_of
from sapool.schedule.moves import Region
from sapool.schedule.operations import network
from sapool.schedule.schedule import Schedule
from tests.schedule.support import image

Function = Callable[[Tensor], Tensor]


class Around(nn.Module):
    """A function between two convolutions, in double precision."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.before, self.after = nn.Conv2d(3, 8, 3, padding=1), nn.LazyConv2d(2, 1)
        self.table = nn.Parameter(torch.randn(8, 1, 1))
        self.places = nn.Parameter(torch.randn(1, 8, 17, 14))
        self.kernel = nn.Parameter(torch.randn(8, 8, 3, 3))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.function(self, self.before(x)))  # type: ignore[call-arg, arg-type]


HEIGHT, WIDTH = 17, 14

BY_ROWS: dict[str, Callable[[Around, Tensor], Tensor]] = {
    "conv": lambda m, x: F.conv2d(x, m.kernel),
    "conv with padding 2": lambda m, x: F.conv2d(x, m.kernel, padding=2),
    "conv with padding for columns only": lambda m, x: F.conv2d(x, m.kernel, padding=(0, 1)),
    "conv with stride 2": lambda m, x: F.conv2d(x, m.kernel, stride=2, padding=1),
    "conv with stride over kernel": lambda m, x: F.conv2d(x, m.kernel, stride=5, padding=1),
    "conv with uneven strides": lambda m, x: F.conv2d(x, m.kernel, stride=(3, 2), padding=(1, 0)),
    "dilated conv": lambda m, x: F.conv2d(x, m.kernel, padding=3, dilation=3),
    "dilated strided conv": lambda m, x: F.conv2d(x, m.kernel, padding=2, dilation=2, stride=3),
    "even kernel, same": lambda m, x: F.conv2d(x, m.kernel[:, :, :2, :2], padding="same"),
    "even dilated kernel, same": lambda m, x: F.conv2d(x, m.kernel[:, :, :2], padding="same", dilation=3),
    "conv, valid": lambda m, x: F.conv2d(x, m.kernel, padding="valid"),
    "depthwise conv": lambda m, x: F.conv2d(x, m.kernel[:, :1], padding=1, groups=8),
    "asymmetric padding": lambda m, x: F.conv2d(F.pad(x, (0, 1, 2, 1)), m.kernel, stride=2),
    "padding rows alone": lambda m, x: F.pad(x, (0, 0, 4, 3), value=1.5),
    "padding rows by reflection": lambda m, x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "padding columns by reflection": lambda m, x: F.pad(x, (2, 2, 0, 0), mode="reflect"),
    "max pool": lambda m, x: F.max_pool2d(x, 2),
    "max pool with padding": lambda m, x: F.max_pool2d(x, 3, 2, 1),
    "max pool, ceil mode": lambda m, x: F.max_pool2d(x, 3, 2, 0, ceil_mode=True),
    "max pool, ceil mode with padding": lambda m, x: F.max_pool2d(x, 3, 3, 1, ceil_mode=True),
    "dilated max pool": lambda m, x: F.max_pool2d(x, 3, 1, 1, dilation=2),
    "max pool with stride 1": lambda m, x: F.max_pool2d(x, 5, 1, 2),
    "avg pool": lambda m, x: F.avg_pool2d(x, 3),
    "avg pool with padding": lambda m, x: F.avg_pool2d(x, 3, 2, 1),
    "avg pool that doesn't count padding": lambda m, x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "avg pool, ceil mode": lambda m, x: F.avg_pool2d(x, 4, 3, 2, ceil_mode=True),
    "avg pool, ceil mode, padding not counted": lambda m, x: F.avg_pool2d(x, 4, 3, 2, True, False),
    "avg pool with a divisor": lambda m, x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5),
    "avg pool with stride 1": lambda m, x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "adaptive avg pool": lambda m, x: F.adaptive_avg_pool2d(x, (5, 4)),
    "adaptive avg pool to the same": lambda m, x: F.adaptive_avg_pool2d(x, (17, 14)),
    "adaptive avg pool to more": lambda m, x: F.adaptive_avg_pool2d(x, (23, 14)),
    "upsampling": lambda m, x: F.interpolate(x, scale_factor=2),
    "upsampling rows by 3": lambda m, x: F.interpolate(x, size=(51, 14)),
    "uneven upsampling": lambda m, x: F.interpolate(x, size=(40, 33)),
    "downsampling": lambda m, x: F.interpolate(x, size=(7, 5)),
    "nearest-exact": lambda m, x: F.interpolate(x, size=(25, 20), mode="nearest-exact"),
    "pixel shuffle": lambda m, x: F.pixel_shuffle(x, 2),
    "a gate": lambda m, x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "squeeze and excitation": lambda m, x: x * F.conv2d(F.adaptive_avg_pool2d(x, 1), m.kernel[:, :, :1, :1]).sigmoid(),
    "a table of places": lambda m, x: x + m.places.exp(),
    "a table of channels": lambda m, x: (m.table * x).sub(2.0).clamp(min=-1),
    "two branches": lambda m, x: F.conv2d(x, m.kernel, padding=1) + x.relu(),
    "concatenation": lambda m, x: torch.cat([x, F.max_pool2d(x, 3, 1, 1), m.places], 1),
    "stacking": lambda m, x: torch.stack([x, x.exp()], 1).sum(1),
    "halves of the channels": lambda m, x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "shuffled channels": lambda m, x: x.view(1, 2, 4, 17, 14).transpose(1, 2).contiguous().view(1, 8, 17, 14),
    "a stretch of rows": lambda m, x: x[:, :, 2:13] * 2,
    "some channels": lambda m, x: x[:, 3:, :, 1:-1],
    "one channel": lambda m, x: x[:, 3].unsqueeze(1).expand(-1, 4, -1, -1).exp(),
    "channels last": lambda m, x: F.layer_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2),
    "softmax over channels": lambda m, x: x.softmax(1),
    "tokens": lambda m, x: F.linear(tokens(x), m.kernel[:, :, 1, 1]).transpose(1, 2).unflatten(2, (17, 14)),
    "attention": lambda m, x: attend(tokens(x)).transpose(1, 2).reshape(1, 8, 17, 14),
    "sampling": lambda m, x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False),
    "sum over rows": lambda m, x: x * x.sum((2, 3), keepdim=True),
}  # fmt: skip


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def attend(x: Tensor) -> Tensor:
    query, key, value = torch.cat([x, x.sin(), x.cos()], -1).chunk(3, -1)
    return F.scaled_dot_product_attention(query, key, value)


AT_ONCE: dict[str, tuple[Callable[[Around, Tensor], Tensor], str]] = {
    "bilinear resampling": (lambda m, x: F.interpolate(x, scale_factor=2, mode="bilinear"), "resamples by bilinear"),
    "resampling by a fraction": (lambda m, x: F.interpolate(x, scale_factor=1.3), "resamples by a fraction"),
    "rows of the other border": (lambda m, x: F.pad(x, (1, 1, 1, 1), mode="circular"), "pads rows by circular"),
    "windows beside the map": (lambda m, x: F.conv2d(x, m.kernel[:, :, :1, :1], padding=1), "windows beside the map"),
    "softmax over rows": (lambda m, x: x.softmax(2), "softmax mixes the rows of a map"),
    "transposed convolution": (lambda m, x: F.conv_transpose2d(x, m.kernel), "isn't known to work by rows"),
    "group norm": (lambda m, x: F.group_norm(x, 2), "group_norm isn't known to work by rows"),
    "joined along rows": (lambda m, x: torch.cat([x, x.exp()], 2), "joins maps along their rows"),
    "rows torn apart": (lambda m, x: x.permute(0, 2, 1, 3).reshape(1, 34, 4, 14), "rows don't run down a map"),
}  # fmt: skip


def _graph(function: Callable[[Around, Tensor], Tensor]) -> tuple[nn.Module, fx.GraphModule]:
    torch.manual_seed(0)
    module = Around(function)  # type: ignore[arg-type]
    module(image(1, 3, HEIGHT, WIDTH))
    graph = unroll(fx.symbolic_trace(module), HEIGHT, WIDTH)
    return module.double(), graph


def _run(graph: fx.GraphModule, bands: int, x: Tensor) -> tuple[Tensor, int]:
    net = network(graph, Assumptions())
    order = range(len(net.operations))
    schedule = Schedule.of(graph, Assumptions(), order, [Region(1, len(order), bands)])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        result = Execution(schedule, tensors_of(graph.double()), dtype=torch.float64).run(x)
    return result, counter.get_total_flops()


@pytest.mark.parametrize("name", BY_ROWS)
def test_by_rows(name: str) -> None:
    module, graph = _graph(BY_ROWS[name])
    x = image(1, 3, HEIGHT, WIDTH, dtype=torch.float64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        expected = module(x)
    net = network(graph, Assumptions())
    assert not [operation.reason for operation in net.operations if operation.reason]
    for bands in (2, 3, 100):
        result, flops = _run(graph, bands, x)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)
        assert flops == counter.get_total_flops(), "each multiply-accumulate is done once"


@pytest.mark.parametrize("name", AT_ONCE)
def test_at_once_and_why(name: str) -> None:
    function, reason = AT_ONCE[name]
    module, graph = _graph(function)
    x = image(1, 3, HEIGHT, WIDTH, dtype=torch.float64)
    net = network(graph, Assumptions())
    assert any(reason in operation.reason for operation in net.operations), [o.reason for o in net.operations]
    result, _ = _run(graph, 100, x)
    with torch.no_grad():
        torch.testing.assert_close(result, module(x), rtol=0, atol=1e-12)
