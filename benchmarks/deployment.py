"""`python -m benchmarks.deployment RESULTS`: which pooling can be had in which file; the table in docs/deployment.md.

Every kind of the catalogue is exported with every backbone to every installed format that a runtime runs, after some
steps on scikit-learn's digits. What was found is appended to the file RESULTS, a line each, so that the work can be
broken off and gone on with; `--markdown` makes the tables of it: of float files the largest error, of integers the
cosine of the logits and the least correlation of a pool's weights; of heads all figures, where they differ.
"""

from __future__ import annotations

import argparse
import functools
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
from sapool.cost.micro import micro_memory
from sapool.errors import InputError, MissingExtraError, WorkError
from sapool.model import CompiledModel

BACKBONES = {"resnet18": "1222", "mobilenet_v2": "1222121", "timm:lcnet_050": "122212"}
DYNAMIC = "dy"
KIND_OF_DYNAMIC = ("dy… (nlp)", DYNAMIC, "nlp")
RIVALS = "sapool.poolings.rivals"
SIZE = 32
STEPS = {"resnet18": (20, 16, 1e-3), "mobilenet_v2": (40, 32, 1e-3), "timm:lcnet_050": (160, 32, 4e-3)}
"""Steps, images a step, and the rate: many thin layers need more of it until integers bear them."""


def architectures() -> list[tuple[str, str, str]]:
    """Kind, backbone and architecture string of each; other authors' poolings come last."""
    rivals = [name for name, entry in POOLINGS.items() if entry.target.startswith(RIVALS)]
    ours = [name for name in POOLINGS if name not in rivals]
    return [
        (kind, backbone, f"{prefix}{backbone}-{pooling}-{strides}")
        for group in ([*((name, "", name) for name in ours), KIND_OF_DYNAMIC], [(name, "", name) for name in rivals])
        for backbone, strides in BACKBONES.items()
        for kind, prefix, pooling in group
        if not (prefix and ":" in backbone)
    ]


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    """Scikit-learn's digits, (N, 3, SIZE, SIZE) and labels, in a fixed order."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - the extra `train`

    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    grey = torch.tensor(found.images, dtype=torch.float32)[order, None] / 8 - 1
    return F.interpolate(grey, (SIZE, SIZE), mode="bilinear").expand(-1, 3, -1, -1), torch.tensor(found.target)[order]


def images(count: int = 32) -> Tensor:
    """Those that integers are fitted to and files are compared on."""
    return digits()[0][:count]


@functools.lru_cache(maxsize=1)
def trained(text: str) -> CompiledModel:
    """A network after its steps on the digits, whose batch norms know them."""
    steps, batch, rate = STEPS[text.removeprefix(DYNAMIC).split("-", maxsplit=1)[0]]
    torch.manual_seed(0)
    model = sapool.compile(text, num_classes=10, image_size=SIZE).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for step in range(steps):
        start = step * batch % (len(digits()[1]) - batch)
        here = slice(start, start + batch)
        optimizer.zero_grad()
        F.cross_entropy(model(digits()[0][here]), digits()[1][here]).backward()
        optimizer.step()
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for step in range(8):
            model(digits()[0][step * batch : (step + 1) * batch])
    return model.eval()


def tried(text: str, suffix: str) -> dict[str, Any]:
    """What became of one export."""
    try:
        model = trained(text)
    except InputError as error:
        return {"refused": str(error)}
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = sapool.export(model, Path(folder) / f"x{suffix}", images())
        except (InputError, WorkError) as error:
            return {"refused": str(error).replace(f"{folder}/", "")}
        except Exception as error:  # a defect, which the table should show
            return {"broken": f"{type(error).__name__}: {error}"}
    micro = (found.data or {}).get("tflm")
    weights = [row.correlation for row in found.compared if row.what == "weights" and row.correlation is not None]
    outputs = [row for row in found.compared if row.what == "output"]
    return {
        "error": max(row.error for row in outputs),
        "cosine": min(row.cosine for row in outputs),
        "correlation": min(weights, default=None),
        "agreement": found.agreement,
        "bytes": found.bytes,
        "head": micro and micro["head"],
        "worked_out": micro and micro["worked_out"],
        "estimated": micro and micro_memory(model, integer="int8" in suffix).head,
    }


def measure(results: Path, formats: list[str], backbones: list[str]) -> None:
    """Tries what hasn't been tried."""
    known = {(line["architecture"], line["suffix"]) for line in read(results)}
    for kind, backbone, text in architectures():
        for entry in FORMATS.values():
            if entry.name not in formats or backbone not in backbones or (text, entry.suffixes[0]) in known:
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
    """A table a backbone: a row a kind, a column a format and what TensorFlow Lite Micro held; reasons under them."""
    known = {(line["architecture"], line["suffix"]): line for line in lines}
    suffixes = list(dict.fromkeys(line["suffix"] for line in lines))
    order = {name: place for place, name in enumerate((*POOLINGS, KIND_OF_DYNAMIC[0]))}
    reasons: dict[str, int] = {}
    text = []
    for backbone in BACKBONES:
        rows = [(kind, name) for kind, owner, name in architectures() if owner == backbone]
        tried = sorted((row for row in rows if any(row[1] in key for key in known)), key=lambda row: order[row[0]])
        if not tried:
            continue
        heads = [f"`{suffix}`{' | head' if 'tflite' in suffix else ''}" for suffix in suffixes]
        width = 1 + sum(1 + ("tflite" in suffix) for suffix in suffixes)
        text += [f"| {backbone} | {' | '.join(heads)} |", "|---" * width + "|"]
        for kind, name in tried:
            cells = [_cell(known.get((name, suffix)), suffix, reasons) for suffix in suffixes]
            text.append(f"| {kind} | {' | '.join(cells)} |")
        text.append("")
    return "\n".join([*text, *(f"{number}. {reason}" for reason, number in reasons.items())])


def _cell(line: dict[str, Any] | None, suffix: str, reasons: dict[str, int]) -> str:
    micro = "tflite" in suffix
    if line is None:
        return "not tried | " if micro else "not tried"
    if "refused" in line or "broken" in line:
        # What is too far says by how much, which belongs into the cell.
        word = "refused" if "refused" in line else "broken"
        sentence, _, figure = line[word].partition(": cosine ")
        number = reasons.setdefault(sentence, len(reasons) + 1)
        shown = f"{word} ({number}{f': {figure[:4]}' if figure else ''})"
        return f"{shown} | " if micro else shown
    if "int8" in suffix:
        weights = "" if line["correlation"] is None else f", {line['correlation']:.3f}"
        shown = f"{line['cosine']:.4f}{weights}"
    else:
        shown = f"{line['error']:.0e}"
    if not micro:
        return shown
    figures = dict.fromkeys((line["head"], line["worked_out"], line["estimated"]))
    return f"{shown} | {', '.join(f'{figure:,}' for figure in figures)}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--markdown", action="store_true")
    running = [entry.name for entry in FORMATS.values() if entry.runs]
    parser.add_argument("--format", action="append", choices=running, help="which alone are tried")
    parser.add_argument("--backbone", action="append", choices=BACKBONES, help="which alone are tried")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if options.markdown:
        print(markdown(read(options.results)))
    else:
        measure(options.results, options.format or running, options.backbone or [*BACKBONES])
