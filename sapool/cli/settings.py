"""`sapoolc settings`: every setting of a recipe, with its type, its default and its meaning."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict

from sapool.errors import InputError, did_you_mean

SUMMARY = "look up the settings of recipes"
COLUMNS = ("setting", "type", "default", "meaning")
PAGE = """\
# Settings of recipes

Written by `sapoolc settings --markdown`. On the command line a setting is given as `train.epochs=5`, in a recipe's file
as `epochs = 5` under `[train]`; values are TOML's, bare words are text. `sapoolc settings train` lists some of them.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "prefix", metavar="PREFIX", nargs="?", default="", help="only those that begin so, such as train"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--markdown", action="store_true", help="print as a page")


def run(options: argparse.Namespace) -> int:
    from sapool.recipes.reference import KINDS, reference

    found = {name: reference(kind, options.prefix) for name, kind in KINDS.items()}
    if not any(found.values()):
        known = [setting.name for kind in KINDS.values() for setting in reference(kind)]
        sections = dict.fromkeys(name.partition(".")[0] for name in known)
        hint = did_you_mean(options.prefix, [*sections, *known])
        raise InputError(f"no setting begins with '{options.prefix}'; there are {', '.join(sections)}.{hint}")
    if options.json:
        print(json.dumps({name: [asdict(setting) for setting in rows] for name, rows in found.items()}, indent=2))
        return 0
    tables = {
        f"settings of {name}": [(s.name, s.type, s.default, s.meaning) for s in rows] for name, rows in found.items()
    }
    if options.markdown:
        print(PAGE + "\n".join(_page(title, rows) for title, rows in tables.items() if rows), end="")
        return 0
    from sapool.cli.console import console, show_table

    out = console()
    for number, (title, rows) in enumerate((title, rows) for title, rows in tables.items() if rows):
        if number:
            out.print()
        show_table(out, COLUMNS, rows, title=title)
    return 0


def _page(title: str, rows: Iterable[tuple[str, str, str, str]]) -> str:
    lines = [f"\n## {title[0].upper()}{title[1:]}\n", f"| {' | '.join(COLUMNS)} |", "|---|---|---|---|"]
    for name, kind, default, meaning in rows:
        cells = (f"`{name}`", kind, default, meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
