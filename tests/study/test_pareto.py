"""The line that no run is above, units, ticks and labels."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sapool.study.pareto import Point, count, draw, frontier, size

AXES = {"parameters": ("parameters", count), "bytes": ("memory", size)}


def test_nothing_on_the_line_is_beaten():
    points = [(2, 0.5), (1, 0.4), (3, 0.45), (3, 0.7), (2, 0.3), (4, 0.7)]
    assert frontier(points) == [(1, 0.4), (2, 0.5), (3, 0.7)]


@pytest.mark.parametrize(
    ("value", "said"), [(1_500_000, "1.5 M"), (999, "999"), (1000, "1 k"), (999_999, "1 M"), (36_000_000_000, "36 G")]
)
def test_counts(value, said):
    assert count(value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(36 * 1024, "36 KiB"), (100, "100 B"), (1024**2 - 1, "1 MiB"), (1536, "1.5 KiB")]
)
def test_sizes(value, said):
    assert size(value) == said


@pytest.mark.parametrize("most", [1.0, 1.01, 1.5, 8.0, 300.0, 1e6])
def test_ticks_do_not_overlap(most):
    points = [
        Point(f"run-{n}", f"run-{n}", 0.5 + n / 100, {"parameters": 1e6 * most ** (n / 9), "bytes": 40_000.0})
        for n in range(10)
    ]
    figure = draw(points, AXES, "accuracy", ["they differ"])
    figure.canvas.draw()
    panel = figure.axes[0]
    low, high = panel.get_xlim()
    shown = [label.get_window_extent() for label in panel.get_xticklabels() if low <= label.get_position()[0] <= high]
    assert shown
    assert all(a.x1 < b.x0 for a, b in pairwise(shown))
    assert {text.get_text() for text in panel.texts} == {str(n + 1) for n in range(10)}
    assert figure.get_suptitle() == "they differ"


def test_a_few_runs_are_named_at_their_points():
    points = [
        Point("a", "a: x", 0.5, {"parameters": 1e6, "bytes": 1e4}),
        Point("b", "b: y", 0.6, {"parameters": 2e6, "bytes": 1e4}),
    ]
    panel = draw(points, AXES, "accuracy").axes[0]
    assert {text.get_text() for text in panel.texts} == {"1 a", "2 b"}


def test_points_that_are_close_share_a_label():
    places = [(1e6, 0.5), (1e6, 0.501), (1.001e6, 0.502), (9e6, 0.5), (1e6, 0.9)]
    points = [
        Point(f"run-{n}", "", score, {"parameters": cost, "bytes": 1e4}) for n, (cost, score) in enumerate(places)
    ]
    points += [
        Point("far", "", 0.7, {"parameters": 3e6, "bytes": 1e4}),
        Point("farther", "", 0.2, {"parameters": 3e6, "bytes": 1e4}),
    ]
    panel = draw(points, AXES, "accuracy").axes[0]
    assert [text.get_text() for text in panel.texts] == ["1-3", "4", "5", "6", "7"]


def test_long_names_are_cut_in_the_legend_and_what_was_reached_is_not():
    points = [Point("x" * 500, f"{'x' * 500}: 0.5 ± 0.1", 0.5, dict.fromkeys(AXES, 2.0))]
    (said,) = (text.get_text() for text in draw(points, AXES, "accuracy").legends[0].get_texts())
    assert len(said) < 210
    assert said.endswith(": 0.5 ± 0.1")
