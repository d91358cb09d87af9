"""TOML files that are shipped with the package, by their names."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from sapool.errors import RecipeError, did_you_mean


@dataclass(frozen=True)
class Shipped:
    """The TOML files in a package.

    Attributes:
        package: where they are.
        kind: what each of them is, for messages.
    """

    package: str
    kind: str

    def names(self) -> list[str]:
        """Their names."""
        return sorted(
            entry.name.removesuffix(".toml") for entry in files(self.package).iterdir() if entry.name.endswith(".toml")
        )

    def text(self, name: str) -> str:
        """The text of one.

        Raises:
            RecipeError: there is none of that name.
        """
        names = self.names()
        if name not in names:
            raise RecipeError(
                f"no {self.kind} '{name}': expected the path of a .toml file, or one of {', '.join(names)}."
                + did_you_mean(name, names)
            )
        return files(self.package).joinpath(f"{name}.toml").read_text(encoding="utf-8")
