"""What every part of a recipe has in common, and which values can stand in a file at all."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, model_validator

from sapool.errors import brief


class Section(BaseModel):
    """A part of a recipe: nothing unknown, nothing that changes, no value of another type than the setting's."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, strict=True)

    @model_validator(mode="wrap")
    @classmethod
    def _from_data(cls, value: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Lists of a file are tuples here, and its texts can be written, and named to the system."""
        if isinstance(value, dict):
            value = {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
            for key, item in value.items():
                for text in (key, *(item if isinstance(item, tuple) else (item,))):
                    _check_writable(text)
        return validate(value)


def _check_writable(text: object) -> None:
    """Passes where a value is no text, or one that a file can hold.

    Raises:
        ValueError: it has a NUL, or halves of characters, as names that aren't UTF-8 have.
    """
    if not isinstance(text, str):
        return
    if "\0" in text:
        raise ValueError(f"expected text without NUL, not {brief(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"expected text that UTF-8 can write, not {brief(text)}") from None
