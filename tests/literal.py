"""Every pooling written a second time, from its formula: plain, slow, and the oracle of the fast one.

Nothing here is rearranged for speed. Attention holds its scores, weights are restored on the full-size map, deformable
samples are gathered pixel by pixel, batch norm is spelled out and a dynamic convolution takes one image at a time. `A`
is average pooling with kernel = stride = s, σ the sigmoid; sections are those of the language's description.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def of(kind: str, pool: nn.Module) -> nn.Module:
    """The literal formulation of `pool`, which is of the kind named.

    It shares the pool's parameters under the same names, and has running statistics of its own that start as the
    pool's are now. Whether it trains is copied from the pool. (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋).
    """
    from tests.rivals import KINDS  # noqa: PLC0415 - which stand on the layers below

    return (_KINDS | KINDS)[kind](pool).train(pool.training)


# Windows and grids


def windows(x: Tensor, stride: int) -> Tensor:
    """(N, C, H, W) to (N, C, ⌊H/s⌋, s, ⌊W/s⌋, s); rows and columns that fill no window are left out."""
    rows, columns = x.shape[2] // stride, x.shape[3] // stride
    whole = x[:, :, : rows * stride, : columns * stride]
    return whole.reshape(*x.shape[:2], rows, stride, columns, stride)


def average(x: Tensor, stride: int) -> Tensor:
    """A: the mean of each window."""
    return windows(x, stride).mean((3, 5))


def upsample(x: Tensor, height: int, width: int) -> Tensor:
    """(N, C, h, w) to (N, C, H, W): pixel (i, j) is a copy of pixel (⌊i·h/H⌋, ⌊j·w/W⌋) (step 4 of `nlp`)."""
    rows = torch.arange(height) * x.shape[2] // height
    columns = torch.arange(width) * x.shape[3] // width
    return x[:, :, rows][:, :, :, columns]


def lay_out(values: Tensor, patch: int, height: int, width: int) -> Tensor:
    """(N, p², h, w), a channel for each place in a patch, row by row, to (N, H, W)."""
    batch, _, rows, columns = values.shape
    pixels = values.new_zeros(batch, rows * patch, columns * patch)
    for place in range(patch**2):
        pixels[:, place // patch :: patch, place % patch :: patch] = values[:, place]
    return pixels[:, :height, :width]


def sample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x (N, C, H, W) at fractional coordinates (N, H, W), clamped to the map, between its four nearest pixels."""
    height, width = x.shape[-2:]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    top, left = rows.detach().floor().long(), columns.detach().floor().long()
    # At the last row the fraction is zero, so what the row below would be doesn't matter.
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, across = (rows - top).unsqueeze(1), (columns - left).unsqueeze(1)

    def pixel(row: Tensor, column: Tensor) -> Tensor:
        index = (row * width + column).flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
        return x.flatten(2).gather(2, index).reshape(*x.shape[:2], *row.shape[1:])

    upper = (1 - across) * pixel(top, left) + across * pixel(top, right)
    lower = (1 - across) * pixel(bottom, left) + across * pixel(bottom, right)
    return (1 - down) * upper + down * lower


def resample(x: Tensor, offset: Tensor) -> Tensor:
    """x (N, C, H, W) at grid + offset, where offset is (N, 2, H, W): rows, then columns (`dfmnlp`)."""
    rows, columns = (torch.arange(size, dtype=x.dtype, device=x.device) for size in x.shape[-2:])
    return sample(x, rows[:, None] + offset[:, 0], columns + offset[:, 1])


# Layers


class Norm(nn.Module):
    """Batch norm: (x − mean)/sqrt(variance + 1e-5)·γ + β.

    In training mean and variance are the batch's, the variance being the biased one, and the running statistics move
    a tenth of the way to the batch's mean and unbiased variance. In evaluation they are the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias = norm.get_parameter("weight"), norm.get_parameter("bias")
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, norm.get_buffer(name).clone())

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        if self.training:
            count = x.numel() / x.shape[1]
            mean = x.mean((0, 2, 3))
            variance = (x - _per_channel(mean)).square().mean((0, 2, 3))
            with torch.no_grad():
                self.running_mean = 0.9 * self.running_mean + 0.1 * mean
                self.running_var = 0.9 * self.running_var + 0.1 * variance * count / (count - 1)
                self.num_batches_tracked += 1
        normal = (x - _per_channel(mean)) / (_per_channel(variance) + 1e-5).sqrt()
        return normal * _per_channel(self.weight) + _per_channel(self.bias)


def _per_channel(values: Tensor) -> Tensor:
    return values[None, :, None, None]


class Convolution(nn.Module):
    """A convolution of a padded map. Padding is (top and left, bottom and right)."""

    bias: Tensor | None

    def __init__(
        self,
        conv: nn.Module,
        *,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.weight = conv.get_parameter("weight")
        self.register_parameter("bias", conv.get_parameter("bias") if bias else None)
        self.padding = padding * 2
        self.convolve = partial(F.conv2d, stride=stride, dilation=dilation, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(F.pad(x, self.padding), self.weight, self.bias)


class DynamicConvolution(Convolution):
    """§4: each image's own Σ aₖ·kernelₖ and Σ aₖ·biasₖ, a = softmax(fc2(ReLU(fc1(global average)))/T)."""

    def __init__(self, conv: nn.Module, *, temperature: float = 34.0, **settings: object) -> None:
        super().__init__(conv, **settings)  # type: ignore[arg-type]
        self.temperature = temperature
        fc1, fc2 = conv.get_submodule("attention.fc1"), conv.get_submodule("attention.fc2")
        self.attention = nn.ModuleDict({"fc1": Convolution(fc1, bias=False), "fc2": Convolution(fc2)})

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._convolve(image.unsqueeze(0)) for image in x])

    def _convolve(self, image: Tensor) -> Tensor:
        hidden = self.attention["fc1"](image.mean((2, 3), keepdim=True)).relu()
        shares = (self.attention["fc2"](hidden).flatten() / self.temperature).softmax(0)
        kernel = sum(share * kernel for share, kernel in zip(shares, self.weight, strict=True))
        bias = None
        if self.bias is not None:
            bias = sum(share * bias for share, bias in zip(shares, self.bias, strict=True))
        return self.convolve(F.pad(image, self.padding), kernel, bias)


def convolution(conv: nn.Module, **settings: object) -> Convolution:
    """The literal form of a convolution, dynamic if its weight is (K, out, in/groups, k, k)."""
    return (DynamicConvolution if conv.get_parameter("weight").ndim == 5 else Convolution)(conv, **settings)  # type: ignore[arg-type]


class Positions(nn.Module):
    """Step 2 of `nlp`: (1, d, h, w), of which ⌊d/2⌋ channels come from the column and the rest from the row."""

    def __init__(self, position: nn.Module) -> None:
        super().__init__()
        self.row, self.column = position.get_parameter("row"), position.get_parameter("column")

    def forward(self, height: int, width: int) -> Tensor:
        from_column = stretch(self.column, width).T[:, None, :].expand(-1, height, -1)
        from_row = stretch(self.row, height).T[:, :, None].expand(-1, -1, width)
        return torch.cat((from_column, from_row))[None]


def stretch(table: Tensor, count: int) -> Tensor:
    """The first entries of a table, or where it is too short, `count` linear interpolations spread over it (§5).

    Entry i of n covers the i-th n-th of the table's length, and is read at the middle of that.
    """
    length = len(table)
    if count <= length:
        return table[:count]
    places = ((torch.arange(count, dtype=table.dtype, device=table.device) + 0.5) * length / count - 0.5).clamp(
        0, length - 1
    )
    before = places.floor().long()
    after = (before + 1).clamp(max=length - 1)
    fraction = (places - before)[:, None]
    return (1 - fraction) * table[before] + fraction * table[after]


class Attention(nn.MultiheadAttention):
    """Step 3 of `nlp`: attention over the pixels of (N, d, h, w), scores of all pairs held in memory."""

    def __init__(self, attention: nn.Module, heads: int) -> None:
        super().__init__(attention.get_parameter("in_proj_weight").shape[1], heads, batch_first=True)
        self.in_proj_weight = attention.get_parameter("in_proj_weight")
        self.in_proj_bias = attention.get_parameter("in_proj_bias")
        self.out_proj.weight = attention.get_parameter("out_proj.weight")
        self.out_proj.bias = attention.get_parameter("out_proj.bias")

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        tokens = x.flatten(2).transpose(1, 2)
        mixed, _ = super().forward(tokens, tokens, tokens, need_weights=True)
        return mixed.transpose(1, 2).reshape(x.shape)


# Poolings (§3)


class Max(nn.Module):
    """`maxp`: the largest value of each window."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.stride: int = pool.stride  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        return windows(x, self.stride).amax((3, 5))


class Average(Max):
    """`avgp`: y = A(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return average(x, self.stride)


class Lip(nn.Module):
    """`lip`: y = A(x·w)/A(w), w = exp(σ(BN(conv1×1(x))))."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.stride: int = pool.stride  # type: ignore[assignment]
        self.logit = _convolution_and_norm(pool, "logit")

    def forward(self, x: Tensor) -> Tensor:
        weight = self.logit(x).sigmoid().exp()
        return average(x * weight, self.stride) / average(weight, self.stride)


class Gaussian(nn.Module):
    """`gaussian_pool`: y = μ + softplus(m)·sd, where m is noisy in training."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.stride: int = pool.stride  # type: ignore[assignment]
        self.hidden = _convolution_and_norm(pool, "hidden")
        self.mean = _convolution_and_norm(pool, "mean")
        self.deviation = _convolution_and_norm(pool, "deviation")

    def forward(self, x: Tensor) -> Tensor:
        mean = average(x, self.stride)
        deviation = (average(x**2, self.stride) - mean**2).clamp(min=1e-6).sqrt()
        z = self.hidden(x.mean((2, 3), keepdim=True)).relu()
        m = self.mean(z)
        if self.training:
            m = m + self.deviation(z).sigmoid() * torch.randn_like(mean)
        return mean + F.softplus(m) * deviation


class AttentionPool(nn.Module):
    """`attnpool`: y = ReLU(BN(conv s×s stride s of attention(ReLU(BN(conv1×1(x))) + positions)))."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.embed = _convolution_and_norm(pool, "embed")
        self.position = Positions(pool.get_submodule("position"))
        self.attention = Attention(pool.get_submodule("attention"), heads=pool.attention.heads)  # type: ignore[union-attr, arg-type]
        self.project = _convolution_and_norm(pool, "project", stride=pool.stride)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).relu()
        tokens = self.attention(tokens + self.position(*tokens.shape[-2:]))
        pooled: Tensor = self.project(tokens)
        return pooled.relu()


class SelfAttentive(nn.Module):
    """`nlp` and its variants: y = A(x·w)/A(w), or A(x·w) without windows, with w from attention over the whole map.

    Args:
        pool: a real one.
        deformable: `dfmnlp`, `dfmixp`.
        mixed: `mixp`, `dfmixp`.
        without: what an ablation leaves out: "exp", "sigmoid", "pe", "bn1" or "bn2".
    """

    def __init__(self, pool: nn.Module, *, deformable: bool = False, mixed: bool = False, without: str = "") -> None:
        super().__init__()
        self.stride: int = pool.stride  # type: ignore[assignment]
        self.patch: int = pool.patch  # type: ignore[assignment]
        self.window, self.deformable, self.mixed, self.without = pool.window, deformable, mixed, without
        patch = self.patch
        self.embed = _convolution_and_norm(pool, "embed", without == "bn1", stride=patch, bias=not deformable)
        if without != "pe":
            self.position = Positions(pool.get_submodule("position"))
        self.attention = Attention(pool.get_submodule("attention"), heads=pool.attention.heads)  # type: ignore[union-attr, arg-type]
        self.restore = _convolution_and_norm(pool, "restore", without == "bn2")
        if deformable:
            self.offset = convolution(pool.get_submodule("offset"), stride=patch, padding=(1, 1))
            self.mask = convolution(pool.get_submodule("mask"), stride=patch, padding=(1, 1))
        if mixed:
            same = ((patch - 1) // 2, patch // 2)
            self.local = _convolution_and_norm(pool, "local", padding=same)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight(x)
        pooled = average(x * weight, self.stride)
        return pooled / average(weight, self.stride) if self.window else pooled

    def weight(self, x: Tensor) -> Tensor:
        """w, (N, C, H, W)."""
        height, width = x.shape[-2:]
        patches = x
        if self.deformable:
            shifts, p2 = self.offset(x), self.patch**2
            rows, columns = (lay_out(half, self.patch, height, width) for half in (shifts[:, :p2], shifts[:, p2:]))
            offset = torch.stack((rows, columns), dim=1)
            mask = lay_out(self.mask(x).sigmoid(), self.patch, height, width).unsqueeze(1)
            patches = resample(x, offset) * mask
        weight = self.importance(upsample(self.tokens(patches), height, width))
        if self.deformable:
            weight = resample(weight, -offset)
        if self.mixed:
            weight = self.local(x).sigmoid().exp() * weight
        return weight

    def tokens(self, patches: Tensor) -> Tensor:
        """Steps 1 to 3: (N, C, H, W) to (N, d, ⌊H/p⌋, ⌊W/p⌋)."""
        tokens = self.embed(patches).relu()
        if self.without != "pe":
            tokens = tokens + self.position(*tokens.shape[-2:])
        mixed: Tensor = self.attention(tokens)
        return mixed

    def importance(self, tokens: Tensor) -> Tensor:
        """Step 4 after the upsampling: exp(σ(BN(conv1×1))), (N, d, h, w) to (N, C, h, w)."""
        weight: Tensor = self.restore(tokens)
        if self.without != "sigmoid":
            weight = weight.sigmoid()
        return weight.exp() if self.without != "exp" else weight


def _convolution_and_norm(pool: nn.Module, name: str, bare: bool = False, **settings: object) -> nn.Sequential:
    """Layers `name`.0 and .1 of a pool, a convolution and, unless it is to be bare, a batch norm."""
    layers: list[nn.Module] = [convolution(pool.get_submodule(f"{name}.0"), **settings)]
    if not bare:
        layers.append(Norm(pool.get_submodule(f"{name}.1")))
    return nn.Sequential(*layers)


_ABLATIONS = ("exp", "sigmoid", "pe", "bn1", "bn2")
_KINDS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "maxp": Max,
    "avgp": Average,
    "lip": Lip,
    "gaussian_pool": Gaussian,
    "attnpool": AttentionPool,
    "nlp": SelfAttentive,
    "dfmnlp": partial(SelfAttentive, deformable=True),
    "mixp": partial(SelfAttentive, mixed=True),
    "dfmixp": partial(SelfAttentive, deformable=True, mixed=True),
    **{f"nlpno{part}": partial(SelfAttentive, without=part) for part in _ABLATIONS},
}
