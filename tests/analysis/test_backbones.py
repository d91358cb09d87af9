"""Every convolutional classifier of torchvision."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

import sapool
from sapool.catalogue.backbones import BACKBONES
from sapool.catalogue.builders import build
from sapool.errors import InputError
from sapool.planning import make_plan, survey
from sapool.weights.transfer import transfer
from tests.analysis import laws
from tests.tiers import in_tiers

# One size a family is built with numbers; the others, which share its entry, without.
BUILT = (
    "resnet18", "resnext50_32x4d", "mobilenet", "mobilenet_v3_small", "efficientnet_b0", "efficientnet_v2_s",
    "mnasnet0_5", "regnet_x_400mf", "regnet_y_400mf", "shufflenet_v2_x0_5", "densenet121", "convnext_tiny", "alexnet",
    "vgg11_bn", "squeezenet1_0", "googlenet", "inception_v3",
)  # fmt: skip
# What every run tries: a family of each way of being built; the slow tier has the others, in shape one of each.
QUICK = ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_0", "convnext_tiny")
QUICK_IN_SHAPE = ("resnet34", "vgg13", "squeezenet1_1", "mnasnet1_0", "wide_resnet50_2", "regnet_x_800mf")
SLOW_IN_SHAPE = (
    "densenet161",
    "efficientnet_b2",
    "regnet_y_1_6gf",
    "shufflenet_v2_x1_5",
    "resnext101_32x8d",
    "convnext_small",
)
# Convolutions without padding need larger images.
LARGER = {"inception_v3": 192, "alexnet": 128}


def test_the_catalogue_has_every_convolutional_classifier() -> None:
    attention = ("vit", "swin", "maxvit")
    there_are = {name for name in models.list_models(module=models) if not name.startswith(attention)}
    assert {entry.builder for entry in BACKBONES.values()} == there_are


@pytest.mark.parametrize("name", in_tiers(BUILT, QUICK))
def test_laws(name: str) -> None:
    subject = laws.Subject(name, LARGER.get(name, 64))
    laws.traced_equals_eager(subject)
    laws.unchanged_strides_change_nothing(subject)
    laws.compiles(subject)
    laws.trains(subject)


@pytest.mark.parametrize("name", in_tiers([n for n in BACKBONES if n not in BUILT], QUICK_IN_SHAPE, SLOW_IN_SHAPE))
def test_laws_of_shape(name: str) -> None:
    subject = laws.Subject(name, 64, "meta")
    assert list(subject.traced.state_dict()) == list(subject.eager.state_dict())
    unchanged, _, _ = subject.rewritten("skip", subject.found.unchanged)
    assert list(unchanged.state_dict()) == list(subject.eager.state_dict())
    laws.compiles(subject)


@pytest.mark.parametrize("name", in_tiers(BACKBONES, [*QUICK, *QUICK_IN_SHAPE]))
def test_what_the_catalogue_says_is_measured(name: str) -> None:
    entry, found = BACKBONES[name], survey(name)
    assert (found.unchanged, found.pools) == (entry.strides, entry.pools)
    with torch.device("meta"):
        module = build(name, 1000)
    assert sum(parameter.numel() for parameter in module.parameters()) == entry.parameters


@pytest.mark.parametrize("name", ["resnet34", "densenet121", "convnext_tiny", "mobilenet_v3_large", "vgg11_bn"])
def test_pretrained_weights_transfer(name: str) -> None:
    """Of a state dict with the builder's shapes all is used; only the pools are new."""
    torch.manual_seed(0)
    weights = build(name, 1000).state_dict()
    model = sapool.compile(f"{name}-nlp_headfix2_nowin-{BACKBONES[name].strides}", image_size=128)
    report = transfer(model, weights)
    assert set(report.transferred) == set(weights)
    assert report.dropped == ()
    assert report.new
    assert all(key.startswith("pools.") for key in report.new)
    own = model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in weights.items())


def test_inserted_shortcuts_are_new_too() -> None:
    weights = models.resnet34().state_dict()
    report = transfer(sapool.compile("resnet34-skip-2222"), weights)
    assert set(report.transferred) == set(weights)
    assert {key.rpartition(".")[0] for key in report.new} == {"layer1.0.downsample.0", "layer1.0.downsample.1"}
    assert "layer1.0.downsample" in str(report)


def test_other_numbers_of_classes_drop_the_classifier_alone() -> None:
    weights = models.shufflenet_v2_x0_5().state_dict()
    report = transfer(sapool.compile("shufflenet_v2_x0_5-skip-222", num_classes=10), weights)
    assert {key for key, _ in report.dropped} == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("densenet121-skip-2222", "densenet121-skip-2222 doesn't fit together: .* choose other strides, or a pooling"),
        ("convnext_tiny-nlp-122", "convnext_tiny has 4 stages, but '122' has 3 digits"),
        ("vgg19-nlp-1222", "vgg19 has 5 stages"),
        ("vit_b_16-nlp-1222", "unknown backbone 'vit_b_16'"),
    ],
)
def test_refusals(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said), torch.device("meta"):
        sapool.compile(text)


def test_a_stride_is_given_to_one_convolution_of_each_way() -> None:
    """SqueezeNet's squeezing convolution feeds both expanding ones: they are strided, and it isn't."""
    strides = make_plan("squeezenet1_1-skip-1113").site("stage4").restride.strides
    assert sorted(strides) == [("features_9_expand1x1", 3), ("features_9_expand3x3", 3)]


@pytest.mark.parametrize("name", ["vgg11", "alexnet", "squeezenet1_1"])
def test_max_pools_are_sites(name: str) -> None:
    """A pool takes the place of each max-pool, which goes; a kept stage keeps its own."""
    entry = BACKBONES[name]
    with torch.device("meta"):
        pooled = sapool.compile(f"{name}-lip-{entry.strides}")
        kept = sapool.compile(f"{name}-skip-{entry.strides}")
        restrided = sapool.compile(f"{name}-skip-4{entry.strides[1:]}")
    count = sum(isinstance(module, nn.MaxPool2d) for module in kept.modules())
    assert count == entry.strides.count("2")
    assert not any(isinstance(module, nn.MaxPool2d) for module in pooled.modules())
    first = next(module for module in restrided.modules() if isinstance(module, nn.MaxPool2d))
    assert first.stride == 4


def test_a_downsampling_layer_keeps_the_resolution_of_even_maps() -> None:
    """ConvNeXt's 2×2 convolutions at stride 1 are padded below and on the right, so that no row is lost."""
    with torch.device("meta"):
        model = sapool.compile("convnext_tiny-maxp-1222", image_size=224)
    assert [site.map for site in model.plan.sites if site.action == "pool"] == [(56, 56), (28, 28), (14, 14)]
    assert [feature.reduction for feature in model.feature_info] == [4, 8, 16, 32]
