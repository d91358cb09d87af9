from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from sapool.analysis.trace import trace
from sapool.ir.site import Attention, Pool
from sapool.passes.driver import Driver
from sapool.passes.insert_pools import insert_pools
from sapool.passes.make_dynamic import make_dynamic
from sapool.poolings.dynamic import DynamicConv2d
from sapool.weights.transfer import transfer
from tests.passes.tiny import STAGE1, STAGE2, identities, image, net, nodes, plan, reasons, run

CONVS = {
    "conv", "stage1.conv1", "stage1.conv2", "stage2.conv1", "stage2.conv2", "stage2.downsample.0", "side",
}  # fmt: skip


def test_replaces_every_convolution_under_its_name() -> None:
    module = net()
    plain = {path: module.get_submodule(path) for path in CONVS}
    log = run(make_dynamic, module, plan(dynamic=True))
    assert {r.target for r in log.rewrites} == CONVS
    assert {(r.before, r.after) for r in log.rewrites} == {("Conv2d", "DynamicConv2d, 4 kernels")}
    for path, conv in plain.items():
        dynamic = module.get_submodule(path)
        assert isinstance(dynamic, DynamicConv2d)
        assert dynamic.weight.shape == (4, *conv.weight.shape)
        assert (dynamic.bias is None) == (conv.bias is None)
        assert (dynamic.stride, dynamic.padding) == (conv.stride, conv.padding)
        assert nodes(module)[path.replace(".", "_")].meta["rule"] == "make_dynamic"
    assert isinstance(module.fc, nn.Linear)


def test_leaves_alone_what_is_not_to_be_dynamic() -> None:
    module = net()
    before = identities(module)
    log = run(make_dynamic, module, plan(STAGE1, dynamic=False))
    assert (log.rewrites, log.refusals) == ([], [])
    assert identities(module) == before


def test_pools_decide_for_themselves() -> None:
    module = net()
    lip = replace(STAGE1, stride=2, pool=Pool("lip", "stage1_relu_1", 4))
    nlp = replace(STAGE2, pool=Pool("nlp", "stage2_relu_1", 6, attention=Attention(2, 1, 6)))
    driver = Driver(module, plan(lip, nlp, dynamic=True))
    driver(insert_pools)
    before = list(map(id, module.pools.modules()))
    driver(make_dynamic)
    assert list(map(id, module.pools.modules())) == before
    assert {r.target: r.reason for r in driver.log.refusals} == {"pools.stage1": "lip keeps plain convolutions"}


def test_loaded_with_the_plain_weights_it_computes_the_same() -> None:
    module, x = net(), image()
    weights = {key: value.clone() for key, value in module.state_dict().items()}
    y = module(x)
    run(make_dynamic, module, plan(dynamic=True))
    done = transfer(module, weights)
    assert set(done.transferred) == set(weights)
    assert done.dropped == ()
    torch.testing.assert_close(module(x), y, rtol=0, atol=1e-6)


def test_a_convolution_called_twice_stays_one() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.conv(x))

    torch.manual_seed(0)
    module = trace(Twice())
    x, weights = image(), {key: value.clone() for key, value in module.state_dict().items()}
    y = module(x)
    log = run(make_dynamic, module, plan(dynamic=True))
    assert [r.target for r in log.rewrites] == ["conv"]
    assert reasons(log) == {}
    transfer(module, weights)
    torch.testing.assert_close(module(x), y, rtol=0, atol=1e-6)
