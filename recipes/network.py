"""What a recipe of any kind says of its network. No torch here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sapool.grammar import parse
from sapool.ir.plan_file import EarlierPlan, from_json, is_plan_file, read_text
from sapool.recipes.inputs import Model, with_statistics
from sapool.recipes.section import Section


class NetworkRecipe(Section):
    """What a recipe of any kind names first.

    Attributes:
        title: the recipe's name, from its file; it names the run.
        notes: what was changed of the recipe when it was read, in sentences.
    """

    title: str = Field("run", exclude=True)
    notes: tuple[str, ...] = Field((), exclude=True)
    architecture: str = Field(description="an architecture string, or the file of a plan (.json)")
    dialect: Literal["torchvision", "paper"] = Field(
        "torchvision", description="paper for the published network where the two differ"
    )
    model: Model = Model()  # type: ignore[call-arg]
    plan: str | None = Field(
        None, description="the plan itself, as JSON, where it isn't what the architecture says; taken from its file"
    )

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, value: Any) -> Any:
        """What isn't given is the plan's own, or the data set's for images of so many channels."""
        if not isinstance(value, dict):
            return value
        planned = _planned(value)
        model, data = planned.get("model") or {}, planned.get("data")
        if isinstance(model, dict) and isinstance(data, dict):
            channels = model.get("in_chans", 3)
            planned["data"] = with_statistics(data, channels, cls._statistics(str(data.get("name"))))
        return planned

    @staticmethod
    def _statistics(name: str) -> dict[str, tuple[float, ...]]:
        """The `mean` and `std` of a data set."""
        raise NotImplementedError

    @field_validator("architecture")
    @classmethod
    def _canonical(cls, value: str) -> str:
        return str(parse(value))


def _planned(value: dict[str, Any]) -> dict[str, Any]:
    """A plan's file in place of an architecture is kept as what is in it."""
    file, text = value.get("architecture"), value.get("plan")
    if not isinstance(file, str):
        return dict(value)
    if is_plan_file(file):
        text = read_text(file)
    if not isinstance(text, str):
        return dict(value)
    found = from_json(text, file if is_plan_file(file) else "plan")
    if isinstance(found, EarlierPlan):
        dialect, channels = found.options["dialect"], 3
    else:
        dialect, channels = found.options.dialect, found.options.in_chans
    model = value.get("model", {})
    given = {
        "dialect": dialect,
        **value,
        "model": {"in_chans": channels, **model} if isinstance(model, dict) else model,
    }
    if given["dialect"] != dialect:
        raise ValueError(f"dialect: the plan is of the {dialect} dialect, not of '{given['dialect']}'")
    if isinstance(model, dict) and given["model"]["in_chans"] != channels:
        raise ValueError(f"model.in_chans: the plan is of {channels} channels, not of {given['model']['in_chans']}")
    return {**given, "architecture": found.architecture, "plan": text}
