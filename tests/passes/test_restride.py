from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from sapool.ir.site import Restride, Shortcut
from sapool.passes.record import Rewrite
from sapool.passes.restride import restride
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

UNSTRIDED = replace(STAGE2, stride=1, restride=Restride((("stage2_conv1", 1), ("stage2_downsample_0", 1))))
STRIDED = replace(STAGE1, stride=2, restride=Restride((("stage1_conv1", 2),)))
PROJECTED = replace(STRIDED, shortcut=Shortcut("stage1", "stage1_add", (4, 4)))


def test_sets_strides() -> None:
    module = net()
    log = run(restride, module, plan(STEM, STAGE1, UNSTRIDED))
    assert log.rewrites == [
        Rewrite("restride", "stage2", path, "stride 2", "stride 1") for path in ("stage2.conv1", "stage2.downsample.0")
    ]
    for path in ("stage2.conv1", "stage2.downsample.0"):
        assert module.get_submodule(path).stride == (1, 1)
    stamped = {n.name: n.meta["site"] for n in module.graph.nodes if n.meta.get("rule") == "restride"}
    assert stamped == {
        "stage2_conv1": "stage2",
        "stage2_downsample_0": "stage2",
    }


def test_leaves_alone_what_has_its_stride() -> None:
    module = net()
    before, y = identities(module), module(image())
    log = run(
        restride,
        module,
        plan(STEM, STAGE1, replace(UNSTRIDED, restride=Restride((("stage2_conv1", 2), ("stage2_downsample_0", 2))))),
    )
    assert log.rewrites == []
    assert identities(module) == before
    assert torch.equal(module(image()), y)
    assert reasons(log) == {
        "stem": "keeps its own stride of 4",
        "stage1": "keeps its own stride of 1",
        "stage2.conv1": "already has stride 2",
        "stage2.downsample.0": "already has stride 2",
        "conv": "its stride of 2 is what its site keeps",
        "maxpool": "its stride of 2 is what its site keeps",
        "side": "its stride of 2 is what its site keeps",
    }


def test_a_smaller_stride_fills_the_gaps_between_the_old_values() -> None:
    module, x = net(), image()
    old = values(module, x)
    run(restride, module, plan(UNSTRIDED))
    new = values(module, x)
    for name in ("stage2_conv1", "stage2_downsample_0"):
        torch.testing.assert_close(new[name][..., ::2, ::2], old[name], rtol=0, atol=1e-6)
    assert torch.equal(new["side"], old["side"])


def test_removes_the_stems_pool_for_all_its_users() -> None:
    module, x = net(), image()
    assert len(nodes(module)["maxpool"].users) == 2
    stem = replace(STEM, name="prepool", stride=1, restride=Restride((("conv", 1),), ("maxpool",)))
    log = run(restride, module, plan(stem))
    after = nodes(module)
    assert "maxpool" not in after
    assert after["relu"].users.keys() == {after["stage1_conv1"], after["stage1_add"]}
    assert [(r.target, r.after) for r in log.rewrites] == [("conv", "stride 1"), ("maxpool", "nothing")]
    assert "MaxPool2d" in log.rewrites[1].before
    assert values(module, x)["stage1_add"].shape == (2, 4, 32, 32)


def test_projects_an_identity_shortcut() -> None:
    module = net()
    also_return(module, "maxpool")
    log = run(restride, module, plan(PROJECTED))
    after = nodes(module)
    # The block's other use of its input, and that of others, stay.
    assert after["maxpool"].users.keys() == {after["stage1_conv1"], after["stage1_downsample_0"], after["output"]}
    assert after["stage1_downsample_1"].users.keys() == {after["stage1_add"]}
    for name in ("stage1_downsample_0", "stage1_downsample_1"):
        assert (after[name].meta["rule"], after[name].meta["site"]) == ("restride", "stage1")
    assert log.rewrites[-1] == Rewrite(
        "restride", "stage1", "stage1.downsample", "identity shortcut", "projection shortcut, stride 2"
    )
    conv, norm = module.stage1.downsample.children()
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert (conv.kernel_size, conv.stride, conv.bias) == ((1, 1), (2, 2), None)


def test_an_identity_for_a_projection_keeps_the_numbers() -> None:
    module, x = net(), image()
    old = values(module, x)
    run(restride, module, plan(PROJECTED))
    conv, norm = module.eval().stage1.downsample.children()
    nn.init.dirac_(conv.weight)
    norm.eps = 0.0
    new = values(module, x)
    assert torch.equal(new["stage1_downsample_1"], old["maxpool"][..., ::2, ::2])
    residual = F.conv2d(
        F.relu(old["stage1_conv1"][..., ::2, ::2]), module.stage1.conv2.weight, module.stage1.conv2.bias, padding=1
    )
    torch.testing.assert_close(new["stage1_add"], residual + old["maxpool"][..., ::2, ::2], rtol=0, atol=1e-6)


def test_inserts_a_projection_without_a_stride() -> None:
    module, x = net(), image()
    log = run(restride, module, plan(replace(PROJECTED, restride=None)))
    assert log.rewrites[-1].after == "projection shortcut, stride 1"
    assert values(module, x)["stage1_add"].shape == (2, 4, 8, 8)
