"""`model-explorer.json`: a network's graphs for Google's Model Explorer, with what is known of each node laid over it.

A file is a list of its `Graph`s (`graph_builder.py` of its package says what they hold): the network, and the backbone
for its second pane. The overlay is what its node data is made of, and stands in a file beside this one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sapool.report.colours import colours

if TYPE_CHECKING:
    from sapool.inspection.graph import Node, Snapshot
    from sapool.inspection.history import History

BEFORE, AFTER = "before", "after"


def graphs(past: History) -> str:
    """The text of a file that Model Explorer opens: the network, and its backbone."""
    shades = colours(past.rules)
    told: dict[str, list[str]] = {}
    for taken in past.snapshots:
        for refusal in taken.refusals:
            if name := past.after.about(refusal.target):
                told.setdefault(name, []).append(f"{refusal.rule}: {refusal.reason}")
    return json.dumps([_graph(AFTER, past.after, shades, told), _graph(BEFORE, past.before, {}, {})], indent=1)


def overlay(past: History) -> str:
    """The text of its node data: elements of each node's result, of both graphs, shaded from none to most."""
    return json.dumps(
        {
            name: {
                "results": {node.name: {"value": node.elements} for node in graph.nodes if node.shape},
                "gradient": [{"stop": 0, "bgColor": "#ffffff"}, {"stop": 1, "bgColor": "#56b4e9"}],
            }
            for name, graph in ((AFTER, past.after), (BEFORE, past.before))
        },
        indent=1,
    )


def _graph(name: str, graph: Snapshot, shades: dict[str, str], told: dict[str, list[str]]) -> dict[str, Any]:
    sources: dict[str, list[str]] = {}
    for source, user in graph.edges:
        sources.setdefault(user, []).append(source)
    return {
        "id": name,
        "nodes": [
            {
                "id": node.name,
                "label": node.op,
                "namespace": "/".join([node.stage, *node.target.split(".")[:-1]]) if node.target else node.stage,
                "attrs": _attributes(node, told.get(node.name, [])),
                "incomingEdges": [
                    {"sourceNodeId": source, "sourceNodeOutputId": "0", "targetNodeInputId": str(at)}
                    for at, source in enumerate(sources.get(node.name, []))
                ],
                "outputsMetadata": [{"id": "0", "attrs": _pairs(shape="×".join(map(str, node.shape)))}],
                **({"style": {"backgroundColor": shades[node.rule]}} if node.rule in shades else {}),
            }
            for node in graph.nodes
        ],
    }  # fmt: skip


def _attributes(node: Node, reasons: list[str]) -> list[dict[str, str]]:
    return _pairs(
        node=node.name,
        module=node.target,
        arguments=node.detail,
        rule=node.rule,
        site=node.site,
        left_alone="; ".join(reasons),
    )


def _pairs(**values: str) -> list[dict[str, str]]:
    """Attributes as Model Explorer lists them; those that say nothing are left out."""
    return [{"key": key.replace("_", " "), "value": value} for key, value in values.items() if value]
