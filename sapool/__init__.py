"""sapool: a graph-rewriting compiler for downsampling.

    >>> import sapool
    >>> model = sapool.compile("prepool-nlp-4-resnet18-nlp-1222", num_classes=10)

Names are imported on first use, so that listings, help texts and the parser answer without importing torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

_HERE = Path(__file__).resolve().parent
_ROOMS_BESIDE = ("grammar", "passes", "recipes")


class _Checkout:
    """Finds the rooms that lie beside this folder in a source checkout; a wheel has them inside."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The spec of `sapool.grammar`, `sapool.passes` or `sapool.recipes`, and None for everything else."""
        room = name.removeprefix("sapool.")
        if room == name or room not in _ROOMS_BESIDE:
            return None
        folder = _HERE.parent / room
        return spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])


if not (_HERE / "grammar").is_dir():
    sys.meta_path.insert(0, _Checkout)

if TYPE_CHECKING:
    from sapool.catalogue.backbones import register_backbone as register_backbone
    from sapool.catalogue.data_sets import register_data_set as register_data_set
    from sapool.catalogue.devices import register_device as register_device
    from sapool.catalogue.formats import register_format as register_format
    from sapool.catalogue.passes import register_pass as register_pass
    from sapool.catalogue.poolings import register_pooling as register_pooling
    from sapool.compiler import compile as compile
    from sapool.compiler import convert_reference_state_dict as convert_reference_state_dict
    from sapool.compiler import execute as execute
    from sapool.cost.memory import memory as memory
    from sapool.detectors.build import torchvision_detector as torchvision_detector
    from sapool.diagnostics import diagnose as diagnose
    from sapool.errors import ArchitectureError as ArchitectureError
    from sapool.errors import InputError as InputError
    from sapool.errors import PlanError as PlanError
    from sapool.grammar import parse as parse
    from sapool.inference import optimize as optimize
    from sapool.ir.architecture import Architecture as Architecture
    from sapool.ir.plan import Plan as Plan
    from sapool.model import CompiledModel as CompiledModel
    from sapool.model_file import load as load
    from sapool.model_file import save as save
    from sapool.planning import make_plan as make_plan
    from sapool.planning import read_plan as read_plan
    from sapool.planning import survey as survey
    from sapool.poolings.base import Pooling as Pooling
    from sapool.poolings.weights import uniformity as uniformity
    from sapool.schedule.streamed import stream as stream
    from sapool.tasks import open_run as open_run

    __version__: str

_HOMES = {
    "Architecture": "sapool.ir.architecture",
    "ArchitectureError": "sapool.errors",
    "CompiledModel": "sapool.model",
    "InputError": "sapool.errors",
    "Plan": "sapool.ir.plan",
    "PlanError": "sapool.errors",
    "Pooling": "sapool.poolings.base",
    "compile": "sapool.compiler",
    "convert_reference_state_dict": "sapool.compiler",
    "diagnose": "sapool.diagnostics",
    "execute": "sapool.compiler",
    "load": "sapool.model_file",
    "make_plan": "sapool.planning",
    "memory": "sapool.cost.memory",
    "open_run": "sapool.tasks",
    "optimize": "sapool.inference",
    "parse": "sapool.grammar",
    "read_plan": "sapool.planning",
    "register_backbone": "sapool.catalogue.backbones",
    "register_data_set": "sapool.catalogue.data_sets",
    "register_device": "sapool.catalogue.devices",
    "register_format": "sapool.catalogue.formats",
    "register_pass": "sapool.catalogue.passes",
    "register_pooling": "sapool.catalogue.poolings",
    "save": "sapool.model_file",
    "stream": "sapool.schedule.streamed",
    "survey": "sapool.planning",
    "torchvision_detector": "sapool.detectors.build",
    "uniformity": "sapool.poolings.weights",
}

# Rooms that are called by their own name: `sapool.cost(model)`, `sapool.export(model, path)`.
_CALLED = ("cost", "export")

__all__ = [*sorted(_HOMES), *_CALLED, "__version__"]  # noqa: PLE0604 - names are strings


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - rarely asked for

        return version("sapool")
    if name in _CALLED:
        return import_module(f"sapool.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'sapool' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_CALLED})
