"""A history holds what the passes did, each node with its shape and rule, and says of which node each record speaks."""

from __future__ import annotations

import pytest
import torch

from sapool.compiler import execute
from sapool.inference import optimize
from sapool.inspection.graph import Node, Snapshot, changed
from sapool.inspection.history import BACKBONE, History, history
from sapool.model import CompiledModel
from sapool.planning import make_plan


def compiled(text: str) -> CompiledModel:
    with torch.device("meta"):
        return execute(make_plan(text, image_size=64))


@pytest.fixture(scope="module")
def model() -> CompiledModel:
    return compiled("resnet18-lip-1222")


@pytest.fixture(scope="module")
def past(model: CompiledModel) -> History:
    return history(model)


def test_it_begins_with_the_backbone_and_ends_with_the_network(past: History, model: CompiledModel) -> None:
    titles = [taken.title for taken in past.snapshots]
    assert titles == [BACKBONE, *(run.rule for run in model.origin.passes)]
    assert [node.name for node in past.after.nodes] == [node.name for node in model.graph.nodes]
    assert "maxpool" in {node.name for node in past.before.nodes}
    assert not any(node.rule for node in past.before.nodes)


def test_every_rewrite_and_refusal_stands_at_its_pass(past: History, model: CompiledModel) -> None:
    assert [record for taken in past.snapshots for record in taken.rewrites] == list(model.rewrites)
    assert [record for taken in past.snapshots for record in taken.refusals] == list(model.refusals)
    for taken in past.snapshots:
        assert {record.rule for record in (*taken.rewrites, *taken.refusals)} <= {taken.title}


def test_nodes_say_what_they_are(past: History) -> None:
    nodes = {node.name: node for node in past.after.nodes}
    pool = nodes["pools_stage2"]
    assert (pool.rule, pool.site, pool.stage, pool.shape) == ("insert_pools", "stage2", "stage2", (1, 128, 8, 8))
    assert pool.elements == 128 * 8 * 8
    assert nodes["layer2_0_conv1"].rule == "restride"
    assert "stride=(1, 1)" in nodes["layer2_0_conv1"].detail
    assert nodes["layer1_0_conv1"].rule == ""


def test_what_changed_is_told_from_what_only_has_another_shape(past: History) -> None:
    gone, came, other = changed(past.before.nodes, past.after.nodes)
    assert not gone
    assert came == {"pools_stage2", "pools_stage3", "pools_stage4"}
    assert {"layer2_0_conv1", "layer2_0_downsample_0"} <= other
    assert "layer2_0_bn1" not in other  # its map is larger now, and it is the same


def test_an_optimized_network_has_one_more_step(past: History, model: CompiledModel) -> None:
    faster = history(optimize(model))
    assert [taken.title for taken in faster.snapshots] == [*(taken.title for taken in past.snapshots), "optimize"]
    assert len(faster.after.nodes) < len(past.after.nodes)
    assert any(record.rule == "fold_norms" for record in faster.after.rewrites)


def test_a_record_is_about_a_node_a_module_a_stage_or_what_is_in_a_module() -> None:
    nodes = (
        Node("a", "Conv2d", "layer.conv", stage="stage1"),
        Node("b", "Conv2d", "layer.block.conv", stage="stage1"),
        Node("c", "add", stage="stage2"),
    )
    graph = Snapshot("", nodes, ())
    found = {target: graph.about(target) for target in ("b", "layer.conv", "stage2", "layer.block", "other")}
    assert found == {"b": "b", "layer.conv": "a", "stage2": "c", "layer.block": "b", "other": None}
