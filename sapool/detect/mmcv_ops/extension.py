"""A stand-in for `mmcv._ext`, the compiled extension of mmcv, on torchvision's operators.

mmcv's Python code calls the extension by name, hands it the tensors to fill, and takes care of autograd itself. The
functions here have the names and arguments that it calls them with, on the CPU and on GPUs. What torchvision can't
serve is missing only when it is called: importing mmcv and building models needs no more than the names.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any, NoReturn

import torch
import torchvision

from sapool.detect.mmcv_ops import boxes, deformable, focal, regions
from sapool.detect.mmcv_ops.missing import SERVED, absent

NAME = "mmcv._ext"

# What mmcv reports of the extension.


def get_compiler_version() -> str:
    """What stands for a compiler in mmengine's report of the environment."""
    return f"none: torchvision {torchvision.__version__} serves mmcv's operators"


def get_compiling_cuda_version() -> str:
    """The CUDA version that torch, and with it torchvision, was built for."""
    return str(torch.version.cuda or "none")


# Installation

_OPERATORS: tuple[Callable[..., Any], ...] = (
    boxes.nms,
    boxes.softnms,
    regions.roi_align_forward,
    regions.roi_align_backward,
    regions.roi_pool_forward,
    regions.roi_pool_backward,
    deformable.deform_conv_forward,
    deformable.deform_conv_backward_input,
    deformable.deform_conv_backward_parameters,
    deformable.modulated_deform_conv_forward,
    deformable.modulated_deform_conv_backward,
    focal.sigmoid_focal_loss_forward,
    focal.sigmoid_focal_loss_backward,
    get_compiler_version,
    get_compiling_cuda_version,
)


def install() -> bool:
    """Puts the stand-in in the place of `mmcv._ext`, where no compiled one can be imported.

    Returns:
        Whether the stand-in serves mmcv's operators from now on.
    """
    if NAME not in sys.modules:
        try:
            importlib.import_module(NAME)
        except ImportError:  # not there, or built for another torch
            sys.modules[NAME] = _module()
            # As it would be after `import mmcv._ext`.
            sys.modules["mmcv"].__dict__["_ext"] = sys.modules[NAME]
    return is_stand_in(sys.modules[NAME])


def sources() -> dict[str, str]:
    """Where mmcv's operators come from here: from a compiled extension, where there is one, or from the stand-in."""
    if not install():
        return {"all": "mmcv's compiled extension"}
    return {**SERVED, "every other": "missing: calling one ends in an error that names it"}


def is_stand_in(module: ModuleType) -> bool:
    """Whether a module is what `install` makes."""
    return getattr(module, "nms", None) is boxes.nms


def _module() -> ModuleType:
    # mmengine's report of the environment looks for a spec.
    module = module_from_spec(ModuleSpec(NAME, None, origin=__file__))

    def lacking(name: str) -> Callable[..., NoReturn]:
        if name.startswith("_"):
            raise AttributeError(f"module '{NAME}' has no attribute '{name}'")
        return absent(name)

    module.__dict__.update({operator.__name__: operator for operator in _OPERATORS}, __getattr__=lacking)
    return module
