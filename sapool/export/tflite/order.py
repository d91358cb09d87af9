"""The order of a file's operators, which decides what is held when."""

from __future__ import annotations

from sapool.export.tflite.flatbuffer import Model, code, readers, size_of


def narrow_early(model: Model) -> None:
    """Converts a tensor to fewer bits right where it is made, if that is all that reads it. Exact.

    Quantizers convert where the result is read, and hold the wider one until then.
    """
    graph = model.subgraphs[0]
    read = readers(model)
    behind: dict[int, list[object]] = {}
    moved = set()
    made = {int(out) for operator in graph.operators for out in operator.outputs}
    for operator in graph.operators:
        if code(model, operator) != "QUANTIZE":
            continue
        source, result = int(operator.inputs[0]), int(operator.outputs[0])
        smaller = size_of(graph.tensors[result]) < size_of(graph.tensors[source])
        if smaller and read[source] == 1 and source in made:
            behind.setdefault(source, []).append(operator)
            moved.add(id(operator))
    ordered = []
    for operator in graph.operators:
        if id(operator) in moved:
            continue
        waiting = [operator]
        while waiting:
            first = waiting.pop(0)
            ordered.append(first)
            waiting += [o for out in first.outputs for o in behind.get(int(out), [])]
    graph.operators = ordered
