"""The file that a command leaves of a model: what its name says, and what it was found to be."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sapool.cli.options import assumptions, is_run_folder
from sapool.errors import InputError

if TYPE_CHECKING:
    from sapool.catalogue.formats import Format
    from sapool.export.verification import Verification
    from sapool.model import CompiledModel
    from sapool.schedule.streamed import StreamedModel


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
    if entry.plain and is_streamed(options):
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


def write(model: CompiledModel, options: argparse.Namespace, budget: int | None = None) -> Verification | None:
    """Writes what the suffix says, streamed if that was asked; returns what was found of a file that a runtime runs.

    The `budget` is for activations, in bytes.
    """
    from sapool.catalogue.formats import format_of
    from sapool.export import write as export
    from sapool.export.subject import Bands
    from sapool.schedule.streamed import stream

    entry = format_of(options.output)
    subject: CompiledModel | StreamedModel = model
    more: dict[str, Any] = {}
    if not entry.runs:
        export(subject, options.output)
        return None
    if is_streamed(options) and entry.lays_bands:
        more = {"bands": Bands(budget)}
    elif is_streamed(options):
        subject = stream(model.eval(), budget, assumptions=assumptions(options))
    run = options.text if is_run_folder(options.text) else None
    found: Verification = export(subject, options.output, options.calibrate or run, preparation=run, **more)
    return found


def is_streamed(options: argparse.Namespace) -> bool:
    """Whether bands of rows are asked for."""
    return bool(options.stream or options.budget)
