"""Plans: every number resolved as the language says, dumped and read back, and a few of them as a person would read."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import astuple
from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings

import sapool
from sapool.errors import InputError
from sapool.ir.architecture import Architecture
from sapool.ir.plan import COLUMNS, table
from sapool.ir.plan_file import from_json
from tests.strategies import architectures

# Of the stages' outputs and the head's, as their papers give them.
CHANNELS = {
    "resnet18": (64, 128, 256, 512),
    "resnet50": (256, 512, 1024, 2048),
    "mobilenet": (16, 24, 32, 64, 96, 160, 320, 1280),
}
STEM_STRIDE = {"resnet18": 4, "resnet50": 4, "mobilenet": 2}


def compiled(text: str, **options: Any) -> sapool.CompiledModel:
    """A model without data: shapes are all that a plan needs."""
    with torch.device("meta"):
        return sapool.compile(text, **options)


@settings(max_examples=12, deadline=None)
@example(sapool.parse("prepool-avgp-2-mobilenet-maxp-2222121"))
@example(sapool.parse("prepool-nlp-1-dyresnet50_v2-dfmixp_reduced4211-2221"))
@given(architectures(most=64))
def test_any_architecture(architecture: Architecture) -> None:
    stem = architecture.prepool.stride if architecture.prepool else STEM_STRIDE[architecture.backbone]
    # Every map has at least 18 pixels a side, enough for the largest patch, and no window is cut.
    model = compiled(str(architecture), image_size=18 * stem * math.prod(architecture.strides))
    assert str(model.architecture) == model.plan.architecture == str(architecture)
    assert from_json(model.plan.to_json()) == model.plan

    reductions = list(accumulate((stem, *architecture.strides), mul))[1:]
    channels = CHANNELS[architecture.backbone]
    reductions += reductions[-1:] * (len(channels) - len(reductions))
    assert [feature.reduction for feature in model.feature_info] == reductions
    assert tuple(feature.channels for feature in model.feature_info) == channels

    names = [
        "prepool" if architecture.prepool else "stem",
        *(f"stage{i + 1}" for i in range(len(architecture.strides))),
    ]
    assert [site.name for site in model.plan.sites] == names
    assert [site.stride for site in model.plan.sites] == [stem, *architecture.strides]
    assert len(table(model.plan)) == len(names)
    for site in model.plan.sites:
        assert hasattr(getattr(model, "pools", None), site.name) == (site.kind != "skip")
        if site.attention is not None:
            assert site.attention.embedding % site.attention.heads == 0 < site.attention.embedding


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # site: (channels, heads, patch, embedding, window)
        ("prepool-nlp-4-resnet18-nlp-1222", {
            "prepool": (64, 8, 2, 64, True), "stage1": (64,),
            "stage2": (128, 8, 1, 128, True), "stage4": (512, 32, 1, 512, True),
        }),
        ("resnet50-nlp_headfix2_nowin_reduced-2222", {
            "stage1": (256, 2, 4, 256, False), "stage2": (512, 2, 2, 512, False),
            "stage3": (1024, 2, 1, 1024, False), "stage4": (2048, 2, 1, 2048, False),
        }),
        # The pool stands before the stage. 96/64 = 1.5 rounds to 2; 160/128 = 1.25 to 1.
        ("mobilenet-nlp_reduced-2222122", {
            "stage1": (32, 2, 4, 32, True), "stage2": (16, 4, 4, 16, True),
            "stage3": (24, 8, 4, 24, True), "stage4": (32, 16, 2, 32, True),
            "stage6": (96, 64, 1, 128, True), "stage7": (160, 128, 1, 128, True),
        }),
        # It stands behind the first block. 24/16 = 1.5 rounds to 2, 24/48 = 0.5 to 0 and then up to 1.
        ("mobilenet_v2-nlp_headfix16_reduced0842111-1222121", {"stage2": (24, 16, 8, 32, True)}),
        ("mobilenet_v2-nlp_headfix48-1222121", {"stage2": (24, 48, 1, 48, True)}),
        ("prepool-nlp_reduced-4-resnet18-skip-1222", {"prepool": (64, 8, 4, 16, True)}),
        ("prepool-dfmixp_nowin_reduced_headfix2-2-mobilenet-skip-1222121", {"prepool": (32, 2, 2, 8, False)}),
        ("prepool-attnpool-4-resnet18-attnpool-1222", {
            "prepool": (64, 2, 1, 64, True), "stage3": (256, 2, 1, 256, True),
        }),
        ("resnet18-gaussian_pool-1222", {"stage2": (128,)}),
    ],
)  # fmt: skip
def test_numbers_of_a_site(text: str, expected: dict[str, tuple[object, ...]]) -> None:
    plan = compiled(text).plan
    for name, numbers in expected.items():
        site = plan.site(name)
        attention = () if site.attention is None else astuple(site.attention)
        assert (site.channels, *attention) == numbers, name


GOLDEN = Path(__file__).parents[1] / "golden"
READ_BY_PEOPLE: dict[str, dict[str, Any]] = {
    "PREPOOL-NLP-4-ResNet18-nlp-1222": {},
    "mobilenet-nlp_reduced_nowin_headfix2-1222121": {},
    "resnet18_v2-dfmixp_reduced4211-2122": {"dialect": "paper"},
    "prepool-skip-2-resnet18-skip-2212": {"image_size": 225},
    "prepool-skipblur-2-resnet18-skipblur-2212": {"image_size": 225},
}
WITH_CODE = "prepool-nlp-4-resnet18-nlp-1222"


@pytest.mark.parametrize("text", READ_BY_PEOPLE)
def test_golden(text: str) -> None:
    """From string to code as a reviewer reads it; `SAPOOL_UPDATE_GOLDEN=1 pytest tests/test_plan.py` writes it anew."""
    model = compiled(text, **READ_BY_PEOPLE[text])
    file = GOLDEN / f"{model.architecture}.txt"
    written = story(text, model)
    if "SAPOOL_UPDATE_GOLDEN" in os.environ:
        file.write_text(written, encoding="utf-8")
    assert written == file.read_text(encoding="utf-8")


def test_golden_files_are_all_in_use() -> None:
    assert {file.stem for file in GOLDEN.glob("*.txt")} == {str(sapool.parse(text)) for text in READ_BY_PEOPLE}


def story(text: str, model: sapool.CompiledModel) -> str:
    plan = model.plan
    parts = [
        f"string     {text}\ncanonical  {model.architecture}\n"
        f"for        {plan.options.dialect}, {plan.options.image_size[0]} pixels",
        "plan\n" + columns([COLUMNS, *table(plan)]),
        "rewrites\n" + columns([(r.rule, r.site, r.target, f"{r.before} -> {r.after}") for r in model.rewrites]),
        "features\n"
        + columns([(f.name, f"{f.channels} channels", f"1/{f.reduction}", f.node) for f in model.feature_info]),
    ]
    if str(model.architecture) == WITH_CODE:
        # Without the parts that free values: they hide the network, and versions of torch differ in them.
        parts.append("code\n" + re.sub(r";  [\w ,=]*= None", "", model.code).strip())
    return "\n\n".join(parts) + "\n"


def columns(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join("  " + line.rstrip() for line in lines)


NO_PLANS = ["", "plan", "null", "7", "[]", "{}", '{"format": "sapool-plan-3"}', "\0", "[" * 100_000]


@pytest.mark.parametrize("text", NO_PLANS, ids=lambda text: ascii(text[:40]))
def test_what_is_no_plan(text: str) -> None:
    with pytest.raises(InputError, match="isn't a plan"):
        from_json(text)


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another format": lambda data: data.update(format="sapool-plan-9"),
    "no format": lambda data: data.pop("format"),
    "a key too few": lambda data: data["options"].pop("dialect") and data.pop("options"),
    "a key too many": lambda data: data.update(colour="red"),
    "a site without a name": lambda data: data["sites"][0].pop("name"),
    "a site with a key too many": lambda data: data["sites"][0].update(colour="red"),
    "no sites": lambda data: data.update(sites=None),
    "words for sites": lambda data: data.update(sites=["stage1"]),
    "an object for sites": lambda data: data.update(sites={}),
    "a word for a size": lambda data: data["options"].update(image_size="large"),
    "a word for a stride": lambda data: data["sites"][0].update(stride="2"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_plan_with_one_thing_wrong(name: str) -> None:
    data = json.loads(compiled("resnet18-nlp-1222").plan.to_json())
    assert from_json(json.dumps(data)).architecture == "resnet18-nlp-1222"
    CHANGES[name](data)
    with pytest.raises(InputError, match="isn't a plan"):
        from_json(json.dumps(data))
