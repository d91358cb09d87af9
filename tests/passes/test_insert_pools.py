from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sapool.ir.site import Attention, Pool, Restride, Site
from sapool.passes.driver import Driver
from sapool.passes.insert_pools import insert_pools, insert_prepool, make_pool
from sapool.passes.record import Rewrite
from sapool.poolings.dynamic import DynamicConv2d
from sapool.poolings.window import AvgPool, MaxPool
from tests.passes.tiny import (
    STAGE1,
    STAGE2,
    STEM,
    also_return,
    identities,
    image,
    net,
    nodes,
    plan,
    reasons,
    run,
    values,
)

READERS = ("stage2_conv1", "stage2_downsample_0")
BEHIND = replace(STAGE1, stride=2, pool=Pool("avgp", "stage1_relu_1", 4))
BEFORE = replace(STAGE2, channels=4, pool=Pool("avgp", "stage1_relu_1", 4, READERS))
PREPOOL = Site("prepool", 2, 4, 4, pool=Pool("maxp", "relu", 4))


def test_pools_behind_a_node_for_all_its_users() -> None:
    module, x = net(), image()
    also_return(module, "stage1_relu_1")
    users = set(nodes(module)["stage1_relu_1"].users)
    assert len(users) == 4
    log = run(insert_pools, module, plan(BEHIND))
    pool = nodes(module)["pools_stage1"]
    assert set(pool.users) == users
    assert pool.all_input_nodes == [nodes(module)["stage1_relu_1"]]
    assert set(nodes(module)["stage1_relu_1"].users) == {pool}
    assert isinstance(module.get_submodule("pools.stage1"), AvgPool)
    assert (pool.meta["rule"], pool.meta["site"]) == ("insert_pools", "stage1")
    assert log.rewrites == [Rewrite("insert_pools", "stage1", "pools.stage1", "after stage1_relu_1", "avgp, stride 2")]

    seen = values(module, x)
    pooled = F.avg_pool2d(seen["stage1_relu_1"], 2)
    assert torch.equal(seen["pools_stage1"], pooled)
    for name, conv in (("stage2_conv1", module.stage2.conv1), ("side", module.side)):
        assert torch.equal(seen[name], conv(pooled))
    assert torch.equal(module(x)[1], pooled)


def test_pools_in_front_of_a_block_for_that_block_only() -> None:
    module, x = net(), image()
    also_return(module, "stage1_relu_1")
    old = values(module, x)
    log = run(insert_pools, module, plan(BEFORE))
    after = nodes(module)
    assert set(after["pools_stage2"].users) == {after["stage2_conv1"], after["stage2_downsample_0"]}
    assert set(after["stage1_relu_1"].users) == {after["pools_stage2"], after["side"], after["output"]}
    assert log.rewrites == [Rewrite("insert_pools", "stage2", "pools.stage2", "before stage2", "avgp, stride 2")]

    seen = values(module, x)
    pooled = F.avg_pool2d(old["stage1_relu_1"], 2)
    assert torch.equal(seen["stage2_conv1"], module.stage2.conv1(pooled))
    assert torch.equal(seen["stage2_downsample_0"], module.get_submodule("stage2.downsample.0")(pooled))
    assert torch.equal(seen["side"], old["side"])
    assert torch.equal(module(x)[1], old["stage1_relu_1"])


def test_leaves_alone_what_is_not_pooled() -> None:
    module = net()
    before, y = identities(module), module(image())
    log = run(insert_pools, module, plan(STEM, replace(STAGE1, restride=Restride()), STAGE2))
    assert log.rewrites == []
    assert identities(module) == before
    assert torch.equal(module(image()), y)
    assert reasons(log) == {"stage1": "a stride of 1 without pooling", "stage2": "a stride of 2 without pooling"}


def test_the_prepool_is_a_pass_of_its_own() -> None:
    module, x = net(), image()
    log = run(insert_prepool, module, plan(PREPOOL, BEHIND))
    assert [(r.rule, r.site) for r in log.rewrites] == [("insert_prepool", "prepool")]
    assert isinstance(module.get_submodule("pools.prepool"), MaxPool)
    seen = values(module, x)
    assert torch.equal(seen["pools_prepool"], F.max_pool2d(seen["relu"], 2))
    assert torch.equal(seen["maxpool"], F.max_pool2d(seen["pools_prepool"], 2))

    log = run(insert_pools, module, plan(PREPOOL, BEHIND))
    assert [(r.rule, r.site) for r in log.rewrites] == [("insert_pools", "stage1")]
    assert run(insert_prepool, net(), plan(STEM)).refusals == []
    refused = run(insert_prepool, net(), plan(replace(PREPOOL, pool=None)))
    assert reasons(refused) == {"prepool": "a stride of 2 without pooling"}


def test_two_pools_on_one_node_follow_each_other() -> None:
    """As `prepool-avgp-2-mobilenet-maxp-2222121` asks for: the first stage's pool reads what the prepool returns."""
    module = net()
    driver = Driver(
        module,
        plan(
            replace(PREPOOL, pool=Pool("maxp", "maxpool", 4)),
            replace(BEFORE, name="stage1", pool=Pool("avgp", "maxpool", 4, ("stage1_conv1", "stage1_add"))),
        ),
    )
    driver(insert_prepool)
    driver(insert_pools)
    after = nodes(module)
    assert after["pools_prepool"].all_input_nodes == [after["maxpool"]]
    assert after["pools_stage1"].all_input_nodes == [after["pools_prepool"]]
    assert set(after["pools_stage1"].users) == {after["stage1_conv1"], after["stage1_add"]}


@pytest.mark.parametrize(
    ("dynamic", "conv"), [pytest.param(False, nn.Conv2d, id="plain"), pytest.param(True, DynamicConv2d, id="dynamic")]
)
def test_a_pool_has_the_sites_numbers(dynamic: bool, conv: type[nn.Module]) -> None:
    numbers = Attention(heads=4, patch=3, embedding=20, window=False)
    site = Site("stage1", 2, 2, 24, pool=Pool("nlp", "relu", 24, attention=numbers))
    pool = make_pool(site, dynamic=dynamic)
    embed = pool.embed[0]
    assert type(embed) is conv
    assert (embed.in_channels, embed.out_channels, embed.kernel_size) == (24, 20, (3, 3))
    assert (pool.stride, pool.patch, pool.attention.heads, pool.window) == (2, 3, 4, False)
    # Those outside the self-attentive family keep plain convolutions.
    lip = make_pool(Site("stage1", 3, 2, 24, pool=Pool("lip", "relu", 24)), dynamic=dynamic)
    assert type(lip.logit[0]) is nn.Conv2d
    assert (lip.logit[0].in_channels, lip.stride) == (24, 3)
