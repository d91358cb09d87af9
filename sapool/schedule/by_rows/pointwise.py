"""Operations whose rows read the same rows: elementwise ones, what mixes channels, and attention by its queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from sapool.cost.lifetimes import operation_name
from sapool.schedule.by_rows.rows import ByRows, NotByRows, Reach, Rows, Summing, bind, is_tensor, shape_of

_ALIGNED = frozenset(
    (
        *("add", "sub", "mul", "div", "neg", "exp", "log", "sqrt", "rsqrt", "square", "abs", "pow", "clamp", "addcmul"),
        *("relu", "relu6", "leaky_relu", "gelu", "silu", "mish", "elu", "selu", "hardtanh", "hardswish", "hardsigmoid"),
        *(
            "sigmoid",
            "logsigmoid",
            "tanh",
            "softplus",
            "prelu",
            "maximum",
            "minimum",
            "lerp",
            "where",
            "reciprocal",
            "sin",
            "cos",
            "erf",
            "sign",
            "round",
            "floor",
        ),
        *("dropout", "to", "float", "half", "double", "contiguous", "clone", "alpha_dropout", "true_divide"),
    )
)


def aligned(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """Elementwise, with broadcasting: operands with rows have them the same number of dimensions from the end."""
    dims, result = len(shape_of(node)), shape_of(node)
    found = {}
    for source in node.all_input_nodes:
        where = rows.get(source)
        # A gate, (N, C, 1, 1), is the same for every row.
        if where is not None and shape_of(source)[where.axis] == result[dims - len(shape_of(source)) + where.axis]:
            found[source] = where
    if not found:
        raise NotByRows("reads nothing that has rows")
    places = {(len(shape_of(source)) - where.axis, where.count, where.unit) for source, where in found.items()}
    if len(places) > 1:
        raise NotByRows("reads tensors whose rows differ")
    (behind, count, unit) = places.pop()
    length = count * unit
    reach = {source: Reach.same(count) for source in found}

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        def cut(place: Any, value: Any) -> Any:
            if not is_tensor(place) or place in found:
                return value
            shape = shape_of(place)
            if len(shape) < behind or shape[-behind] != length:
                return value  # the same for every row
            return value.narrow(len(shape) - behind, start * unit, (stop - start) * unit)

        args, kwargs = tree_map(cut, tuple(node.args), tuple(args)), tree_map(cut, dict(node.kwargs), dict(kwargs))
        return call(node, args, kwargs)

    return ByRows(Rows(dims - behind, count, unit), reach, compute)


def call(node: fx.Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a node does, on given arguments, never in place."""
    kwargs = {name: value for name, value in kwargs.items() if not (name == "inplace" and value)}
    if isinstance(node.target, str):
        return getattr(args[0], _OUT_OF_PLACE.get(node.target, node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)


_OUT_OF_PLACE = {
    **{f"{name}_": name for name in _ALIGNED},
    **{f"__i{name}__": name for name in ("add", "sub", "mul")},
    "__itruediv__": "div",
    "view": "reshape",  # a band of rows may lie otherwise than its map
}


def plain_name(name: str) -> str:
    """The name of what an operation computes, in place or not."""
    return _OUT_OF_PLACE.get(name, name) if name != "view" else name


def is_aligned(name: str) -> bool:
    """Whether operations of that name are elementwise."""
    return plain_name(name) in _ALIGNED


def normalisation(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """batch_norm with given statistics."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training")
    if bind(names, node.args, node.kwargs, training=False)["training"]:
        raise NotByRows("takes statistics over the whole map")
    return _first_alone(node, rows, ())


def layer_norm(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """layer_norm over dimensions behind that of the rows."""
    sizes = bind(("input", "normalized_shape"), node.args, node.kwargs)["normalized_shape"]
    dims = len(shape_of(node))
    return _first_alone(node, rows, range(dims - len(tuple(sizes)), dims))


def softmax(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """Softmax along any dimension but that of the rows."""
    dim = bind(("input", "dim"), node.args, node.kwargs)["dim"]
    return _first_alone(node, rows, (dim,))


def linear(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """A matrix applied to the last dimension."""
    return _first_alone(node, rows, (-1,))


def _first_alone(node: fx.Node, rows: Mapping[fx.Node, Rows], over: Sequence[int]) -> ByRows:
    """The first operand by rows, the others whole; the operation mixes what lies along the dimensions `over`."""
    x = _first(node)
    where = rows.get(x)
    if where is None:
        raise NotByRows("reads nothing that has rows")
    if any(source in rows for source in node.all_input_nodes if source is not x):
        raise NotByRows("reads a second tensor that has rows")
    dims = len(shape_of(x))
    if where.axis in {dim % dims for dim in over}:
        raise NotByRows("mixes the rows of a map")

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        return call(node, args, kwargs)

    return ByRows(where, {x: Reach.same(where.count)}, compute)


def concatenation(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """cat along any dimension but that of the rows; stack along a new one."""
    given = bind(("tensors", "dim"), node.args, node.kwargs, dim=0)
    parts, new = list(given["tensors"]), getattr(node.target, "__name__", "") == "stack"
    dims = len(shape_of(node))
    dim = given["dim"] % dims
    found = [rows.get(part) for part in parts]
    where = next((rows_ for rows_ in found if rows_ is not None), None)
    if where is None:
        raise NotByRows("reads nothing that has rows")
    axis = where.axis + (1 if new and dim <= where.axis else 0)
    if dim == axis or any(other is not None and other != where for other in found):
        raise NotByRows("joins maps along their rows, or maps whose rows differ")
    reach = {part: Reach.same(where.count) for part, rows_ in zip(parts, found, strict=True) if rows_ is not None}

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        tensors = [
            value if part in reach else where.band(value, start, stop)
            for part, value in zip(parts, bind(("tensors",), args, kwargs)["tensors"], strict=True)
        ]
        return node.target(tensors, dim)  # type: ignore[operator]

    return ByRows(Rows(axis, where.count, where.unit), reach, compute)


def attention(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """scaled_dot_product_attention: a row of queries reads all keys and values."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = bind(names, node.args, node.kwargs, attn_mask=None, is_causal=False)
    query, where = given["query"], rows.get(given["query"])
    if where is None or where.axis != len(shape_of(query)) - 2:
        raise NotByRows("has queries without rows")
    if given["attn_mask"] is not None or given["is_causal"]:
        raise NotByRows("masks its scores")
    held = {key: Reach.whole(where.count, rows[key].count) for key in (given["key"], given["value"]) if key in rows}

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        return F.scaled_dot_product_attention(*args, **kwargs)

    return ByRows(where, {**held, query: Reach.same(where.count)}, compute)


def grid_sample(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """A row of places reads the whole map."""
    given = bind(("input", "grid"), node.args, node.kwargs)
    x, grid = given["input"], given["grid"]
    where = rows.get(grid)
    if where is None or where.axis != 1:
        raise NotByRows("samples at places without rows")
    held = {x: Reach.whole(where.count, rows[x].count)} if x in rows else {}

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        return call(node, args, kwargs)

    return ByRows(Rows(2, where.count, where.unit), {**held, grid: Reach.same(where.count)}, compute)


def reduction(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows | Summing:
    """sum and mean: over rows they are running sums, over other dimensions they are done row by row."""
    given = bind(("input", "dim", "keepdim"), node.args, node.kwargs, dim=None, keepdim=False)
    x = given["input"]
    where, dims = rows.get(x), len(shape_of(x))
    if where is None:
        raise NotByRows("reads nothing that has rows")
    if given.get("dtype") is not None:
        raise NotByRows("sums in another type")
    dim = given["dim"]
    over = sorted({d % dims for d in ((dim,) if isinstance(dim, int) else dim if dim is not None else range(dims))})
    keep, name = bool(given["keepdim"]), plain_name(operation_name(node))
    if where.axis in over:
        if 0 in over:
            raise NotByRows("mixes the images of a batch")
        count = 1
        for d in over:
            count *= shape_of(x)[d]
        return Summing(
            x,
            lambda args, kwargs: bind(("input",), args, kwargs)["input"].sum(over, keepdim=keep),
            (lambda total: total / count) if name == "mean" else (lambda total: total),
        )
    axis = where.axis if keep else where.axis - sum(d < where.axis for d in over)

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        return call(node, args, kwargs)

    return ByRows(Rows(axis, where.count, where.unit), {x: Reach.same(where.count)}, compute)


def global_average(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> Summing:
    """adaptive_avg_pool2d to one pixel."""
    x = _first(node)
    if x not in rows or len(shape_of(x)) != 4:
        raise NotByRows("reads nothing that has rows")
    pixels = shape_of(x)[2] * shape_of(x)[3]
    return Summing(
        x,
        lambda args, kwargs: bind(("input",), args, kwargs)["input"].sum((2, 3), keepdim=True),
        lambda total: total / pixels,
    )


def _first(node: fx.Node) -> fx.Node:
    x = node.args[0] if node.args else node.kwargs.get("input")
    if not is_tensor(x):
        raise NotByRows("has no tensor for its first argument")
    assert isinstance(x, fx.Node)
    return x
