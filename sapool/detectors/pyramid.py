"""What stands between a compiled network and torchvision's heads: the network's maps, and the levels made of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from sapool.boxes.frozen import modules_of_stages
from sapool.model import CompiledModel

NORM = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03)
"""SSDLite's batch norm, as in torchvision."""


class Levels(nn.Module):
    """A network and what makes levels of its maps, as torchvision's detectors take a backbone.

    Args:
        body: a compiled network that returns maps.
    """

    def __init__(self, body: CompiledModel) -> None:
        super().__init__()
        self.body, self.norm_eval = body, False
        self._frozen: tuple[str, ...] = ()

    def keep(self, frozen_stages: int, *, norm_eval: bool) -> None:
        """Keeps parts of the network as they are while training.

        Args:
            frozen_stages: -1 trains everything; 0 freezes the stem, k the first k stages and their pools too.
            norm_eval: the network's batch norms keep their statistics.

        Raises:
            InputError: it hasn't so many stages.
        """
        self._frozen, self.norm_eval = modules_of_stages(self.body, frozen_stages), norm_eval
        self._freeze()

    def make(self, maps: Sequence[Tensor]) -> OrderedDict[str, Tensor]:
        """Levels, finest first, of the network's maps (N, C, H/r, W/r)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """The levels of images (N, C, H, W)."""
        return self.make(self.body(x))

    def train(self, mode: bool = True) -> Levels:
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.body.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        for path in self._frozen:
            module = self.body.get_submodule(path)
            module.eval()
            module.requires_grad_(False)


class Pyramid(Levels):
    """A feature pyramid (Lin et al., CVPR 2017) of a network's maps.

    Attributes:
        out_channels: of every level.
    """

    def __init__(self, body: CompiledModel, channels: Sequence[int], out_channels: int, extra: ExtraFPNBlock) -> None:
        super().__init__(body)
        self.out_channels = out_channels
        self.fpn = FeaturePyramidNetwork(list(channels), out_channels, extra)

    def make(self, maps: Sequence[Tensor]) -> OrderedDict[str, Tensor]:
        levels: OrderedDict[str, Tensor] = self.fpn(OrderedDict((str(n), x) for n, x in enumerate(maps)))
        return levels


class Tail(Levels):
    """A network's maps and smaller ones behind them, each half the side of the one before, as SSDLite has them.

    Attributes:
        out_channels: of each level.
    """

    def __init__(self, body: CompiledModel, channels: Sequence[int], extra: Sequence[int]) -> None:
        super().__init__(body)
        self.out_channels = [*channels, *extra]
        pairs = zip([channels[-1], *extra], extra, strict=False)
        self.extra = nn.ModuleList(_halving(ahead, behind) for ahead, behind in pairs)
        for module in self.extra.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.03)

    def make(self, maps: Sequence[Tensor]) -> OrderedDict[str, Tensor]:
        levels = list(maps)
        for block in self.extra:
            levels.append(block(levels[-1]))
        return OrderedDict((str(n), x) for n, x in enumerate(levels))


def _halving(channels: int, out_channels: int) -> nn.Sequential:
    """1×1 to half the channels, 3×3 depthwise with stride 2, 1×1 (Sandler et al., CVPR 2018, section 6.2)."""
    inner = out_channels // 2
    part = partial(Conv2dNormActivation, norm_layer=NORM, activation_layer=nn.ReLU6)
    return nn.Sequential(
        part(channels, inner, kernel_size=1),
        part(inner, inner, kernel_size=3, stride=2, groups=inner),
        part(inner, out_channels, kernel_size=1),
    )
