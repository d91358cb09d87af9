"""The command line: `sapoolc compile|inspect|train|list`.

Thin: a command gathers its arguments, calls the library, and prints. torch is imported by the commands that need it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sapool import __version__
from sapool.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from sapool.model import CompiledModel

EPILOG = """\
examples:
  sapoolc compile prepool-nlp-4-resnet18-nlp-1222
  sapoolc compile mobilenet_v2-lip-2222121 --num-classes 10 -o model.pt
  sapoolc inspect resnet18-nlp-2222 --rewrites
  sapoolc train digits train.epochs=5
"""

LISTS = ("backbones", "poolings", "modifiers", "recipes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0 done, 1 the work failed, 2 the input is wrong."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        code = command(options)
        sys.stdout.flush()
        return code
    except InputError as error:
        return _fail(options, error, 2)
    except BrokenPipeError:
        # The reader has seen enough; Python would complain once more while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail(options, KeyboardInterrupt("interrupted"), 130)
    except Exception as error:
        return _fail(options, error, 1)


def _fail(options: argparse.Namespace, error: BaseException, code: int) -> int:
    if options.debug:
        raise error
    kind = "" if isinstance(error, (InputError, KeyboardInterrupt)) else f"{type(error).__name__}: "
    hint = "\n(--debug shows where)" if code == 1 else ""
    print(f"sapoolc: {kind}{error}{hint}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """argparse, with the nearest spelling of a mistyped command."""

    def error(self, message: str) -> NoReturn:
        words = message.split("'")
        if "invalid choice" in message and len(words) > 1:
            message += "." + did_you_mean(words[1], ["compile", "inspect", "train", "list", *LISTS])
        self.print_usage(sys.stderr)
        self.exit(2, f"sapoolc: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sapoolc",
        description="Compiles architecture strings into networks that downsample as they say.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sapoolc {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        command.set_defaults(command=run)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return command

    command = add("compile", compile_, "parse, plan and rewrite; print the plan and the cost")
    command.add_argument("text", metavar="TEXT", help="an architecture string")
    _model_options(command)
    command.add_argument(
        "-o", "--output", metavar="FILE", help=".pt: weights and architecture, .json: the plan, .py: code"
    )
    command.add_argument("--json", action="store_true", help="print plan and cost as JSON")

    command = add("inspect", inspect, "show the rewritten graph: sites, rewrites, nodes, code")
    command.add_argument("text", metavar="TEXT|FILE", help="an architecture string, a model (.pt) or a plan (.json)")
    _model_options(command)
    command.add_argument(
        "--rewrites", action="store_true", help="only what was rewritten and what was left alone, and why"
    )
    command.add_argument("--nodes", action="store_true", help="only the graph's nodes")
    command.add_argument("--code", action="store_true", help="only the generated code")
    command.add_argument("--json", action="store_true", help="print everything as JSON")

    command = add("train", train, "train what a recipe describes")
    command.add_argument(
        "recipe", metavar="RECIPE", help="a TOML file, or the name of a shipped recipe (sapoolc list recipes)"
    )
    command.add_argument(
        "overrides", metavar="key=value", nargs="*", help="recipe settings, for instance train.epochs=5"
    )
    command.add_argument("--run-dir", metavar="DIR", help="where the run is kept (default: runs/RECIPE-TIME)")

    command = add("list", list_, "list what there is")
    command.add_argument("what", choices=LISTS)
    command.add_argument("--json", action="store_true", help="print as JSON")
    return parser


def _model_options(command: argparse.ArgumentParser) -> None:
    # Defaults are the library's; None here means "not given", so that a file's own settings stand.
    command.add_argument("--num-classes", type=int, metavar="N", help="outputs of the classifier (default: 1000)")
    command.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="side of the images that are measured (default: 224)"
    )
    command.add_argument("--dialect", metavar="NAME", help="torchvision (default) or paper, the published network")
    command.add_argument("--weights", metavar="FILE", help="DEFAULT for the published ones, or a checkpoint")
    command.add_argument(
        "--features-only", action="store_true", default=None, help="return feature maps in place of logits"
    )
    command.add_argument("--out-indices", type=_indices, metavar="I,J,...", help="which feature maps, from 0")


def _indices(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _given(options: argparse.Namespace) -> dict[str, object]:
    names = ("num_classes", "image_size", "dialect", "weights", "features_only", "out_indices")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def compile_(options: argparse.Namespace) -> int:
    """`sapoolc compile`."""
    suffix = Path(options.output).suffix if options.output else ""
    if options.output and suffix not in (".pt", ".pth", ".json", ".py"):
        raise InputError(f"{options.output}: the suffix says what is written; expected .pt, .json or .py")
    real = suffix in (".pt", ".pth")
    model = _compile(options.text, options, real=real)
    if options.output:
        _write(model, options.output)
    _print_summary(model, options, graph=False)
    return 0


def _compile(text: str, options: argparse.Namespace, *, real: bool) -> CompiledModel:
    """The model; without numbers where only its shape matters."""
    from sapool import parse

    parse(text)  # a typing error is answered before torch is loaded
    import torch

    import sapool

    arguments = _given(options)
    with torch.device("cpu" if real or "weights" in arguments else "meta"):
        return sapool.compile(text, **arguments)  # type: ignore[arg-type]


def _write(model: CompiledModel, path: str) -> None:
    import sapool
    from sapool.atomic import write_text
    from sapool.codegen import source

    match Path(path).suffix:
        case ".json":
            write_text(path, model.plan.to_json() + "\n")
        case ".py":
            write_text(path, source(model))
        case _:
            sapool.save(model, path)


def inspect(options: argparse.Namespace) -> int:
    """`sapoolc inspect`."""
    model = _open(options)
    from sapool.report import console, show_nodes, show_rewrites, show_summary

    if options.json:
        _print_summary(model, options, graph=True)
        return 0
    out = console()
    everything = not (options.rewrites or options.nodes or options.code)
    if everything:
        show_summary(out, model)
        out.print()
    if everything or options.rewrites:
        show_rewrites(out, model)
    if everything or options.nodes:
        out.print() if everything else None
        show_nodes(out, model)
    if options.code:
        out.print(model.code.strip(), markup=False)
    return 0


def _open(options: argparse.Namespace) -> CompiledModel:
    """The model that TEXT|FILE names."""
    suffix = Path(options.text).suffix
    if suffix not in (".pt", ".pth", ".json"):
        return _compile(options.text, options, real=False)
    if _given(options):
        given = ", ".join("--" + name.replace("_", "-") for name in _given(options))
        raise InputError(f"{options.text} has its own settings; {given} can't change them")
    if suffix == ".json":
        return _from_plan(options.text)
    import sapool

    return sapool.load(options.text)


def _from_plan(path: str) -> CompiledModel:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} isn't a plan: it isn't text") from None
    import torch

    import sapool

    plan = sapool.Plan.from_json(text)
    with torch.device("meta"):
        return sapool.compile(
            plan.architecture,
            num_classes=plan.num_classes,
            dialect=plan.dialect,
            image_size=plan.image_size,
            features_only=plan.features_only,
            out_indices=plan.out_indices,
        )


def _print_summary(model: CompiledModel, options: argparse.Namespace, *, graph: bool) -> None:
    from sapool.report import as_data, console, show_summary

    if options.json:
        print(json.dumps(as_data(model, graph=graph), indent=2))
    else:
        show_summary(console(), model)


def train(options: argparse.Namespace) -> int:
    """`sapoolc train`."""
    from sapool.training.recipe import read_recipe

    recipe = read_recipe(options.recipe, options.overrides)
    from sapool.training.run import run

    return run(recipe, options.run_dir)


def list_(options: argparse.Namespace) -> int:
    """`sapoolc list`."""
    columns, rows = _listing(options.what)
    if options.json:
        print(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=2))
        return 0
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _listing(what: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from sapool.backbones import BACKBONES
    from sapool.kinds import KINDS, MODIFIERS

    match what:
        case "backbones":
            places = {True: "before the first block", False: "after the last block"}
            return ("name", "builder", "stages", "strides", "pools"), [
                (b.name, f"torchvision {b.builder}", str(len(b.stages)), b.strides, places[b.pool_before])
                for b in BACKBONES.values()
            ]
        case "poolings":
            return ("name", "modifiers", "what it is"), [
                (kind.name, "yes" if kind.takes_modifiers else "", kind.summary) for kind in KINDS.values()
            ]
        case "modifiers":
            return ("name", "what it does"), list(MODIFIERS.items())
        case _:
            from sapool.recipes import summaries

            return ("name", "what it trains"), list(summaries().items())


if __name__ == "__main__":
    sys.exit(main())
