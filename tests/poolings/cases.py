"""The pools that tests are run on, with weights that leave no term of a formula idle, and what counts as agreement."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sapool import poolings
from sapool.catalogue.poolings import POOLINGS
from sapool.poolings.dynamic import DynamicConv2d

SELF_ATTENTIVE = [kind.name for kind in POOLINGS.values() if kind.takes_modifiers]
OTHERS = [kind.name for kind in POOLINGS.values() if not kind.takes_modifiers and kind.target]
RIVALS = [kind.name for kind in POOLINGS.values() if kind.target.startswith("sapool.poolings.rivals.")]
"""Those of others, which whole networks are tried with in `test_rivals`, on a small one."""

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


@dataclass(frozen=True)
class Case:
    """A pool and the map it is given. Channels and tokens are narrow: 6 and 8."""

    kind: str
    stride: int
    size: tuple[int, int]
    patch: int = 1
    window: bool = True
    dynamic: bool = False
    heads: int = 2
    channels: int = 6
    embedding: int = 8

    def __str__(self) -> str:
        parts = [self.kind, f"s{self.stride}", f"p{self.patch}", "{}x{}".format(*self.size)]
        return "-".join(parts + ["nowin"] * (not self.window) + ["dy"] * self.dynamic)

    def pool(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """The real pool with random weights, in training mode."""
        torch.manual_seed(self.seed)
        pool = poolings.build(
            self.kind,
            self.channels,
            self.stride,
            heads=self.heads,
            patch=self.patch,
            embedding=self.embedding,
            window=self.window,
            conv=DynamicConv2d if self.dynamic else nn.Conv2d,
        )
        randomise(pool)
        return pool.to(dtype)

    def map(self, dtype: torch.dtype = torch.float64, batch: int = 3) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(batch, self.channels, *self.size, generator=generator).to(dtype)

    @property
    def seed(self) -> int:
        return zlib.crc32(str(self).encode())


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    """Random weights of the sizes that trained ones have, and running statistics other than 0 and 1.

    Offsets of deformable sampling come out at around a pixel: off the grid, and some beyond the map. The shares of
    dynamic kernels and the attention scores come out uneven. Buffers that no file holds are a formula's constants.
    """
    kept = module.state_dict()
    for name, values in (*module.named_parameters(), *module.named_buffers()):
        if name not in kept:
            continue
        noise = torch.randn_like(values) if values.is_floating_point() else torch.zeros(values.shape)
        if name.endswith("running_var"):
            values.copy_(noise.abs() + 0.5)
        elif name.endswith("num_batches_tracked"):
            values.fill_(3)
        elif "fc2" in name:
            values.copy_(noise * 40)
        elif "in_proj_weight" in name:
            values.copy_(noise * 0.6)
        elif "position" in name:
            values.copy_(noise)
        elif values.ndim >= 4:
            values.copy_(noise / values[0].numel() ** 0.5 if values.ndim == 4 else noise / values[0, 0].numel() ** 0.5)
        elif name.endswith("weight") and values.ndim == 1:
            values.copy_(1 + 0.3 * noise)
        else:
            values.copy_(0.2 * noise)


def assert_close(seen: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Each tensor agrees to its dtype's tolerance, of the largest magnitude in it where that is above 1.

    The weight and the bias of a layer are measured by the larger of the two: a bias in front of a batch norm has the
    gradient 0, and all of what is computed for it is rounding, in proportion to the weight's.
    """
    assert seen.keys() == expected.keys()
    scale: defaultdict[str, float] = defaultdict(lambda: 1.0)
    for name, wanted in expected.items():
        scale[_layer(name)] = max(scale[_layer(name)], wanted.abs().max().item())
    wrong = {}
    for name, wanted in expected.items():
        got = seen[name]
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype), name
        error = (got - wanted).abs().max().item()
        if not error <= TOLERANCE.get(wanted.dtype, 0) * scale[_layer(name)]:
            wrong[name] = f"{error:.1e} of {scale[_layer(name)]:.1e}"
    assert not wrong


def _layer(name: str) -> str:
    layer, _, leaf = name.rpartition(".")
    return layer if leaf in {"weight", "bias"} else name


def gradients(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The output and the gradients of a fixed random projection of it, by the names of what they belong to.

    Parameters that the output doesn't depend on have none.
    """
    x = x.clone().requires_grad_()
    torch.manual_seed(1)
    y = module(x)
    parameters = dict(module.named_parameters())
    projection = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(y.dtype)
    found = torch.autograd.grad(y, (x, *parameters.values()), projection, allow_unused=True)
    named = zip(("input", *parameters), found, strict=True)
    return {"output": y.detach()} | {name: gradient for name, gradient in named if gradient is not None}
