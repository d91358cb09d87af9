"""What a user would get instead: PyTorch, `-O`, torch.compile and ONNX Runtime: `python -m benchmarks --engines`.

They are timed as `sapoolc bench` does it. A graph that torch.compile can't follow is broken into several; there is to
be one of each network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import sapool
from sapool.bench import Timed, bench

NAMES = (
    "resnet18-skip-1222",
    "resnet18-lip-1222",
    "resnet18-nlp-1222",
    "resnet18-nlp_headfix2_nowin_reduced-1222",
    "mobilenet-skip-1222121",
    "dyresnet18-skip-1222",
)
ENGINES = ("eager", "-O", "torch.compile", "onnxruntime")


def graph_breaks(model: nn.Module, x: Tensor) -> int:
    """How often torch.compile gives up its graph of a model and starts another."""
    torch.compiler.reset()
    with torch.no_grad():
        return int(torch._dynamo.explain(model)(x).graph_break_count)


def row(name: str, timed: Timed, breaks: int | None) -> str:
    """A line of Markdown: milliseconds, of eager's time, megabytes of activations, graph breaks."""
    if timed.milliseconds is None:
        return f"| `{name}` | {timed.engine} | not timed: {timed.reason} | | | |"
    ratio = "" if timed.ratio is None else f"{timed.ratio:.2f}"
    memory = "" if timed.memory is None else f"{timed.memory / 1e6:.1f}"
    broken = "" if breaks is None else str(breaks)
    return f"| `{name}` | {timed.engine} | {timed.milliseconds:.1f} | {ratio} | {memory} | {broken} |"


def tell(names: Sequence[str], batch: int, threads: int, rounds: int, size: int = 128) -> None:
    """Prints the table."""
    print("| network | engine | ms | of eager | activations, MB | graph breaks |\n|---|---|---|---|---|---|")
    for name in names:
        model = sapool.compile(name, image_size=size).eval()
        breaks = graph_breaks(model, torch.randn(batch, 3, size, size))
        for timed in bench(model, engines=ENGINES, batch=batch, threads=threads, rounds=rounds).timed:
            print(row(name, timed, breaks if timed.engine == "torch.compile" else None), flush=True)
