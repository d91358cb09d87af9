"""Compiled networks as timm's models, and in what builds on timm."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sapool
from sapool.errors import ArchitectureError, InputError

timm = pytest.importorskip("timm")

from sapool.timm import TimmClassifier, spelled  # noqa: E402 - it needs timm


def image(channels: int = 3, height: int = 64, width: int = 96, batch: int = 2) -> Tensor:
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(0))


def create(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, **options)


COPIES = [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("resnet18-lip-2222", "sapool-resnet18-lip-2222"),
        ("PREPOOL-nlp-4-ResNet18-nlp_nowin_headfix2-1222", "sapool-prepool-nlp-4-resnet18-nlp_headfix2_nowin-1222"),
        ("timm:resnet10t-lip-2222", "sapool-timm_resnet10t-lip-2222"),
        ("timm:resnet18.a1_in1k-avgp-1222", "sapool-timm_resnet18__a1_in1k-avgp-1222"),
    ],
)
def test_names_lead_to_their_architecture(text: str, name: str) -> None:
    assert spelled(text) == name
    with torch.device("meta"):
        assert create(name, num_classes=3).plan.architecture == str(sapool.parse(text))


@pytest.mark.parametrize("copied", [lambda model: model, *COPIES])
def test_maps_are_numbered_as_timm_numbers_them(copied: Any) -> None:
    own, ours = (
        create(name, features_only=True, out_indices=indices).eval()
        for name, indices in (("resnet18", (2, -1)), ("sapool-resnet18-lip-1222", (1, -1)))
    )
    ours = copied(ours)
    assert ours.feature_info.channels() == own.feature_info.channels()
    assert ours.feature_info.reduction() == own.feature_info.reduction()
    assert ours.feature_info.module_name() == ["pools.stage2", "pools.stage4"]
    assert [entry["index"] for entry in ours.feature_info.get_dicts()] == [1, 3]
    assert ours.feature_info.channels(0) == ours.feature_info.info[0]["num_chs"] == 64
    assert ours.feature_info.get_dicts(["reduction"], [0, 2]) == [{"reduction": 4}, {"reduction": 16}]
    assert (ours.feature_info[0].name, len(ours.feature_info)) == ("stage2", 2)
    assert [x.shape for x in ours(image())] == [x.shape for x in own(image())]


def test_one_map_of_each_size() -> None:
    own, ours = (create(n, features_only=True, in_chans=1) for n in ("mobilenetv2_100", "sapool-mobilenet-lip-1222121"))
    for ask in ("channels", "reduction"):
        assert getattr(own.feature_info, ask)() == getattr(ours.feature_info, ask)()
    assert [x.shape for x in ours(image(1))] == [x.shape for x in own(image(1))]


def test_what_a_compiled_model_tells_of_its_maps() -> None:
    model = sapool.compile("resnet18-skip-1222", features_only=True, out_indices=(3, 1))
    info = model.feature_info
    assert (info.channels(), info.reduction(), info.module_name()) == ([512, 128], [32, 8], ["layer4", "layer2"])
    assert [(feature.name, feature.channels) for feature in info] == [("stage4", 512), ("stage2", 128)]
    assert pickle.loads(pickle.dumps(info)).module_name() == info.module_name()
    with torch.device("meta"):
        logits = sapool.compile("mobilenet-lip-1222121").feature_info
    assert logits.channels([0, 7]) == [16, 1280]
    assert logits.module_name()[1:3] == ["features.3", "features.6"]


@pytest.mark.parametrize(
    ("name", "channels"), [("sapool-resnet18-lip-1222", 512), ("sapool-mobilenet-lip-1222111", 1280)]
)
def test_the_habits_of_timms_classifiers(name: str, channels: int) -> None:
    model, x = create(name, num_classes=7).eval(), image()
    assert (model(x).shape, model.num_classes, model.num_features) == ((2, 7), 7, channels)
    maps = model.forward_features(x)
    assert maps.shape[:2] == (2, channels)
    assert maps.shape[2] > 1
    assert torch.equal(model.forward_head(maps), model(x))
    pooled = model.forward_head(maps, pre_logits=True)
    torch.testing.assert_close(pooled, maps.mean((2, 3)))
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 224, 224)
    model.reset_classifier(0)
    assert isinstance(model.get_classifier(), nn.Identity)
    assert torch.equal(model(x), pooled)
    model.reset_classifier(5)
    assert (model(x).shape, model.num_classes, model.plan.options.num_classes) == ((2, 5), 5, 5)
    for copied in COPIES:
        again = copied(model)
        assert isinstance(again, TimmClassifier)
        assert torch.equal(again(x), model(x))
    model.reset_classifier(0, "")
    assert torch.equal(model(x), maps)
    assert torch.equal(model.forward_head(maps), maps)
    assert create(name, num_classes=0, global_pool="")(x).shape == maps.shape


def test_refusals() -> None:
    with pytest.raises(ArchitectureError, match="nearest valid spelling: resnet18-lip-1222"):
        create("sapool-resnet18-lipp-1222")
    with pytest.raises(InputError, match="output_stride: compiled networks have no such setting"):
        create("sapool-resnet18-lip-1222", features_only=True, output_stride=16)
    with pytest.raises(InputError, match=r"out_indices: resnet18-lip-1222 has the maps 0: 1/4, .* not 4"):
        create("sapool-resnet18-lip-1222", features_only=True, out_indices=(4,))
    with pytest.raises(InputError, match="take off both, with num_classes=0"):
        create("sapool-resnet18-lip-1222", num_classes=3, global_pool="")
    with pytest.raises(RuntimeError, match="Unknown model"):
        create("sapoolresnet18")
    assert timm.is_model("resnet18")
    assert "sapool-resnet18-lip-1222" not in timm.list_models("*")


def step(model: nn.Module, loss: Tensor) -> None:
    """A training step reaches every weight that learns, and changes the first pool."""
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    loss.backward()
    reached = {name: p.grad is not None and bool(p.grad.isfinite().all()) for name, p in model.named_parameters()}
    assert all(reached.values()), [name for name, found in reached.items() if not found]
    pool = next(p for name, p in model.named_parameters() if "pools.stage2" in name)
    before = pool.detach().clone()
    optimizer.step()
    assert not torch.equal(before, pool)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "channels"), [("tu-sapool-resnet18-lip-1222", 1), ("tu-sapool-mobilenet-nlp_headfix2_nowin-1222121", 3)]
)
def test_a_unet_of_segmentation_models_pytorch(name: str, channels: int) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    model = smp.Unet(name, encoder_weights=None, in_channels=channels, classes=3, decoder_channels=(32, 24, 16, 8, 8))
    masks = model(image(channels))
    assert masks.shape == (2, 3, 64, 96)
    step(model, nn.functional.cross_entropy(masks, torch.randint(0, 3, (2, 64, 96))))


@pytest.mark.slow
def test_a_detr_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    backbone = transformers.TimmBackboneConfig(
        backbone="sapool-resnet18-lip-1222", out_indices=[1, 2, 3], num_channels=3, freeze_batch_norm_2d=False
    )
    config = transformers.DeformableDetrConfig(
        use_timm_backbone=False, backbone=None, backbone_config=backbone, d_model=32, encoder_layers=1,
        decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        num_queries=6, num_feature_levels=4, num_labels=4, disable_custom_kernels=True,
    )  # fmt: skip
    model = transformers.DeformableDetrForObjectDetection(config).train()
    labels = [
        {"class_labels": torch.tensor([1, 2]), "boxes": torch.tensor([[0.5, 0.5, 0.3, 0.4], [0.3, 0.6, 0.2, 0.2]])}
    ] * 2
    found = model(pixel_values=image(), labels=labels)
    assert found.logits.shape == (2, 6, 4)
    assert found.pred_boxes.shape == (2, 6, 4)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.01)
    pool = next(p for name, p in model.named_parameters() if "pools.stage2" in name)
    before = pool.detach().clone()
    found.loss.backward()
    assert found.loss.isfinite()
    optimizer.step()
    assert not torch.equal(before, pool)
