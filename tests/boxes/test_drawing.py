"""Boxes on images: labels on a ground, a limit, a legend."""

from __future__ import annotations

import torch

from sapool.boxes.detections import Box
from sapool.boxes.drawing import MOST, drawn

CLASSES = ("cat", "dog")
IMAGE = torch.full((3, 64, 128), 90, dtype=torch.uint8)


def test_labels_stand_on_a_ground_of_their_classs_colour():
    box = Box("dog", 0.9, (40.0, 20.0, 80.0, 50.0))
    picture = drawn(IMAGE, [box], CLASSES)
    assert picture.shape[2] == 512
    assert picture.shape[1] > 256  # the legend
    above = picture[:, 60:79, 161:230].flatten(1)
    colours, counts = above.unique(dim=1, return_counts=True)
    ground = colours[:, counts.argmax()]
    assert counts.max() > above.shape[1] / 2
    assert tuple(ground.tolist()) == tuple(picture[:, 140, 160].tolist()), "the box has another colour"
    assert (picture[:, 140, 240] == 90).all()


def test_labels_at_the_border_stay_inside():
    picture = drawn(IMAGE, [Box("cat", 0.5, (120.0, 0.0, 128.0, 4.0))], CLASSES, legend=False)
    assert picture.shape == (3, 256, 512)
    assert (picture[:, :21, 440:500] != 90).any(0).float().mean() > 0.5


def test_the_best_are_drawn_and_the_legend_says_how_many():
    boxes = [Box("cat", 1 - n / 200, (n % 100, 5.0, n % 100 + 10.0, 30.0)) for n in range(MOST + 30)]
    few, many = drawn(IMAGE, boxes[:MOST], CLASSES, legend=False), drawn(IMAGE, boxes, CLASSES, legend=False)
    assert torch.equal(few, many)
    assert not torch.equal(drawn(IMAGE, boxes[:MOST], CLASSES), drawn(IMAGE, boxes, CLASSES))


def test_no_boxes_are_said():
    picture = drawn(IMAGE, [], CLASSES)
    assert (picture[:, :256] == 90).all()
    assert (picture[:, 256:] == 0).any()
