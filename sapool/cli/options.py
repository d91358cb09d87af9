"""Arguments that several commands take, and what they mean to the library."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sapool.cost.memory import Assumptions
    from sapool.model import CompiledModel


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """How a network is compiled and measured. None means "not given": a file's own settings stand."""
    parser.add_argument("--num-classes", type=int, metavar="N", help="outputs of the classifier (default: 1000)")
    parser.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="side of the images that are measured (default: 224)"
    )
    parser.add_argument("--dialect", metavar="NAME", help="torchvision (default) or paper, the published network")
    parser.add_argument("--weights", metavar="FILE", help="DEFAULT for the published ones, or a checkpoint")
    parser.add_argument(
        "--features-only", action="store_true", default=None, help="return feature maps in place of logits"
    )
    parser.add_argument("--out-indices", type=_indices, metavar="I,J,...", help="which feature maps, from 0")
    parser.add_argument("-O", "--optimize", action="store_true", help="rewrite for inference, computing the same")
    memory = parser.add_argument_group("activation memory")
    memory.add_argument("--dtype", default="int8", metavar="NAME", help="of activations: int8 (default), fp16 or fp32")
    memory.add_argument(
        "--attention", default="streaming", metavar="NAME", help="scores held: streaming (a row, default) or full"
    )
    memory.add_argument("--no-io", action="store_true", help="leave out the network's input and output")
    memory.add_argument("--inplace-depthwise", action="store_true", help="depthwise convolutions overwrite their input")


def _indices(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers such as 1,2,3, not '{text}'") from None


def given(options: argparse.Namespace) -> dict[str, object]:
    """The arguments of `sapool.compile` that were given."""
    names = ("num_classes", "image_size", "dialect", "weights", "features_only", "out_indices")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def given_flags(options: argparse.Namespace) -> str:
    """The same as they were typed: `--num-classes, --dialect`, or ""."""
    return ", ".join("--" + name.replace("_", "-") for name in given(options))


def compiled(text: str, options: argparse.Namespace, *, real: bool = False) -> CompiledModel:
    """The model of an architecture; on the meta device where only its shape matters.

    Args:
        text: an architecture string.
        options: with those of `add_model_options`.
        real: whether its parameters are wanted.
    """
    from sapool.grammar import parse

    parse(text)  # a typing error is answered before torch is loaded
    import torch

    from sapool.compiler import compile
    from sapool.inference import optimize

    arguments = given(options)
    with torch.device("cpu" if real or "weights" in arguments else "meta"):
        model = compile(text, **arguments)  # type: ignore[arg-type]
    return optimize(model) if options.optimize else model


def assumptions(options: argparse.Namespace) -> Assumptions:
    """What activation memory is measured under."""
    from sapool.cost.memory import Assumptions

    return Assumptions(options.dtype, options.attention, not options.no_io, options.inplace_depthwise)


def add_threshold_option(parser: argparse.ArgumentParser) -> None:
    """Which of a detector's boxes are shown."""
    parser.add_argument(
        "--threshold", type=float, default=0.3, metavar="SCORE", help="of detectors: lowest score shown (default: 0.3)"
    )
