"""`sapoolc list`: what there is, by kind. No torch here."""

from __future__ import annotations

import argparse
import json
from fnmatch import fnmatch

from sapool.errors import InputError, did_you_mean

SUMMARY = "list what there is"
LISTS = ("backbones", "poolings", "modifiers", "recipes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=LISTS)
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", help="only names like this, for instance 'resne*'")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(options: argparse.Namespace) -> int:
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
    """Columns and rows of a list, the names in the first one."""
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
