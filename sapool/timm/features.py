"""Networks that return maps, as timm's do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sapool.model import CompiledModel
from sapool.passes.measure import FeatureInfo


class TimmFeatures(CompiledModel):
    """A compiled network that returns maps, as timm's `features_only=True` models do: (N, C, H, W) to a list."""

    @classmethod
    def with_info(cls, model: CompiledModel, info: FeatureInfo) -> TimmFeatures:
        """The same network, with maps numbered as timm numbers them."""
        made = cls.of(model, model.origin)
        made.meta["timm"] = info
        assert isinstance(made, TimmFeatures)
        return made

    @property
    def feature_info(self) -> FeatureInfo:
        """The maps that it returns; `info` has all that it could return."""
        info = self.meta["timm"]
        assert isinstance(info, FeatureInfo)
        return info

    @property
    def return_layers(self) -> dict[str, str]:
        """The number of each returned map by its module."""
        return {entry["module"]: str(entry["index"]) for entry in self.feature_info.get_dicts()}

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, arguments = super().__reduce__()
        return _features_again, (rebuild, arguments, tuple(self.feature_info.every), self.feature_info.out_indices)


def _features_again(rebuild: Callable[..., CompiledModel], arguments: Any, every: Any, indices: Any) -> TimmFeatures:
    return TimmFeatures.with_info(rebuild(*arguments), FeatureInfo(every, indices))
