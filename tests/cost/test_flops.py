"""Cost: every parameter and every multiply-accumulate is counted once, in the part that it belongs to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

import sapool
from sapool.compiler import baseline
from sapool.cost import flops as cost
from sapool.cost.flops import Cost, total
from sapool.ir.plan import Site
from sapool.poolings.dynamic import DynamicConv2d


def compiled(text: str, **options: Any) -> sapool.CompiledModel:
    """A model without numbers."""
    with torch.device("meta"):
        return sapool.compile(text, **options)


def costs(model: sapool.CompiledModel) -> list[Cost]:
    return cost.costs(model, model.plan)


def macs(parts: list[Cost]) -> dict[str, int]:
    return {part.part: part.macs for part in parts}


# The unmodified networks


@pytest.mark.parametrize(
    ("text", "builder", "millions"),
    [
        ("resnet18-skip-1222", "resnet18", 1814),
        ("resnet50-skip-1222", "resnet50", 4089),
        ("mobilenet-skip-1222121", "mobilenet_v2", 300.8),
    ],
)
def test_literatures_numbers(text: str, builder: str, millions: float) -> None:
    """Multiply-accumulates at 224x224 as torchvision's tables and the papers give them (He et al.; Sandler et al.)."""
    model = compiled(text)
    whole = total(costs(model))
    assert whole.macs / 1e6 == pytest.approx(millions, rel=3e-4)
    entry = models.get_model_weights(builder)["DEFAULT"]
    assert whole.macs / 1e9 == pytest.approx(entry.meta["_ops"], abs=1.1e-3)  # given to three places, cut off
    assert whole.parameters == entry.meta["num_params"]
    assert total(cost.costs(baseline(model.plan), model.plan)) == whole


def test_baseline_has_the_plans_size_and_classes() -> None:
    model = compiled("prepool-nlp-4-resnet18-lip-1222", image_size=64, num_classes=10)
    plain = total(cost.costs(baseline(model.plan), model.plan))
    assert plain == total(costs(compiled("resnet18-skip-1222", image_size=64, num_classes=10)))
    assert plain.parameters == sum(p.numel() for p in models.resnet18(num_classes=10).parameters())


# Parts

PARTS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("resnet18-skip-1222", {}, ["stem", "stage1", "stage2", "stage3", "stage4", "classifier"]),
    (
        "prepool-nlp-4-resnet18_v2-lip-2122",
        {},
        ["stem", "pools.prepool", "stage1", "pools.stage1", "stage2", "stage3", "pools.stage3", "stage4",
         "pools.stage4", "classifier"],
    ),
    ("resnet50-gaussian_pool-1221", {}, ["stem", "stage1", "stage2", "pools.stage2", "stage3", "pools.stage3",
                                         "stage4", "classifier"]),
    (
        "mobilenet-nlp_headfix2-1222121",
        {},
        ["stem", "stage1", "pools.stage2", "stage2", "pools.stage3", "stage3", "pools.stage4", "stage4", "stage5",
         "pools.stage6", "stage6", "stage7", "head", "classifier"],
    ),
    ("resnet18-dfmixp-1222", {"features_only": True}, ["stem", "stage1", "stage2", "pools.stage2", "stage3",
                                                       "pools.stage3", "stage4", "pools.stage4"]),
    ("dymobilenet_v2-attnpool-1211112", {"features_only": True, "out_indices": (1,)}, ["stem", "stage1", "stage2",
                                                                                       "pools.stage2"]),
    ("dyresnet18-nlp-1211", {}, ["stem", "stage1", "stage2", "pools.stage2", "stage3", "stage4", "classifier"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "options", "names"), PARTS, ids=[text for text, _, _ in PARTS])
def test_parts_cover_the_model(text: str, options: dict[str, Any], names: list[str]) -> None:
    model = compiled(text, image_size=96, num_classes=10, **options).eval()
    parts = costs(model)
    assert list(dict.fromkeys(part.part for part in parts)) == names
    assert len(parts) == len(names)
    whole = total(parts)
    assert whole.parameters == sum(parameter.numel() for parameter in model.parameters())
    # Counted once more, over the whole model and with nothing of the parts.
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.empty(1, 3, 96, 96, device="meta"))
    assert whole.macs * 2 == counter.get_total_flops() > 0


def test_parts_hold_their_modules() -> None:
    model = compiled("mobilenet-lip-1222121", num_classes=10)
    parts = {part.part: part.parameters for part in costs(model)}

    def parameters(*paths: str) -> int:
        return sum(p.numel() for path in paths for p in model.get_submodule(path).parameters())

    # features.1 is a stage, and no prefix of features.11.
    assert parts["stem"] == parameters("features.0")
    assert parts["stage1"] == parameters("features.1")
    assert parts["stage5"] == parameters("features.11", "features.12", "features.13")
    assert parts["head"] == parameters("features.18")
    assert parts["classifier"] == parameters("classifier") == 1280 * 10 + 10
    assert parts["pools.stage6"] == parameters("pools.stage6")


def test_counting_leaves_the_model_alone() -> None:
    model = sapool.compile("resnet18-nlp-1222", image_size=64, num_classes=10)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    on_cpu = costs(model)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    # Cost is the network's, wherever its numbers are and whether or not it trains.
    assert on_cpu == costs(model.eval()) == costs(compiled("resnet18-nlp-1222", image_size=64, num_classes=10))


# Poolings, by their formulas


def attention_macs(site: Site) -> int:
    """Embed, project (queries, keys, values and output), scores and mixed values, restore; on the grid of tokens."""
    assert site.attention is not None
    assert site.tokens is not None
    length, d, channels = site.tokens, site.attention.embedding, site.channels
    embed = length * d * channels * site.attention.patch**2
    projections, products = 4 * length * d**2, 2 * length**2 * d
    restore = length * d * channels
    return embed + projections + products + restore


@pytest.mark.parametrize(
    "text",
    [
        "resnet18-nlp-1222",
        "prepool-nlp-4-resnet18-nlp-1222",
        "resnet18-nlp_headfix2_nowin_reduced-2222",
        "resnet50-nlp_reduced0222-1222",
        "mobilenet-nlp-1222121",
        "prepool-nlp_reduced-4-mobilenet_v2-nlpnobn2-1222121",
    ],
)
def test_attention(text: str) -> None:
    model = compiled(text, image_size=128)
    counted = macs(costs(model))
    sites = [site for site in model.plan.sites if site.action == "pool"]
    assert len(sites) >= 3
    for site in sites:
        assert counted[site.module] == attention_macs(site), site.name


def test_attention_of_one_site() -> None:
    """The same by hand: 28x28 tokens of 256 channels in the third stage of a resnet18 at 224x224."""
    counted = macs(costs(compiled("resnet18-nlp-1222")))
    length, d = 28 * 28, 256
    assert counted["pools.stage3"] == 6 * length * d**2 + 2 * length**2 * d == 622_985_216


def test_attention_grows_with_the_fourth_power_of_the_side() -> None:
    small, large = (macs(costs(compiled("resnet18-nlp-1222", image_size=side)))["pools.stage2"] for side in (64, 128))
    length, d = 16 * 16, 128
    assert (small, large) == (6 * length * d**2 + 2 * length**2 * d, 24 * length * d**2 + 32 * length**2 * d)


def test_other_poolings() -> None:
    side, channels = 28, 256  # the third stage of a resnet18 at 224x224

    def counted(kind: str) -> int:
        return macs(costs(compiled(f"resnet18-{kind}-1222")))["pools.stage3"]

    assert counted("maxp") == counted("avgp") == 0
    assert counted("lip") == side**2 * channels**2
    # In evaluation the deviation isn't drawn.
    assert counted("gaussian_pool") == 2 * channels * channels // 2
    tokens = side**2 * channels**2 + 4 * side**2 * channels**2 + 2 * side**4 * channels
    assert counted("attnpool") == tokens + (side // 2) ** 2 * channels**2 * 4
    # Deformable: two 3x3 convolutions, for two offsets and a mask at each pixel. Mixed: a 1x1 convolution more.
    assert counted("dfmnlp") == counted("nlp") + side**2 * channels * 9 * 3
    assert counted("mixp") == counted("nlp") + side**2 * channels**2
    assert counted("dfmixp") == counted("dfmnlp") + counted("mixp") - counted("nlp")


# Dynamic convolutions


@pytest.mark.parametrize("text", ["dyresnet18-skip-1222", "dymobilenet-skip-1222121"])
def test_dynamic_convolutions(text: str) -> None:
    """The plain network's convolutions, and for each the attention over kernels and the mixing of four kernels."""
    model = compiled(text, image_size=64, num_classes=10)
    more = 0
    convolutions = [module for module in model.modules() if isinstance(module, DynamicConv2d)]
    for conv in convolutions:
        hidden = 4 if conv.in_channels == 3 else conv.in_channels // 4 + 1
        more += conv.in_channels * hidden + hidden * 4 + conv.weight.numel()
        assert conv.weight.shape[0] == 4
        assert conv.bias is None
    assert len(convolutions) == {"dyresnet18-skip-1222": 20, "dymobilenet-skip-1222121": 52}[text]
    assert total(costs(model)).macs == total(cost.costs(baseline(model.plan), model.plan)).macs + more


def test_dynamic_poolings_cost_more() -> None:
    plain, dynamic = (macs(costs(compiled(f"{dy}resnet18-nlp-1222", image_size=64))) for dy in ("", "dy"))
    channels, hidden = 256, 65
    # Embed and restore, 1x1 convolutions with biases.
    more = 2 * (channels * hidden + hidden * 4 + 4 * channels**2 + 4 * channels)
    assert dynamic["pools.stage3"] == plain["pools.stage3"] + more
