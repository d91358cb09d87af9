"""sapool: a graph-rewriting compiler for downsampling.

    >>> import sapool
    >>> model = sapool.compile("prepool-nlp-4-resnet18-nlp-1222", num_classes=10)

Names are imported on first use, so that listings, help texts and the parser answer without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

_here = Path(__file__).resolve().parent
if not (_here / "grammar").is_dir():
    # A source checkout: the rooms grammar/, passes/ and recipes/ lie beside this folder, a wheel has them inside.
    __path__.append(str(_here.parent))

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sapool.compiler import compile as compile
    from sapool.errors import ArchitectureError as ArchitectureError
    from sapool.errors import InputError as InputError
    from sapool.grammar import parse as parse
    from sapool.inference import optimize as optimize
    from sapool.ir.architecture import Architecture as Architecture
    from sapool.ir.plan import Plan as Plan
    from sapool.model import CompiledModel as CompiledModel
    from sapool.model_file import load as load
    from sapool.model_file import save as save
    from sapool.tasks import open_run as open_run
    from sapool.weights.authors import convert_reference_state_dict as convert_reference_state_dict

_HOMES = {
    "Architecture": "sapool.ir.architecture",
    "ArchitectureError": "sapool.errors",
    "CompiledModel": "sapool.model",
    "InputError": "sapool.errors",
    "Plan": "sapool.ir.plan",
    "compile": "sapool.compiler",
    "convert_reference_state_dict": "sapool.weights.authors",
    "load": "sapool.model_file",
    "open_run": "sapool.tasks",
    "optimize": "sapool.inference",
    "parse": "sapool.grammar",
    "save": "sapool.model_file",
}

__all__ = [
    "Architecture",
    "ArchitectureError",
    "CompiledModel",
    "InputError",
    "Plan",
    "__version__",
    "compile",
    "convert_reference_state_dict",
    "load",
    "open_run",
    "optimize",
    "parse",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sapool' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
