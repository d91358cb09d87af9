"""The poolings of others, written a second time from their formulas, as `tests.literal` does for the rest."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import torch
from torch import Tensor, nn

from tests.literal import Norm, convolution, windows


class _Strided(nn.Module):
    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.stride: int = pool.stride  # type: ignore[assignment]

    def components(self, x: Tensor) -> list[Tensor]:
        """The grids of every s-th pixel, row by row of a window."""
        side = self.stride
        rows, columns = x.shape[2] // side, x.shape[3] // side
        return [x[:, :, i : rows * side : side, j : columns * side : side] for i in range(side) for j in range(side)]


class Blur(_Strided):
    """`blur`: each output pixel is the binomial mean of the t × t pixels around it, the map mirrored at its borders."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__(pool)
        taps = 2 * self.stride - 1
        self.row = [comb(taps - 1, k) / 2 ** (taps - 1) for k in range(taps)]
        kernel = [[one * other for other in self.row] for one in self.row]
        like = pool.get_buffer("kernel")
        self.register_buffer("kernel", torch.tensor(kernel, dtype=like.dtype).expand(like.shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.blurred(x, x.shape[2] // self.stride, x.shape[3] // self.stride)

    def blurred(self, x: Tensor, rows: int, columns: int) -> Tensor:
        total = x.new_zeros(*x.shape[:2], rows, columns)
        for i, one in enumerate(self.row):
            for j, other in enumerate(self.row):
                down, across = self._places(rows, i, x.shape[2]), self._places(columns, j, x.shape[3])
                total = total + one * other * x[:, :, down][:, :, :, across]
        return total

    def _places(self, count: int, tap: int, size: int) -> Tensor:
        middle = len(self.row) // 2
        places = [abs(place * self.stride + tap - middle) for place in range(count)]
        return torch.tensor([place if place < size else 2 * (size - 1) - place for place in places])


class SkipBlur(Blur):
    """`skipblur`: the same, of as many pixels as every s-th is, from the first on."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (len(range(0, side, self.stride)) for side in x.shape[2:])
        return self.blurred(x, rows, columns)


class MaxBlur(Blur):
    """`maxblur`: the maximum of the s × s pixels from each on, blurred."""

    def forward(self, x: Tensor) -> Tensor:
        side = self.stride
        rows, columns = x.shape[2] - side + 1, x.shape[3] - side + 1
        shifted = [x[:, :, i : i + rows, j : j + columns] for i in range(side) for j in range(side)]
        return self.blurred(torch.stack(shifted).amax(0), x.shape[2] // side, x.shape[3] // side)


class Soft(_Strided):
    """`softpool`: Σ eˣ·x / Σ eˣ over each window."""

    def forward(self, x: Tensor) -> Tensor:
        pixels = windows(x, self.stride)
        weight = pixels.exp()
        return (weight * pixels).sum((3, 5)) / weight.sum((3, 5))


class SpaceToDepth(_Strided):
    """`spd`: the pixels of a window side by side as channels, a matrix, batch norm."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__(pool)
        norm = Norm(pool.get_submodule("mix.1"))
        self.mix = nn.Sequential(convolution(pool.get_submodule("mix.0"), bias=False), norm)

    def forward(self, x: Tensor) -> Tensor:
        depth = torch.stack(self.components(x), 2).flatten(1, 2)
        matrix = self.mix.get_parameter("0.weight").flatten(1)
        mixed: Tensor = self.mix[1](torch.einsum("oc,nchw->nohw", matrix, depth))
        return mixed


class Haar(_Strided):
    """`hwd`: subbands of an orthonormal basis, a matrix, batch norm, ReLU."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__(pool)
        side = self.stride
        rows = [[1.0] * side, *([1.0] * k + [-float(k)] + [0.0] * (side - 1 - k) for k in range(1, side))]
        unit = [[value / sum(other**2 for other in row) ** 0.5 for value in row] for row in rows]
        self.basis = torch.tensor(unit, dtype=torch.float64)
        bands = torch.einsum("ai,bj->abij", self.basis, self.basis).reshape(-1, 1, side, side)
        like = pool.get_buffer("bands")
        self.register_buffer("bands", bands.repeat(len(like) // side**2, 1, 1, 1).to(like.dtype))
        norm = Norm(pool.get_submodule("mix.1"))
        self.mix = nn.Sequential(convolution(pool.get_submodule("mix.0"), bias=False), norm)

    def forward(self, x: Tensor) -> Tensor:
        basis = self.basis.to(x.dtype)
        bands = torch.einsum("ai,bj,ncyixj->ncabyx", basis, basis, windows(x, self.stride)).flatten(1, 3)
        return self.mix(bands).relu()  # type: ignore[no-any-return]


class Polyphase(_Strided):
    """`aps`: of the grids of every s-th pixel, each image's largest."""

    def forward(self, x: Tensor) -> Tensor:
        parts = self.components(x)
        return torch.stack([max((part[n] for part in parts), key=lambda part: part.norm()) for n in range(len(x))])


class LearnedPolyphase(_Strided):
    """`lps`: the grid of the largest score; in training a mixture of them."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__(pool)
        self.hidden = convolution(pool.get_submodule("hidden"))
        self.score = convolution(pool.get_submodule("score"), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.components(x)
        scores = torch.stack([self._score(part) for part in parts], 1)
        if not self.training:
            best = scores.argmax(1).tolist()
            return torch.stack([parts[k][n] for n, k in enumerate(best)])
        noise = -torch.empty_like(scores).exponential_().log()
        shares = (scores + noise).softmax(1)
        total = torch.zeros_like(parts[0])
        for k, part in enumerate(parts):
            total = total + shares[:, k, None, None, None] * part
        return total

    def _score(self, part: Tensor) -> Tensor:
        around = torch.cat((part[:, :, -1:], part, part[:, :, :1]), 2)
        around = torch.cat((around[..., -1:], around, around[..., :1]), 3)
        score: Tensor = self.score(self.hidden(around).relu())
        return score.mean((1, 2, 3))


class LowCut(_Strided):
    """`flc`: Fourier transform, the middle of the shifted spectrum, inverse transform, real part."""

    def forward(self, x: Tensor) -> Tensor:
        (height, width), side = x.shape[-2:], self.stride
        rows, columns = height // side, width // side
        spectrum = torch.fft.fftshift(torch.fft.fft2(x, norm="forward"), dim=(2, 3))
        top, left = height // 2 - rows // 2, width // 2 - columns // 2
        low = torch.fft.ifftshift(spectrum[:, :, top : top + rows, left : left + columns], dim=(2, 3))
        return torch.fft.ifft2(low, norm="forward").real


class Recurrent(_Strided):
    """`rnnpool`: one window line after the other."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__(pool)
        self.lines, self.summary = (Cell(pool.get_submodule(name)) for name in ("lines", "summary"))

    def forward(self, x: Tensor) -> Tensor:
        side, channels = self.stride, x.shape[1]
        pixel = windows(x, side).permute(3, 5, 0, 2, 4, 1)  # place in the window, image, window, channels
        rows = [self.lines([pixel[i, j] for j in range(side)]) for i in range(side)]
        columns = [self.lines([pixel[i, j] for i in range(side)]) for j in range(side)]
        sweeps = [self.summary(line) for line in (rows, rows[::-1], columns, columns[::-1])]
        return torch.cat(sweeps, -1)[..., :channels].permute(0, 3, 1, 2)


class Cell(nn.Module):
    """z = σ(Wx + Uh + b), c = tanh(Wx + Uh + b'), h = (σ(ζ)(1 - z) + σ(ν))c + zh."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.read = convolution(cell.get_submodule("read"), bias=False)
        self.keep = convolution(cell.get_submodule("keep"), bias=False)
        self.gate, self.candidate = cell.get_parameter("gate"), cell.get_parameter("candidate")
        self.zeta, self.nu = cell.get_parameter("zeta"), cell.get_parameter("nu")

    def forward(self, sequence: list[Tensor]) -> Tensor:
        w, u = self.read.weight.flatten(1), self.keep.weight.flatten(1)
        h = torch.zeros(*sequence[0].shape[:-1], len(u), dtype=w.dtype)
        for x in sequence:
            both = x @ w.T + h @ u.T
            z, c = (both + self.gate.flatten()).sigmoid(), (both + self.candidate.flatten()).tanh()
            h = (self.zeta.sigmoid() * (1 - z) + self.nu.sigmoid()) * c + z * h
        return h


KINDS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "blur": Blur,
    "maxblur": MaxBlur,
    "skipblur": SkipBlur,
    "softpool": Soft,
    "spd": SpaceToDepth,
    "hwd": Haar,
    "aps": Polyphase,
    "lps": LearnedPolyphase,
    "flc": LowCut,
    "rnnpool": Recurrent,
}
