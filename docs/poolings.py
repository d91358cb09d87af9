"""Makes `poolings.md` and `poolings.png` of the catalogue, the classes' docstrings and the cost model: `make pages`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import sapool
from sapool.catalogue.poolings import POOLINGS, PoolingType
from sapool.poolings import build

HERE = Path(__file__).parent
_RANKED = [entry for entry in POOLINGS.values() if entry.rank < 100]  # ours; packages' come behind
_NLP_ABLATIONS = 20  # from this rank on a name stands for `nlp` with something left out
KINDS = [entry for entry in _RANKED if entry.rank < _NLP_ABLATIONS]
ABLATIONS = [entry for entry in _RANKED if entry.rank >= _NLP_ABLATIONS]
# A map on which the picture can tell the kinds apart.
SIDE, CHANNELS, STRIDE = 16, 8, 4
TARGET = (1, 2)  # the output pixel whose inputs are drawn

HEAD = """# The poolings

Every pooling of the language maps (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋), save `skip` and `skipblur`. This page is made
of the catalogue, of the classes' docstrings and of the cost model (`make pages`); `sapoolc list poolings` has the same
names, and those that packages bring. In the formulas A is average pooling with side and stride s, σ the sigmoid, BN
batch normalisation, C the channels, p a patch's side, d a token's channels.

`blur` to `rnnpool` are those of others, to compare with. A `.tflite` can't hold `flc`, `aps` and `lps`, and says so
before it is written; ONNX and exported programs hold all of them. DiffStride (Riad et al., ICLR 2022), whose stride
is learned, isn't one of the language: a stride here is a digit that is planned and verified before anything is
trained, and DiffStride's maps have whatever size training gives them.

`blur` filters a stage's output, as every pooling does, and `maxblur` is the published form for max pooling. `skipblur`
is the published form for strided operations: as with `skip`, the stage's own convolutions downsample, on its shortcut
too, and each has a filter. So a site has one pool or several filters (`pools.stage2.layer2_0_conv1`), and a filter's
map is rounded up, ⌈H/s⌉, as a strided convolution rounds, which is why the ways through a block still fit together.

## Side by side

What one pool costs where stage 2 of ResNet-18 downsamples (128 channels, 56×56 to 28×28), and the peak activation
memory of `resnet18-<pooling>-1222` at 224×224 in int8, as it stands and streamed. Of `skipblur` it is both filters of
the stage.

"""

PICTURE = """
![What one output pixel depends on](poolings.png)

How strongly one output pixel (its window outlined) depends on each input pixel: the derivative's size, logarithmic,
of a pool with stride 4 on a 16×16 map with weights drawn at random. Local kinds see their window; attention sees
everything, a little; with patches (`nlp`, p = 2) in whole patches.
"""

PREPOOLS = """
## A prepool and its rivals

`rnnpool` was published for what a prepool is here: downsampling early and hard where memory is short. Costs are those
of `prepool-<pooling>-4-resnet18-skip-1222` at 224×224 in int8, of which only the prepool differs (`skip` strides the
stem's convolution). Accuracies are of the same prepools in a small network on scikit-learn's digits, 32×32, after 8
epochs: mean ± standard deviation over three seeds, of 360 test images, of which one is 0.003. The task is easy, and
three seeds hardly tell them apart. As it stands and streamed, the reduced prepool of attention needs less memory than
`rnnpool`, and more arithmetic (`python -m benchmarks.prepools --epochs 8`).

"""


def page() -> str:
    """The page's text."""
    rows = [("pooling", "parameters", "MACs", "peak, KiB", "streamed, KiB", "modifiers", "source"), ("---",) * 7]
    rows += [_row(entry) for entry in KINDS]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    sections = "".join(map(section, KINDS))
    prepools = (HERE.parent / "benchmarks" / "prepools.md").read_text(encoding="utf-8")
    ablations = "".join(f"| `{entry.name}` | {entry.summary} |\n" for entry in ABLATIONS)
    return (
        f"{HEAD}{table}\n{PICTURE}{PREPOOLS}{prepools}{sections}\n"
        f"## The ablations of `nlp`\n\n| pooling | what it is |\n| --- | --- |\n{ablations}"
    )


def _row(entry: PoolingType) -> tuple[str, ...]:
    model = network(entry.name)
    return (
        f"[`{entry.name}`](#{entry.name})",
        *figures(model),
        f"{sapool.stream(model).schedule.peak / 1024:,.0f}",
        "yes" if entry.takes_modifiers else "",
        entry.source,
    )


def network(kind: str) -> sapool.CompiledModel:
    """The network that a row of the table is about."""
    return sapool.compile(f"resnet18-{kind}-1222")


def figures(model: sapool.CompiledModel) -> tuple[str, str, str]:
    """A pool's parameters and MACs, and its network's peak."""
    cost = sapool.cost(model)
    pool = next((part for part in cost.parts if part.part == "pools.stage2"), None)
    parameters, macs = (pool.parameters, pool.macs) if pool else (0, 0)
    return f"{parameters:,}", f"{macs:,}", f"{cost.memory.peak / 1024:,.0f}"


def section(entry: PoolingType) -> str:
    """A kind's heading, formula and use; the formula is what its class says before its arguments."""
    text = "The stage's own strided convolution, as the backbone was published. Nothing is rewritten but its stride."
    if entry.target:
        said = inspect.getdoc(POOLINGS.load(entry.name))
        assert said is not None, entry.name
        text = re.split(r"\n(?:Args|Returns|Raises):", said)[0].strip()
    return f"\n## {entry.name}\n\n{text}\n\n*When*: {entry.use}.\n"


def influence(kind: str, patch: int = 1) -> np.ndarray:
    """|∂y/∂x| of one output pixel, summed over channels, (16, 16); of a pool with random weights."""
    torch.manual_seed(0)
    pool = build(kind, CHANNELS, STRIDE, heads=2, patch=patch).eval()
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    x = torch.rand(1, CHANNELS, SIDE, SIDE, requires_grad=True)
    y = pool(x)[0, :, TARGET[0], TARGET[1]].sum()
    (gradient,) = torch.autograd.grad(y, x)
    return gradient[0].abs().sum(0).numpy()


def draw(path: Path) -> None:
    """Draws a map for each kind that isn't an ablation."""
    kinds = [(entry.name, 1) for entry in KINDS if entry.target and not entry.filters]  # a filter looks like `blur`
    kinds.insert([name for name, _ in kinds].index("nlp") + 1, ("nlp", 2))
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    axes = figure.subplots(3, -(-len(kinds) // 3))
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (kind, patch) in zip(axes.flat, kinds, strict=False):
        seen = np.log10(influence(kind, patch) + 1e-12)
        image = ax.imshow(seen, vmin=-6, vmax=0, cmap="magma")
        corner = (TARGET[1] * STRIDE - 0.5, TARGET[0] * STRIDE - 0.5)
        ax.add_patch(Rectangle(corner, STRIDE, STRIDE, fill=False, edgecolor="cyan", linewidth=1.5))
        ax.set_title(kind if patch == 1 else f"{kind}, p = {patch}", fontsize=11)
    bar = figure.colorbar(image, ax=axes, shrink=0.9, ticks=range(-6, 1))
    bar.ax.set_yticklabels([f"1e{power}" if power else "1" for power in range(-6, 1)])
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(HERE / "poolings.png")
    (HERE / "poolings.md").write_text(page(), encoding="utf-8")
