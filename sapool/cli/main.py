"""The command line's frame: finds the command, runs it, and makes an exit code of how it ends.

Each command is a file with a `SUMMARY`, its arguments, and a `run` that returns the exit code. It imports what takes
time when it runs, after everything that can be refused cheaply.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, NoReturn, Protocol, cast

from sapool.cli.list import LISTS
from sapool.errors import InputError, NoDigestWarning, WorkError, did_you_mean, visible
from sapool.runs.process.signals import ending_at_once

EPILOG = """\
examples:
  sapoolc compile prepool-nlp-4-resnet18-nlp-1222
  sapoolc compile mobilenet_v2-lip-2222121 --num-classes 10 -o model.pt
  sapoolc inspect resnet18-nlp-2222 --rewrites
  sapoolc train digits train.epochs=5
"""

COMMANDS = MappingProxyType(
    {
        "compile": "sapool.cli.compile",
        "inspect": "sapool.cli.inspect",
        "bench": "sapool.cli.runs.bench",
        "train": "sapool.cli.runs.train",
        "evaluate": "sapool.cli.runs.evaluate",
        "predict": "sapool.cli.runs.predict",
        "heatmap": "sapool.cli.runs.heatmap",
        "compare": "sapool.cli.runs.compare",
        "sweep": "sapool.cli.runs.sweep",
        "search": "sapool.cli.runs.search",
        "report": "sapool.cli.runs.report",
        "prune": "sapool.cli.runs.prune",
        "settings": "sapool.cli.settings",
        "schema": "sapool.cli.schema",
        "list": "sapool.cli.list",
        "doctor": "sapool.cli.doctor",
    }
)
"""Every command and its module, in the order of the help text."""


class Command(Protocol):
    """What a command's module has."""

    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declares its arguments."""

    def run(self, options: argparse.Namespace) -> int:
        """Does it; returns the exit code."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0 where it is done, 1 where the work failed, 2 for wrong input, 128 + n for signal n.

    Args:
        arguments: the command and its own; None for the process's.
    """
    options = _options(arguments)
    try:
        with ending_at_once(), _notes():
            code = int(options.command(options))
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


@contextmanager
def _notes() -> Iterator[None]:
    """Meanwhile files without a digest are told in a line, as a person reads it."""
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, NoDigestWarning):
            print(f"note: {visible(str(message))}", file=sys.stderr)
        else:
            before(message, category, *place)

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        warnings.simplefilter("default", NoDigestWarning)
        yield


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    options, rest = _parser().parse_known_args(arguments)
    # argparse gives up on overrides that stand behind an option.
    if rest and not (hasattr(options, "overrides") and all("=" in word and word[0] != "-" for word in rest)):
        options.parser.exit(2, f"sapoolc: {visible(_unrecognized(options, rest))}\n")
    if rest:
        options.overrides += rest
    return options


def _unrecognized(options: argparse.Namespace, rest: Sequence[str]) -> str:
    """What to say of arguments that a command doesn't have: the right spelling, where that can be known."""
    word = next((word for word in rest if word.startswith("-")), rest[0])
    if hasattr(options, "overrides") and word.startswith("-"):
        from sapool.recipes.reading import DetectionRecipe, Recipe
        from sapool.recipes.spelling import setting_called, settings_of

        name, _, value = word.lstrip("-").replace("-", "_").partition("=")
        behind = list(rest[rest.index(word) + 1 :])
        value = value or (behind[0] if behind and behind[0][0] != "-" else "VALUE")
        for kind in (Recipe, DetectionRecipe):
            found = name if name in settings_of(kind) else setting_called(name, kind)
            if found is not None:
                return f"settings of a recipe are written without dashes; write {found}={value} in place of {word}"
    known = [option for action in options.parser._actions for option in action.option_strings]
    hint = did_you_mean(word, known) or f" Try sapoolc {options.name} --help."
    return f"unrecognized arguments: {' '.join(rest)}.{hint}"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sapoolc",
        description="Compiles architecture strings into networks that downsample as they say.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        command = cast(Command, import_module(module))
        summary = command.SUMMARY
        own = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        own.set_defaults(command=command.run, parser=own, name=name)
        own.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.add_arguments(own)
    return parser


# Lines of usage that don't hide the sentence behind them.
_SHORT = 3


class _Parser(argparse.ArgumentParser):
    """argparse, with the nearest spelling of a mistyped command."""

    def error(self, message: str) -> NoReturn:
        words = message.split("'")
        if "invalid choice" in message and len(words) > 1:
            message += "." + did_you_mean(words[1], [*COMMANDS, *LISTS])
        usage = self.format_usage()
        self.exit(2, f"{usage if usage.count(chr(10)) <= _SHORT else ''}sapoolc: {visible(message)}\n")


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that reads files."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        print(f"sapoolc {version('sapool')}")
        parser.exit()


def _fail(options: argparse.Namespace, error: BaseException, code: int) -> int:
    if options.debug:
        traceback.print_exception(error)
        return code
    explained = isinstance(error, (InputError, WorkError, KeyboardInterrupt))
    kind = "" if explained else f"{type(error).__name__}: "
    hint = "" if explained else "\n(--debug shows where)"
    said = str(error) if explained else visible(str(error))
    print(_folded(f"sapoolc: {kind}{said}{hint}"), file=sys.stderr)
    return code


def _folded(text: str) -> str:
    """Sentences broken between words where a terminal would break them within; what is quoted below them isn't."""
    if not sys.stderr.isatty():
        return text
    width = shutil.get_terminal_size().columns
    lines = (
        [line] if line.startswith(" ") else textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    )
    return "\n".join(part for parts in lines for part in parts)
