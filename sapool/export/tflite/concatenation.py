"""Concatenations as TensorFlow Lite Micro takes them."""

from __future__ import annotations

from copy import copy

from sapool.cost.bands.script import JOINED
from sapool.export.tflite.flatbuffer import Model, code, shape_of


def split_concatenations(model: Model) -> None:
    """Joins at most `JOINED` tensors at a time, by joining some of them first. Exact."""
    graph, operators = model.subgraphs[0], []
    for operator in graph.operators:
        while code(model, operator) == "CONCATENATION" and len(operator.inputs) > JOINED:
            inputs, joined = [int(i) for i in operator.inputs], []
            for at in range(0, len(inputs), JOINED):
                group = inputs[at : at + JOINED]
                if len(group) == 1:
                    joined += group
                    continue
                part, made = copy(operator), copy(graph.tensors[int(operator.outputs[0])])
                axis = operator.builtinOptions.axis
                made.shape = list(shape_of(made))
                made.shape[axis] = sum(shape_of(graph.tensors[index])[axis] for index in group)
                made.name = f"joined/{len(graph.tensors)}".encode()
                graph.tensors.append(made)
                part.inputs, part.outputs = group, [len(graph.tensors) - 1]
                operators.append(part)
                joined.append(len(graph.tensors) - 1)
            operator.inputs = joined
        operators.append(operator)
    graph.operators = operators
