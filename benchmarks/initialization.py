"""What the published start of pools does to accuracy: Fashion-MNIST, with and without it, several seeds each.

    python -m benchmarks.initialization [--steps 400] [--seeds 0 1 2] [ARCHITECTURE ...]

Prints a Markdown table of test accuracies. Without it, pools keep PyTorch's defaults.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import nullcontext
from pathlib import Path
from statistics import mean
from unittest.mock import patch

from sapool.recipes.reading import read_recipe
from sapool.tasks import fit

ARCHITECTURES = ("mobilenet_v2-nlp_headfix2_nowin-1222121",)
STARTS = ("published", "PyTorch's")


def accuracy(architecture: str, start: str, seed: int, steps: int) -> float:
    """Test accuracy after a short training by the recipe `fashion_mnist`."""
    overrides = [f"architecture={architecture}", f"train.seed={seed}", f"train.steps_per_epoch={steps}"]
    as_built = patch("sapool.compiler.initialize", lambda model, plan: None)
    with tempfile.TemporaryDirectory() as folder, nullcontext() if start == "published" else as_built:
        return float(fit(read_recipe("fashion_mnist", overrides), Path(folder) / "run").as_data()["test_accuracy"])


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architectures", nargs="*", default=ARCHITECTURES)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    print(f"| network | start | {' | '.join(f'seed {seed}' for seed in options.seeds)} | mean |")
    print("|---" * (len(options.seeds) + 3) + "|")
    for architecture in options.architectures:
        for start in STARTS:
            found = [accuracy(architecture, start, seed, options.steps) for seed in options.seeds]
            cells = " | ".join(f"{value:.4f}" for value in found)
            print(f"| `{architecture}` | {start} | {cells} | {mean(found):.4f} |", flush=True)


if __name__ == "__main__":
    main()
