"""`.pt2`: the program that `torch.export` makes of a model, for what torch itself brings to devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from sapool.catalogue.formats import register_format
from sapool.export.calibration import Calibration, Preparation
from sapool.export.delivery import Backend, deliver
from sapool.export.subject import Subject
from sapool.export.verification import Runtime, Verification
from sapool.model import CompiledModel
from sapool.schedule.streamed import StreamedModel

METADATA = "sapool.json"
"""The name of the file inside the archive that says what it is of: `torch.export.load(..., extra_files=...)`."""


class ProgramBackend(Backend):
    """Programs by torch.export, run by torch."""

    format: ClassVar[str] = "pt2"

    @property
    def runtime(self) -> str:
        return f"torch {torch.__version__}"

    def write(self, subject: Subject, path: Path, watched: Path) -> None:
        for module, file in ((subject.network, path), (subject.watched, watched)):
            with file.open("wb") as stream:  # torch would insist on a name that ends with .pt2
                torch.export.save(
                    exported(module, subject), stream, extra_files={METADATA: json.dumps(subject.metadata)}
                )

    def open(self, path: Path, subject: Subject) -> Runtime:
        with path.open("rb") as stream:
            module = torch.export.load(stream).module()

        def run(images: Tensor) -> list[Tensor]:
            with torch.no_grad():
                result = module(images)
            return list(result) if isinstance(result, (list, tuple)) else [result]

        return run


def exported(module: nn.Module, subject: Subject) -> torch.export.ExportedProgram:
    """The program of a module, for any number of images."""
    batch = ({0: torch.export.Dim("batch")},)
    return torch.export.export(module, (subject.example,), dynamic_shapes=batch, strict=False)


@register_format("pt2", suffixes=(".pt2",), summary="an exported program", weights=True, runs=True, rank=3)
def write_program(
    model: CompiledModel | StreamedModel,
    path: str | Path,
    *,
    calibration: Calibration | None = None,
    preparation: Preparation | None = None,
) -> Verification:
    """Writes a model as an exported program."""
    return deliver(ProgramBackend(), model, path, calibration, preparation)
