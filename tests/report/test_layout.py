"""Layouts: boxes don't overlap, edges go down, straight lines stay straight, and densely connected graphs are quick."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from sapool.report.layout import GAP, HEIGHT, PITCH, WIDTH, _apart, lay_out


def test_a_chain_is_a_straight_line() -> None:
    layout = lay_out("abcd", list(pairwise("abcd")))
    assert [layout.places[name] for name in "abcd"] == [(0, PITCH * at) for at in range(4)]
    assert layout.bottom == 3 * PITCH + HEIGHT // 2


def test_a_shortcut_passes_beside_the_nodes_that_it_skips() -> None:
    edges = [*pairwise("abcd"), ("a", "d")]
    layout = lay_out("abcd", edges)
    bends = layout.bends["a", "d"]
    assert [y for _, y in bends] == [PITCH, 2 * PITCH]
    for x, y in bends:
        boxes = [place for place in layout.places.values() if place[1] == y]
        assert all(abs(x - box) >= WIDTH // 2 for box, _ in boxes)


def test_long_edges_of_one_source_share_a_lane_and_those_of_two_do_not() -> None:
    names = [f"n{at}" for at in range(40)]
    far = [("n0", "n20"), ("n0", "n30"), ("n5", "n35")]
    layout = lay_out(names, [*pairwise(names), *far])
    lanes = {edge: layout.bends[edge][0][0] for edge in far}
    assert lanes[far[0]] == lanes[far[1]] != lanes[far[2]]
    assert all(x > WIDTH // 2 for x in lanes.values())
    assert layout.right >= max(lanes.values())


def test_what_stands_alone_and_nothing_at_all_can_be_laid_out() -> None:
    assert lay_out("ab", []).places["b"][1] == 0
    assert lay_out([], []).places == {}


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str]]]:
    count = draw(st.integers(1, 12))
    names = [f"n{at}" for at in range(count)]
    pairs = list(combinations(names, 2))
    return names, draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []


@given(graphs())
def test_boxes_are_apart_and_edges_go_down(made: tuple[list[str], list[tuple[str, str]]]) -> None:
    names, edges = made
    layout = lay_out(names, edges)
    for one, other in combinations(layout.places.values(), 2):
        # Places are rounded to pixels.
        assert one[1] != other[1] or abs(one[0] - other[0]) >= WIDTH + GAP - 1
    for source, user in edges:
        heights = [
            layout.places[source][1],
            *(y for _, y in layout.bends.get((source, user), ())),
            layout.places[user][1],
        ]
        assert heights == sorted(heights)
    assert all(layout.left <= x - WIDTH // 2 and x + WIDTH // 2 <= layout.right for x, _ in layout.places.values())


@given(st.lists(st.integers(-500, 500), min_size=1, max_size=8))
def test_pulling_apart_keeps_distances_and_the_middle(wanted: list[int]) -> None:
    found = _apart([float(value) for value in wanted], [10] * len(wanted))
    assert all(right - left >= 20 - 1e-6 for left, right in pairwise(found))
    assert abs(sum(found) - sum(wanted)) < 1e-6  # least squares
