"""Which rows windows read, and what they make of a part of a map."""

from __future__ import annotations

import pytest

from sapool.cost.bands.net import EACH, Part, Window, made, wanted


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("same", [False, True])
def test_any_rows_are_made_of_few(kernel: int, stride: int, same: bool) -> None:
    window, size = Window(kernel, stride, same), 13
    for first in range(window.count(size)):
        for last in range(first + 1, window.count(size) + 1):
            rows = wanted(window, size, first, last)
            assert rows is not None
            result = made(window, size, Part(*rows, rows))
            assert result is not None
            assert result.covers(first, last)
            start, end = window.read(size, first, last)
            assert rows[0] <= start
            assert rows[1] >= end
            assert rows[1] - rows[0] <= end - start + 2 * stride


def test_windows_beyond_a_band_are_wrong() -> None:
    window = Window(3, 1, same=True)
    assert made(window, 10, Part(2, 6, (2, 6))) == Part(2, 6, (3, 5))
    assert made(window, 10, Part(0, 6, (0, 6))) == Part(0, 6, (0, 5))  # above the map there are zeros
    assert made(window, 10, Part(2, 6, (3, 5))) is None
    assert made(EACH, 10, Part(2, 6, (3, 5))) == Part(2, 6, (3, 5))


def test_strides_start_where_the_maps_do() -> None:
    window = Window(3, 2, same=True)  # of an even map nothing is above it, and a row below
    assert wanted(window, 12, 0, 2) == (0, 6)
    assert wanted(window, 12, 2, 4) == (4, 10)
    assert wanted(window, 12, 4, 6) == (8, 12)
    assert made(window, 12, Part(3, 9, (3, 9))) is None
