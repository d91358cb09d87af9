"""`.nodes`: the names of a graph's nodes, a line each."""

from pathlib import Path

import sapool


@sapool.register_format("nodes", suffixes=(".nodes",), summary="names of nodes")
def write_nodes(model, path):  # type: ignore[no-untyped-def]
    """Writes the names in order of execution."""
    Path(path).write_text("".join(f"{node.name}\n" for node in model.graph.nodes), encoding="utf-8")
