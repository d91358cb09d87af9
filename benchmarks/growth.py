"""`python -m benchmarks.growth`: how time and memory of attention pools grow with the image; draws docs/growth.png.

One image, forward without gradients. Times are ratios to the same network with average pools, run in turn; memory is
what the model's own report says (fp32, streaming attention), divided by the number of pixels.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import sapool
from benchmarks.measure import in_turn
from sapool.cost.memory import Assumptions, activation_memory

_SIZES = (64, 96, 128, 192, 256, 320, 384)
_POOLINGS = ("nlp", "nlp_headfix2", "nlp_headfix2_nowin_reduced", "nlp_headfix2_nowin_reduced0842")


def measure(pooling: str, size: int, repeats: int = 5) -> tuple[float, float]:
    """Time against average pooling, and bytes of peak activations for each pixel of the image."""
    x = torch.randn(1, 3, size, size)
    ours = sapool.compile(f"resnet18-{pooling}-1222", image_size=size).eval()
    plain = sapool.compile("resnet18-avgp-1222", image_size=size).eval()
    with torch.no_grad():
        mine, base = in_turn(lambda: ours(x), lambda: plain(x), repeats)
    memory = activation_memory(ours, ours.plan, Assumptions(dtype="fp32"))
    return mine / base, memory.peak / size**2


def draw(times: dict[str, list[float]], memory: dict[str, list[float]], path: Path) -> None:
    """Two panels over the image's side: time against average pooling, and bytes for each pixel; a line a pooling."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for number, pooling in enumerate(times):
        left.plot(_SIZES, times[pooling], marker="o", label=pooling)
        # Lines that lie on each other stay visible: the later ones are thinner.
        right.plot(
            _SIZES, memory[pooling], marker="o", linewidth=8 - 2 * number, markersize=12 - 3 * number, label=pooling
        )
    left.set(xlabel="image side, pixels", ylabel="time / time with average pools", title="resnet18-*-1222, one image")
    most = max(max(held) for held in memory.values())  # with room above, or the thickest line is cut in half
    right.set(xlabel="image side, pixels", ylabel="peak bytes (fp32) / pixel", title="peak activation memory")
    right.set_ylim(0, 1.15 * most)
    for axes in (left, right):
        axes.set_xticks(_SIZES)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="upper left" if axes is left else "lower left")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measures, prints a table and draws it."""
    torch.set_num_threads(2)
    print("| pooling | " + " | ".join(map(str, _SIZES)) + " |\n|---|" + "---|" * len(_SIZES))
    times: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    for pooling in _POOLINGS:
        measured = [measure(pooling, size) for size in _SIZES]
        times[pooling], memory[pooling] = [time for time, _ in measured], [held for _, held in measured]
        print(f"| `{pooling}` | " + " | ".join(f"{ratio:.2f}" for ratio in times[pooling]) + " |", flush=True)
    draw(times, memory, Path(__file__).parents[1] / "docs" / "growth.png")


if __name__ == "__main__":
    main()
