"""Operations that arrange a tensor anew: where its rows are afterwards, and the same arrangement of a band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from torch import fx

from sapool.cost.lifetimes import operation_name
from sapool.schedule.by_rows.pointwise import call
from sapool.schedule.by_rows.rows import ByRows, NotByRows, Reach, Rows, Shape, shape_of


def reshape(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """view, reshape, flatten, unflatten, unsqueeze, squeeze: rows stay together where what is outside them does."""
    x, where = _source(node, rows)
    after = rows_after(shape_of(x), where, shape_of(node))
    if after is None:
        raise NotByRows("takes rows apart")
    target = operation_name(node)

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        size = (stop - start) * after.unit
        if target in ("view", "reshape"):
            given = args[1:] if not isinstance(args[1], (tuple, list)) else args[1]
            sizes = [size if axis == after.axis else length for axis, length in enumerate(given)]
            return args[0].reshape(sizes)
        if target == "unflatten":
            dim, sizes = args[1] % len(shape_of(x)), list(args[2])
            if dim <= after.axis < dim + len(sizes):
                sizes[after.axis - dim] = size
            return args[0].unflatten(dim, sizes)
        return call(node, args, kwargs)

    return ByRows(after, {x: Reach.same(where.count)}, compute)


def rows_after(before: Shape, where: Rows, after: Shape) -> Rows | None:
    """Where a tensor's rows are when it is given another shape, or None where they are torn apart or lost."""
    if where.count == 1:
        return None
    outside = prod(before[: where.axis])
    for axis, length in enumerate(after):
        if prod(after[:axis]) == outside and length >= where.count and length % where.count == 0:
            return Rows(axis, where.count, length // where.count)
    return None


def expansion(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """expand, along any dimension but that of the rows."""
    x, where = _source(node, rows)
    axis = len(shape_of(node)) - len(shape_of(x)) + where.axis
    if shape_of(node)[axis] != shape_of(x)[where.axis]:
        raise NotByRows("repeats rows")

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        sizes = list(args[1:] if not isinstance(args[1], (tuple, list)) else args[1])
        sizes[axis] = (stop - start) * where.unit
        return args[0].expand(sizes)

    return ByRows(Rows(axis, where.count, where.unit), {x: Reach.same(where.count)}, compute)


def permutation(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """permute, transpose and t."""
    x, where = _source(node, rows)
    dims = len(shape_of(x))
    given: list[Any] = [*node.args[1:], *node.kwargs.values()]
    if operation_name(node) == "permute":
        order = [d % dims for d in (given[0] if isinstance(given[0], (tuple, list)) else given)]
    else:
        order = list(range(dims))
        one, other = (d % dims for d in given) if given else (0, 1)
        order[one], order[other] = other, one

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        return args[0].permute(order)

    return ByRows(Rows(order.index(where.axis), where.count, where.unit), {x: Reach.same(where.count)}, compute)


def indexing(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """x[...] with whole numbers and slices; of the rows, a stretch."""
    x, where = _source(node, rows)
    index = node.args[1]
    shape, places = shape_of(x), list(index) if isinstance(index, tuple) else [index]
    if any(not (place is None or place is Ellipsis or isinstance(place, (int, slice))) for place in places):
        raise NotByRows("picks by a tensor")
    if Ellipsis in places:
        at = places.index(Ellipsis)
        missing = len(shape) - sum(place is not None and place is not Ellipsis for place in places)
        places[at : at + 1] = [slice(None)] * missing
    dim = axis = 0
    found: tuple[int, int, int] | None = None  # the row axis, its first entry, and its place in the index
    for at, place in enumerate(places):
        if place is None:
            axis += 1
            continue
        if dim == where.axis:
            if not isinstance(place, slice):
                raise NotByRows("picks one row")
            start, stop, step = place.indices(shape[dim])
            if step != 1 or start % where.unit or (stop - start) % where.unit:
                raise NotByRows("picks parts of rows")
            found = axis, start // where.unit, at
        axis += 0 if isinstance(place, int) else 1
        dim += 1
    if found is None:
        found = axis + where.axis - dim, 0, -1
    after = Rows(found[0], shape_of(node)[found[0]] // where.unit, where.unit)
    if found[2] >= 0:
        places[found[2]] = slice(None)

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        return args[0][tuple(places)]

    return ByRows(after, {x: Reach.same(after.count).shifted(found[1])}, compute)


def pieces(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """An item of chunk, split or unbind, along any dimension but that of the rows."""
    whole = node.args[0]
    assert isinstance(whole, fx.Node)
    x, where = _source(whole, rows)
    name = operation_name(whole)
    dim = whole.kwargs.get("dim", whole.args[_DIM[name]] if len(whole.args) > _DIM[name] else 0)
    dim = int(dim) % len(shape_of(x))  # type: ignore[arg-type]
    if dim == where.axis:
        raise NotByRows("splits a map along its rows")
    axis = where.axis - (1 if name == "unbind" and dim < where.axis else 0)

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        return args[0][args[1]]

    return ByRows(Rows(axis, where.count, where.unit), {x: Reach.same(where.count)}, compute)


_DIM = {"chunk": 2, "split": 2, "tensor_split": 2, "unbind": 1}


def _source(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> tuple[fx.Node, Rows]:
    x = node.args[0] if node.args else node.kwargs.get("input")
    if not isinstance(x, fx.Node) or x not in rows:
        raise NotByRows("reads nothing that has rows")
    return x, rows[x]
