"""The catalogue of file formats that a model can be written in. No torch: a suffix is checked before torch loads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sapool.catalogue.registry import Registry
from sapool.errors import InputError, require_extra

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: of the format.
        suffixes: of its files.
        summary: what such a file holds, for help texts.
        target: `module:function` that writes one, given a model and a path; of a format that `runs`, also
            `calibration=` and `preparation=`, and it returns a `sapool.export.verification.Verification`.
        weights: whether a file holds weights, so that the model must have some.
        runs: whether a file is a network that a runtime runs, so that it is verified before it is left.
        calibrated: whether writing one needs images whose ranges integers are fitted to.
        plain: whether it holds a network as it stands, never streamed.
        lays_bands: whether a streamed network is in bands of the format's own there, in place of our schedule's;
            `target` takes `bands=` then (`sapool.export.subject.Bands`).
        extra: of this project, which its packages come with; "" where it needs none.
        packages: as they are imported.
        rank: where it stands in listings.
    """

    name: str
    suffixes: tuple[str, ...]
    summary: str
    target: str
    weights: bool = False
    runs: bool = False
    calibrated: bool = False
    plain: bool = False
    lays_bands: bool = False
    extra: str = ""
    packages: tuple[str, ...] = ()
    rank: int = 100

    def check_installed(self) -> None:
        """Makes sure that what writes such files is installed; imports nothing of it.

        Raises:
            MissingExtraError: it isn't.
        """
        if self.extra:
            require_extra(self.extra, f"writing {self.suffixes[0]}", self.packages)


FORMATS: Registry[Format] = Registry(
    "format", decorator="register_format", entry=Format, group="sapool.formats", modules=("sapool.export",)
)
"""Every format by its name, in the order of listings."""


def register_format(
    name: str,
    *,
    suffixes: tuple[str, ...],
    summary: str,
    weights: bool = False,
    runs: bool = False,
    calibrated: bool = False,
    plain: bool = False,
    lays_bands: bool = False,
    extra: str = "",
    packages: tuple[str, ...] = (),
    rank: int = 100,
) -> Callable[[F], F]:
    """Declares a file format: decorates a function that writes a model to a path.

    Args:
        name: of the format.
        suffixes: of its files; the longest that fits a file's name decides.
        summary: what such a file holds.
        weights: whether a file holds weights.
        runs: whether a runtime runs it, so that it is verified (`sapool.export.delivery`).
        calibrated: whether it needs images to calibrate on.
        plain: whether it holds a network as it stands, so that nothing streamed is written in it.
        lays_bands: whether it puts a streamed network in bands of its own.
        extra: of this project, that brings `packages`.
        packages: that are imported for it.
        rank: where it stands in listings.

    Raises:
        ValueError: the name is taken, or can't be one.
    """
    return FORMATS.register(
        name,
        suffixes=suffixes,
        summary=summary,
        weights=weights,
        runs=runs,
        calibrated=calibrated,
        plain=plain,
        lays_bands=lays_bands,
        extra=extra,
        packages=packages,
        rank=rank,
    )


def format_of(path: str | Path) -> Format:
    """The format that a file's suffix says.

    Raises:
        InputError: there is none.
    """
    name = Path(path).name + ("/" if str(path).endswith("/") else "")  # a folder's format is a slash
    fitting = [(len(suffix), entry) for entry in FORMATS.values() for suffix in entry.suffixes if name.endswith(suffix)]
    if not fitting:
        *most, last = [entry.suffixes[0] for entry in FORMATS.values()]
        raise InputError(f"{path}: the suffix says what is written; expected {', '.join(most)} or {last}")
    return max(fitting, key=lambda pair: pair[0])[1]
