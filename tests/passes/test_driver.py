from __future__ import annotations

import pytest
import torch
from torch import fx
from torch.nn import functional as F

from sapool.analysis.dataflow import operation
from sapool.catalogue.passes import PASSES, register_pass
from sapool.errors import PlanError
from sapool.ir.plan import Plan
from sapool.passes.driver import Driver, operations, stamp
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
    driver.finish()
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
    driver.finish()
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


def never(module: fx.GraphModule, plan: Plan) -> None:
    """What doesn't hold after `call_nothing_new`."""
    raise PlanError("stage1", "pool", "it isn't in the graph")


def test_what_a_pass_establishes_is_verified_after_it_and_after_later_ones() -> None:
    seen: list[str] = []

    def holds(module: fx.GraphModule, plan: Plan) -> None:
        seen.append("asked")
        if "neg" in nodes(module):
            raise PlanError("stem", "restride", "there is a minus")

    driver = Driver(net(), plan())
    driver(look_on, holds)
    assert seen == ["asked"]
    with pytest.raises(PlanError, match=r"stem\.restride: there is a minus, after the pass negate_relu") as caught:
        driver(negate_relu)
    assert (caught.value.site, caught.value.field) == ("stem", "restride")
    with pytest.raises(PlanError, match="after the pass look_on"):
        Driver(net(), plan())(look_on, never)


def test_a_pass_can_be_left_out_and_a_watcher_is_told_of_each() -> None:
    told: list[tuple[str, bool, bool]] = []
    driver = Driver(
        net(),
        plan(),
        without=("say_hello",),
        watch=lambda name, module, changed: told.append((name, "neg" in nodes(module), changed)),
    )
    driver(say_hello)
    driver(look_on)
    driver(negate_relu)
    assert [run.rule for run in driver.log.runs] == ["look_on", "negate_relu"]
    assert told == [("look_on", False, False), ("negate_relu", True, True)]


def test_a_guest_follows_the_pass_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sapool.catalogue.passes.PASSES._added", {})
    PASSES.__dict__.pop("_entries", None)
    try:
        register_pass("say_hello", after="look_on", summary="says hello")(say_hello)
        driver = Driver(net(), plan())
        driver(look_on)
        driver(negate_relu)
        assert [run.rule for run in driver.log.runs] == ["look_on", "say_hello", "negate_relu"]
        assert driver.log.refusals[-1] == Refusal("say_hello", "stem", "relu", "it says nothing")
        assert PASSES["say_hello"].summary == "says hello"
    finally:
        PASSES._added.clear()
        PASSES.__dict__.pop("_entries", None)


def say_hello(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    log.refused("stem", "relu", "it says nothing")
