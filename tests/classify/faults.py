"""`sapoolc` with a fault at a chosen place: python -m tests.classify.faults WHAT:EPOCH:BATCH ARGUMENTS...

WHAT is kill (SIGKILL), interrupt (Ctrl-C), terminate (SIGTERM), nan (weights become NaN), or none.
Epochs and batches count from 0.
"""

from __future__ import annotations

import os
import signal
import sys

import torch

from sapool.cli.main import main
from sapool.training.callbacks import SeedPerStep


def plant(what: str, epoch: int, batch: int) -> None:
    before = SeedPerStep.on_train_batch_start

    def faulty(self, trainer, module, data, index):
        if (trainer.current_epoch, index) == (epoch, batch):
            match what:
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "interrupt":
                    os.kill(os.getpid(), signal.SIGINT)
                case "terminate":
                    os.kill(os.getpid(), signal.SIGTERM)
                case "nan":
                    with torch.no_grad():
                        next(module.model.parameters()).fill_(float("nan"))
        before(self, trainer, module, data, index)

    SeedPerStep.on_train_batch_start = faulty


def run(fault: str, arguments: list[str]) -> int:
    what, *place = fault.split(":")
    if place:
        plant(what, *map(int, place))
    return main(arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
