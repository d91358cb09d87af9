"""A plan is the program: edited, it does what it says; where it contradicts itself or its backbone, it is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sapool
from sapool.errors import InputError, PlanError
from sapool.ir.plan import Plan
from sapool.ir.plan_file import from_json
from sapool.planning import edits
from sapool.poolings.lip import LocalImportancePool
from sapool.poolings.self_attentive import SelfAttentivePool

PLAN = sapool.make_plan("resnet18-nlp-1222", num_classes=7, image_size=64)


def executed(plan: Plan) -> sapool.CompiledModel:
    with torch.device("meta"):
        return sapool.execute(plan)


def test_a_plan_is_what_compile_executes() -> None:
    torch.manual_seed(0)
    one = sapool.compile("resnet18-nlp-1222", num_classes=7, image_size=64).eval()
    torch.manual_seed(0)
    other = sapool.execute(PLAN).eval()
    assert (one.plan, one.rewrites, one.refusals) == (other.plan, other.rewrites, other.refusals)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(one(x), other(x))
    assert edits(one.plan) == ()


def test_another_pooling_and_another_stride_at_one_stage() -> None:
    plan = PLAN.with_pool("stage3", "lip").with_stride("stage3", 1)
    model = executed(plan)
    assert isinstance(model.get_submodule("pools.stage3"), LocalImportancePool)
    assert isinstance(model.get_submodule("pools.stage2"), SelfAttentivePool)
    assert [feature.reduction for feature in model.feature_info] == [4, 8, 8, 16]
    assert str(model.architecture) == "resnet18-nlp-1222"
    assert edits(plan)[:2] == ("stage3.stride: 2 -> 1", 'stage3.pool.kind: "nlp" -> "lip"')


def test_numbers_of_one_pool() -> None:
    model = executed(PLAN.with_pool("stage2", "nlp", heads=2, patch=4, window=False))
    pool = model.get_submodule("pools.stage2")
    assert (pool.attention.heads, pool.patch, pool.window) == (2, 4, False)  # type: ignore[union-attr]
    assert model.plan.site("stage4") == executed(PLAN).plan.site("stage4")


@pytest.mark.parametrize(
    ("text", "site", "kind", "stride", "reductions"),
    [
        ("resnet18-nlp-1222", "stage1", "maxp", 2, [8, 16, 32, 64]),  # a stage that didn't downsample
        ("resnet18-nlp-1222", "stage2", "skip", 2, [4, 8, 16, 32]),  # the backbone's own convolutions again
        ("resnet18-nlp-1222", "stage1", "skip", 2, [8, 16, 32, 64]),  # which needs a projection shortcut
        ("resnet18-nlp-1222", "stage2", "skipblur", 2, [4, 8, 16, 32]),  # these with a filter behind each
        ("resnet18-nlp-1222", "stage1", "skipblur", 3, [12, 24, 48, 96]),
        ("vgg11-maxp-22222", "stage2", "skipblur", 4, [2, 8, 16, 32, 64]),  # whose own pooling strides
        ("resnet18-skip-1222", "prepool", "avgp", 8, [8, 16, 32, 64]),  # in place of the stem's own pooling
        ("mobilenet-lip-1222121", "stage5", "nlp", 2, [2, 4, 8, 16, 32, 64, 64, 64]),  # in front of its stage
        ("vgg11-maxp-22222", "stage2", "lip", 4, [2, 8, 16, 32, 64]),
    ],
)
def test_every_kind_of_site_can_be_edited(text: str, site: str, kind: str, stride: int, reductions: list[int]) -> None:
    plan = sapool.make_plan(text, image_size=128).with_pool(site, kind, stride=stride)
    assert [feature.reduction for feature in executed(plan).feature_info] == reductions
    assert from_json(plan.to_json()) == plan


def test_an_edited_file_is_executed(tmp_path: Path) -> None:
    """What a person would do: write the plan, change it in an editor, and use the file."""
    data = json.loads(PLAN.to_json())
    (site,) = (site for site in data["sites"] if site["name"] == "stage3")
    site["stride"] = 1
    site["pool"] |= {"kind": "lip", "attention": None}
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(data))
    assert executed(sapool.read_plan(file)).plan == executed(PLAN.with_pool("stage3", "lip", stride=1)).plan


def test_stages_with_filters_in_an_edited_plan() -> None:
    plan = PLAN.with_pool("stage3", "skipblur").with_stride("stage3", 4)
    assert [site.kind for site in plan.sites] == ["skip", "skip", "nlp", "skipblur", "nlp"]
    assert edits(plan)[:3] == (
        "stage3.stride: 2 -> 4",
        'stage3.restride.strides: [["layer3_0_conv1", 1], ["layer3_0_downsample_0", 1]] -> '
        '[["layer3_0_conv1", 4], ["layer3_0_downsample_0", 4]]',
        'stage3.restride.filter: "" -> "skipblur"',
    )
    model = executed(plan)
    assert {name for name, _ in model.named_children()} >= {"pools"}
    filters = [name for name, _ in model.get_submodule("pools.stage3").named_children()]
    assert filters == ["layer3_0_conv1", "layer3_0_downsample_0"]
    assert [feature.reduction for feature in model.feature_info] == [4, 8, 32, 64]
    assert from_json(model.plan.to_json()) == model.plan


def test_plans_that_were_written_before_there_were_filters() -> None:
    data = json.loads(sapool.make_plan("resnet18-skip-2222").to_json())
    for site in data["sites"]:
        (site["restride"] or {}).pop("filter", None)
    assert from_json(json.dumps(data)) == sapool.make_plan("resnet18-skip-2222")


def test_a_plan_of_an_own_backbone() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 4, 3, stride=2, padding=1)
            self.one = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1))
            self.two = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
            self.fc = nn.Linear(8, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.two(self.one(self.stem(x))).mean((2, 3)))

    own = Own()
    plan = sapool.make_plan("lip-22", backbone=own, image_size=32).with_pool("stage2", "maxp")
    model = sapool.execute(plan, backbone=own)
    assert model(torch.randn(1, 1, 32, 32)).shape == (1, 5)
    assert (plan.options.in_chans, plan.options.num_classes) == (1, 5)
    with pytest.raises(InputError, match="'module' stands for a module of your own"):
        sapool.execute(plan)


def test_a_file_of_the_format_before_this_one(tmp_path: Path) -> None:
    file = Path(__file__).parents[1] / "data" / "plan-2.json"
    assert executed(sapool.read_plan(file)).plan == executed(sapool.make_plan("prepool-nlp-4-resnet18-nlp-1222")).plan
    data = json.loads(file.read_text())
    data["sites"][2] |= {"kind": "lip", "heads": None, "patch": None, "window": None}
    edited = tmp_path / "plan.json"
    edited.write_text(json.dumps(data))
    assert sapool.read_plan(edited).site("stage2").pool.kind == "lip"  # type: ignore[union-attr]


def site_of(data: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (site for site in data["sites"] if site["name"] == name)
    return found


# What is changed in the JSON of resnet18-nlp-1222, and what is said of it: the site and the field, and why.
WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str, str, str]] = {
    "an unknown kind": (
        lambda d: site_of(d, "stage3")["pool"].update(kind="nlpp"), "stage3", "pool.kind", "Did you mean 'nlp'?",
    ),
    "skip as a pool": (
        lambda d: site_of(d, "stage3")["pool"].update(kind="skip"), "stage3", "pool.kind", "pool is null then",
    ),
    "skipblur as a pool": (
        lambda d: site_of(d, "stage3")["pool"].update(kind="skipblur"), "stage3", "pool.kind",
        "pool is null then, and restride gives the stride, and restride.filter is 'skipblur'",
    ),
    "a filter next to a pool": (
        lambda d: site_of(d, "stage3")["restride"].update(filter="skipblur"), "stage3", "restride.filter",
        "there are none next to a pool",
    ),
    "a filter where nothing strides": (
        lambda d: site_of(d, "stage1").update(restride={"strides": [["layer1_0_conv1", 1]], "filter": "skipblur"}),
        "stage1", "restride.filter", "there are none in a site of stride 1",
    ),
    "a filter that isn't one": (
        lambda d: site_of(d, "stage3")["restride"].update(filter="skipblurr"), "stage3", "restride.filter",
        "Did you mean 'skipblur'?",
    ),
    "a pool as a filter": (
        lambda d: site_of(d, "stage3")["restride"].update(filter="blur"), "stage3", "restride.filter",
        "expected one of skipblur, or an empty text for none, not 'blur'",
    ),
    "attention for a kind without": (
        lambda d: site_of(d, "stage3")["pool"].update(kind="lip"), "stage3", "pool.attention", "expected null",
    ),
    "no numbers for attention": (
        lambda d: site_of(d, "stage3")["pool"].update(attention=None), "stage3", "pool.attention", "are missing",
    ),
    "heads that don't divide": (
        lambda d: site_of(d, "stage2")["pool"]["attention"].update(heads=3), "stage2", "pool.attention.embedding",
        "128 channels can't be shared by 3 heads",
    ),
    "no heads": (
        lambda d: site_of(d, "stage2")["pool"]["attention"].update(heads=0), "stage2", "pool.attention.heads", "not 0",
    ),
    "a patch of nothing": (
        lambda d: site_of(d, "stage2")["pool"]["attention"].update(patch=0), "stage2", "pool.attention.patch", "not 0",
    ),
    "an embedding too wide": (
        lambda d: site_of(d, "stage2")["pool"]["attention"].update(embedding=1 << 20), "stage2",
        "pool.attention.embedding", "from 1 to 65536",
    ),
    "another anchor": (
        lambda d: site_of(d, "stage2")["pool"].update(anchor="layer2_1_relu_9"), "stage2", "pool.anchor",
        "Did you mean 'layer2_1_relu_1'?",
    ),
    "an anchor of another stage": (
        lambda d: site_of(d, "stage2")["pool"].update(anchor="layer3_1_relu_1"), "stage2", "pool.anchor",
        "isn't one of",
    ),
    "readers where all read": (
        lambda d: site_of(d, "stage2")["pool"].update(readers=["layer3_0_conv1"]), "stage2", "pool.readers",
        "expected none",
    ),
    "other channels of the pool": (
        lambda d: site_of(d, "stage2")["pool"].update(channels=64), "stage2", "pool.channels",
        "'layer2_1_relu_1' has 128 channels, not 64",
    ),
    "other channels of the site": (
        lambda d: site_of(d, "stage2").update(channels=64), "stage2", "channels", "expected 128, not 64",
    ),
    "a stride of nothing": (
        lambda d: site_of(d, "stage2").update(stride=0), "stage2", "stride", "from 1 to 256, not 0",
    ),
    "another stride of the backbone": (
        lambda d: site_of(d, "stage2").update(was=3), "stage2", "was", "is 2, not 3",
    ),
    "a stride beside a pool": (
        lambda d: site_of(d, "stage2")["restride"].update(
            strides=[["layer2_0_conv1", 2], ["layer2_0_downsample_0", 1]]
        ),
        "stage2", "restride.strides", "can't have a stride of 2 next to a pool",
    ),
    "a convolution forgotten": (
        lambda d: site_of(d, "stage2")["restride"].update(strides=[["layer2_0_conv1", 1]]), "stage2", "restride",
        "nothing is said of layer2_0_downsample_0",
    ),
    "a convolution named twice": (
        lambda d: site_of(d, "stage2")["restride"].update(strides=[["layer2_0_conv1", 1]] * 2), "stage2",
        "restride.strides", "stands twice",
    ),
    "an unknown convolution": (
        lambda d: site_of(d, "stage2")["restride"]["strides"].append(["layer2_0_conv9", 1]), "stage2",
        "restride.strides", "'layer2_0_conv9' isn't one of",
    ),
    "a convolution that goes": (
        lambda d: site_of(d, "stage2")["restride"].update(removes=["layer2_0_conv1"]), "stage2", "restride.removes",
        "can't stand here",
    ),
    "no change of the stride": (
        lambda d: site_of(d, "stage2").update(restride=None), "stage2", "restride", "must change for pooling",
    ),
    "a pool gone, its convolutions too": (
        lambda d: site_of(d, "stage2").update(pool=None), "stage2", "restride.strides", "the site's stride of 2",
    ),
    "a shortcut where there is no identity": (
        lambda d: site_of(d, "stage2").update(shortcut={"block": "layer2.0", "reader": "x", "channels": [64, 128]}),
        "stage2", "shortcut", "there is no identity",
    ),
    "a stride without its shortcut": (
        lambda d: site_of(d, "stage1").update(stride=2, restride={"strides": [["layer1_0_conv1", 2]], "removes": []}),
        "stage1", "shortcut", "an identity can't follow",
    ),
    "a shortcut of another block": (
        lambda d: site_of(d, "stage1").update(
            stride=2, restride={"strides": [["layer1_0_conv1", 2]], "removes": []},
            shortcut={"block": "layer1.1", "reader": "layer1_0_add", "channels": [64, 64]},
        ), "stage1", "shortcut.block", "expected layer1.0, not layer1.1",
    ),
    "a stem that pools": (
        lambda d: site_of(d, "stem").update(pool={"kind": "maxp", "anchor": "relu", "channels": 64, "readers": [],
                                                  "attention": None}),
        "stem", "pool", "a site called prepool changes it",
    ),
    "a site too few": (lambda d: d["sites"].pop(), "", "sites", "stage4, in that order"),
    "sites out of order": (lambda d: d["sites"].reverse(), "", "sites", "in that order, not stage4"),
    "another backbone than the text's": (
        lambda d: d.update(backbone="resnet34"), "", "backbone", "means resnet18, not resnet34",
    ),
    "dynamic where the text isn't": (lambda d: d.update(dynamic=True), "", "dynamic", "means False, not True"),
    "an unknown architecture": (
        lambda d: d.update(architecture="resnet99-nlp-1222"), "", "architecture", "unknown backbone 'resnet99'",
    ),
    "another network's survey": (
        lambda d: d["survey"]["stages"][1].update(stride=4) or site_of(d, "stage2").update(was=4), "survey.stage2",
        "stride", "has 4 there, and this one has 2",
    ),
    "an output that isn't there": (
        lambda d: d["options"].update(features_only=True, out_indices=[4]), "", "options.out_indices",
        "has outputs 0 to 3, not 4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_edit_is_refused_by_site_and_field(name: str) -> None:
    change, site, field, why = WRONG[name]
    data = copy.deepcopy(json.loads(PLAN.to_json()))
    change(data)
    plan = from_json(json.dumps(data))
    assert isinstance(plan, Plan)
    with pytest.raises(PlanError) as caught:
        executed(plan)
    assert (caught.value.site, caught.value.field) == (site, field)
    assert why in str(caught.value)
    assert str(caught.value).startswith(f"plan: {'.'.join(filter(None, (site, field)))}: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stage9", "lip"), "plan: stage9.name: there is no such site; there are prepool, stage1"),
        (("stage2", "lipp"), r"there is no pooling 'lipp'.*Did you mean 'lip'\?"),
    ],
)
def test_edits_in_python_that_cannot_be(arguments: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PLAN.with_pool(*arguments)


def test_passes_can_be_left_out_and_watched() -> None:
    seen: list[str] = []
    with torch.device("meta"):
        watch = lambda name, module, changed: seen.append(name) if changed else None  # noqa: E731
        model = sapool.execute(PLAN, watch=watch, without=("insert_pools",))
    assert seen == ["restride"]
    assert "insert_pools" not in {rewrite.rule for rewrite in model.rewrites}
    assert not hasattr(model, "pools")
    with pytest.raises(InputError, match=r"there is no pass 'insert_pool'.*Did you mean 'insert_pools'\?"):
        sapool.execute(PLAN, without=("insert_pool",))
