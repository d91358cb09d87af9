"""The shipped studies: TOML files beside this one."""

from __future__ import annotations

from importlib.resources import files

from sapool.errors import RecipeError, did_you_mean


def names() -> list[str]:
    """Names of the shipped studies."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in files(__name__).iterdir() if entry.name.endswith(".toml")
    )


def text(name: str) -> str:
    """The TOML text of a shipped study.

    Raises:
        RecipeError: there is none of that name.
    """
    if name not in names():
        raise RecipeError(
            f"no study '{name}': expected the path of a .toml file, or one of {', '.join(names())}."
            + did_you_mean(name, names())
        )
    return files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
