"""The shipped recipes: TOML files beside this one."""

from __future__ import annotations

from importlib.resources import files

from sapool.errors import RecipeError, did_you_mean


def names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in files(__name__).iterdir() if entry.name.endswith(".toml")
    )


def text(name: str) -> str:
    """The TOML text of a shipped recipe.

    Raises:
        RecipeError: there is none of that name.
    """
    if name not in names():
        raise RecipeError(
            f"no recipe '{name}': expected the path of a .toml file, or one of {', '.join(names())}."
            + did_you_mean(name, names())
        )
    return files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")


def summaries() -> dict[str, str]:
    """Each shipped recipe's first comment line."""
    return {name: text(name).splitlines()[0].lstrip("# ") for name in names()}
