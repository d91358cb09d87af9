"""The command line: `sapoolc compile|inspect|train|list` and what follows training.

Thin: a command gathers its arguments, calls the library, and prints. torch is imported by the commands that need it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sapool import __version__
from sapool.errors import InputError, WorkError, did_you_mean

if TYPE_CHECKING:
    from sapool.cost.memory import Assumptions
    from sapool.model import CompiledModel
    from sapool.recipes.detection import DetectionRecipe

EPILOG = """\
examples:
  sapoolc compile prepool-nlp-4-resnet18-nlp-1222
  sapoolc compile mobilenet_v2-lip-2222121 --num-classes 10 -o model.pt
  sapoolc inspect resnet18-nlp-2222 --rewrites
  sapoolc train digits train.epochs=5
"""

COMMANDS = ("compile", "inspect", "train", "evaluate", "predict", "heatmap", "compare", "schema", "list", "doctor")
_FILES = (".pt", ".pth", ".json")
LISTS = ("backbones", "poolings", "modifiers", "recipes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0 done, 1 the work failed, 2 the input is wrong."""
    options = _options(arguments)
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


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse gives up on overrides that stand behind an option.
    if rest and not (hasattr(options, "overrides") and all("=" in word and word[0] != "-" for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides += rest
    return options


def _fail(options: argparse.Namespace, error: BaseException, code: int) -> int:
    if options.debug:
        traceback.print_exception(error)
        return code
    told = isinstance(error, (InputError, WorkError, KeyboardInterrupt))
    kind = "" if told else f"{type(error).__name__}: "
    hint = "" if told else "\n(--debug shows where)"
    print(f"sapoolc: {kind}{error}{hint}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """argparse, with the nearest spelling of a mistyped command."""

    def error(self, message: str) -> NoReturn:
        words = message.split("'")
        if "invalid choice" in message and len(words) > 1:
            message += "." + did_you_mean(words[1], [*COMMANDS, *LISTS])
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
    command.add_argument("text", metavar="TEXT", help="an architecture string, or a detector's recipe")
    _model_options(command)
    command.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help=".pt: weights and architecture, .json: the plan, .py: code; of a detector's recipe .py: its mmdet config",
    )
    command.add_argument("--budget", metavar="SIZE", help="fail where activations need more, for instance 256KB")
    command.add_argument("--strict", action="store_true", help="treat findings as errors")
    command.add_argument("--acknowledge", action="append", default=[], metavar="CODE", help="a finding that is known")
    command.add_argument("--json", action="store_true", help="print plan, cost and findings as JSON")

    command = add("inspect", inspect, "show the rewritten graph: sites, rewrites, nodes, code")
    command.add_argument(
        "text", metavar="TEXT|FILE", help="an architecture, a backbone, a model (.pt) or a plan (.json)"
    )
    _model_options(command)
    command.add_argument("--timeline", action="store_true", help="only what each operation holds in memory")
    command.add_argument(
        "--rewrites", action="store_true", help="only what was rewritten and what was left alone, and why"
    )
    command.add_argument("--nodes", action="store_true", help="only the graph's nodes")
    command.add_argument("--code", action="store_true", help="only the generated code")
    command.add_argument("--json", action="store_true", help="print everything as JSON")

    command = add("train", train, "train what a recipe describes")
    command.add_argument(
        "recipe",
        metavar="RECIPE",
        nargs="?",
        help="a TOML file, or the name of a shipped recipe (sapoolc list recipes); with --resume the run's own",
    )
    command.add_argument(
        "overrides", metavar="key=value", nargs="*", help="recipe settings, for instance train.epochs=5"
    )
    command.add_argument("--run-dir", metavar="DIR", help="where the run is kept (default: runs/RECIPE-TIME)")
    command.add_argument(
        "--resume", action="store_true", help="go on with the run in --run-dir from its last checkpoint"
    )
    command.add_argument("--dry-run", action="store_true", help="build everything, try two batches, estimate the time")
    command.add_argument(
        "-o", "--output", metavar="FILE", help="with --dry-run of a detector: where its mmdet config is written (.py)"
    )

    _after_training(add)
    add("schema", schema, "print the JSON schema of recipes, for editors")

    _list_options(add("list", list_, "list what there is"))
    command = add("doctor", doctor, "say whether detection will run: versions, clashes, where operators come from")
    command.add_argument("--json", action="store_true", help="print as JSON")
    return parser


def _after_training(add: Callable[..., argparse.ArgumentParser]) -> None:
    command = add("evaluate", evaluate, "measure a run's best model on its test set (detectors: validation), by class")
    command.add_argument("run", metavar="RUN", help="the run's folder")
    command.add_argument("--json", action="store_true", help="print as JSON")

    command = add("predict", predict, "classify images with a run's best model, or find and draw boxes in them")
    command.add_argument("run", metavar="RUN", help="the run's folder")
    command.add_argument("images", metavar="IMAGE", nargs="+")
    command.add_argument("--top", type=int, default=3, metavar="N", help="how many classes of each image (default: 3)")
    _threshold_option(command)
    command.add_argument(
        "-o", "--output", metavar="DIR", help="of detectors: where the drawings go (default: RUN/predictions)"
    )
    command.add_argument("--json", action="store_true", help="print as JSON")

    command = add("heatmap", heatmap, "draw the weights of a run's pools over images, and Grad-CAM")
    command.add_argument("run", metavar="RUN", help="the run's folder")
    command.add_argument("images", metavar="IMAGE", nargs="+")
    command.add_argument("--label", metavar="CLASS", help="the true class (default: the image's folder, if it is one)")
    command.add_argument("-o", "--output", metavar="DIR", help="where the sheets go (default: RUN/heatmaps)")
    _threshold_option(command)

    command = add("compare", compare, "table and plot of runs: accuracy against cost")
    command.add_argument("runs", metavar="RUN", nargs="+", help="the runs' folders")
    command.add_argument("-o", "--output", metavar="FILE", default="compare.png", help="the plot (a PNG)")
    command.add_argument("--json", action="store_true", help="print as JSON")


def _threshold_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--threshold", type=float, default=0.3, metavar="SCORE", help="of detectors: lowest score shown (default: 0.3)"
    )


def _list_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", choices=LISTS)
    command.add_argument("pattern", metavar="PATTERN", nargs="?", help="only names like this, for instance 'resne*'")
    command.add_argument("--json", action="store_true", help="print as JSON")


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
    command.add_argument("-O", "--optimize", action="store_true", help="rewrite for inference, computing the same")
    memory = command.add_argument_group("activation memory")
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


def _given(options: argparse.Namespace) -> dict[str, object]:
    names = ("num_classes", "image_size", "dialect", "weights", "features_only", "out_indices")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def compile_(options: argparse.Namespace) -> int:
    """`sapoolc compile`."""
    if recipe := _detector(options.text):
        return _compile_detector(recipe, options)
    from sapool.catalogue.formats import format_of

    written = format_of(options.output) if options.output else None
    model = _compile(options.text, options, real=written is not None and written.weights)
    from sapool.cli.tables import as_data, console, count, show_findings, show_summary
    from sapool.cost.budget import parse_size, to_blame
    from sapool.cost.comparison import compare as assess
    from sapool.cost.diagnostics import diagnose, unacknowledged
    from sapool.cost.flops import parts_of

    budget = parse_size(options.budget) if options.budget else None
    assessed = assess(model, _assumptions(options))
    findings, memory = unacknowledged(diagnose(model, assessed), options.acknowledge), assessed.memory
    if findings and options.strict:
        raise InputError("\n".join(map(str, findings)))
    if options.output:
        _write(model, options.output)
    if options.json:
        print(json.dumps(as_data(model, assessed, findings), indent=2))
    else:
        out = console()
        show_summary(out, model, assessed)
        show_findings(out, findings)
    if budget is None or memory.peak <= budget:
        return 0
    blamed = ", ".join(
        f"{part} ({count(needed)})" for part, needed in to_blame(memory, budget, parts_of(model, model.plan))
    )
    print(f"sapoolc: activations of {count(memory.peak)} bytes exceed {count(budget)}: {blamed}", file=sys.stderr)
    return 1


def _detector(text: str) -> DetectionRecipe | None:
    """The detector's recipe that a text names, which is no architecture."""
    from sapool.recipes import names

    if text not in names() and not text.endswith(".toml"):
        return None
    from sapool.recipes.reading import DetectionRecipe, read_recipe

    recipe = read_recipe(text)
    if not isinstance(recipe, DetectionRecipe):
        raise InputError(f"{text} is a classifier's recipe; compile its architecture: {recipe.architecture}")
    return recipe


def _compile_detector(recipe: DetectionRecipe, options: argparse.Namespace) -> int:
    given = [name.replace("_", "-") for name in _given(options)]
    if given:
        raise InputError(f"a recipe has its own settings; --{', --'.join(given)} can't change them")
    if not options.output:
        raise InputError(
            "a detector's recipe is compiled to a config of mmdet: name it with -o, for instance -o config.py"
        )
    from sapool.detect.dry_run import write

    return write(recipe, options.output)


def _assumptions(options: argparse.Namespace) -> Assumptions:
    from sapool.cost.memory import Assumptions

    return Assumptions(options.dtype, options.attention, not options.no_io, options.inplace_depthwise)


def _compile(text: str, options: argparse.Namespace, *, real: bool) -> CompiledModel:
    """The model; without numbers where only its shape matters."""
    from sapool import parse

    parse(text)  # a typing error is answered before torch is loaded
    import torch

    import sapool

    arguments = _given(options)
    with torch.device("cpu" if real or "weights" in arguments else "meta"):
        model = sapool.compile(text, **arguments)  # type: ignore[arg-type]
    return sapool.optimize(model) if options.optimize else model


def _write(model: CompiledModel, path: str) -> None:
    import sapool

    sapool.export(model, path)


def inspect(options: argparse.Namespace) -> int:
    """`sapoolc inspect`."""
    if "-" not in options.text and Path(options.text).suffix not in _FILES:
        return _inspect_backbone(options)
    model = _open(options)
    from sapool.cli.tables import (
        as_data,
        console,
        show_findings,
        show_nodes,
        show_rewrites,
        show_summary,
        show_timeline,
    )
    from sapool.cost.comparison import compare as assess
    from sapool.cost.diagnostics import diagnose

    assessed = assess(model, _assumptions(options))
    findings = diagnose(model, assessed)
    if options.json:
        print(json.dumps(as_data(model, assessed, findings, graph=True), indent=2))
        return 0
    out = console()
    everything = not (options.rewrites or options.nodes or options.code or options.timeline)
    if everything:
        show_summary(out, model, assessed)
        show_findings(out, findings)
        out.print()
    if everything or options.rewrites:
        show_rewrites(out, model)
    if options.timeline:
        show_timeline(out, assessed.memory)
    if everything or options.nodes:
        out.print() if everything else None
        show_nodes(out, model)
    if options.code:
        out.print(model.code.strip(), markup=False)
    return 0


def _inspect_backbone(options: argparse.Namespace) -> int:
    """A backbone's name alone: what was found in it, before anything is rewritten."""
    from dataclasses import asdict

    from sapool.cli.tables import console, show_survey
    from sapool.planning import survey

    found = survey(options.text)
    if options.json:
        print(json.dumps({"backbone": options.text, "unchanged": found.unchanged, **asdict(found)}, indent=2))
    else:
        show_survey(console(), options.text, found)
    return 0


def _open(options: argparse.Namespace) -> CompiledModel:
    """The model that TEXT|FILE names."""
    suffix = Path(options.text).suffix
    if suffix not in _FILES:
        return _compile(options.text, options, real=False)
    if _given(options):
        given = ", ".join("--" + name.replace("_", "-") for name in _given(options))
        raise InputError(f"{options.text} has its own settings; {given} can't change them")
    import sapool

    model = _from_plan(options.text) if suffix == ".json" else sapool.load(options.text)
    return sapool.optimize(model) if options.optimize else model


def _from_plan(path: str) -> CompiledModel:
    import torch

    import sapool

    plan = sapool.read_plan(path)
    with torch.device("meta"):
        return sapool.execute(plan)


def train(options: argparse.Namespace) -> int:
    """`sapoolc train`."""
    from sapool.recipes.reading import DetectionRecipe, read_recipe

    source, overrides, folder = options.recipe, options.overrides, options.run_dir
    if source is not None and "=" in source:
        source, overrides = None, [source, *overrides]
    if options.resume and folder is None:
        raise InputError("--resume goes on with a run: name its folder with --run-dir")
    if source is None:
        if not options.resume:
            raise InputError("which recipe? A TOML file, or a name of `sapoolc list recipes`")
        source = str(Path(folder) / "recipe.toml")
    recipe = read_recipe(source, overrides)
    if isinstance(recipe, DetectionRecipe):
        return _train_detector(recipe, options)
    if options.output:
        raise InputError("-o is for a detector's recipe, whose config it writes")
    if options.dry_run:
        from sapool.classify.dry_run import dry_run

        return dry_run(recipe)
    from sapool.classify.run import run

    return run(recipe, folder, resume=options.resume)


def _train_detector(recipe: DetectionRecipe, options: argparse.Namespace) -> int:
    if options.dry_run:
        from sapool.detect.dry_run import dry_run

        return dry_run(recipe, options.output)
    if options.output:
        raise InputError("-o goes with --dry-run; a run keeps its config in its folder")
    from sapool.detect.run import run

    return run(recipe, options.run_dir, resume=options.resume)


def evaluate(options: argparse.Namespace) -> int:
    """`sapoolc evaluate`."""
    if recipe := _detector_of(options.run):
        from sapool.detect.evaluate import evaluate as evaluate_detector

        return evaluate_detector(options.run, recipe, as_json=options.json)
    from sapool.classify import evaluate as command

    return command.evaluate(options.run, as_json=options.json)


def _detector_of(run: str) -> DetectionRecipe | None:
    """The recipe of a run, where it is a detector's."""
    from sapool.recipes.reading import DetectionRecipe
    from sapool.runs.folder import any_recipe_of

    recipe = any_recipe_of(run)
    return recipe if isinstance(recipe, DetectionRecipe) else None


def predict(options: argparse.Namespace) -> int:
    """`sapoolc predict`."""
    if options.top < 1:
        raise InputError(f"--top: expected a positive number, not {options.top}")
    if recipe := _detector_of(options.run):
        from sapool.detect.predict import predict as predict_boxes

        return predict_boxes(
            options.run,
            recipe,
            options.images,
            threshold=options.threshold,
            output=options.output,
            as_json=options.json,
        )
    from sapool.classify import predict as command

    return command.predict(options.run, options.images, top=options.top, as_json=options.json)


def heatmap(options: argparse.Namespace) -> int:
    """`sapoolc heatmap`."""
    if recipe := _detector_of(options.run):
        from sapool.detect.heatmap import heatmap as heatmap_detector

        return heatmap_detector(options.run, recipe, options.images, threshold=options.threshold, output=options.output)
    from sapool.classify import heatmap as command

    return command.heatmap(options.run, options.images, label=options.label, output=options.output)


def compare(options: argparse.Namespace) -> int:
    """`sapoolc compare`."""
    from sapool.study import compare as command

    return command.compare(options.runs, output=options.output, as_json=options.json)


def schema(options: argparse.Namespace) -> int:
    """`sapoolc schema`."""
    from sapool.recipes.reading import schema as recipe_schema

    print(json.dumps(recipe_schema(), indent=2))
    return 0


def doctor(options: argparse.Namespace) -> int:
    """`sapoolc doctor`."""
    from sapool.cli.doctor import examine

    return examine(as_json=options.json)


def list_(options: argparse.Namespace) -> int:
    """`sapoolc list`."""
    columns, rows = _listing(options.what)
    if options.pattern:
        known = [row[0] for row in rows]
        rows = [row for row in rows if fnmatch(row[0], options.pattern) or options.pattern in row[0]]
        if not rows:
            hint = did_you_mean(options.pattern, known)
            raise InputError(f"none of the {options.what} is like '{options.pattern}'.{hint}")
    if options.json:
        print(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=2))
        return 0
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _listing(what: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from sapool.catalogue.backbones import BACKBONES, PLACES
    from sapool.catalogue.poolings import MODIFIERS, POOLINGS

    match what:
        case "backbones":
            return ("name", "stages", "strides", "parameters", "pools"), [
                (b.name, str(len(b.stages)), b.strides, f"{b.parameters:,}", PLACES[b.pools])
                for b in BACKBONES.values()
            ]
        case "poolings":
            return ("name", "modifiers", "what it is"), [
                (kind.name, "yes" if kind.takes_modifiers else "", kind.summary) for kind in POOLINGS.values()
            ]
        case "modifiers":
            return ("name", "what it does"), list(MODIFIERS.items())
        case _:
            from sapool.recipes import summaries

            return ("name", "what it trains"), list(summaries().items())


if __name__ == "__main__":
    sys.exit(main())
