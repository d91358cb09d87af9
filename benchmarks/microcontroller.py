"""`python -m benchmarks.microcontroller RUN [--images N]`: a trained classifier as integers in TensorFlow Lite Micro.

A run's model is written as `.int8.tflite`, calibrated on its own training images. Test images, drawn with a seed, are
shown to the model in PyTorch and to the file in TensorFlow Lite Micro, and both accuracies are told with how near each
pool's weights are (in LiteRT, on training images, as at every export).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import sapool
from sapool.classify.data import transforms
from sapool.classify.data.sources import open_data
from sapool.export.tflite.flatbuffer import read
from sapool.export.tflite.memory import head_of
from sapool.export.tflite.runtimes import LiteRT, run_micro
from sapool.recipes.settings import Recipe


def drawn(recipe: Recipe, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Test images, normalised, (N, C, H, W), and their labels, without regard to their classes."""
    source = open_data(recipe.data).test
    crop, normalise = transforms.evaluation(recipe.data), transforms.normalise(recipe.data)
    order = torch.randperm(len(source.labels), generator=torch.Generator().manual_seed(seed))[:count]
    images = normalise(torch.stack([crop(source.image(index)) for index in order.tolist()]))
    return images, torch.as_tensor(source.labels)[order]


def main(run_dir: Path, count: int) -> None:
    """Prints the comparison."""
    run = sapool.open_run(run_dir)
    model = run.model.eval()
    images, labels = drawn(run.recipe, count)
    with torch.no_grad():
        ours = torch.cat([model(part).argmax(1) for part in images.split(50)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.int8.tflite"
        found = sapool.export(model, path, calibrate=str(run_dir))
        micro = run_micro(path, LiteRT(path).integers(images), head_of(read(path.read_bytes())).bytes)
    theirs = torch.from_numpy(micro.results.reshape(len(images), -1)).argmax(1)
    print(f"{run.recipe.architecture}, {len(images)} test images of {tuple(images.shape[1:])}")
    for row in found.compared:
        print(f"  {row.name}: cosine {row.cosine:.4f}, correlation {row.correlation or 0:.4f}")
    for name, classes in (("float, PyTorch", ours), ("int8, TensorFlow Lite Micro", theirs)):
        print(f"  {name}: {float((classes == labels).double().mean()):.2%}")
    print(f"  the same class: {float((ours == theirs).double().mean()):.2%}")
    print(f"  arena: head {micro.head:,}, tail {micro.tail:,}; file {found.bytes:,}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    main(options.run, options.images)
