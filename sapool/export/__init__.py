"""What leaves the compiler, one writer a file format."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def write(model: Any, path: str | Path, calibrate: Any = None, *, preparation: Any = None, **options: Any) -> Any:
    """Writes a model in the format that the file's suffix says.

    A file that a runtime runs is run there and compared with the model before it is left: float files are within
    1e-5 of the largest value, int8 ones near it, pool by pool.

    Args:
        model: a compiled model, or, for files that a runtime runs, a streamed one.
        path: the file.
        calibrate: of files that a runtime runs, the images to fit integers to and to compare on: a tensor (N, C, H,
            W) as the network takes it, the folder of a run (its training images), a folder of images, or "noise".
        preparation: a `sapool.export.calibration.Preparation`, or the folder of a run that has one: how images are
            normalised and what the classes are called. None for that of `calibrate`, where it is a run.
        options: of the format; where it `lays_bands`, `bands=Bands(budget)` is what a streamed model stands for.

    Returns:
        Of files that a runtime runs, a `sapool.export.verification.Verification`, which is also written beside it.

    Raises:
        InputError: there is no such format, what writes it isn't installed, the model can't be written in it, or
            the file can't be written.
        WorkError: the file isn't what the model is; it isn't left then.
    """
    from sapool.catalogue.formats import FORMATS, format_of  # noqa: PLC0415
    from sapool.errors import InputError  # noqa: PLC0415

    entry = format_of(path)
    entry.check_installed()
    if not entry.runs:
        if calibrate is not None or preparation is not None:
            raise InputError(f"{path}: nothing is calibrated in a {entry.suffixes[0]}")
        return FORMATS.load(entry.name)(model, path, **options)
    from sapool.export.calibration import Preparation, calibration_of, is_run, preparation_of  # noqa: PLC0415
    from sapool.export.subject import Bands, shape_of  # noqa: PLC0415
    from sapool.schedule.streamed import StreamedModel  # noqa: PLC0415

    if preparation is None and is_run(calibrate):
        preparation = calibrate
    known = preparation if isinstance(preparation, Preparation) else Preparation()
    if preparation is not None and not isinstance(preparation, Preparation):
        known = preparation_of(preparation)
    if entry.lays_bands and isinstance(model, StreamedModel):
        options.setdefault("bands", Bands(model.budget))
    calibration = calibration_of(calibrate, *shape_of(model), known)
    return FORMATS.load(entry.name)(model, path, calibration=calibration, preparation=known, **options)


class _Room(ModuleType):
    """The room itself is called: `sapool.export(model, "model.onnx")`, which is `write`."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """As `write`."""
        return write(*arguments, **options)


sys.modules[__name__].__class__ = _Room
