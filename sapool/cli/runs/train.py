"""`sapoolc train`: a recipe's run, or a dry run of it."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sapool.cli.compile import check_config_name
from sapool.errors import InputError, visible
from sapool.weights.atomic import check_writable

if TYPE_CHECKING:
    from sapool.recipes.reading import AnyRecipe

SUMMARY = "train what a recipe describes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        nargs="?",
        help="a TOML file, or the name of a shipped recipe (sapoolc list recipes); with --resume the run's own",
    )
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", help="recipe settings, for instance train.epochs=5"
    )
    parser.add_argument("--run-dir", metavar="DIR", help="where the run is kept (default: runs/RECIPE-TIME)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --run-dir from its last checkpoint"
    )
    parser.add_argument("--dry-run", action="store_true", help="build everything, try two batches, estimate the time")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="with --dry-run of a detector: where its mmdet config is written (.py)"
    )


def run(options: argparse.Namespace) -> int:
    recipe = _recipe(options)
    for note in recipe.notes:
        print(f"note: {note}")
    return _dry_run(recipe, options) if options.dry_run else _fit(recipe, options)


def _recipe(options: argparse.Namespace) -> AnyRecipe:
    """The recipe that is named, or the run's own, with its overrides; refuses options that don't go with it."""
    from sapool.recipes.reading import DetectionRecipe, read_recipe

    source, overrides = options.recipe, options.overrides
    if source is not None and "=" in source:
        source, overrides = None, [source, *overrides]
    if options.resume and options.run_dir is None:
        raise InputError("--resume goes on with a run: name its folder with --run-dir")
    if source is None:
        if not options.resume:
            raise InputError("which recipe? A TOML file, or a name of `sapoolc list recipes`")
        source = str(Path(options.run_dir) / "recipe.toml")
    recipe = read_recipe(source, overrides, of_run=options.recipe is None or source != options.recipe)
    if options.output:
        if not isinstance(recipe, DetectionRecipe) or recipe.detector.engine != "mmdet":
            raise InputError("-o is for a detector's recipe, whose config it writes")
        if not options.dry_run:
            raise InputError("-o goes with --dry-run; a run keeps its config in its folder")
        check_config_name(options.output)
        check_writable(options.output)
    return recipe


def _fit(recipe: AnyRecipe, options: argparse.Namespace) -> int:
    from sapool.runs.folder import RunFolder, is_main
    from sapool.runs.machine import check_machine
    from sapool.runs.process.signals import advise
    from sapool.tasks import task_of

    # Before torch is loaded.
    folder = RunFolder.choose(recipe, options.run_dir, resume=options.resume)
    named = [options.recipe] if options.recipe is not None and "=" in options.recipe else []
    if folder.resumed and (options.recipe is None or named):
        _check_first_weights(recipe, folder.path, [*named, *options.overrides])
        _check_services(recipe, folder.path, [*named, *options.overrides])
    check_machine(recipe, resume=folder.resumed)
    from sapool.cli.console import console, show_report
    from sapool.cli.runs.progress import ConsoleProgress

    resuming = f"go on with: sapoolc train --resume --run-dir {visible(str(folder.path))}"
    advise(f"what was saved is kept; {resuming}" if is_main() else "")
    with ConsoleProgress() as progress:
        fit = task_of(recipe).fit(recipe, folder, progress)
    if fit.stopped is None:
        out = console()
        if is_main():
            out.print()
        show_report(out, fit.report())
        return 0
    if is_main():
        saved = f"saved in {visible(str(fit.checkpoint))}" if fit.checkpoint else "before the first checkpoint"
        with suppress(OSError):  # the terminal may be gone
            console(stderr=True).print(f"stopped, {saved}; {resuming}", markup=False)
    return 128 + fit.stopped


def _check_first_weights(recipe: AnyRecipe, path: Path, overrides: list[str]) -> None:
    """Refuses to begin a run anew by its own recipe where that reads or fetches weights from elsewhere.

    A run is data: what its recipe names besides its data set is for whoever names the recipe, or the weights, again.
    """
    weights = recipe.weights
    if weights is None or weights == "DEFAULT" or weights.startswith("torchvision://"):
        return
    if any(text.startswith("weights=") for text in overrides) or any(
        next(path.glob(kind), None) is not None for kind in ("*.ckpt", "*.pth")
    ):
        return
    raise InputError(
        f"the run in {path} ended before its first checkpoint, and would begin with the weights {weights}, which "
        f"aren't the run's: name its recipe again, or the weights with weights=FILE"
    )


def _check_services(recipe: AnyRecipe, path: Path, overrides: list[str]) -> None:
    """Refuses to go on with a run by its own recipe where that tells a service of it.

    A run is data, and may be anybody's: what goes out over the network, under the user's name, is for the user to say.
    """
    logger = getattr(recipe.train, "logger", ())  # detectors have none
    services = [name for name in logger if name != "tensorboard"]
    if not services or any(text.startswith("train.logger=") for text in overrides):
        return
    raise InputError(
        f"the run in {path} tells {' and '.join(services)} of itself, by its own recipe: say train.logger="
        f"{','.join(logger)} to go on so, or train.logger=none, or name the recipe that it was begun with"
    )


def _dry_run(recipe: AnyRecipe, options: argparse.Namespace) -> int:
    from sapool.runs.machine import check_machine
    from sapool.tasks import dry_run

    check_machine(recipe)
    result = dry_run(recipe)
    from sapool.cli.console import console, show_report
    from sapool.cli.tables import show_diagnostics, show_summary

    out = console()
    if result.model is not None and result.cost is not None:
        show_summary(out, result.model, result.cost)
        show_diagnostics(out, result.diagnostics)
        out.print()
    show_report(out, result.report())
    if not options.output:
        out.print("dry run: nothing was written")
        return 0
    from sapool.detect.dry_run import DetectorDryRun

    assert isinstance(result, DetectorDryRun)
    result.bound.write(options.output)
    out.print(f"config in {visible(options.output)}", markup=False)
    return 0
