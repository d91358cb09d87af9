"""`python -m benchmarks.deployment RESULTS`: which pooling can be had in which file; the table in docs/deployment.md.

Every kind of the catalogue is exported with every backbone to every installed format that a runtime runs. Batch norms
have seen some images, and weights are as they start. What was found is appended to the file RESULTS, a line each, so
that the work can be broken off and gone on with; `--markdown` makes the table of it.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sapool
from sapool.catalogue.formats import FORMATS
from sapool.catalogue.poolings import POOLINGS
from sapool.errors import InputError, MissingExtraError, WorkError

BACKBONES = {"resnet18": "1222", "timm:lcnet_050": "122212", "mobilenet_v2": "1222121"}
DYNAMIC = "dy"
SIZE = 64


def architectures() -> list[tuple[str, str, str]]:
    """Kind, backbone and architecture string of each."""
    return [
        (kind, backbone, f"{prefix}{backbone}-{pooling}-{strides}")
        for backbone, strides in BACKBONES.items()
        for kind, prefix, pooling in [*((kind, "", kind) for kind in POOLINGS), ("dy… (nlp)", DYNAMIC, "nlp")]
        if not (prefix and ":" in backbone)
    ]


def images(count: int = 16) -> Tensor:
    """Smooth random images, (count, 3, 64, 64)."""
    generator = torch.Generator().manual_seed(0)
    return F.avg_pool2d(torch.randn(count, 3, SIZE, SIZE, generator=generator), 5, 1, 2) * 4


def settled(text: str) -> nn.Module:
    """A network whose batch norms know the images."""
    torch.manual_seed(0)
    model = sapool.compile(text, num_classes=10, image_size=SIZE)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        model.train()(images())
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


def tried(text: str, suffix: str) -> dict[str, Any]:
    """What became of one export."""
    try:
        model = settled(text)
    except InputError as error:
        return {"refused": str(error)}
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = sapool.export(model, Path(folder) / f"x{suffix}", images())
        except (InputError, WorkError) as error:
            return {"refused": str(error).replace(f"{folder}/", "")}
    weights = [row.correlation for row in found.compared if row.what == "weights" and row.correlation is not None]
    outputs = [row for row in found.compared if row.what == "output"]
    return {
        "error": max(row.error for row in outputs),
        "cosine": min(row.cosine for row in outputs),
        "correlation": min(weights, default=None),
        "agreement": found.agreement,
        "bytes": found.bytes,
    }


def measure(results: Path, formats: list[str]) -> None:
    """Tries what hasn't been tried."""
    known = {(line["architecture"], line["suffix"]) for line in read(results)}
    for kind, backbone, text in architectures():
        for entry in FORMATS.values():
            if entry.name not in formats or (text, entry.suffixes[0]) in known:
                continue
            try:
                entry.check_installed()
            except MissingExtraError:
                continue
            line = {"kind": kind, "backbone": backbone, "architecture": text, "suffix": entry.suffixes[0]}
            line |= tried(text, entry.suffixes[0])
            print(json.dumps(line), flush=True)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def read(results: Path) -> list[dict[str, Any]]:
    """What was found before."""
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()] if results.exists() else []


def markdown(lines: list[dict[str, Any]]) -> str:
    """A table: a row a kind, a column a backbone and format; the sentences of refusals under it."""
    columns = list(dict.fromkeys((line["backbone"], line["suffix"]) for line in lines))
    kinds = list(dict.fromkeys(line["kind"] for line in lines))
    cells = {(line["kind"], line["backbone"], line["suffix"]): line for line in lines}
    reasons: dict[str, int] = {}
    heads = [f"{backbone} `{suffix}`" for backbone, suffix in columns]
    text = [f"| kind | {' | '.join(heads)} |", "|---" * (len(columns) + 1) + "|"]
    for kind in kinds:
        shown = [_cell(cells.get((kind, *column)), reasons) for column in columns]
        text.append(f"| {kind} | {' | '.join(shown)} |")
    text += ["", *(f"{number}. {reason}" for reason, number in reasons.items())]
    return "\n".join(text)


def _cell(line: dict[str, Any] | None, reasons: dict[str, int]) -> str:
    if line is None:
        return ""
    if "refused" in line:
        # What is too far says by how much, which belongs into the cell.
        sentence, _, figure = line["refused"].partition(": cosine ")
        number = reasons.setdefault(sentence, len(reasons) + 1)
        return f"refused ({number}{f': {figure[:4]}' if figure else ''})"
    if "int8" not in line["suffix"]:
        return f"{line['error']:.0e}"
    weights = "" if line["correlation"] is None else f", {line['correlation']:.2f}"
    return f"{line['cosine']:.3f}{weights}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--markdown", action="store_true")
    running = [entry.name for entry in FORMATS.values() if entry.runs]
    parser.add_argument("--format", action="append", choices=running, help="which alone are tried")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if options.markdown:
        print(markdown(read(options.results)))
    else:
        measure(options.results, options.format or running)
