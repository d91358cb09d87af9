"""Networks of the user's own on the command line: `--module package.module:factory`."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from sapool.errors import InputError, first_line, named


def add_module_options(parser: argparse.ArgumentParser) -> None:
    """Which network of the user's own is rewritten, and what its stages are."""
    group = parser.add_argument_group("a network of your own, which TEXT then has no name for: lip-122")
    group.add_argument(
        "--module", metavar="PACKAGE.MODULE:NAME", help="a function or class that makes it, or the network itself"
    )
    group.add_argument(
        "--stages",
        type=_stages,
        metavar="PATH,PATH,...",
        help="its modules that are stages, in order; those of one stage joined by + (default: they are found)",
    )
    group.add_argument(
        "--pools", metavar="WHERE", help="of a stage's blocks, where its pool goes: before, first or last (is found)"
    )


def _stages(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(stage.split("+")) for stage in text.split(","))


def own_network(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments `backbone`, `stages` and `pools` of `sapool.make_plan`; nothing without `--module`.

    The module is imported, and what it names is called: the user's own program runs.

    Raises:
        InputError: it isn't there, fails, or makes no network.
    """
    name, stages, pools = (getattr(options, word, None) for word in ("module", "stages", "pools"))
    if name is None:
        if stages or pools:
            raise InputError("--stages and --pools are of a network of your own: name it with --module")
        return {}
    if getattr(options, "num_classes", None) is not None:
        raise InputError("--num-classes: the network that --module makes has its own classifier")
    return {"backbone": _made(name), "stages": stages, "pools": pools}


def _made(name: str) -> Any:
    path, colon, attribute = name.partition(":")
    if not colon or not path or not attribute:
        raise InputError(f"--module: expected PACKAGE.MODULE:NAME, for instance nets.mine:make, not '{name}'")
    here = str(Path.cwd())
    if here not in sys.path:  # an installed command has its own folder there
        sys.path.insert(0, here)
    try:
        found: Any = import_module(path)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InputError(f"--module: {name} can't be found: {first_line(error)}") from None
    from torch import nn

    if not isinstance(found, nn.Module) and callable(found):
        try:
            found = found()
        except Exception as error:  # whatever the user's own program raises
            raise InputError(f"--module: {name}() ends in {named(error)}") from error
    if not isinstance(found, nn.Module):
        raise InputError(f"--module: {name} makes a {type(found).__name__}, and no torch.nn.Module")
    return found
