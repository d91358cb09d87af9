"""What a study's `study.json` may hold: it may come from anybody, so it is checked before anything is done with it."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sapool.errors import brief

_NAME = re.compile(r"[\w+-][\w.+-]{0,199}")
_LARGEST = 2**63


def _path_part(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("expected a folder's name of letters, digits and .+-_")
    return name


Whole = Annotated[int, Field(ge=-_LARGEST, lt=_LARGEST)]
Scalar = str | bool | Whole | Annotated[float, Field(allow_inf_nan=False)]


class RunContent(BaseModel):
    """A run of it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, AfterValidator(_path_part)]
    axes: dict[str, Scalar | list[Scalar]]
    seed: Whole
    recipe: str
    refused: str
    constraints: dict[str, Whole] = {}


class StudyContent(BaseModel):
    """All of it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    title: str
    id: str
    storage: str
    threads: Annotated[int, Field(ge=1, lt=2**16)]
    runs: list[RunContent] = Field(min_length=1)
    pruning: dict[str, Annotated[int, Field(ge=1, lt=_LARGEST)]] | None = None

    @field_validator("runs")
    @classmethod
    def _alike(cls, runs: list[RunContent]) -> list[RunContent]:
        if len({run.name for run in runs}) < len(runs):
            raise ValueError("two runs have one name")
        if any(run.axes.keys() != runs[0].axes.keys() for run in runs):
            raise ValueError("runs differ in their axes")
        return runs

    @model_validator(mode="after")
    def _spent(self) -> StudyContent:
        if self.pruning is not None and self.pruning.keys() != {"first", "factor"}:
            raise ValueError("pruning: expected first and factor")
        return self


def checked_content(content: Any) -> dict[str, Any]:
    """The same contents, of the types that they should have.

    Raises:
        ValueError: they aren't; says where and why of the first place, briefly.
    """
    try:
        return StudyContent.model_validate(content).model_dump()
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise ValueError(f"{brief(where)[1:-1]}: {problem['msg']}" if where else problem["msg"]) from None
