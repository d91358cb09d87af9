"""Operations whose rows read windows of rows: convolutions, poolings, padding and resampling.

Each computes a band of its result from the rows that the band's windows cover. Where windows leave the map, the rows
that aren't there are filled in as the operation itself would, at the map's first and last row only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from sapool.schedule.by_rows.rows import ByRows, NotByRows, Reach, Rows, bind, pair, shape_of

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_MAX_POOL = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVG_POOL = (
    "input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override",
)  # fmt: skip
_INTERPOLATE = ("input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")


def convolution(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """conv2d: zeros beyond the map."""
    call = bind(_CONV, node.args, node.kwargs, stride=1, padding=0, dilation=1)
    x, weight = call["input"], call["weight"]
    height = _rows_of_map(x, rows)
    kernel, stride, dilation = tuple(shape_of(weight)[2:]), pair(call["stride"]), pair(call["dilation"])
    (top, _), (left, right) = _paddings(call["padding"], kernel, dilation)
    count, span = shape_of(node)[2], dilation[0] * (kernel[0] - 1) + 1
    reach = Reach.windows(count, height, kernel=kernel[0], stride=stride[0], padding=top, dilation=dilation[0])

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        now = bind(_CONV, args, kwargs, bias=None, groups=1)
        above, below = _beyond(start, stop, stride[0], top, span, height)
        band, sides = now["input"], (0, left)
        if above or below or left != right:
            uneven = (left, right) if left != right else (0, 0)
            band, sides = F.pad(band, (*uneven, above, below)), (0, 0 if left != right else left)
        return F.conv2d(band, now["weight"], now["bias"], stride, sides, dilation, now["groups"])

    return ByRows(Rows(2, count), {x: reach}, compute)


def max_pool(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """max_pool2d: nothing beyond the map counts."""
    call = bind(_MAX_POOL, node.args, node.kwargs, stride=None, padding=0, dilation=1, ceil_mode=False)
    if call.get("return_indices"):
        raise NotByRows("returns places in the whole map")
    x = call["input"]
    height = _rows_of_map(x, rows)
    kernel, padding, dilation = pair(call["kernel_size"]), pair(call["padding"]), pair(call["dilation"])
    stride = pair(call["stride"] or kernel)
    count, span = shape_of(node)[2], dilation[0] * (kernel[0] - 1) + 1
    reach = Reach.windows(
        count, height, kernel=kernel[0], stride=stride[0], padding=padding[0], dilation=dilation[0]
    )  # fmt: skip

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        band = bind(_MAX_POOL, args, kwargs)["input"]
        above, below = _beyond(start, stop, stride[0], padding[0], span, height)
        if above or below:
            band = F.pad(band, (0, 0, above, below), value=float("-inf"))
        return F.max_pool2d(band, kernel, stride, (0, padding[1]), dilation, bool(call["ceil_mode"]))

    return ByRows(Rows(2, count), {x: reach}, compute)


def avg_pool(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """avg_pool2d: windows that leave the map have their own divisors."""
    call = bind(
        _AVG_POOL, node.args, node.kwargs,
        stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None,
    )  # fmt: skip
    x = call["input"]
    height = _rows_of_map(x, rows)
    kernel, padding = pair(call["kernel_size"]), pair(call["padding"])
    stride = pair(call["stride"] or kernel)
    count = shape_of(node)[2]
    reach = Reach.windows(count, height, kernel=kernel[0], stride=stride[0], padding=padding[0])
    # What a window's rows are divided by: its rows on the map, or on the map with its padding around it.
    edge = padding[0] if call["count_include_pad"] else 0

    def covered(r: int) -> tuple[int, int]:
        first = r * stride[0] - padding[0]
        return max(first, -edge), min(first + kernel[0], height + edge)

    def shape(r: int) -> tuple[int, int]:
        return covered(r)[1] - covered(r)[0], covered(r)[0] - r * stride[0]

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        band, origin = bind(_AVG_POOL, args, kwargs)["input"], reach.first[start]
        pieces = []
        for begin, end in _runs(start, stop, shape):
            top, bottom = covered(begin)[0], covered(end - 1)[1]
            inside = band.narrow(2, max(top, 0) - origin, min(bottom, height) - max(top, 0))
            if top < 0 or bottom > height:
                inside = F.pad(inside, (0, 0, max(-top, 0), max(bottom - height, 0)))
            size = (covered(begin)[1] - top, kernel[1])
            options = (bool(call["ceil_mode"]), bool(call["count_include_pad"]), call["divisor_override"])
            pieces.append(F.avg_pool2d(inside, size, stride, (0, padding[1]), *options))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 2)

    return ByRows(Rows(2, count), {x: reach}, compute)


def adaptive_avg_pool(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """adaptive_avg_pool2d to more than one row: row r averages rows ⌊rH/h⌋ to ⌈(r+1)H/h⌉."""
    x = bind(("input",), node.args, node.kwargs)["input"]
    height = _rows_of_map(x, rows)
    count, columns = shape_of(node)[2:]
    reach = Reach(
        tuple(r * height // count for r in range(count)), tuple(-(-(r + 1) * height // count) for r in range(count))
    )

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        band, origin = bind(("input",), args, kwargs)["input"], reach.first[start]
        if height == count:
            return F.adaptive_avg_pool2d(band, (stop - start, columns))
        windows = [band.narrow(2, reach.first[r] - origin, reach.last[r] - reach.first[r]) for r in range(start, stop)]
        return torch.cat([F.adaptive_avg_pool2d(window, (1, columns)) for window in windows], 2)

    return ByRows(Rows(2, count), {x: reach}, compute)


def padding(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """Pads with a constant, or with rows of the map mirrored at or repeated from its border."""
    call = bind(("input", "pad", "mode", "value"), node.args, node.kwargs, mode="constant", value=None)
    x, sizes = call["input"], list(call["pad"])
    where = rows.get(x)
    if where is None:
        raise NotByRows("pads what has no rows")
    behind = 2 * (len(shape_of(x)) - 1 - where.axis)  # pairs run from the last dimension forwards
    above, below = (sizes[behind], sizes[behind + 1]) if len(sizes) > behind else (0, 0)
    if above % where.unit or below % where.unit or min(above, below) < 0:
        raise NotByRows("pads parts of rows")
    if call["mode"] != "constant" and (above or below):
        if call["mode"] == "circular" or behind != 2:
            raise NotByRows(f"pads rows by {call['mode']}")
        return _bordered(x, where, above, below, sizes[:2], call["mode"])
    above, below = above // where.unit, below // where.unit
    count = where.count + above + below
    nearest = [min(max(r - above, 0), where.count - 1) for r in range(count)]
    reach = Reach(tuple(nearest), tuple(row + 1 for row in nearest))

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        band, now = bind(("input",), args, kwargs)["input"], list(sizes)
        if len(now) > behind:
            top, bottom = max(min(above, stop) - start, 0), max(stop - max(where.count + above, start), 0)
            band = where.band(band, 0, stop - start - top - bottom)
            now[behind], now[behind + 1] = top * where.unit, bottom * where.unit
        return F.pad(band, now, call["mode"], call["value"])

    return ByRows(Rows(where.axis, count, where.unit), {x: reach}, compute)


def _bordered(x: fx.Node, where: Rows, above: int, below: int, sides: list[int], mode: str) -> ByRows:
    """Rows beyond the map are copies of its own: mirrored at its first and last row, or those rows."""
    last = where.count - 1
    source = [r - above for r in range(above + where.count + below)]
    if mode == "reflect":
        source = [abs(row) if row <= last else 2 * last - row for row in source]
    source = [min(max(row, 0), last) for row in source]
    # A row reads what lies between, so that neither end ever goes back.
    first = tuple(min(source[r:]) for r in range(len(source)))
    reach = Reach(first, tuple(max(source[: r + 1]) + 1 for r in range(len(source))))

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        band = bind(("input",), args, kwargs)["input"]
        runs = _runs(start, stop, lambda r: source[r] - r)
        pieces = [band.narrow(where.axis, source[begin] - first[start], end - begin) for begin, end in runs]
        return F.pad(pieces[0] if len(pieces) == 1 else torch.cat(pieces, where.axis), (*sides, 0, 0), mode)

    return ByRows(Rows(where.axis, len(source), where.unit), {x: reach}, compute)


def resampling(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """interpolate to nearest neighbours: each row is a copy of one row."""
    call = bind(_INTERPOLATE, node.args, node.kwargs, size=None, scale_factor=None, mode="nearest")
    if call["mode"] not in ("nearest", "nearest-exact"):
        raise NotByRows(f"resamples by {call['mode']}")
    x = call["input"]
    height = _rows_of_map(x, rows)
    count, width = shape_of(node)[2:]
    if call["scale_factor"] is not None and any(
        count % size for count, size in ((count, height), (width, shape_of(x)[3]))
    ):
        raise NotByRows("resamples by a fraction")
    # Which row a row is a copy of depends on rounding: the operation itself is asked.
    numbers = torch.arange(float(height), device="cpu").view(1, 1, -1, 1)
    source = [int(row) for row in F.interpolate(numbers, size=(count, 1), mode=call["mode"]).flatten().tolist()]
    reach = Reach(tuple(source), tuple(row + 1 for row in source))
    factor = count // height
    even = source == [r // factor for r in range(count)] if factor else False

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        band = bind(_INTERPOLATE, args, kwargs)["input"]
        if width != shape_of(x)[3]:
            band = F.interpolate(band, size=(source[stop - 1] + 1 - source[start], width), mode=call["mode"])
        if even:
            return band.repeat_interleave(factor, 2).narrow(2, start - source[start] * factor, stop - start)
        return torch.cat([band.narrow(2, source[r] - source[start], 1) for r in range(start, stop)], 2)

    return ByRows(Rows(2, count), {x: reach}, compute)


def pixel_shuffle(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """Row r is made of the channels of row ⌊r/factor⌋."""
    call = bind(("input", "upscale_factor"), node.args, node.kwargs)
    x, factor = call["input"], call["upscale_factor"]
    height, count = _rows_of_map(x, rows), shape_of(node)[2]
    assert count == height * factor
    source = [r // factor for r in range(count)]
    reach = Reach(tuple(source), tuple(row + 1 for row in source))

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        return F.pixel_shuffle(bind(("input",), args, kwargs)["input"], factor).narrow(
            2, start - source[start] * factor, stop - start
        )

    return ByRows(Rows(2, count), {x: reach}, compute)


def pixel_unshuffle(node: fx.Node, rows: Mapping[fx.Node, Rows]) -> ByRows:
    """Row r is made of the rows from r·factor to (r + 1)·factor."""
    call = bind(("input", "downscale_factor"), node.args, node.kwargs)
    x, factor = call["input"], call["downscale_factor"]
    height, count = _rows_of_map(x, rows), shape_of(node)[2]
    reach = Reach.windows(count, height, kernel=factor, stride=factor, padding=0)

    def compute(args: Sequence[Any], kwargs: Mapping[str, Any], start: int, stop: int) -> Any:
        return F.pixel_unshuffle(bind(("input",), args, kwargs)["input"], factor)

    return ByRows(Rows(2, count), {x: reach}, compute)


def _rows_of_map(x: fx.Node, rows: Mapping[fx.Node, Rows]) -> int:
    """The height of a (N, C, H, W) map that has rows."""
    where = rows.get(x)
    if where is None or len(shape_of(x)) != 4 or (where.axis, where.unit) != (2, 1):
        raise NotByRows("reads a tensor whose rows don't run down a map")
    return where.count


def _paddings(
    padding: str | int | Sequence[int], kernel: tuple[int, ...], dilation: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What a convolution pads with zeros: (above, below), (left, right)."""
    if isinstance(padding, str):
        total = [d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    rows, columns = pair(padding)
    return (rows, rows), (columns, columns)


def _beyond(start: int, stop: int, stride: int, padding: int, span: int, height: int) -> tuple[int, int]:
    """How many rows of a band's windows lie above and below a map."""
    top, bottom = start * stride - padding, (stop - 1) * stride - padding + span
    return max(min(-top, bottom - top), 0), max(min(bottom - height, bottom - top), 0)


def _runs(start: int, stop: int, key: Any) -> list[tuple[int, int]]:
    """Cuts a band into stretches of rows for which `key` is the same."""
    cuts = [start, *(r for r in range(start + 1, stop) if key(r) != key(r - 1)), stop]
    return list(pairwise(cuts))
