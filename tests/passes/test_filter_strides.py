from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sapool.analysis.trace import trace
from sapool.errors import PlanError
from sapool.ir.site import Restride, Site
from sapool.passes.driver import Driver
from sapool.passes.filter_strides import filter_strides, filters_stand
from sapool.passes.record import Rewrite
from sapool.passes.restride import restride, strides_are_set
from sapool.poolings.rivals.blur import SkipBlurPool
from tests.passes.tiny import STAGE1, STAGE2, STEM, identities, image, net, nodes, plan, reasons, run, values

BOTH = (("stage2_conv1", 2), ("stage2_downsample_0", 2))
FILTERED = replace(STAGE2, restride=Restride(BOTH, filter="skipblur"))
MAIN, SHORT = "pools.stage2.stage2_conv1", "pools.stage2.stage2_downsample_0"


def test_a_filter_at_each_strided_operation() -> None:
    module = net()
    log = run(filter_strides, module, plan(STEM, STAGE1, FILTERED))
    assert log.rewrites == [
        Rewrite("filter_strides", "stage2", MAIN, "after stage2_relu", "skipblur, stride 2"),
        Rewrite("filter_strides", "stage2", "stage2.conv1", "stride 2", "stride 1"),
        Rewrite("filter_strides", "stage2", SHORT, "before stage2_downsample_0", "skipblur, stride 2"),
        Rewrite("filter_strides", "stage2", "stage2.downsample.0", "stride 2", "stride 1"),
    ]
    after = nodes(module)
    assert after["stage2_conv2"].all_input_nodes == [after["pools_stage2_stage2_conv1"]]
    assert after["stage2_downsample_0"].all_input_nodes == [after["pools_stage2_stage2_downsample_0"]]
    assert {n.name for n in module.graph.nodes if n.meta.get("site") == "stage2"} == {
        *("stage2_conv1", "stage2_downsample_0", "pools_stage2_stage2_conv1", "pools_stage2_stage2_downsample_0")
    }
    assert [module.get_submodule(path).channels for path in (MAIN, SHORT)] == [6, 4]


def test_leaves_the_rest_alone() -> None:
    module = net()
    before, y = identities(module), module(image())
    unfiltered = replace(STAGE2, restride=Restride(BOTH))
    assert run(filter_strides, module, plan(STEM, STAGE1, unfiltered)).rewrites == []
    assert identities(module) == before
    assert torch.equal(module(image()), y)
    run(filter_strides, module, plan(STEM, STAGE1, FILTERED))
    # Another branch that strides the same map goes on reading it as it was.
    assert nodes(module)["side"].all_input_nodes == [nodes(module)["stage1_relu_1"]]
    assert module.side.stride == (2, 2)
    again = run(filter_strides, module, plan(STEM, STAGE1, FILTERED))
    assert reasons(again) == {"stage2_conv1": "has no stride", "stage2_downsample_0": "has no stride"}


@pytest.mark.parametrize("side", [32, 37])
def test_one_tap_keeps_the_numbers(side: int) -> None:
    """A filter of one tap is what a stride does. Weights are whole numbers, so that no sum is rounded."""
    module, x = net(), torch.randint(-2, 3, (2, 3, side, side)).float()
    for parameter in module.parameters():
        parameter.data = torch.randint(-1, 2, parameter.shape).float()
    old = values(module, x)
    run(filter_strides, module, plan(STEM, STAGE1, FILTERED))
    for path in (MAIN, SHORT):
        own = module.get_submodule(path)
        module.set_submodule(path, SkipBlurPool(own.channels, own.stride, taps=1))
    new = values(module, x)
    for name in ("stage2_conv2", "stage2_downsample_0", "stage2_relu_1"):
        assert torch.equal(new[name], old[name]), name


def test_the_published_order() -> None:
    """Convolution, activation, filter; on the shortcut the 1×1 convolution commutes with the filter."""
    module, x = net(), image(37)
    run(filter_strides, module, plan(STEM, STAGE1, FILTERED))
    found, block = values(module, x), module.stage2
    x = found["stage1_relu_1"]
    main = block.conv2(SkipBlurPool(6, 2)(F.conv2d(x, block.conv1.weight, padding=1).relu()))
    projection = block.get_submodule("downsample.0")
    short = SkipBlurPool(6, 2)(F.conv2d(x, projection.weight, projection.bias))
    torch.testing.assert_close(found["stage2_relu_1"], (main + short).relu())


class Mixed(nn.Module):
    """Everything else that strides: poolings, a function, a 1×1 convolution with an activation, a shared value."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1, stride=2), nn.BatchNorm2d(4)
        self.maximum, self.average = nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)
        self.last = nn.Conv2d(4, 5, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.average(self.maximum(F.relu6(self.norm(self.conv(x)))))
        y = F.max_pool2d(x, 2)
        z = self.last(y)
        return (z.relu() + z).mean((2, 3))


def test_other_operations() -> None:
    torch.manual_seed(0)
    module, x = trace(Mixed()).eval(), torch.randn(2, 3, 75, 64)
    names = [n.name for n in module.graph.nodes if n.name in ("conv", "maximum", "average", "max_pool2d", "last")]
    site = Site("stage1", 2, 32, 5, Restride(tuple((name, 2) for name in names), filter="skipblur"))
    log = run(filter_strides, module, plan(site))
    assert [r.before for r in log.rewrites if r.after == "skipblur, stride 2"] == [
        "after relu6", "after maximum", "in place of average", "after max_pool2d", "after last",
    ]  # fmt: skip
    assert "average" not in nodes(module)
    y = SkipBlurPool(4, 2)(F.relu6(module.norm(F.conv2d(x, module.conv.weight, module.conv.bias))))
    y = SkipBlurPool(4, 2)(SkipBlurPool(4, 2)(F.max_pool2d(y, 3, 1, 1)))
    y = SkipBlurPool(4, 2)(F.max_pool2d(y, 2, 1))
    y = SkipBlurPool(5, 2)(F.conv2d(y, module.last.weight, module.last.bias, padding=1))
    torch.testing.assert_close(module(x), (y.relu() + y).mean((2, 3)))


def test_what_holds_is_verified() -> None:
    module = net()
    driver = Driver(module, plan(STEM, STAGE1, FILTERED))
    driver(restride, strides_are_set)
    driver(filter_strides, filters_stand)
    module.stage2.conv1.stride = (2, 2)
    with pytest.raises(PlanError, match=r"stage2\.restride\.filter: stage2_conv1 still has stride 2"):
        filters_stand(module, driver.plan)
    module.stage2.conv1.stride = (3, 3)
    with pytest.raises(PlanError, match="stage2_conv1 has stride 3, not 2"):
        strides_are_set(module, driver.plan)
    module.stage2.conv1.stride = (1, 1)
    filters_stand(module, driver.plan)
    node = nodes(module)["pools_stage2_stage2_conv1"]
    node.replace_all_uses_with(node.all_input_nodes[0])
    module.graph.erase_node(node)
    with pytest.raises(PlanError, match="nothing filters at stage2_conv1"):
        filters_stand(module, driver.plan)
