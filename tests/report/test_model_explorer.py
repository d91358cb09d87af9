"""What Model Explorer opens: its `Graph`s with every node and edge, and node data whose keys are their ids."""

from __future__ import annotations

import json

from sapool.report.model_explorer import graphs, overlay
from tests.report.made import past


def test_it_holds_both_graphs_with_all_nodes_and_edges() -> None:
    network = past()
    after, before = json.loads(graphs(network))  # type: ignore[arg-type]
    for graph, taken in ((after, network.after), (before, network.before)):
        assert [node["id"] for node in graph["nodes"]] == [node.name for node in taken.nodes]
        edges = {(edge["sourceNodeId"], node["id"]) for node in graph["nodes"] for edge in node["incomingEdges"]}
        assert edges == set(taken.edges)


def test_nodes_stand_in_their_stage_with_what_is_known_of_them() -> None:
    after, _ = json.loads(graphs(past()))  # type: ignore[arg-type]
    nodes = {node["id"]: node for node in after["nodes"]}
    assert nodes["stage1_conv1"]["namespace"] == "stage1/stage1"
    assert {"key": "rule", "value": "restride"} in nodes["stage1_conv1"]["attrs"]
    assert nodes["stage1_conv1"]["style"]["backgroundColor"].startswith("#")
    assert "style" not in nodes["stage1_relu1"]
    assert any(entry["key"] == "left alone" for entry in nodes["fc"]["attrs"])


def test_node_data_is_of_the_same_graphs_and_nodes() -> None:
    network = past()
    found = json.loads(overlay(network))  # type: ignore[arg-type]
    assert set(found) == {graph["id"] for graph in json.loads(graphs(network))}  # type: ignore[arg-type]
    assert found["after"]["results"]["pools_stage1"]["value"] == 8 * 16 * 16
