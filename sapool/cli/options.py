"""Arguments that several commands take, and what they mean to the library."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sapool.errors import InputError, WeightsError

if TYPE_CHECKING:
    from sapool.cost.assumptions import Assumptions
    from sapool.model import CompiledModel
    from sapool.passes.driver import Watcher


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """How a network is compiled. None means "not given": a file's own settings stand."""
    parser.add_argument("--num-classes", type=int, metavar="N", help="outputs of the classifier (default: 1000)")
    parser.add_argument("--in-chans", type=int, metavar="N", help="channels of the images (default: 3)")
    parser.add_argument(
        "--image-size",
        type=size,
        metavar="PIXELS|HxW",
        help="side of the images that are measured, or their height and width (default: 224)",
    )
    parser.add_argument("--dialect", metavar="NAME", help="torchvision (default) or paper, the published network")
    parser.add_argument("--weights", metavar="FILE", help="DEFAULT for the published ones, or a checkpoint")
    parser.add_argument(
        "--features-only", action="store_true", default=None, help="return feature maps in place of logits"
    )
    parser.add_argument("--out-indices", type=_indices, metavar="I,J,...", help="which feature maps, from 0")
    parser.add_argument("-O", "--optimize", action="store_true", help="rewrite for inference, computing the same")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """How a network is compiled and measured."""
    add_network_options(parser)
    memory = parser.add_argument_group("activation memory")
    memory.add_argument("--dtype", default="int8", metavar="NAME", help="of activations: int8 (default), fp16 or fp32")
    memory.add_argument(
        "--attention", default="streaming", metavar="NAME", help="scores held: streaming (a row, default) or full"
    )
    memory.add_argument("--no-io", action="store_true", help="leave out the network's input and output")
    memory.add_argument(
        "--inplace-depthwise",
        action=argparse.BooleanOptionalAction,
        help="whether depthwise convolutions overwrite their input (default: the device's, or no)",
    )
    memory.add_argument(
        "--device",
        metavar="NAME",
        help="a board (sapoolc list devices): what it does in place, and whether it is enough",
    )
    memory.add_argument(
        "--stream", action="store_true", help="show what is left of it where maps are computed in bands of rows"
    )


def _indices(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers such as 1,2,3, not '{text}'") from None


def size(text: str) -> int | tuple[int, int]:
    """The type of a size on the command line: a side, or height and width."""
    sides = text.lower().split("x")
    try:
        numbers = [int(side) for side in sides]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise argparse.ArgumentTypeError(
            f"expected a side such as 224, or height and width such as 96x160, not '{text}'"
        )
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def add_pass_option(parser: argparse.ArgumentParser) -> None:
    """Which passes are left out."""
    parser.add_argument(
        "--without", action="append", default=[], metavar="PASS", help="leave a pass out (sapoolc list passes)"
    )


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `sapool.compile` that were given."""
    names = ("num_classes", "in_chans", "image_size", "dialect", "weights", "features_only", "out_indices")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def given_flags(options: argparse.Namespace) -> str:
    """The same as they were typed: `--num-classes, --dialect`, or ""."""
    return ", ".join("--" + name.replace("_", "-") for name in given(options))


def opened(options: argparse.Namespace, *, real: bool = False, watch: Watcher | None = None) -> CompiledModel:
    """The model of what `options.text` names: an architecture, a plan's file, a model's, or a run's folder.

    On the meta device where only its shape matters. What can be refused cheaply is refused before torch is loaded.

    Args:
        options: with those of `add_model_options`, and of `add_pass_option` where the command has it.
        real: whether its parameters are wanted.
        watch: is told of each pass.
    """
    from sapool.catalogue.passes import check_passes
    from sapool.cli.modules import own_network
    from sapool.grammar import parse
    from sapool.ir.options import Options
    from sapool.ir.plan_file import from_json, is_plan_file, read_text

    text, without = options.text, getattr(options, "without", [])
    is_run = is_run_folder(text)
    is_model, is_plan = is_run or is_model_file(text), is_plan_file(text)
    check_passes(without)
    if (is_model or is_plan) and given(options):
        raise InputError(f"{text} has its own settings; {given_flags(options)} can't change them")
    if is_model and (without or watch is not None):
        raise InputError(f"{text} holds a model that was rewritten before; passes can be chosen for texts and plans")
    check_there(text if is_model else None, options.weights)
    if is_plan:
        from_json(read_text(text), text)
    elif not is_model:
        parse(text, own=getattr(options, "module", None) is not None)
        Options(**{name: value for name, value in given(options).items() if name != "weights"})
    import torch

    from sapool.compiler import execute
    from sapool.inference import optimize
    from sapool.model_file import load
    from sapool.planning import make_plan, read_plan

    arguments, own = given(options), own_network(options)
    weights = arguments.pop("weights", None)
    if is_run:
        model = _of_run(text)
    elif is_model:
        model = load(text, backbone=own.get("backbone"))
    else:
        with torch.device("cpu" if real or weights is not None else "meta"):
            plan = read_plan(text) if is_plan else make_plan(text, **own, **arguments)
            model = execute(plan, weights=weights, without=without, watch=watch, backbone=own.get("backbone"))
    return optimize(model) if options.optimize else model


def check_there(*files: str | None) -> None:
    """Refuses files of weights that aren't there, before torch is loaded to read them.

    Raises:
        WeightsError: as reading them says it.
    """
    for file in files:
        if file is not None and file != "DEFAULT" and not Path(file).exists():
            raise WeightsError(f"no such file: {file}")


def is_model_file(text: str) -> bool:
    """Whether a word names a model's file, and is no architecture."""
    return text.endswith((".pt", ".pth"))


def is_run_folder(text: str) -> bool:
    """Whether a word names a run's folder, and is no architecture."""
    return (Path(text) / "recipe.toml").is_file()  # `sapool.runs.folder.RECIPE`, whose module loads pydantic


def _of_run(path: str) -> CompiledModel:
    from sapool.model import CompiledModel
    from sapool.recipes.settings import Recipe
    from sapool.runs.folder import recipe_of
    from sapool.tasks import open_run

    if not isinstance(recipe_of(path), Recipe):
        raise InputError(f"{path} is the run of a detector; compile the network of a classifier's")
    model = open_run(path).model
    assert isinstance(model, CompiledModel)
    return model


def assumptions(options: argparse.Namespace) -> Assumptions:
    """What activation memory is measured under."""
    from sapool.cost.assumptions import Assumptions, assumptions_of

    of_device = assumptions_of(options.device) if options.device else Assumptions()
    in_place = of_device.inplace_depthwise if options.inplace_depthwise is None else options.inplace_depthwise
    return Assumptions(options.dtype, options.attention, not options.no_io, in_place)


def add_threshold_option(parser: argparse.ArgumentParser) -> None:
    """Which of a detector's boxes are shown."""
    parser.add_argument(
        "--threshold", type=float, default=0.3, metavar="SCORE", help="of detectors: lowest score shown (default: 0.3)"
    )
