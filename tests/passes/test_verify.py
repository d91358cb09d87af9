from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import fx, nn

import sapool
from sapool.errors import InputError, PlanError
from sapool.ir.plan import Plan
from sapool.ir.site import Pool, Restride, Site
from sapool.passes.clean_up import clean_up
from sapool.passes.driver import Driver
from sapool.passes.insert_pools import insert_pools
from sapool.passes.measure import Feature, Measurement, measure
from sapool.passes.restride import strides_are_set
from sapool.passes.select_outputs import expose_features, select_outputs
from sapool.passes.verify import verify
from tests.passes.tiny import STAGE2, STEM, net, nodes, plan

FEATURES = (("stage1", "stage1_relu_1"), ("stage2", "stage2_relu_1"))
POOLED = Site("stage1", 2, 1, 4, pool=Pool("lip", "stage1_relu_1", 4))
SOUND = plan(STEM, POOLED, STAGE2, features=FEATURES)


def rewritten(plan: Plan) -> fx.GraphModule:
    module = net()
    driver = Driver(module, plan)
    for rewrite in (expose_features, insert_pools, select_outputs, clean_up):
        driver(rewrite)
    return module


def verified(module: fx.GraphModule, plan: Plan) -> Measurement:
    """As the compiler does it: what the passes have established, then what is measured."""
    module.graph.lint()
    strides_are_set(module, plan)
    measured = measure(module, plan)
    verify(module, plan, measured)
    return measured


def with_site(name: str, **changes: object) -> Plan:
    return replace(SOUND, sites=tuple(replace(s, **changes) if s.name == name else s for s in SOUND.sites))


def test_a_sound_graph_is_measured() -> None:
    measured = verified(rewritten(SOUND), SOUND)
    assert measured.features == (
        Feature("stage1", 4, 8, "pools_stage1", "pools.stage1"),
        Feature("stage2", 6, 16, "stage2_relu_1"),
    )
    assert measured.maps == {"stage1": (8, 8)}


def test_the_verified_module_is_left_alone() -> None:
    module = rewritten(SOUND)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    verified(module.train(), SOUND)
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            with_site("stage1", pool=Pool("lip", "stage1_relu_1", 5)),
            "stage1.pool.channels: 4 channels are pooled, not 5",
        ),
        (with_site("stage1", stride=4), "stage1.stride: the pooled map has 4x4 pixels, not 2x2"),
        (with_site("stage2", stride=4), "stage2.stride: stage2 grows by 8 pixels where 4 are expected"),
        (
            with_site("stage2", restride=Restride((("stage2_conv1", 1),))),
            "stage2.restride.strides: stage2_conv1 has stride 2, not 1",
        ),
        (with_site("stage2", restride=Restride((), ("side",))), "stage2.restride.removes: side should have gone"),
        (SOUND.with_options(num_classes=6), "options.num_classes: the output is 1x5, not 1x6"),
    ],
    ids=["channels", "a pool's stride", "a stage's stride", "a convolution's stride", "a pooling", "classes"],
)
def test_a_wrong_plan_is_caught_where_it_is_wrong(wrong: Plan, message: str) -> None:
    with pytest.raises(PlanError, match=re.escape(message)):
        verified(rewritten(SOUND), wrong)


def break_order(module: fx.GraphModule) -> None:
    nodes(module)["relu"].args = (nodes(module)["side"],)


def drop_pool(module: fx.GraphModule) -> None:
    pool = nodes(module)["pools_stage1"]
    pool.replace_all_uses_with(pool.args[0])  # type: ignore[arg-type]
    module.graph.erase_node(pool)
    module.delete_all_unused_submodules()
    nodes(module)["stage1_relu_1"].meta["feature"] = "stage1"


def pool_more(module: fx.GraphModule) -> None:
    module.get_submodule("pools.stage1").stride = 4


def add_spare(module: fx.GraphModule) -> None:
    module.add_module("spare", nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (break_order, RuntimeError, "used before it has been defined"),
        (drop_pool, PlanError, "stage1.pool: it isn't in the graph"),
        (pool_more, PlanError, "stage1.stride: the pooled map has 2x2 pixels, not 4x4"),
        (add_spare, AssertionError, "spare.weight is never used"),
    ],
)
def test_a_wrong_graph_is_caught(spoil: Callable[[fx.GraphModule], None], error: type[Exception], message: str) -> None:
    module = rewritten(SOUND)
    spoil(module)
    with pytest.raises(error, match=re.escape(message)):
        verified(module, SOUND)


def test_outputs_are_held_to_the_plan() -> None:
    chosen = SOUND.with_options(features_only=True, out_indices=(1, 0))
    module = rewritten(chosen)
    # Clean-up took the logits' part of the network away, and what is left of the features is still measured.
    assert [feature.name for feature in verified(module, chosen).features] == ["stage1", "stage2"]
    with pytest.raises(PlanError, match=r"options\.out_indices: the graph returns"):
        verified(module, chosen.with_options(out_indices=(0, 1)))


def test_images_too_small_for_a_graph() -> None:
    small = SOUND.with_options(image_size=6)
    module = rewritten(SOUND)
    with pytest.raises(InputError, match=re.escape("images of 6x6 are too small for resnet18-avgp-1222")) as caught:
        verified(module, small)
    assert smallest(caught.value) == 7
    assert works_from(lambda size: verified(module, SOUND.with_options(image_size=size)), 1, 32) == 7
    assert "pools_stage1 can't take a map of 1x1 pixels" in str(caught.value)


def compiled(text: str, size: int) -> sapool.CompiledModel:
    with torch.device("meta"):
        return sapool.compile(text, image_size=size)


@pytest.mark.parametrize(
    "text", ["resnet18-nlp-1222", "prepool-nlp_reduced-4-resnet18-dfmixp_reduced-1222", "mobilenet-lip-1222121"]
)
def test_images_too_small_for_an_architecture(text: str) -> None:
    with pytest.raises(InputError, match=f"images of 3x3 are too small for {text}: .* can't take a map of") as caught:
        compiled(text, 3)
    needed = smallest(caught.value)
    assert compiled(text, needed).plan.options.image_size == (needed, needed)
    with pytest.raises(InputError, match=f"the smallest that works is {needed} "):
        compiled(text, needed - 1)


def test_padded_convolutions_take_images_of_any_size() -> None:
    assert compiled("mobilenet-skip-9111111", 1).plan.options.image_size == (1, 1)


def smallest(error: InputError) -> int:
    found = re.search(r"the smallest that works is (\d+) \(image_size\)", str(error))
    assert found is not None, str(error)
    return int(found.group(1))


def works_from(attempt: Callable[[int], object], start: int, stop: int) -> int:
    """The smallest size that works, found by trying them all."""
    for size in range(start, stop):
        try:
            attempt(size)
        except InputError:
            continue
        return size
    raise AssertionError("none works")
