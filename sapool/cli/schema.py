"""`sapoolc schema`: the JSON schema of recipe files."""

from __future__ import annotations

import argparse
import json

SUMMARY = "print the JSON schema of recipes, for editors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(options: argparse.Namespace) -> int:
    from sapool.recipes.reading import schema

    print(json.dumps(schema(), indent=2))
    return 0
