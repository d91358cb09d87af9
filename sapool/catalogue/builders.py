"""Building backbones: torchvision's from the catalogue, timm's by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision import models

from sapool.catalogue import hubs
from sapool.catalogue.backbones import BACKBONES, OWN, TIMM
from sapool.errors import InputError, WeightsError, did_you_mean, first_line


def build(backbone: str, num_classes: int) -> nn.Module:
    """An unmodified backbone with random weights, on the current default device.

    Args:
        backbone: a name of the catalogue, or `timm:NAME`.
        num_classes: outputs of its classifier.

    Raises:
        InputError: there is no such backbone, timm isn't installed, or the backbone can't have such a classifier.
    """
    if backbone == OWN:
        raise InputError(f"'{OWN}' stands for a module of your own: sapool.compile(TEXT, backbone=MODULE)")
    try:
        with _Uninitialized():
            return _build(backbone, num_classes)
    except NotImplementedError:  # some builders compute with tensors, which meta ones can't do
        with torch.device("cpu"), _Uninitialized(parameters=True):
            return _build(backbone, num_classes).to("meta")


class _Uninitialized(TorchFunctionMode):
    """Spares tensors without data their initial values, which torch would work out at length; or all parameters."""

    _FILLERS = frozenset(
        (
            *("normal_", "uniform_", "trunc_normal_", "constant_", "ones_", "zeros_", "zero_", "fill_", "erfinv_"),
            *("kaiming_normal_", "kaiming_uniform_", "xavier_normal_", "xavier_uniform_", "mul_", "add_", "clamp_"),
        )
    )

    def __init__(self, *, parameters: bool = False) -> None:
        super().__init__()
        self.parameters = parameters

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in self._FILLERS:
            tensor = args[0] if args else (kwargs or {}).get("tensor")
            if isinstance(tensor, nn.Parameter if self.parameters else Tensor) and (self.parameters or tensor.is_meta):
                return tensor
        return func(*args, **(kwargs or {}))


def _build(backbone: str, num_classes: int) -> nn.Module:
    if backbone.startswith(TIMM):
        return _from_timm(backbone, num_classes=num_classes)
    entry = BACKBONES.find(backbone)
    own: dict[str, Any] = {"weights": None} if entry.of_torchvision else {}
    module: nn.Module = BACKBONES.load(backbone)(**own, **entry.arguments, num_classes=num_classes)
    return module


def _from_timm(backbone: str, **arguments: Any) -> nn.Module:
    timm, name = import_timm(), backbone.removeprefix(TIMM)
    known, _, tag = name.partition(".")
    if not timm.is_model(known):
        raise InputError(f"timm has no model '{known}'.{did_you_mean(known, timm.list_models())}")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{known}.*")]
    if tag and tag not in tags:
        raise InputError(f"timm's {known} has no pretrained tag '{tag}'; it has {', '.join(tags) or 'none'}")
    try:
        model = timm.create_model(name, **arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise InputError(f"timm can't build {name} with {arguments}: {error}") from None
    assert isinstance(model, nn.Module)
    return model


def import_timm() -> ModuleType:
    """timm, which is an extra.

    Raises:
        InputError: it isn't installed.
    """
    try:
        import timm  # noqa: PLC0415 - an extra
        import timm.models._features_fx  # noqa: PLC0415 - what its models declare untraceable
    except ImportError:
        raise InputError('backbones of timm need timm: pip install "sapool[timm]"') from None
    module: ModuleType = timm
    return module


def published(backbone: str) -> dict[str, Tensor]:
    """The weights that the backbone's builder publishes, from its cache or its hub.

    Raises:
        WeightsError: they can't be fetched, or there are none.
    """
    if backbone.startswith(TIMM):
        name = backbone.removeprefix(TIMM)
        config = import_timm().get_pretrained_cfg(name)
        if config is None or not config.has_weights:
            raise WeightsError(f"timm publishes no weights for {name}")
        with hubs.briefly_asked_hub() as silent:
            try:
                with torch.device("cpu"):
                    return dict(_from_timm(backbone, pretrained=True).state_dict())
            except InputError:
                raise
            except Exception as error:  # whatever hubs and caches raise
                reason = silent or first_line(error)
                raise WeightsError(_unreachable(f"of timm's {name}", config.hf_hub_id or config.url, reason)) from None
    if not BACKBONES.find(backbone).of_torchvision:
        raise WeightsError(f"there are no published weights of {backbone}; give a file's path as weights")
    weights = models.get_model_weights(BACKBONES[backbone].builder)["DEFAULT"]
    if not hubs.is_cached(weights.url) and (silent := hubs.silence(weights.url)) is not None:
        raise WeightsError(_unreachable(str(weights), weights.url, silent))
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:  # no network, or a file that isn't what its hash says
        raise WeightsError(_unreachable(str(weights), weights.url, first_line(error))) from None


def _unreachable(what: str, where: object, reason: str) -> str:
    return (
        f"the published weights {what} can't be fetched from {where} ({reason}); download that file elsewhere and give "
        "its path as weights"
    )
