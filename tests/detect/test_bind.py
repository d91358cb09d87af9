"""The binder: every published architecture in its detector, every family of heads, and what it refuses."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import Config
from mmengine.registry import init_default_scope

import sapool
from sapool.detect.binding.base import load_base
from sapool.detect.binding.config import smoke_test, start_model
from sapool.detect.binding.families import HEADS
from sapool.errors import InputError
from tests.detect.support import SHIPPED, bound
from tests.tiers import in_tiers

RESNET_POOLINGS = (
    *("skip", "lip", "gaussian_pool", "nlp", "nlp_reduced", "nlp_headfix2_nowin_reduced", "nlp_reduced0842"),
    *("dfmnlp_reduced", "mixp_reduced", "dfmixp_reduced"),
)
STRIDES = ("1222", "2222", "4222")
# reduced0842 has a patch of 0 at stage 1, which can be only where that doesn't pool.
RESNETS = [
    f"{name}-{pooling}-{strides}"
    for name, pooling, strides in itertools.product(("resnet18", "resnet50"), RESNET_POOLINGS, STRIDES)
    if not ("0842" in pooling and strides != "1222")
] + [f"{name}_v2-gaussian_pool-{strides}" for name in ("resnet18", "resnet50") for strides in STRIDES]
DYNAMIC = [
    f"dy{name}-{kind}-{s}" for name in ("resnet18", "resnet50") for kind in ("skip", "nlp_reduced") for s in STRIDES
]
MOBILENETS = [
    f"{name}-{pooling}-{strides}"
    for name, pooling in (
        *itertools.product(("mobilenet", "mobilenet_v2"), ("skip", "lip", "gaussian_pool", "nlp", "nlp_reduced")),
        *itertools.product(("mobilenet", "mobilenet_v2"), ("nlp_headfix2_nowin_reduced",)),
        *(("dymobilenet", "skip"), ("dymobilenet_v2", "nlp_reduced")),
    )
    for strides in ("1222121", "2222121", "4222121")
]
PUBLISHED = ("faster_rcnn", "ssd", "yolov3")


def levels(name: str, architecture: str) -> list[float]:
    return [level.stride[0] for level in bound(SHIPPED[name], architecture).binding.levels]


@pytest.fixture(scope="module", autouse=True)
def scope():
    init_default_scope("mmdet")


def heads_of(config: Config) -> list[dict]:
    return [config.model[name] for name in ("rpn_head", "bbox_head") if name in config.model]


def generators(config: Config) -> list:
    return [TASK_UTILS.build(copy.deepcopy(head["anchor_generator"])) for head in heads_of(config)]


def feature_sizes(config: Config, side: int) -> list[tuple[int, int]]:
    """Sizes of the maps that the heads see, of square images of zeros, from the modules that will be trained."""
    with torch.device("meta"):
        backbone = MODELS.build(copy.deepcopy(config.model.backbone))
        neck = MODELS.build(copy.deepcopy(config.model.neck))
        maps = neck.eval()(backbone.eval()(torch.zeros(1, 3, side, side)))
    return [tuple(level.shape[2:]) for level in maps]


@pytest.mark.parametrize(
    "architecture", in_tiers([*RESNETS, *DYNAMIC, *MOBILENETS], [*RESNETS[:3], *DYNAMIC[:1], *MOBILENETS[:3]])
)
def test_published_architectures_fit_their_detectors(architecture):
    """Each architecture in one of the three, in turn; the next test has all three."""
    name = PUBLISHED[(RESNETS + DYNAMIC + MOBILENETS).index(architecture) % 3]
    made = bound(SHIPPED[name], architecture)
    reductions = [feature.reduction for feature in made.binding.features]
    assert reductions == sorted(set(reductions))
    factor = int(architecture.rsplit("-", 1)[1][0])
    assert reductions[-1] == 32 * factor
    expected = {"faster_rcnn": (4, 8, 16, 32, 64), "yolov3": (32, 16, 8), "ssd": (16, 32)}[name]
    strides = [level.stride[0] for level in made.binding.levels]
    assert strides[: len(expected)] == [factor * stride for stride in expected]
    for head in heads_of(made.config):
        assert [s if isinstance(s, (int, float)) else s[0] for s in head["anchor_generator"]["strides"]] == strides
    assert made.config.model.backbone.out_indices == made.binding.indices


@pytest.mark.parametrize("name", ["faster_rcnn", "yolov3", "retinanet", "rtmdet"])
@pytest.mark.parametrize(
    "family", in_tiers(["resnet18-nlp_reduced-{}222", "mobilenet_v2-lip-{}222121"], ["resnet18-nlp_reduced-{}222"])
)
def test_strides_double_and_quadruple(name, family):
    plain = levels(name, family.format(1))
    for factor in (2, 4):
        assert levels(name, family.format(factor)) == [factor * stride for stride in plain]


def test_ssd_takes_stages_three_and_four_or_five_and_the_head():
    assert bound(SHIPPED["ssd"], "resnet50-lip-1222").binding.indices == (2, 3)
    made = bound(SHIPPED["ssd"], "mobilenet-lip-1222121")
    assert [feature.name for feature in made.binding.features] == ["stage5", "head"]
    assert made.config.model.neck.out_channels[:2] == made.config.model.bbox_head.in_channels[:2] == [96, 1280]


@pytest.mark.parametrize(
    "architecture",
    in_tiers([*(f"resnet18-lip-{n}222" for n in (1, 2, 4)), "mobilenet-lip-4222121"], ["resnet18-lip-1222"]),
)
@pytest.mark.parametrize("name", SHIPPED)
def test_anchors_stand_on_the_feature_grid(name, architecture):
    """On images padded as they will be: a centre in every cell of every level, at the same place of each."""
    made = bound(SHIPPED[name], architecture)
    divisor = made.binding.divisor
    if HEADS[heads_of(made.config)[0]["type"]].fixed:
        side = -(-made.size[0] // divisor) * divisor
    else:
        side = divisor * 2 ** len(made.binding.levels)
    sizes = feature_sizes(made.config, side)
    for generator in generators(made.config):
        priors = generator.grid_priors(sizes, dtype=torch.float64, device="cpu")
        assert len(priors) == len(sizes)
        for level, (points, (height, width)) in enumerate(zip(priors, sizes, strict=True)):
            centres = points if points.shape[1] == 2 else (points[:, :2] + points[:, 2:]) / 2
            columns = centres[:, 0].mul(1e4).round().div(1e4).unique()
            assert len(columns) == width, f"level {level}"
            # One centre in each cell, at the same place of each.
            cell = side / width
            places = columns / cell - torch.arange(width)
            assert places.min() >= -1e-3
            assert places.max() < 1
            assert places.max() - places.min() < 1e-3
            assert height == width
            assert len(centres[:, 1].mul(1e4).round().unique()) == height


def test_region_extractors_follow():
    config = bound(SHIPPED["faster_rcnn"], "resnet18-lip-2222").config
    extractor = config.model.roi_head.bbox_roi_extractor
    # A region of 224 pixels on the level of stride 16, as in the pyramid's paper.
    assert (extractor.featmap_strides, extractor.finest_scale) == ([8, 16, 32, 64], 112.0)
    assert config.model.roi_head.bbox_head.num_classes == 8
    assert config.model.data_preprocessor.pad_size_divisor == 64


def test_lengths_follow_strides_and_images():
    plain, doubled = (bound("fcos/fcos_r50-caffe_fpn_gn-head_1x_coco", f"resnet18-lip-{s}222") for s in (1, 2))
    assert plain.config.model.bbox_head.strides == [8, 16, 32, 64, 128]
    assert doubled.config.model.bbox_head.strides == [16, 32, 64, 128, 256]
    base = bound("foveabox/fovea_r50_fpn_4xb4-1x_coco", "resnet18-lip-2222").config.model.bbox_head
    assert base.base_edge_list == [32, 64, 128, 256, 512]
    assert base.scale_ranges[0] == [2, 128] or base.scale_ranges[0] == (2, 128)
    small = {"data": {"name": "coco", "image_size": [160, 160]}}
    anchors = bound(SHIPPED["ssd"], "resnet18-lip-1222", **small).config.model.bbox_head.anchor_generator
    assert anchors.min_sizes == [24, 50, 75, 101, 126.5, 152]
    pixels = bound(SHIPPED["yolov3"], "resnet18-lip-1222", **{"data": {"name": "coco", "image_size": [304, 304]}})
    assert list(pixels.config.model.bbox_head.anchor_generator.base_sizes[0][0]) == [58, 45]


# One base for each known head, beside the five of the recipes: each is bound, built, and goes forward and back.
FAMILIES = {
    "PAAHead": "paa/paa_r50_fpn_1x_coco",
    "ATSSHead": "atss/atss_r50_fpn_1x_coco",
    "GFLHead": "gfl/gfl_r50_fpn_1x_coco",
    "TOODHead": "tood/tood_r50_fpn_1x_coco",
    "FreeAnchorRetinaHead": "free_anchor/freeanchor_r50_fpn_1x_coco",
    "FSAFHead": "fsaf/fsaf_r50_fpn_1x_coco",
    "DDODHead": "ddod/ddod_r50_fpn_1x_coco",
    "YOLOFHead": "yolof/yolof_r50-c5_8xb8-1x_coco",
    "GARetinaHead": "guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco",
    "SABLRetinaHead": "sabl/sabl-retinanet_r50_fpn_1x_coco",
    "FCOSHead": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco",
    "AutoAssignHead": "autoassign/autoassign_r50-caffe_fpn_1x_coco",
    "FoveaHead": "foveabox/fovea_r50_fpn_4xb4-1x_coco",
    "VFNetHead": "vfnet/vfnet_r50_fpn_1x_coco",
    "RepPointsHead": "reppoints/reppoints-moment_r50_fpn_1x_coco",
    "YOLOXHead": "yolox/yolox_tiny_8xb8-300e_coco",
    "DETRHead": "detr/detr_r50_8xb2-150e_coco",
    "DeformableDETRHead": "deformable_detr/deformable-detr_r50_16xb2-50e_coco",
    "ConditionalDETRHead": "conditional_detr/conditional-detr_r50_8xb2-50e_coco",
    "DABDETRHead": "dab_detr/dab-detr_r50_8xb2-50e_coco",
    "DINOHead": "dino/dino-4scale_r50_8xb2-12e_coco",
    "EmbeddingRPNHead": "sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco",
    "RPNHead": "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco",
    "mask_head": "mask_rcnn/mask-rcnn_r50_fpn_1x_coco",
    "libra": "libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco",
    "no neck": "faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco",
}


@pytest.mark.parametrize("name", in_tiers([*FAMILIES, *SHIPPED], [*SHIPPED, "FCOSHead", "RPNHead"]))
def test_every_family_of_heads_goes_forward_and_back(name):
    # Without a neck the smallest anchors are of 128 pixels; DINO wants 900 cells.
    side = {"no neck": 384, "DINOHead": 448}.get(name, 128)
    small = {"data": {"name": "coco", "classes": "published", "image_size": [side, side]}}
    base = FAMILIES.get(name) or SHIPPED[name]
    made = bound(base, "resnet18-nlp_headfix2_nowin_reduced-2222", **small)
    assert smoke_test(made) > 0
    text = made.config.pretty_text
    assert "checkpoint" not in Config.fromstring(text, ".py").model.backbone
    assert "torchvision://" not in text
    assert "download.openmmlab.com" not in text


def test_classes_everywhere():
    config = bound("cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco", "resnet18-lip-1222").config
    assert [head.num_classes for head in config.model.roi_head.bbox_head] == [8, 8, 8]
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        assert len(loader.dataset.metainfo["classes"]) == 8
    names = config.val_dataloader.dataset.metainfo["classes"]
    assert names == ("person", "bicycle", "car", "motorcycle", "bus", "train", "truck", "traffic light")


def test_images_are_normalised_as_the_networks_weights_want_it():
    for name in SHIPPED:
        made = bound(SHIPPED[name], "resnet18-lip-1222").config.model.data_preprocessor
        assert (made.mean, made.std, made.bgr_to_rgb) == ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], True)


@pytest.mark.parametrize(
    ("base", "architecture", "sections", "said"),
    [
        ("cornernet_hourglass104_8xb6-210e-mstest_coco", "resnet18-lip-1222", {}, "the head CornerHead"),
        ("ld/ld_r18-gflv1-r101_fpn_1x_coco", "resnet18-lip-1222", {}, "the head LDHead"),
        ("faster_rcnn/faster-rcnn_r50-caffe-c4_ms-1x_coco", "resnet18-lip-1222", {}, "shared_head ResLayer"),
        ("grid_rcnn/grid-rcnn_r50_fpn_gn-head_2x_coco", "resnet18-lip-1222", {}, "the RoI head GridRoIHead"),
        ("hrnet/fcos_hrnetv2p-w18-gn-head_4xb4-1x_coco", "resnet18-lip-1222", {}, "the neck HRFPN"),
        ("faster_rcnn/faster-rcnn_r50_fpn_2y_coco", "resnet18-lip-1222", {}, "Did you mean 'faster_rcnn/faster"),
        ("dyhead/atss_r50_fpn_dyhead_1x_coco", "resnet18-lip-1222", {}, "the neck DyHead"),
        (SHIPPED["yolov3"], "resnet18-skip-1121", {}, "takes 3 maps, and .* has maps of 2 different sizes only"),
        (SHIPPED["faster_rcnn"], "resnet18-skip-1122", {}, "takes 4 maps, and .* has maps of 3 different sizes only"),
        (SHIPPED["yolov3"], "resnet18-skip-1242", {}, "enlarges each map by 2"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(base, architecture, sections, said):
    with pytest.raises(InputError, match=said):
        bound(base, architecture, **sections)


@pytest.mark.parametrize("start", [{"type": "Normal", "layer": {}}, {"type": "Normal", "layer": "Conv2d", "std": "x"}])
def test_a_start_of_weights_that_is_none_is_refused(start):
    config = copy.deepcopy(bound(SHIPPED["ssd"], "resnet18-lip-1222").config)
    config.model.bbox_head.init_cfg = start
    with pytest.raises(InputError, match=r"detector\.base: mmdet can't initialise the detector .* \(init_cfg\): "):
        start_model(config)


@pytest.mark.parametrize(
    ("indices", "said"),
    [
        ([1, 2, 4], r"has maps 0 to 3 \(0: stage1 1/4, .*\), not 4"),
        ([-1, 2, 3], "has maps 0 to 3"),
        ([1, 2], "takes 3 maps, not 2"),
        ([3, 2, 1], r"ascending numbers, not \[3, 2, 1\]"),
    ],
)
def test_wrong_out_indices(indices, said):
    detector = {"base": SHIPPED["yolov3"], "out_indices": indices}
    with pytest.raises(InputError, match=said):
        bound(SHIPPED["yolov3"], "resnet18-skip-1222", detector=detector)


def test_bases_are_found_by_name_and_path(tmp_path):
    by_name = load_base("ssd300_coco.py")
    assert by_name.model.bbox_head.type == "SSDHead"
    own = tmp_path / "own.py"
    own.write_text(by_name.pretty_text)
    assert load_base(str(own)).model.to_dict() == by_name.model.to_dict()
    own.write_text("model = dict(type='X')")
    with pytest.raises(InputError, match="describes no detector"):
        load_base(str(own))
    own.write_text("model = dict(")
    with pytest.raises(InputError, match="can't be read as a config"):
        load_base(str(own))


def test_architectures_of_the_list_are_of_the_language():
    assert len({str(sapool.parse(text)) for text in (*RESNETS, *DYNAMIC, *MOBILENETS)}) == len(
        RESNETS + DYNAMIC + MOBILENETS
    )
