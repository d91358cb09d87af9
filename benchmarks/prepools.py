"""`python -m benchmarks.prepools`: a prepool of attention beside its rivals: memory, arithmetic and accuracy.

Costs are those of `prepool-KIND-4-resnet18-skip-1222` at 224×224, of which only the prepool differs; accuracies are of
the same prepools in a small network on scikit-learn's digits, trained for a few epochs with several seeds. Writes the
table to prepools.md beside this file, from where `make pages` takes it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import fmean, stdev

import torch

import sapool
from sapool.recipes.reading import read_recipe
from sapool.tasks import fit

KINDS = ("skip", "maxp", "blur", "rnnpool", "nlp", "nlp_headfix2_nowin_reduced")
TABLE = Path(__file__).with_suffix(".md")
_HEAD = ("prepool", "parameters", "MACs", "network's MACs", "peak, KiB", "streamed, KiB", "test accuracy on digits")


def costs(kind: str) -> tuple[str, ...]:
    """Of the prepool: parameters and MACs; of its network: MACs, and peaks as it stands and streamed, in int8."""
    model = sapool.compile(f"prepool-{kind}-4-resnet18-skip-1222")
    found = sapool.cost(model)
    pool = next((part for part in found.parts if part.part == "pools.prepool"), None)
    parameters, macs = (pool.parameters, pool.macs) if pool else (0, 0)
    peaks = (found.memory.peak, sapool.stream(model).schedule.peak)
    return (f"{parameters:,}", f"{macs:,}", f"{found.total.macs:,}", *(f"{peak / 1024:,.0f}" for peak in peaks))


def accuracy(kind: str, seed: int, epochs: int) -> float:
    """Test accuracy of a small network with that prepool."""
    overrides = [
        f"architecture=prepool-{kind}-4-timm:test_resnet-skip-1222",
        f"train.seed={seed}",
        f"train.epochs={epochs}",
        "train.logger=none",
        "optimizer.lr=3e-3",
        "model.in_chans=1",
    ]
    with tempfile.TemporaryDirectory() as folder:
        return float(fit(read_recipe("digits", overrides), Path(folder) / "run").as_data()["test_accuracy"])


def main() -> None:
    """Measures, prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [_HEAD, ("---",) * len(_HEAD)]
    for kind in KINDS:
        reached = [accuracy(kind, seed, options.epochs) for seed in range(options.seeds)]
        spread = f" ± {stdev(reached):.3f}" if len(reached) > 1 else ""
        rows.append((f"`{kind}`", *costs(kind), f"{fmean(reached):.3f}{spread}"))
        print("| " + " | ".join(rows[-1]) + " |", flush=True)
    table = "".join("| " + " | ".join(row) + " |\n" for row in rows)
    TABLE.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
