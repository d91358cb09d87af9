"""MobileNetV2 in other widths: timm's, with the placement of the published networks."""

from __future__ import annotations

import pytest
import torch

import sapool


@pytest.mark.parametrize(
    ("ours", "timms"),
    [
        ("mobilenet-nlp_headfix2-2222121", "timm:mobilenetv2_100-nlp_headfix2-2222121"),
        ("mobilenet_v2-lip-1222121", "timm:mobilenetv2_100_v2-lip-1222121"),
    ],
)
def test_the_width_that_both_have_is_the_same_network(ours: str, timms: str) -> None:
    """With torchvision's tensors in timm's, which follow each other in the same order."""
    torch.manual_seed(0)
    one = sapool.compile(ours, num_classes=10, dialect="paper", image_size=64).eval()
    other = sapool.compile(timms, num_classes=10, dialect="paper", image_size=64).eval()
    assert [site.channels for site in one.plan.sites] == [site.channels for site in other.plan.sites]
    given, wanted = one.state_dict(), other.state_dict()
    pools = {key: value for key, value in given.items() if key.startswith("pools.")}
    backbone = [value for key, value in given.items() if key not in pools]
    keys = [key for key in wanted if key not in pools]
    assert len(keys) == len(backbone)
    other.load_state_dict({**pools, **dict(zip(keys, backbone, strict=True))})
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(one(x), other(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("width", ["035", "050", "075", "140"])
def test_widths_compile_in_the_papers_dialect(width: str) -> None:
    with torch.device("meta"):
        model = sapool.compile(f"timm:mobilenetv2_{width}-nlp_headfix2-1222121", dialect="paper", num_classes=10)
    pooled = [site for site in model.plan.sites if site.action == "pool"]
    assert [site.name for site in pooled] == ["stage2", "stage3", "stage4", "stage6"]
    assert all(site.pool.readers for site in pooled)  # before the first block, as MobileNetV2's plain names pool
    assert {site.pool.attention.heads for site in pooled} == {2}


def test_other_backbones_have_no_papers_dialect() -> None:
    with pytest.raises(sapool.errors.InputError, match="mobilenetv2_"):
        sapool.compile("timm:mobilenetv3_small_050-lip-12221211", dialect="paper")
