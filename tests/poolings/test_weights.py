"""What pools weigh: recording, and how even it is."""

from __future__ import annotations

import pytest
import torch

import sapool
from sapool import poolings
from sapool.poolings.weights import spread
from sapool.poolings.window import weighted_average


def test_uniformity_is_one_where_all_weigh_alike_and_one_over_n_where_one_pixel_has_all():
    assert sapool.uniformity(torch.full((2, 3, 4, 5), 1.65)) == pytest.approx(1)
    single = torch.zeros(1, 1, 4, 5)
    single[0, 0, 1, 1] = 7
    assert sapool.uniformity(single) == pytest.approx(1 / 20)
    half = torch.ones(1, 1, 2, 4)
    half[..., :2] = 0
    assert sapool.uniformity(half) == pytest.approx(0.5)


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_uniformity_is_of_no_scale(factor):
    weight = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    assert sapool.uniformity(weight * factor) == pytest.approx(sapool.uniformity(weight))
    assert spread(weight * factor) == pytest.approx(spread(weight), rel=1e-4)


def test_a_model_gives_its_weight_maps_and_stays_as_it_is():
    model = sapool.compile("prepool-lip-2-resnet18-avgp-1222", image_size=64, num_classes=3)
    model.layer1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    x = torch.randn(2, 3, 64, 64)
    maps = model.weight_maps(x)
    assert list(maps) == ["prepool"]
    assert maps["prepool"].shape == (2, 64, 32, 32) or maps["prepool"].shape[-2:] == model.plan.sites[0].map
    assert not maps["prepool"].requires_grad
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(model.eval().weight_maps(x)["prepool"], maps["prepool"])


def test_every_weighing_site_is_there_in_order():
    model = sapool.compile("resnet18-lip-2222", image_size=64, num_classes=3)
    assert list(model.weight_maps(torch.randn(1, 3, 64, 64))) == ["stage1", "stage2", "stage3", "stage4"]


def test_softpools_weights_are_those_of_its_average():
    pool, x = poolings.build("softpool", 3, 2), torch.randn(2, 3, 7, 8) * 3 + 500
    weight = pool.weight(x)
    assert weight.shape == x.shape
    assert float(weight.max()) == 1
    torch.testing.assert_close(weighted_average(x, weight, 2), pool(x))
    assert sapool.uniformity(pool.weight(torch.zeros(1, 1, 4, 4))) == pytest.approx(1)
