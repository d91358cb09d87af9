"""The authors' checkpoints: their names for what we name otherwise.

Names are matched from our side: each key of the compiled model has one published spelling, so a published key either is
one of those or fits nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from torch import Tensor

from sapool.catalogue.backbones import BACKBONES, PUBLISHED
from sapool.catalogue.poolings import POOLINGS
from sapool.errors import WeightsError, did_you_mean
from sapool.ir.plan import Plan
from sapool.ir.site import Site

# Inside a pool, by the class that computes it: our prefix, theirs. The first that fits is taken.
_ATTENTION = (
    ("attention.", "multihead_attn."),
    ("position.row", "pos_embed.row_embed.weight"),
    ("position.column", "pos_embed.col_embed.weight"),
)
_WEIGHT = "logit.pool_weight."
_SELF_ATTENTIVE = tuple(
    (ours, _WEIGHT + theirs)
    for ours, theirs in (*_ATTENTION, ("embed.", "downsample."), ("restore.", "restore."), ("local.", "local."))
)
_DEFORMABLE = (
    ("embed.0.", f"{_WEIGHT}downsample.0.conv."),
    ("mask.", f"{_WEIGHT}downsample.0.m_conv."),
    ("offset.", f"{_WEIGHT}offset_conv.offset_conv."),
    *_SELF_ATTENTIVE,
)
_POOLS: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "LocalImportancePool": (("logit.", f"{_WEIGHT}logit."),),
        "GaussianPool": (
            ("hidden.0.", "ToHidden.1."),
            ("hidden.1.", "ToHidden.2."),
            ("mean.", "ToMean."),
            ("deviation.", "ToSigma."),
        ),
        "AttentionPool": (*_ATTENTION, ("embed.", "downsample."), ("project.", "map.")),
        "SelfAttentivePool": _SELF_ATTENTIVE,
        "MixedPool": _SELF_ATTENTIVE,
        "DeformablePool": _DEFORMABLE,
        "DeformableMixedPool": _DEFORMABLE,
    }
)

# Layers of an inverted residual, by whether it expands.
_EXPANDING = (("0.0.", "0."), ("0.1.", "1."), ("1.0.", "3."), ("1.1.", "4."), ("2.", "6."), ("3.", "7."))
_PLAIN = (("0.0.", "0."), ("0.1.", "1."), ("1.", "3."), ("2.", "4."))


def convert(state_dict: Mapping[str, Tensor], keys: Iterable[str], plan: Plan) -> dict[str, Tensor]:
    """Renames a state dict of the published code to our keys.

    Args:
        state_dict: the authors' names, with or without `module.` and `net.`, to tensors, which are handed on.
        keys: those of the compiled network.
        plan: of that network.

    Raises:
        WeightsError: a key fits nowhere in it; names it.
    """
    names = _names(keys, plan, state_dict)
    converted: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        name = _bare(key)
        if name not in names:
            raise WeightsError(f"'{key}' fits nowhere in {plan.architecture}." + _hint(name, names, plan))
        if names[name] in converted:
            raise WeightsError(f"'{key}' stands twice in the state dict, with and without a prefix.")
        converted[names[name]] = value
    return converted


def in_our_names(state_dict: Mapping[str, Tensor], keys: Iterable[str], plan: Plan) -> dict[str, Tensor]:
    """A state dict as it is, or renamed where it is of a published backbone and in the published naming.

    Names that fit nowhere stay as they are, but for their prefix.
    """
    if plan.backbone not in PUBLISHED or not is_reference(state_dict):
        return dict(state_dict)
    names = _names(keys, plan, state_dict)
    return {names.get(_bare(key), _bare(key)): value for key, value in state_dict.items()}


def is_reference(keys: Iterable[str]) -> bool:
    """Whether keys are in the published naming (a plain ResNet's are torchvision's, but for a prefix)."""
    marks = r"^(module\.|net\.)|(^|\.)pool(ing)?\.|^conv1_pool\.|^conv[12]\.[01]\.|^features\.\d+\.\d+\.(conv|logit)\."
    return any(re.search(marks, key) for key in keys)


def _bare(key: str) -> str:
    return re.sub(r"^(module\.|net\.)+", "", key)


def _names(keys: Iterable[str], plan: Plan, given: Iterable[str]) -> dict[str, str]:
    """Every published name of the network's tensors, with ours."""
    theirs = {_bare(key) for key in given}
    return {_published(key, plan, theirs): key for key in keys}


def _published(key: str, plan: Plan, theirs: set[str]) -> str:
    """The published name of one of our keys."""
    mobile = BACKBONES[plan.backbone].builder == "mobilenet_v2"
    if key.startswith("pools."):
        _, name, rest = key.split(".", 2)
        site = plan.site(name)
        assert site.pool is not None
        rules = _POOLS.get(POOLINGS[site.pool.kind].target.rpartition(":")[2], ())  # none but theirs have other names
        return _pool_prefix(plan, site, mobile) + _renamed(rest, rules)
    return _mobilenet(key, plan, theirs) if mobile else key


def _pool_prefix(plan: Plan, site: Site, mobile: bool) -> str:
    if site.name == "prepool":
        return "conv1_pool." if mobile else "pool."
    number = int(site.name.removeprefix("stage"))
    stage = f"features.{number - 1}" if mobile else f"layer{number}"
    if plan.pools == "first":
        return f"{stage}.0.pooling."
    return f"{stage}.0." if mobile else f"{stage}.pool."


def _mobilenet(key: str, plan: Plan, theirs: set[str]) -> str:
    for ours, published in (("features.0.", "conv1."), ("features.18.", "conv2."), ("classifier.1.", "classifier.")):
        if key.startswith(ours):
            return published + key.removeprefix(ours)
    for number, blocks in enumerate(BACKBONES[plan.backbone].stages):
        for place, block in enumerate(blocks):
            if key.startswith(f"{block}.conv."):
                rest = key.removeprefix(f"{block}.conv.")
                # Where the pool comes first it is the stage's module 0, and the blocks are counted from 1.
                site = plan.site(f"stage{number + 1}")
                before = site.pool is not None and bool(site.pool.readers)
                first = 1 if before and not any(name.startswith(f"features.{number}.0.conv.") for name in theirs) else 0
                return f"features.{number}.{first + place}.conv." + _renamed(
                    rest, _PLAIN if number == 0 else _EXPANDING
                )
    raise AssertionError(f"{key} has no published name")


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    return next(theirs + name.removeprefix(ours) for ours, theirs in rules if name.startswith(ours))


def _hint(name: str, names: Mapping[str, str], plan: Plan) -> str:
    deformable = any(mark in name for mark in ("offset_conv", "m_conv", "downsample.0.conv."))
    if deformable and "mixp" in plan.architecture and "dfmixp" not in plan.architecture:
        return " The published 'mixp' is deformable: it is 'dfmixp' here."
    return did_you_mean(name, names)
