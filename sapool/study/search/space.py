"""A space of networks: backbones, poolings, strides, prepools, image sizes; of a TOML file or flags. No torch here."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from sapool.errors import InputError, RecipeError, brief, first_line
from sapool.grammar import parse
from sapool.recipes.inputs import ImageSize, Sides
from sapool.recipes.reading import explained
from sapool.recipes.section import Section

MOST = 1_000_000


class Space(Section):
    """What a network can be.

    Every combination is one; a pooling's modifiers are part of its name, patches among them (`nlp_reduced2211`).
    """

    backbones: tuple[str, ...] = Field(description="names of sapoolc list backbones")
    pools: tuple[str, ...] = Field(description="poolings with their modifiers, one for all stages of a network")
    strides: tuple[str, ...] = Field(
        description="a digit for each stage; several digits in brackets are a choice, as in [12]22[12]"
    )
    prepools: tuple[str, ...] = Field(("",), description="such as nlp-4 or skip-2; an empty one for none")
    image_sizes: tuple[ImageSize, ...] = Field((224,), description="sides in pixels")
    num_classes: int = Field(1000, ge=1, description="outputs of the classifier")
    in_chans: int = Field(3, ge=1, description="channels of the images")
    dialect: Literal["torchvision", "paper"] = Field("torchvision", description="paper for the published networks")

    @field_validator("backbones", "pools", "strides", "prepools", "image_sizes")
    @classmethod
    def _some(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("it is empty, so there is no network in the space")
        return value


@dataclass(frozen=True)
class Candidate:
    """A network of a space.

    Attributes:
        text: its architecture.
        image_size: side, or height and width.
    """

    text: str
    image_size: int | Sides


def read_space(source: str | None, given: Mapping[str, Any]) -> Space:
    """A space as a file has it, with what flags say in its place.

    Raises:
        RecipeError: it can't be read, or makes no sense.
    """
    data: dict[str, Any] = {}
    if source is not None:
        try:
            data = tomllib.loads(Path(source).read_text(encoding="utf-8"))
        except OSError as error:
            raise RecipeError(f"the space {source} can't be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"{source} isn't TOML: {first_line(error)}") from None
    try:
        return Space.model_validate({**data, **{name: value for name, value in given.items() if value is not None}})
    except ValidationError as error:
        raise RecipeError(f"{source or 'the space'}: {explained(error, Space)}") from None


def candidates(space: Space, most: int | None = None) -> tuple[list[Candidate], str]:
    """The networks of a space, or so many that are drawn from it, and what was wrong with those that are no networks.

    Strides of another number than a backbone has stages are of another backbone, and left out.

    Raises:
        RecipeError: there is no network in it, or there are too many.
    """
    choices = [_choices(pattern) for pattern in space.strides]
    count = sum(prod(map(len, each)) for each in choices)
    count *= prod(map(len, (space.image_sizes, space.backbones, space.prepools, space.pools)))
    if count > MOST:
        raise RecipeError(f"the space has {brief(count)} combinations, more than {MOST:,}; leave some out")
    strides = ["".join(each) for some in choices for each in product(*some)]
    axes = (space.image_sizes, space.backbones, space.prepools, space.pools, strides)
    found, wrong = list[Candidate](), ""
    valid: dict[str, str] = {}
    for size, backbone, prepool, pool, digits in product(*axes):
        text = f"{f'prepool-{prepool}-' if prepool else ''}{backbone}-{pool}-{digits}"
        if text not in valid:
            try:
                valid[text] = str(parse(text))
            except InputError as error:
                valid[text] = ""
                wrong = wrong or f"{text}: {error.given.splitlines()[0]}"
        if valid[text]:
            found.append(Candidate(valid[text], size))
    found = list(dict.fromkeys(found))
    if not found:
        raise RecipeError(f"there is no network in the space: {wrong}")
    if most is not None and most < len(found):
        found = random.Random(0).sample(found, most)
    return found, wrong


def _choices(pattern: str) -> list[str]:
    """The digits of each stage that a pattern such as `[12]22[12]` has to choose from."""
    choices: list[str] = []
    rest = pattern
    while rest:
        head, rest = rest[0], rest[1:]
        if head == "[":
            head, closed, rest = rest.partition("]")
            if not closed:
                raise RecipeError(f"strides: {pattern}: a bracket is open; expected for instance [12]22[12]")
        if not head.isdigit():
            raise RecipeError(f"strides: {pattern}: expected digits, and choices of them as in [12]22[12]")
        choices.append(head)
    return choices
