"""Networks of the authors' code, from a checkout that is the user's own; nothing of it is here, and none is looked for.

All that is asked of it is a function that takes an architecture string and returns a `torch.nn.Module` for images of
three channels, named as `module:function` and found from the checkout's folder. It may be a file of a few lines that
the user puts there. That code runs with all rights of the user, in a process of its own.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from torch import nn

from sapool.errors import InputError, brief, first_line

Factory = Callable[[str], nn.Module]


def checked(folder: str | None, factory: str | None) -> tuple[str, str, str]:
    """The folder, the module and the function that were named.

    Raises:
        InputError: one of them is missing or isn't one; nothing of the folder has run.
    """
    if folder is None:
        raise InputError("--published-factory: say where the code is, with --published PATH")
    if not Path(folder).is_dir():
        raise InputError(f"--published: there is no folder {brief(folder)}")
    if factory is None:
        raise InputError(
            "--published: say what makes a network of a string there, with --published-factory module:function"
        )
    module, _, function = factory.partition(":")
    if not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise InputError(f"--published-factory: expected module:function, not {brief(factory)}")
    return folder, module, function


def found(folder: str, module: str, function: str) -> Factory:
    """The function, from the folder. Runs the module's code.

    Raises:
        InputError: there is no such module or function, or the module can't be imported.
    """
    sys.path.insert(0, str(Path(folder).resolve()))
    importlib.invalidate_caches()
    try:
        made = getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise InputError(f"--published-factory: there is no module {module} in {folder}") from None
        raise InputError(f"--published: {module} needs {error.name}, which isn't installed") from None
    except Exception as error:  # whatever that code raises
        raise InputError(f"--published: {module} can't be imported: {first_line(error)}") from None
    if not callable(made):
        raise InputError(f"--published-factory: {module} has no function {function}")
    return made  # type: ignore[no-any-return]


def network(factory: Factory, text: str) -> nn.Module:
    """What the function makes of an architecture string.

    Raises:
        InputError: it raises something, or what it returns is no network.
    """
    try:
        made = factory(text)
    except Exception as error:  # whatever that code raises
        raise InputError(f"--published: the function failed on {text}: {first_line(error)}") from None
    if not isinstance(made, nn.Module):
        kind = type(made).__name__
        raise InputError(f"--published: the function returned {kind} for {text}; expected a torch.nn.Module")
    return made
