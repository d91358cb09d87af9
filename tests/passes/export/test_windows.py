"""Windows that runtimes lay by themselves: the two passes over flat graphs, and the arithmetic that they share."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from sapool.passes.export.flat import flat_graph
from sapool.passes.export.mirror import FLIP, mirror
from sapool.passes.export.padding import fit_padding
from sapool.passes.export.windows import CONVOLUTIONS, PAD, Axis, takes_in, windows_of
from sapool.passes.record import Log
from tests.passes.tiny import plan


class Strided(nn.Module):
    """A stem, a max-pooling, a block with a projection, positions and a classifier, all over even maps."""

    def __init__(self, head: Callable[[Tensor], Tensor] = lambda x: x.mean((2, 3)), features: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 7, stride=2, padding=3)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.conv = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.project = nn.Conv2d(4, 8, 1, stride=2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.table = nn.Parameter(torch.randn(1, 8, 4, 4))
        self.fc, self.head = nn.Linear(features, 5), head

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.stem(x)))
        x = F.relu(self.conv(x) + self.project(x)) + self.table
        return self.fc(self.head(self.depthwise(x)))


def flat(module: nn.Module, size: int = 32) -> fx.GraphModule:
    exported = torch.export.export(module.eval(), (torch.zeros(1, 3, size, size),)).module(check_guards=False)
    return fx.GraphModule(exported, exported.graph)


def run(*passes: Callable[..., None], module: fx.GraphModule) -> Log:
    log = Log()
    for one in passes:
        log.rule = one.__name__
        one(module, plan(), log)
    module.graph.lint()
    module.recompile()
    return log


def all_free(module: fx.GraphModule) -> bool:
    found = [windows_of(node) for node in module.graph.nodes]
    return all(windows.free for windows in found if windows is not None)


def test_mirror_makes_all_padding_of_even_maps_the_runtimes() -> None:
    net, x = Strided(), torch.randn(2, 3, 32, 32)
    graph = flat(net)
    log = run(mirror, fit_padding, module=graph)
    assert [r.rule for r in log.rewrites] == ["mirror"]
    assert all_free(graph)
    torch.testing.assert_close(graph(x[:1]), net(x)[:1])
    kernels = [n.args[1].meta["val"].shape[2:] for n in graph.graph.nodes if n.target in CONVOLUTIONS]
    assert sorted(map(tuple, kernels)) == [(2, 2), (3, 3), (3, 3), (7, 7)]  # a strided 1×1 takes the other pixel
    assert next(n for n in graph.graph.nodes if n.target is FLIP).all_input_nodes[0].op == "placeholder"


def test_mirror_leaves_a_network_alone_that_lays_its_pixels_out() -> None:
    net = Strided(lambda x: x.flatten(1), 8 * 16)
    net.head = lambda x: x.flatten(1)
    graph = flat(net)
    before = graph.graph
    log = run(mirror, module=graph)
    # Each of its maps is turned; only its vector isn't, and so neither are its logits.
    assert graph.graph is before, log
    assert "isn't the same network" in log.refusals[0].reason


def test_mirror_turns_tokens_with_their_map() -> None:
    net = Strided(lambda x: torch.softmax(x.permute(0, 2, 3, 1).reshape(1, 16, 8), dim=1).sum(1))
    graph, x = flat(net), torch.randn(1, 3, 32, 32)
    log = run(mirror, module=graph)
    assert len(log.rewrites) == 1, log.refusals
    torch.testing.assert_close(graph(x), net(x))


def test_mirror_turns_padding_that_is_taken_from_the_map() -> None:
    class Blurred(Strided):
        def forward(self, x: Tensor) -> Tensor:
            y = F.pad(self.pool(self.stem(x)), (1, 0, 2, 1), mode="reflect")
            return self.fc(self.head(self.depthwise(self.conv(y))))

    net, x = Blurred(), torch.randn(1, 3, 32, 32)
    graph = flat(net)
    log = run(mirror, fit_padding, module=graph)
    assert [r.rule for r in log.rewrites] == ["mirror"], log.refusals
    assert next(n for n in graph.graph.nodes if n.target is torch.ops.aten.pad.default).args[1] == [0, 1, 1, 2]
    torch.testing.assert_close(graph(x), net(x))


def test_mirror_leaves_maps_alone_whose_padding_is_free() -> None:
    graph = flat(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2)))
    log = run(mirror, fit_padding, module=graph)
    assert not log.rewrites
    assert not log.refusals


@pytest.mark.parametrize(
    ("kernel", "padding", "size", "wider"), [(3, 1, 16, 4), (5, 2, 16, 6), (7, 3, 16, 8), (3, 1, 15, 3)]
)
def test_zeros_at_a_kernels_edges_make_its_padding_the_runtimes(
    kernel: int, padding: int, size: int, wider: int
) -> None:
    conv = nn.Conv2d(3, 4, kernel, stride=2, padding=padding)
    graph, x = flat(conv, size), torch.randn(1, 3, size, size)
    log = run(fit_padding, module=graph)
    (node,) = (n for n in graph.graph.nodes if n.target in CONVOLUTIONS)
    assert tuple(node.args[1].meta["val"].shape[2:]) == (wider, wider)
    assert len(log.rewrites) == (wider > kernel)
    assert all_free(graph)
    torch.testing.assert_close(graph(x), conv(x))


def test_padding_that_is_written_apart_is_part_of_the_windows() -> None:
    """As timm's networks from TensorFlow have it: behind the map alone, where that is even."""
    net, x = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 4, 3, 2)), torch.randn(1, 3, 16, 16)
    graph = flat_graph(net.eval(), x, plan())
    (conv,) = (n for n in graph.graph.nodes if n.target in CONVOLUTIONS)
    assert takes_in(conv)
    assert all_free(graph)
    assert not any(n.target is FLIP for n in graph.graph.nodes)
    torch.testing.assert_close(graph(x), net(x))


def test_padding_that_no_windows_take_in_is_turned_with_its_map() -> None:
    net = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 4, 3, 2, 1), nn.AdaptiveAvgPool2d(1))
    x = torch.randn(1, 3, 15, 15)
    graph = flat_graph(net.eval(), x, plan())
    assert graph.meta["turned"]
    pad = next(n for n in graph.graph.nodes if n.target is PAD)
    assert pad.args[1] == [1, 0, 1, 0]
    torch.testing.assert_close(graph(x), net(x))


def test_padding_of_channels_is_not_turned() -> None:
    class Wider(Strided):
        def forward(self, x: Tensor) -> Tensor:
            y = F.pad(self.pool(self.stem(x)), (1, 0, 0, 0, 0, 4), value=1.0)
            return self.fc(self.head(self.depthwise(y)))

    net, x = Wider(), torch.randn(1, 3, 32, 32)
    graph = flat_graph(net.eval(), x, plan())
    assert graph.meta["turned"]
    assert [0, 1, 0, 0, 0, 4] in [n.args[1] for n in graph.graph.nodes if n.target is PAD]
    torch.testing.assert_close(graph(x), net(x))


def test_a_kernel_that_is_computed_is_left_alone() -> None:
    class Computed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, x[:, :, :3, :3] * 2, stride=2, padding=1)

    graph = flat(Computed())
    log = run(fit_padding, module=graph)
    assert [r.reason for r in log.refusals] == ["its kernel isn't a weight"]
    assert not any(n.target is PAD for n in graph.graph.nodes)


def test_the_rules_are_tensorflows() -> None:
    for size in range(1, 20):
        for kernel in range(1, 8):
            for stride in range(1, 4):
                count = math.ceil(size / stride)
                total = max((count - 1) * stride + kernel - size, 0)
                assert Axis(size, count, kernel, 1, stride, total // 2).same
                assert not Axis(size, count, kernel, 1, stride, total // 2 + 1).same
                if size >= kernel:
                    assert Axis(size, (size - kernel) // stride + 1, kernel, 1, stride, 0).valid
