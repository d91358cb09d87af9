"""The file that a command leaves of a model: what its name says, and what it was found to be."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sapool.cli.options import assumptions, is_run_folder
from sapool.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from sapool.catalogue.formats import Format
    from sapool.export.verification import Verification
    from sapool.model import CompiledModel


def format_written(options: argparse.Namespace) -> Format | None:
    """The format of `options.output`, or None where there is none. What can be told before torch is loaded is refused.

    Raises:
        InputError: no suffix's, or what writes it isn't installed, or images to calibrate on are missing or useless,
            or such a file can't hold what is streamed.
    """
    from sapool.catalogue.formats import format_of

    if not options.output:
        if options.calibrate is not None:
            raise InputError("--calibrate: nothing is written; name the file with -o")
        return None
    entry = format_of(options.output)
    entry.check_installed()
    if entry.plain and (options.stream or options.budget):
        raise InputError(
            f"{options.output}: a {entry.suffixes[0]} holds the network as it stands; write a .onnx or .pt2 to have it "
            "streamed, or leave --stream and --budget out and stream it when it is loaded (sapool.stream)"
        )
    if options.calibrate is not None and not entry.runs:
        raise InputError(f"--calibrate: nothing is calibrated in {options.output}")
    if entry.calibrated and options.calibrate is None and not is_run_folder(options.text):
        raise InputError(
            f"{options.output}: integers are fitted to images; name a run or a folder of them with --calibrate, or, "
            "where only sizes and times matter, --calibrate noise"
        )
    return entry


def write(model: CompiledModel, options: argparse.Namespace, activations: int | None = None) -> Verification | None:
    """Writes what the suffix says; returns what was found of a file that a runtime runs.

    Where it is known what a board's runtime leaves for `activations`, that many bytes are the budget of its files.
    """
    from sapool.catalogue.formats import format_of
    from sapool.export import write as export
    from sapool.schedule.streamed import stream

    if not format_of(options.output).runs:
        export(model, options.output)
        return None
    subject: nn.Module = model
    if options.stream or options.budget:
        entry = format_of(options.output)
        own = activations is not None and entry.calibrated and entry.extra == "tflite"
        subject = stream(model.eval(), activations if own else options.budget, assumptions=assumptions(options))
    run = options.text if is_run_folder(options.text) else None
    found: Verification = export(subject, options.output, options.calibrate or run, preparation=run)
    return found
