from __future__ import annotations

import torch

from sapool.passes.clean_up import clean_up
from sapool.passes.record import Rewrite
from tests.passes.tiny import identities, image, net, nodes, plan, run, values

NO_PLAN = plan()


def test_leaves_alone_what_is_used() -> None:
    module, x = net(), image()
    before, y = identities(module), module(x)
    log = run(clean_up, module, NO_PLAN)
    assert (log.rewrites, log.refusals) == ([], [])
    assert identities(module) == before
    assert torch.equal(module(x), y)


def test_removes_a_dead_branch_and_its_modules() -> None:
    module, x = net(), image()
    seen = values(module, x)
    nodes(module)["side"].meta["site"] = "stage2"
    module.graph.output_node().args = (nodes(module)["stage2_relu_1"],)
    log = run(clean_up, module, NO_PLAN)
    dead = ["fc", "cat", "mean_1", "side", "mean"]
    assert sorted(r.target for r in log.rewrites) == sorted([*dead, "modules"])
    assert Rewrite("clean_up", "stage2", "side", "dead", "nothing") in log.rewrites
    assert log.rewrites[-1] == Rewrite("clean_up", "", "modules", "4 parameters of dead modules", "nothing")
    assert not nodes(module).keys() & set(dead)
    assert [name for name, _ in module.named_children()] == ["conv", "relu", "maxpool", "stage1", "stage2"]
    assert torch.equal(module(x), seen["stage2_relu_1"])


def test_a_node_dies_with_its_last_user() -> None:
    """`stage1_relu_1` has three users, of which the side branch dies; with the others it would die too."""
    module, x = net(), image()
    seen = values(module, x)
    output, after = module.graph.output_node(), nodes(module)
    output.args = (after["stage2_relu_1"],)
    run(clean_up, module, NO_PLAN)
    assert set(after["stage1_relu_1"].users) == {after["stage2_conv1"], after["stage2_downsample_0"]}
    output.args = (after["stage1_conv1"],)
    run(clean_up, module, NO_PLAN)
    assert list(nodes(module)) == ["x", "conv", "relu", "maxpool", "stage1_conv1", "output"]
    assert set(module.state_dict()) == {"conv.weight", "conv.bias", "stage1.conv1.weight"}
    assert torch.equal(module(x), seen["stage1_conv1"])


def test_keeps_an_input_that_nobody_reads() -> None:
    module = net()
    with module.graph.inserting_before(module.graph.output_node()):
        constant = module.graph.call_function(torch.zeros, (1, 5))
    module.graph.output_node().args = (constant,)
    run(clean_up, module, NO_PLAN)
    assert [node.op for node in module.graph.nodes] == ["placeholder", "call_function", "output"]
    assert list(module.named_parameters()) == []
