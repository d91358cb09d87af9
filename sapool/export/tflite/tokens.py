"""A map laid out as tokens once, whatever reads them."""

from __future__ import annotations

from sapool.export.tflite.flatbuffer import Model, code, drop_unread, shape_of


def share_tokens(model: Model) -> None:
    """Lets products of one map's tokens read one copy of them. Exact.

    A converter lays the same map out as (L, d) for one product and as (1, L, d) for another, and a runtime holds both.
    A fully connected layer that returns (L, d) reads either.
    """
    graph = model.subgraphs[0]
    layouts: dict[tuple[int, int], list[int]] = {}
    for operator in graph.operators:
        if code(model, operator) == "RESHAPE":
            result = int(operator.outputs[0])
            channels = shape_of(graph.tensors[result])[-1]
            layouts.setdefault((int(operator.inputs[0]), channels), []).append(result)
    shared: dict[int, int] = {}
    for results in layouts.values():
        widest = max(results, key=lambda i: len(shape_of(graph.tensors[i])))
        shared |= {result: widest for result in results if result != widest}
    places = {int(out): place for place, operator in enumerate(graph.operators) for out in operator.outputs}
    first: dict[int, int] = {}
    for place, operator in enumerate(graph.operators):
        inputs = [int(i) for i in operator.inputs]
        if code(model, operator) == "FULLY_CONNECTED" and len(shape_of(graph.tensors[int(operator.outputs[0])])) == 2:
            chosen = shared.get(inputs[0])
            if chosen is not None:
                inputs[0], operator.builtinOptions.keepNumDims = chosen, False
                first.setdefault(chosen, place)
        operator.inputs = inputs
    early = {places[chosen]: place for chosen, place in first.items() if place < places[chosen]}
    ordered = []
    for place, operator in enumerate(graph.operators):
        ordered += [graph.operators[at] for at, before in early.items() if before == place]
        if place not in early:
            ordered.append(operator)
    graph.operators = ordered
    drop_unread(model)
