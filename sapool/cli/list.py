"""`sapoolc list`: what there is, by kind. No torch here."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from types import MappingProxyType

from sapool.errors import InputError, did_you_mean, visible

SUMMARY = "list what there is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=LISTS)
    parser.add_argument(
        "pattern", metavar="PATTERN", nargs="?", help="only names like this: 'resne*'; 'timm:resne*' of timm's"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(options: argparse.Namespace) -> int:
    from sapool.catalogue.backbones import TIMM

    of_timm = options.what == "backbones" and (options.pattern or "").startswith(TIMM)
    columns, rows = _backbones_of_timm() if of_timm else _LISTINGS[options.what]()
    if options.pattern:
        known = [row[0] for row in rows]
        rows = [row for row in rows if fnmatch(row[0], options.pattern) or options.pattern in row[0]]
        if not rows:
            hint = did_you_mean(options.pattern, known)
            raise InputError(f"none of the {options.what} is like '{options.pattern}'.{hint}")
    if options.json:
        print(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=2))
        return 0
    from sapool.cli.console import console, show_table

    out = console()
    if out.is_terminal:
        show_table(out, columns, rows, spare=("source",))
        return 0
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        print("  ".join(visible(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


Listing = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]
"""Columns and rows, the names in the first one."""


def _backbones() -> Listing:
    from sapool.catalogue.backbones import BACKBONES, PLACES

    rows = [
        (
            entry.name,
            str(len(entry.stages) or len(entry.strides) or ""),
            entry.strides,
            f"{entry.parameters:,}" if entry.parameters else "",
            PLACES[entry.pools] if entry.pools else "",
        )
        for entry in BACKBONES.values()
    ]
    return ("name", "stages", "strides", "parameters", "pools"), rows


def _backbones_of_timm() -> Listing:
    """Those that the installed timm has and that can be compiled, as far as that was tried."""
    from sapool.catalogue.backbones import TIMM
    from sapool.catalogue.builders import import_timm
    from sapool.catalogue.timm_models import read_table

    found = read_table()
    names = sorted(import_timm().list_models())
    rows = [
        (f"{TIMM}{name}", str(len(found[name])) if name in found else "", strides)
        for name in names
        if (strides := found.get(name, "not tried"))
    ]
    return ("name", "stages", "strides"), rows


def _poolings() -> Listing:
    from sapool.catalogue.poolings import POOLINGS

    rows = [(entry.name, "yes" if entry.takes_modifiers else "", entry.summary) for entry in POOLINGS.values()]
    return ("name", "modifiers", "what it is"), rows


def _modifiers() -> Listing:
    from sapool.catalogue.poolings import MODIFIERS

    return ("name", "what it does"), list(MODIFIERS.items())


def _passes() -> Listing:
    from sapool.catalogue.passes import PASSES

    rows = [(entry.name, f"after {entry.after}" if entry.after else "", entry.summary) for entry in PASSES.values()]
    return ("name", "where", "what it does"), rows


def _data_sets() -> Listing:
    from sapool.catalogue.data_sets import DATA_SETS

    return ("name", "size", "what it is"), [(e.name, str(e.size), e.title) for e in DATA_SETS.values()]


def _devices() -> Listing:
    from sapool.catalogue.devices import DEVICES

    rows = [
        (e.name, f"{e.sram // 1024} KB", f"{e.flash // 1024} KB", e.runtime, e.title, e.source)
        for e in DEVICES.values()
    ]
    return ("name", "SRAM", "flash", "runtime", "what it is", "source"), rows


def _formats() -> Listing:
    from sapool.catalogue.formats import FORMATS

    return ("name", "suffixes", "what it holds"), [
        (entry.name, " ".join(entry.suffixes), entry.summary) for entry in FORMATS.values()
    ]


def _recipes() -> Listing:
    from sapool.recipes import summaries

    return ("name", "what it trains"), list(summaries().items())


_LISTINGS: Mapping[str, Callable[[], Listing]] = MappingProxyType(
    {
        "backbones": _backbones,
        "poolings": _poolings,
        "modifiers": _modifiers,
        "passes": _passes,
        "data-sets": _data_sets,
        "devices": _devices,
        "formats": _formats,
        "recipes": _recipes,
    }
)
LISTS = tuple(_LISTINGS)
