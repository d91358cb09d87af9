"""torchvision's convolutional classifiers, as data: which modules are their stages.

The default strides and the numbers of parameters are written down because listings and error messages need them without
torch; a test measures them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sapool.catalogue.backbone import Backbone


def _family(sizes: Mapping[str, int], **entry: Any) -> list[Backbone]:
    """The sizes of a family, with their parameters, that share everything else."""
    return [
        Backbone(name=name, target=f"torchvision.models:{name}", parameters=count, **entry)
        for name, count in sizes.items()
    ]


def _all(*paths: str) -> tuple[tuple[str, ...], ...]:
    """A stage for each path, whose children are its blocks."""
    return tuple((f"{path}.*",) for path in paths)


def _layers(first: int, last: int, parent: str = "features") -> tuple[str, ...]:
    return tuple(f"{parent}.{number}" for number in range(first, last + 1))


_RESNETS = [
    replace(
        entry,
        paper={"maxpool": {"kernel_size": 2, "stride": 2, "padding": 0}},
        paper_shortcuts=(1,),
    )
    if entry.name in ("resnet18", "resnet50")
    else entry
    for entry in _family(
        {
            "resnet18": 11_689_512,
            "resnet34": 21_797_672,
            "resnet50": 25_557_032,
            "resnet101": 44_549_160,
            "resnet152": 60_192_808,
            "resnext50_32x4d": 25_028_904,
            "resnext101_32x8d": 88_791_336,
            "resnext101_64x4d": 83_455_272,
            "wide_resnet50_2": 68_883_240,
            "wide_resnet101_2": 126_886_696,
        },
        stages=_all("layer1", "layer2", "layer3", "layer4"),
        strides="1222",
        pools="last",
    )
]

# One name for two things: `mobilenet` is torchvision's mobilenet_v2, `mobilenet_v2` its other placement of pools.
_MOBILENET = Backbone(
    name="mobilenet",
    target="torchvision.models:mobilenet_v2",
    stages=(
        _layers(1, 1),
        _layers(2, 3),
        _layers(4, 6),
        _layers(7, 10),
        _layers(11, 13),
        _layers(14, 16),
        _layers(17, 17),
    ),
    strides="1222121",
    parameters=3_504_872,
    pools="before",
    head="features.18",
    paper={"classifier.0": None},
)

_MOBILENETS_V3 = [
    *_family(
        {"mobilenet_v3_small": 2_542_856},
        stages=tuple((path,) for path in _layers(1, 11)),
        strides="22121111211",
        pools="before",
        head="features.12",
    ),
    *_family(
        {"mobilenet_v3_large": 5_483_032},
        stages=tuple((path,) for path in _layers(1, 15)),
        strides="121211211111211",
        pools="before",
        head="features.16",
    ),
]

_EFFICIENTNETS = [
    *_family(
        {
            "efficientnet_b0": 5_288_548,
            "efficientnet_b1": 7_794_184,
            "efficientnet_b2": 9_109_994,
            "efficientnet_b3": 12_233_232,
            "efficientnet_b4": 19_341_616,
            "efficientnet_b5": 30_389_784,
            "efficientnet_b6": 43_040_704,
            "efficientnet_b7": 66_347_960,
        },
        stages=_all(*_layers(1, 7)),
        strides="1222121",
        pools="before",
        head="features.8",
    ),
    *_family(
        {"efficientnet_v2_s": 21_458_488},
        stages=_all(*_layers(1, 6)),
        strides="122212",
        pools="before",
        head="features.7",
    ),
    *_family(
        {"efficientnet_v2_m": 54_139_356, "efficientnet_v2_l": 118_515_272},
        stages=_all(*_layers(1, 7)),
        strides="1222121",
        pools="before",
        head="features.8",
    ),
]

_MNASNETS = _family(
    {"mnasnet0_5": 2_218_512, "mnasnet0_75": 3_170_208, "mnasnet1_0": 4_383_312, "mnasnet1_3": 6_282_256},
    stages=_all(*_layers(8, 13, "layers")),
    strides="222121",
    pools="before",
)

_REGNETS = _family(
    {
        "regnet_x_400mf": 5_495_976,
        "regnet_x_800mf": 7_259_656,
        "regnet_x_1_6gf": 9_190_136,
        "regnet_x_3_2gf": 15_296_552,
        "regnet_x_8gf": 39_572_648,
        "regnet_x_16gf": 54_278_536,
        "regnet_x_32gf": 107_811_560,
        "regnet_y_400mf": 4_344_144,
        "regnet_y_800mf": 6_432_512,
        "regnet_y_1_6gf": 11_202_430,
        "regnet_y_3_2gf": 19_436_338,
        "regnet_y_8gf": 39_381_472,
        "regnet_y_16gf": 83_590_140,
        "regnet_y_32gf": 145_046_770,
        "regnet_y_128gf": 644_812_894,
    },
    stages=_all(*(f"trunk_output.block{number}" for number in range(1, 5))),
    strides="2222",
    pools="last",
)

_SHUFFLENETS = _family(
    {
        "shufflenet_v2_x0_5": 1_366_792,
        "shufflenet_v2_x1_0": 2_278_604,
        "shufflenet_v2_x1_5": 3_503_624,
        "shufflenet_v2_x2_0": 7_393_996,
    },
    stages=_all("stage2", "stage3", "stage4"),
    strides="222",
    pools="before",
    head="conv5",
)

# The pool of a stage takes the place of its transition's.
_DENSENETS = _family(
    {"densenet121": 7_978_856, "densenet161": 28_681_000, "densenet169": 14_149_480, "densenet201": 20_013_928},
    stages=(
        ("features.denseblock1",),
        *((f"features.transition{number}", f"features.denseblock{number + 1}") for number in (1, 2, 3)),
    ),
    strides="1222",
    pools="first",
)

# The pool of a stage follows its downsampling layer, whose convolution keeps the resolution.
_CONVNEXTS = _family(
    {
        "convnext_tiny": 28_589_128,
        "convnext_small": 50_223_688,
        "convnext_base": 88_591_464,
        "convnext_large": 197_767_336,
    },
    stages=(("features.1.*",), *((f"features.{number}", f"features.{number + 1}.*") for number in (2, 4, 6))),
    strides="1222",
    pools="first",
)


def _vgg(parameters: int, *, convs: tuple[int, ...], normed: bool) -> Backbone:
    """A plain sequence of layers; each stage ends in the max-pool that is its site. The stem is one convolution."""
    layers = 3 if normed else 2
    name = f"vgg{sum(convs) + 3}{'_bn' if normed else ''}"
    stages, start = [], layers
    for number, count in enumerate(convs):
        end = start + layers * (count - (number == 0))
        stages.append(_layers(start, end))
        start = end + 1
    return Backbone(name, f"torchvision.models:{name}", tuple(stages), "22222", parameters, "last")


_PLAIN = [
    *_family(
        {"alexnet": 61_100_840}, stages=(_layers(2, 2), _layers(3, 5), _layers(6, 12)), strides="222", pools="last"
    ),
    _vgg(132_863_336, convs=(1, 1, 2, 2, 2), normed=False),
    _vgg(132_868_840, convs=(1, 1, 2, 2, 2), normed=True),
    _vgg(133_047_848, convs=(2, 2, 2, 2, 2), normed=False),
    _vgg(133_053_736, convs=(2, 2, 2, 2, 2), normed=True),
    _vgg(138_357_544, convs=(2, 2, 3, 3, 3), normed=False),
    _vgg(138_365_992, convs=(2, 2, 3, 3, 3), normed=True),
    _vgg(143_667_240, convs=(2, 2, 4, 4, 4), normed=False),
    _vgg(143_678_248, convs=(2, 2, 4, 4, 4), normed=True),
    *_family(
        {"squeezenet1_0": 1_248_424},
        stages=(_layers(2, 2), _layers(3, 6), _layers(7, 11), _layers(12, 12)),
        strides="2221",
        pools="last",
    ),
    *_family(
        {"squeezenet1_1": 1_235_496},
        stages=(_layers(2, 2), _layers(3, 5), _layers(6, 8), _layers(9, 12)),
        strides="2221",
        pools="last",
    ),
]

# Their second classifiers help training only, and a graph has one output.
_INCEPTIONS = [
    *_family(
        {"googlenet": 6_624_904},
        stages=(
            ("inception3a", "inception3b"),
            ("maxpool3", *(f"inception4{letter}" for letter in "abcde")),
            ("maxpool4", "inception5a", "inception5b"),
        ),
        strides="122",
        pools="first",
        arguments={"aux_logits": False, "init_weights": True},
    ),
    *_family(
        {"inception_v3": 23_834_568},
        stages=tuple(
            tuple(f"Mixed_{stage}{letter}" for letter in letters)
            for stage, letters in ((5, "bcd"), (6, "abcde"), (7, "abc"))
        ),
        strides="122",
        pools="first",
        arguments={"aux_logits": False, "init_weights": True},
    ),
]

TORCHVISION: tuple[Backbone, ...] = (
    *_RESNETS,
    _MOBILENET,
    *_MOBILENETS_V3,
    *_EFFICIENTNETS,
    *_MNASNETS,
    *_REGNETS,
    *_SHUFFLENETS,
    *_DENSENETS,
    *_CONVNEXTS,
    *_PLAIN,
    *_INCEPTIONS,
)
"""Every one of them, in the order of listings."""
