from __future__ import annotations

import pytest
import torch
from torch import fx
from torch.nn import functional as F

from sapool.ir.plan import Plan
from sapool.passes.driver import Driver, operation, operations, stamp
from sapool.passes.record import Log, Refusal
from tests.passes.tiny import image, net, nodes, plan, values


def negate_relu(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """A sound pass: one more call, and another in place of an old one."""
    relu = nodes(module)["relu"]
    with module.graph.inserting_after(relu):
        node = module.graph.call_function(torch.neg, (relu,))
    relu.replace_all_uses_with(node, delete_user_cb=lambda user: user is not node)
    nodes(module)["cat"].target = torch.concat
    log.rewrote("stem", "relu", "x", "-x")


def read_too_early(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """An unsound pass: a node reads what is computed only after it."""
    nodes(module)["relu"].args = (nodes(module)["side"],)
    log.rewrote("stem", "relu", "conv", "side")


def call_nothing(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """An unsound pass: a node calls a module that isn't there."""
    nodes(module)["relu"].target = "stem.relu"
    log.rewrote("stem", "relu", "relu", "stem.relu")


def look_on(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """A pass that changes nothing."""
    log.refused("stem", "relu", "it is well")


def test_a_pass_takes_effect_and_is_recorded() -> None:
    module, x = net(), image()
    old = values(module, x)
    driver = Driver(module, plan())
    driver(negate_relu)
    # The generated code is the new graph's.
    assert "torch.neg(" in module.code
    with torch.no_grad():
        assert not torch.equal(module(x), old["fc"])
    assert torch.equal(values(module, x)["maxpool"], F.max_pool2d(-old["relu"], 2))
    (run,) = driver.log.runs
    assert (run.rule, run.ops) == ("negate_relu", {"cat": -1, "concat": 1, "neg": 1})
    assert 0 < run.seconds < 10
    assert [r.rule for r in driver.log.rewrites] == ["negate_relu"]


@pytest.mark.parametrize("broken", [read_too_early, call_nothing])
def test_a_pass_that_breaks_the_graph_is_named(broken: object) -> None:
    driver = Driver(net(), plan())
    driver(look_on)
    with pytest.raises(AssertionError, match=f"the pass {broken.__name__} broke the graph"):  # type: ignore[attr-defined]
        driver(broken)  # type: ignore[arg-type]


def test_a_pass_that_changes_nothing_is_recorded_too() -> None:
    module = net()
    code = module.code
    driver = Driver(module, plan())
    driver(look_on)
    driver(negate_relu)
    assert [(run.rule, bool(run.ops)) for run in driver.log.runs] == [("look_on", False), ("negate_relu", True)]
    assert driver.log.refusals == [Refusal("look_on", "stem", "relu", "it is well")]
    assert module.code != code


def test_operations_are_counted_by_what_they_call() -> None:
    module = net()
    assert operations(module) == {
        "placeholder": 1, "Conv2d": 7, "ReLU": 5, "MaxPool2d": 1, "Linear": 1,
        "add": 2, "mean": 2, "cat": 1, "output": 1,
    }  # fmt: skip
    assert operation(module, nodes(module)["mean"]) == "mean"


def test_stamps_name_rule_and_site() -> None:
    node = nodes(net())["relu"]
    assert stamp(node, "restride", "stem") is node
    assert (node.meta["rule"], node.meta["site"]) == ("restride", "stem")
