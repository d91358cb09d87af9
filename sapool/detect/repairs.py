"""Repairs of mmdet 3.3.0 that are applied when `sapool.detect` is imported."""

from __future__ import annotations

from mmdet.models.dense_heads import SSDHead


def apply_repairs() -> None:
    """Gives `SSDHead` the `loss_cls` that its base class asks for when it predicts.

    The head computes its classification loss itself and never sets the attribute, so every prediction ends in an
    AttributeError. The base class only asks whether the loss counts its channels in a way of its own; None doesn't.
    """
    if not hasattr(SSDHead, "loss_cls"):
        SSDHead.loss_cls = None
