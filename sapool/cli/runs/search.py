"""`sapoolc search`: what of a space of networks fits a budget, told without training."""

from __future__ import annotations

import argparse
import json
import sys

from sapool.cli.options import size
from sapool.errors import InputError

SUMMARY = "search a space of networks for those that fit a budget"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("space", metavar="SPACE", nargs="?", help="a TOML file (docs/studies.md); flags go before it")
    parser.add_argument("--backbone", action="append", metavar="NAME", help="may be given several times, as the others")
    parser.add_argument("--pool", action="append", metavar="KIND", help="a pooling with its modifiers")
    parser.add_argument("--strides", action="append", metavar="DIGITS", help="such as 1222, or choices: [12]22[12]")
    parser.add_argument("--prepool", action="append", metavar="KIND-STRIDE", help="such as nlp-4; none for no prepool")
    parser.add_argument("--image-size", action="append", type=size, metavar="PIXELS|HxW", help="(default: 224)")
    parser.add_argument("--num-classes", type=int, metavar="N", help="outputs of the classifier (default: 1000)")
    parser.add_argument("--in-chans", type=int, metavar="N", help="channels of the images (default: 3)")
    parser.add_argument("--budget", metavar="SIZE", help="of the arena of activations, for instance 256KB")
    parser.add_argument("--macs", metavar="COUNT", help="the most, for instance 50M")
    parser.add_argument("--params", metavar="COUNT", help="the most, for instance 1M")
    parser.add_argument("--device", metavar="NAME", help="a board (sapoolc list devices): its SRAM and its flash")
    parser.add_argument("--sample", type=int, metavar="N", help="look at N networks, drawn at random, in place of all")
    parser.add_argument("--no-train", action="store_true", help="as it is without: nothing is trained by this command")
    parser.add_argument("--json", action="store_true", help="print as JSON, with everything that fits")


def run(options: argparse.Namespace) -> int:
    from sapool.cost.limits import read_limits
    from sapool.study.search.space import read_space

    limits = read_limits(
        {"memory": options.budget, "macs": options.macs, "parameters": options.params, "device": options.device}
    )
    if not limits:
        raise InputError("which budget? Name one or some of --budget 256KB, --macs 50M, --params 1M, --device NAME")
    if options.sample is not None and options.sample < 1:
        raise InputError(f"--sample: expected at least 1, not {options.sample}")
    names = {
        "backbones": options.backbone, "pools": options.pool, "strides": options.strides,
        "prepools": options.prepool and ["" if one == "none" else one for one in options.prepool],
        "image_sizes": options.image_size, "num_classes": options.num_classes, "in_chans": options.in_chans,
    }  # fmt: skip
    space = read_space(options.space, names)
    from sapool.cli.console import console, show_report
    from sapool.study.search.analytic import look

    found = look(space, limits, options.sample)
    if options.json:
        print(json.dumps(found.as_data(), indent=2))
    else:
        show_report(console(), found.report())
    if found.closest:
        print(f"sapoolc: {found.closest}", file=sys.stderr)
        return 1
    return 0
