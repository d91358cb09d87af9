"""`sapoolc bench`: how long a network takes in each engine of this machine."""

from __future__ import annotations

import argparse
import json

from sapool.cli.modules import add_module_options
from sapool.cli.options import add_network_options, opened
from sapool.errors import InputError

SUMMARY = "time a network on this machine: PyTorch, -O, torch.compile, ONNX Runtime, LiteRT"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", metavar="TEXT|FILE", help="an architecture, a plan (.json), a model (.pt), or a run")
    add_network_options(parser)
    add_module_options(parser)
    timed = parser.add_argument_group("what is timed")
    timed.add_argument(
        "--engine", action="append", default=[], metavar="NAME",
        help="eager, -O (as --engine=-O), torch.compile, onnxruntime or litert; again for more (default: all)",
    )  # fmt: skip
    timed.add_argument("--batch", type=int, default=1, metavar="N", help="images at a time (default: 1)")
    timed.add_argument("--threads", type=int, metavar="N", help="of each engine (default: as torch takes)")
    timed.add_argument("--rounds", type=int, default=15, metavar="N", help="turns of each engine (default: 15)")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(options: argparse.Namespace) -> int:
    if options.text.endswith((".onnx", ".tflite", ".pt2")):
        raise InputError(f"{options.text} was written of a network; name that: its architecture, model.pt or run")
    from sapool.bench import bench

    model = opened(options, real=True)
    found = bench(model, engines=options.engine, batch=options.batch, threads=options.threads, rounds=options.rounds)
    if options.json:
        print(json.dumps(found.as_data(), indent=2))
        return 0
    from sapool.cli.console import console, show_report

    show_report(console(), found.report())
    return 0
