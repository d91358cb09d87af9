"""The way of every file that a runtime runs: made ready, written under a temporary name, verified, and only then left.

A format has a `Backend`, which writes files and runs them; everything else is the same for all.
"""

from __future__ import annotations

import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from sapool.errors import InputError, WorkError
from sapool.export.calibration import Calibration, Preparation, noise
from sapool.export.subject import Bands, Rewriting, Subject, shape_of, subject
from sapool.export.verification import Runtime, Verification, batches, verify
from sapool.model import CompiledModel
from sapool.passes import rewrite_for_export
from sapool.runs.results import Table
from sapool.schedule.streamed import StreamedModel
from sapool.weights.atomic import replacing, write_text

BATCH = 16


class Backend(ABC):
    """One format's writer and runtime.

    Attributes:
        format: its name in the catalogue.
        integer: whether files compute in integers, which are fitted to the calibration's images.
        images: how many images a file is compared on at most; None for all that it is calibrated on.
        batch: how many the runtime is given at a time.
    """

    format: ClassVar[str]
    integer: ClassVar[bool] = False
    images: ClassVar[int | None] = None
    batch: ClassVar[int] = BATCH

    @property
    @abstractmethod
    def runtime(self) -> str:
        """What runs the files, with its version."""

    @property
    def rewrite(self) -> Rewriting:
        """The exact rewrites that the format needs."""
        return rewrite_for_export

    def check(self, model: CompiledModel | StreamedModel) -> None:  # noqa: B027 - most take every model
        """Refuses a model that can't be had in this format, before anything is converted.

        Raises:
            InputError: says what can't be had, why, and what to do.
        """

    @abstractmethod
    def write(self, subject: Subject, path: Path, watched: Path) -> None:
        """Writes a network, and its twin that returns its pools' weights too.

        Args:
            subject: what to write; `subject.network` at `path`, `subject.watched` at `watched`, both calibrated on
                `subject.calibration` and with `subject.metadata`.
            path: a temporary name.
            watched: where the twin goes; it is deleted when it has been compared.
        """

    @abstractmethod
    def open(self, path: Path, subject: Subject) -> Runtime:
        """What runs a file or its twin. Its tensors are float, outputs first and in the subject's order."""

    def more(self, path: Path, subject: Subject) -> tuple[tuple[Table | str, ...], dict[str, Any]]:
        """What else there is to tell of a file that was written and found right: for people, and as plain data."""
        return (), {}


def deliver(
    backend: Backend,
    model: CompiledModel | StreamedModel,
    path: str | Path,
    calibration: Calibration | None,
    preparation: Preparation | None,
    bands: Bands | None = None,
) -> Verification:
    """Writes a model, compares the file with it in the format's own runtime, and leaves file and table, or nothing.

    Args:
        backend: of the format.
        model: compiled, or streamed; it stays as it is.
        path: of the file. The table lies beside it, as `path` and `.json`.
        calibration: images; None for noise where the format computes in floats.
        preparation: what the file says of its images and classes.
        bands: of a format that has bands of its own, that they are wanted, in place of a streamed model's schedule.

    Raises:
        InputError: the model can't be had in this format, or integers have no images to be fitted to.
        WorkError: the file isn't what the model is.
    """
    path = Path(path)
    if backend.integer and calibration is None:
        raise InputError(
            f"{path}: integers are fitted to images: name a run, a folder of images, or 'noise' where only sizes and "
            "times matter, to calibrate on"
        )
    backend.check(model)
    channels, size = shape_of(model)
    ready = subject(
        model,
        calibration or noise(channels, size),
        preparation or Preparation(),
        backend.rewrite,
        bands,
    )
    with tempfile.TemporaryDirectory() as folder, replacing(path) as temporary:
        watched = Path(folder) / f"watched{path.suffix}"
        with _named(path):
            backend.write(ready, temporary, watched)
        found = verify(
            ready,
            batches(backend.open(watched, ready), backend.batch),
            batches(backend.open(temporary, ready), backend.batch),
            path,
            temporary,
            backend.format,
            backend.runtime,
            integer=backend.integer,
            images=backend.images,
        )
        with _named(path):
            more, data = backend.more(temporary, ready)
        found = replace(found, more=more, data=data)
    write_text(f"{path}.json", json.dumps(found.as_data(), indent=2) + "\n")
    return found


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Says which file an error is about: what writes it knows a temporary name alone."""
    try:
        yield
    except (InputError, WorkError) as error:
        raise type(error)(f"{path}: {error}") from error
