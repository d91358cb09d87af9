"""Products of softmaxes and values, a block of query rows at a time."""

from __future__ import annotations

from copy import copy

from sapool.export.tflite.flatbuffer import Model, code, drop_unread, readers, shape_of

_ROWS = 1
"""The axis of a (heads, rows, tokens) that blocks are cut along."""


def mix_apart(model: Model) -> None:
    """Multiplies each block of a softmax with the values by itself, and joins the products. Exact.

    A converter joins the blocks of many heads first and multiplies once, which holds the whole score map again, and
    hides from `quantize` that what is multiplied are weights, which need 16 bits.
    """
    graph = model.subgraphs[0]
    made = {int(out): place for place, operator in enumerate(graph.operators) for out in operator.outputs}
    read = readers(model)
    after: dict[int, list[object]] = {}
    moved: set[int] = set()
    for place, operator in enumerate(graph.operators):
        joined = int(operator.inputs[0]) if code(model, operator) == "BATCH_MATMUL" else -1
        if joined not in made or read[joined] > 1:
            continue
        joining = graph.operators[made[joined]]
        blocks = [int(i) for i in joining.inputs]
        if (
            code(model, joining) != "CONCATENATION"
            or joining.builtinOptions.axis % len(shape_of(graph.tensors[joined])) != _ROWS
            or any(block not in made or code(model, graph.operators[made[block]]) != "SOFTMAX" for block in blocks)
        ):
            continue
        values, result = int(operator.inputs[1]), int(operator.outputs[0])
        parts = []
        for block in blocks:
            product, part = copy(operator), copy(graph.tensors[result])
            part.shape = list(shape_of(part))
            part.shape[_ROWS] = shape_of(graph.tensors[block])[_ROWS]
            part.name = f"block/{len(graph.tensors)}".encode()
            graph.tensors.append(part)
            parts.append(len(graph.tensors) - 1)
            product.inputs, product.outputs = [block, values], [parts[-1]]
            after.setdefault(max(made[block], made.get(values, 0)), []).append(product)
        joining.inputs, joining.outputs = parts, [result]
        moved |= {id(joining), id(operator)}  # the joining to the place of the product, which goes
        after.setdefault(place, []).append(joining)
    ordered: list[object] = []
    for place, operator in enumerate(graph.operators):
        ordered += [] if id(operator) in moved else [operator]
        ordered += after.get(place, [])
    graph.operators = ordered
    drop_unread(model)
