from __future__ import annotations

from dataclasses import replace

import torch
from torch import fx

from sapool.ir.plan import Plan
from sapool.ir.site import Pool
from sapool.passes.driver import Driver
from sapool.passes.insert_pools import insert_pools
from sapool.passes.record import Rewrite
from sapool.passes.select_outputs import expose_features, select_outputs
from tests.passes.tiny import STAGE1, STAGE2, identities, image, net, nodes, plan, reasons, values

FEATURES = (("stage1", "stage1_relu_1"), ("stage2", "stage2_relu_1"))


def rewritten(module: fx.GraphModule, plan: Plan, *passes: object) -> Driver:
    driver = Driver(module, plan)
    for rewrite in (expose_features, *passes, select_outputs):
        driver(rewrite)  # type: ignore[arg-type]
    module.recompile()
    return driver


def test_logits_are_left_as_they_are() -> None:
    module, x = net(), image()
    before, y = identities(module), module(x)
    driver = rewritten(module, plan(features=FEATURES))
    assert driver.log.rewrites == []
    assert reasons(driver.log) == {"output": "the model returns logits"}
    assert identities(module) == before
    assert torch.equal(module(x), y)
    assert {n.meta["feature"]: n.name for n in module.graph.nodes if "feature" in n.meta} == dict(FEATURES)


def test_features_take_the_place_of_logits() -> None:
    module, x = net(), image()
    seen = values(module, x)
    driver = rewritten(module, plan(features=FEATURES, features_only=True))
    assert driver.log.rewrites == [Rewrite("select_outputs", "", "output", "logits", "stage1, stage2")]
    first, second = module(x)
    assert torch.equal(first, seen["stage1_relu_1"])
    assert torch.equal(second, seen["stage2_relu_1"])


def test_features_come_in_the_order_asked_for() -> None:
    module = net()
    driver = rewritten(module, plan(features=FEATURES, features_only=True, out_indices=(1, 0)))
    assert driver.log.rewrites[0].after == "stage2, stage1"
    assert [n.meta["feature"] for n in module.graph.output_node().all_input_nodes] == ["stage2", "stage1"]
    module = net()
    rewritten(module, plan(features=FEATURES, features_only=True, out_indices=(0,)))
    assert module.graph.output_node().args == ([nodes(module)["stage1_relu_1"]],)


def test_a_pool_behind_a_feature_takes_its_place() -> None:
    """The feature's node has other users; they and the output read the pool."""
    module, x = net(), image()
    behind = replace(STAGE1, stride=2, pool=Pool("maxp", "stage1_relu_1", 4))
    rewritten(module, plan(behind, features=FEATURES, features_only=True), insert_pools)
    assert module.graph.output_node().args[0][0] is nodes(module)["pools_stage1"]  # type: ignore[index]
    assert nodes(module)["pools_stage1"].meta["feature"] == "stage1"
    assert "feature" not in nodes(module)["stage1_relu_1"].meta
    assert module(x)[0].shape == (2, 4, 4, 4)


def test_a_pool_in_front_of_a_block_leaves_the_feature() -> None:
    module, x = net(), image()
    pool = Pool("maxp", "stage1_relu_1", 4, ("stage2_conv1", "stage2_downsample_0"))
    before = replace(STAGE2, channels=4, pool=pool)
    rewritten(module, plan(before, features=FEATURES, features_only=True), insert_pools)
    assert nodes(module)["stage1_relu_1"].meta["feature"] == "stage1"
    assert module(x)[0].shape == (2, 4, 8, 8)
