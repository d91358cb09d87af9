"""Pictures that say no more than there is: sheets on one scale, curves, confusion."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sapool.ir.site import Pool, Site
from sapool.runs.confusion import draw_confusion
from sapool.runs.curves import Chart, Line, draw_curves
from sapool.runs.sheets import AROUND, Panel, draw, pool_panel
from sapool.training.history import best_of

SITE = Site("stage1", 2, 2, 3, pool=Pool("lip", "x", 3))
IMAGE = torch.zeros(3, 16, 24, dtype=torch.uint8)


def test_a_uniform_map_is_grey_and_says_so():
    panel = pool_panel(SITE, torch.full((1, 1, 4, 6), 1.6487), (16, 24))
    assert panel.map is None
    assert panel.plain
    assert "1.65 everywhere" in panel.note
    nearly = 1.6487 + 0.005 * torch.rand(1, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    assert pool_panel(SITE, nearly, (16, 24)).plain


def test_maps_are_in_units_of_their_mean_and_share_one_scale():
    one, two = (torch.tensor([[1.0, 1 + part]]).view(1, 1, 1, 2) for part in (0.1, 2.0))
    panels = [pool_panel(SITE, mean, (16, 24)) for mean in (one, two, 100 * one)]
    assert panels[0].map.mean() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(panels[2].map, panels[0].map, rtol=1e-5)
    figure = draw(IMAGE, [Panel("image"), *panels], "title")
    shown = [axis.images[1] for axis in figure.axes[1:4]]
    assert len({(image.norm.vmin, image.norm.vmax) for image in shown}) == 1
    assert shown[0].norm.vmax == pytest.approx(1.5)
    # A spread of a tenth alone isn't stretched to full contrast.
    alone = draw(IMAGE, [Panel("image"), panels[0]], "title").axes[1].images[1].norm
    assert (alone.vmin, alone.vmax) == (1 - AROUND, 1 + AROUND)


def test_curves_share_their_steps_mark_the_best_epoch_and_name_only_what_is_there():
    loss = Chart("loss", [Line("batches", [], fine=True), Line("training", [(10, 2.0), (20, 1.0)])])
    accuracy = Chart("accuracy", [Line("held out", [(10, 0.5), (20, 0.4)])])
    best = best_of(accuracy.lines[0].points)
    assert best == (10, "best epoch: 1")
    figure = draw_curves("title", [loss, accuracy, Chart("nothing", [])], best)
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim()
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["training", "best epoch: 1"]
    assert best_of([]) is None
    assert draw_curves("title", [loss.__class__("loss", [])]).texts


def test_confusion_is_in_percent_of_the_true_class_and_blank_where_there_is_nothing():
    figure = draw_confusion([[3, 1, 0], [0, 0, 0], [0, 1, 399]], ("a", "b", "c"), "title")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["75", "25", "<1", "100"]
    shown = axes.images[0].get_array()
    assert shown.mask.sum() == 5
    np.testing.assert_allclose(shown[0].compressed(), [75, 25])
    assert not draw_confusion(np.eye(41, dtype=int).tolist(), [str(n) for n in range(41)], "many").axes[0].texts
