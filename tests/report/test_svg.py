"""The picture for a paper: an SVG with every node in its place and colour, whatever a name holds."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from sapool.report.colours import PLAIN, colours
from sapool.report.svg import path, picture
from tests.report.made import HOSTILE, past

SVG = "{http://www.w3.org/2000/svg}"


def boxes(text: str) -> dict[str, str]:
    """The colour of each node's box, by its title."""
    found = {}
    for group in ElementTree.fromstring(text).iter(f"{SVG}g"):
        title, box = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        if title is not None and box is not None:
            found[str(title.text).split()[0]] = box.attrib["fill"]
    return found


def test_every_node_is_there_in_the_colour_of_its_rule() -> None:
    network = past()
    found, shades = boxes(picture(network, "a network")), colours(network.rules)
    assert set(found) == {node.name for node in network.after.nodes}
    assert found["pools_stage1"] == shades["insert_pools"]
    assert found["stage1_conv1"] == shades["restride"]
    assert found["stage1_relu1"] == PLAIN


def test_a_colour_stands_in_the_key_where_a_node_has_it() -> None:
    network = past()
    said = [text.text for text in ElementTree.fromstring(picture(network, "")).iter(f"{SVG}text")]
    assert "insert_pools" in said
    assert "restride" in said


def test_hostile_names_are_text() -> None:
    text = picture(past(name=HOSTILE), HOSTILE)
    root = ElementTree.fromstring(text)
    assert not list(root.iter(f"{SVG}script"))
    assert not list(root.iter(f"{SVG}img"))
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_paths_leave_and_enter_boxes_at_their_edges() -> None:
    assert path([(0, 0), (0, 52)]) == "M0 17C0 26 0 26 0 35"


def test_an_edge_to_a_later_stage_goes_beside_what_is_between() -> None:
    text = picture(past(), "")
    right = max(float(x) + 148 for x in re.findall(r'<rect x="(-?\d+)" y="-?\d+" width="148"', text))
    # The shortcut of the first block comes from the stem, and ends four nodes down in the stage.
    beside = [
        d for d in re.findall(r'<path d="([^"]+)"', text) if max(map(float, re.findall(r"-?\d+", d)[::2])) > right
    ]
    assert beside
