"""`sapoolc doctor`: what is installed, what clashes, and where mmcv's operators come from. Works without any of it."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

SUMMARY = "say whether detection will run: versions, clashes, where operators come from"
# Each module by the distributions that bring it: OpenMMLab's, and those of the fork that goes on with them.
DISTRIBUTIONS = {
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "mmcv": ("mmcv-lite", "mmcv", "onedl-mmcv"),
    "mmengine": ("mmengine", "onedl-mmengine"),
    "mmdet": ("mmdet", "onedl-mmdetection"),
    "pycocotools": ("pycocotools",),
}
PACKAGES = tuple(name for names in DISTRIBUTIONS.values() for name in names)

INSTALL = 'pip install "sapool[detect]"'
# What each release of mmdet 3.3 says of itself when it is imported; the fork's takes every mmcv from 2.0.0 on.
MMCV_FROM, MMCV_BEFORE = (2, 0, 0), (2, 2, 0)
# torchvision 0.N belongs to torch 2.(N - 15).
APART = 15


@dataclass(frozen=True)
class Installation:
    """What is installed.

    Attributes:
        versions: of each package, None where it isn't installed.
        clashes: sentences about what doesn't go together.
        operators: (operator, where it comes from); empty where mmcv can't be imported.
    """

    versions: dict[str, str | None]
    clashes: tuple[str, ...]
    operators: tuple[tuple[str, str], ...]

    @property
    def runs(self) -> bool:
        """Whether detection will run."""
        return not self.clashes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(options: argparse.Namespace) -> int:
    installation = check_installation()
    code = 0 if installation.runs else 1
    if options.json:
        print(json.dumps({"runs": installation.runs, **asdict(installation)}, indent=2))
        return code
    from sapool.cli.console import console, show_table

    out = console()
    versions = installation.versions
    missing = _missing(versions)
    rows = [(name, found or "not installed") for name, found in versions.items() if found or name in missing]
    rows += [(f"mmcv.ops: {name}", where) for name, where in installation.operators]
    show_table(out, ("what", "which"), rows)
    out.print()
    for clash in installation.clashes:
        out.print(clash, markup=False)
    out.print("detection will run" if installation.runs else "detection won't run")
    return code


def check_installation() -> Installation:
    """Looks at what is installed, and imports it where nothing speaks against that."""
    versions = {name: _version(name) for name in PACKAGES}
    clashes = list(_clashes(versions))
    operators: tuple[tuple[str, str], ...] = ()
    if not clashes:
        try:
            operators = tuple(import_module("sapool.detect.mmcv_ops.extension").sources().items())
            import_module("mmdet.apis")
        except Exception as error:  # whatever a package that doesn't fit the others ends in
            clashes.append(f"importing mmdet ends in {type(error).__name__}: {error}")
    return Installation(versions, tuple(clashes), operators)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _missing(versions: dict[str, str | None]) -> list[str]:
    """The packages that nothing installed stands for: of those that bring a module, the first."""
    return [names[0] for names in DISTRIBUTIONS.values() if not any(versions[name] for name in names)]


def _clashes(versions: dict[str, str | None]) -> Iterator[str]:
    found = {module: [name for name in names if versions[name]] for module, names in DISTRIBUTIONS.items()}
    if absent := _missing(versions):
        yield f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed: {INSTALL}"
    for module, names in found.items():
        if len(names) > 1:
            yield (
                f"{' and '.join(names)} are both installed, and overwrite each other's files of {module}: "
                f"pip uninstall {' '.join(names)}, then install one of them"
            )
    mmcv = next((versions[name] for name in found["mmcv"]), None)
    if mmcv and versions["mmdet"] and not MMCV_FROM <= _numbers(mmcv) < MMCV_BEFORE:
        yield f"mmdet {versions['mmdet']} takes mmcv from 2.0.0 on, before 2.2.0, not {mmcv}: {INSTALL}"
    torch, torchvision = (_numbers(versions[name] or "") for name in ("torch", "torchvision"))
    if torch[:1] == (2,) and torchvision[:2] != (0, torch[1] + APART):
        yield (
            f"torch {versions['torch']} and torchvision {versions['torchvision']} don't belong together; install "
            f"torchvision 0.{torch[1] + APART}"
        )


def _numbers(text: str) -> tuple[int, ...]:
    """A release as numbers: "2.14.1+cpu" is (2, 14, 1)."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", text)[0]))
