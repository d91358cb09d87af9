"""Runs a `.tflite` in TensorFlow Lite Micro: a script of its own, for that runtime aborts where others complain.

    python micro.py MODEL ARENA IMAGES RESULTS

IMAGES and RESULTS are .npy: (N, H, W, C) as the model takes them, and the first output for each. What the runtime
allocates is told on standard error. It imports nothing of this project.
"""

import sys
from pathlib import Path

import numpy as np
from tflite_micro.python.tflite_micro import runtime


def main(model: str, arena: str, images: str, results: str) -> None:
    """Runs the file on each image."""
    interpreter = runtime.Interpreter.from_bytes(Path(model).read_bytes(), arena_size=int(arena))
    found = []
    for image in np.load(images):
        interpreter.set_input(np.ascontiguousarray(image[None]), 0)
        interpreter.invoke()
        found.append(np.array(interpreter.get_output(0)))
    np.save(results, np.concatenate(found))
    interpreter.print_allocations()


if __name__ == "__main__":
    main(*sys.argv[1:])
