"""Registries: things of one kind by name, ours and other packages' through the same door.

A thing is declared by a decorator on the class or function that makes it:

    @register_pooling("median", summary="the middle value of each window")
    class MedianPool(Pooling): ...

Listings, error messages and the parser need the declarations without what they stand on, which is torch. So a
declaration is read from the source, where its arguments are plain values, and the module is imported when the thing is
used. Where they aren't plain, the module is imported for its declarations.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from sapool.errors import InputError, did_you_mean

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class Entry(Protocol):
    """What is known of a thing without importing it: a frozen dataclass with at least these.

    Attributes:
        name: as users spell it.
        target: `module:name` of the class or function, or "" where there is none.
        rank: where it stands in listings; those of one rank in the order in which they are found.
    """

    @property
    def name(self) -> str: ...

    @property
    def target(self) -> str: ...

    @property
    def rank(self) -> int: ...


E = TypeVar("E", bound=Entry)
T = TypeVar("T")


class Registry(Mapping[str, E], Generic[E]):
    """A mapping of names to entries, in the order of listings.

    Args:
        noun: what one of them is called in messages.
        decorator: the name of the function that declares one.
        entry: the dataclass of an entry.
        group: the entry points by which installed packages name modules, or packages of modules, with declarations.
        modules: our own.
        given: entries that no class or function stands behind.
    """

    def __init__(
        self,
        noun: str,
        *,
        decorator: str,
        entry: Callable[..., E],
        group: str,
        modules: tuple[str, ...] = (),
        given: tuple[E, ...] = (),
    ) -> None:
        self.noun, self.decorator, self.entry, self.group, self.modules = noun, decorator, entry, group, modules
        self.given = given
        self._objects: dict[str, Any] = {}
        self._added: dict[str, E] = {}
        self._importing = False

    def __getitem__(self, name: str) -> E:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, name: str) -> E:
        """The entry of that name.

        Raises:
            InputError: there is none; says which there are.
        """
        if name not in self:
            raise InputError(
                f"there is no {self.noun} '{name}'; there are {', '.join(self)}.{did_you_mean(name, self)}"
            )
        return self[name]

    def load(self, name: str) -> Any:
        """The class or function behind an entry, imported now if it hasn't been."""
        entry = self.find(name)
        if name not in self._objects:
            module, _, qualified = entry.target.partition(":")
            self._objects[name] = getattr(import_module(module), qualified)
        return self._objects[name]

    def register(self, name: str, **fields: Any) -> Callable[[T], T]:
        """The decorator: declares what it decorates.

        Raises:
            ValueError: the name is taken, or can't be one.
        """

        def declare(thing: T) -> T:
            target = f"{thing.__module__}:{thing.__qualname__}"  # type: ignore[attr-defined]
            self._add(self.entry(name=name, target=target, **fields))
            self._objects[name] = thing
            return thing

        return declare

    def _add(self, entry: E) -> None:
        if not NAME.fullmatch(entry.name):
            raise ValueError(
                f"'{entry.name}' can't be the name of a {self.noun}: expected small letters and digits, joined by '_'"
            )
        known = None if self._importing else self._entries.get(entry.name)
        # One with this target was read from its source, or is defined anew in a notebook's cell.
        if known is not None and known.target != entry.target:
            owner = known.target or "sapool itself"
            raise ValueError(f"the {self.noun} '{entry.name}' is taken: by {owner}, and now by {entry.target}")
        if known is None or entry.name in self._added:
            self._added[entry.name] = entry
            self.__dict__.pop("_entries", None)

    @cached_property
    def _entries(self) -> dict[str, E]:
        found = {entry.name: entry for entry in self.given}
        for module in (*self.modules, *self._plugins()):
            for entry in self._declared(module):
                if entry.name in found and found[entry.name].target != entry.target:
                    first = found[entry.name].target or "sapool itself"
                    said = f"{module} declares a {self.noun} '{entry.name}', as {first} does, which holds"
                    warnings.warn(said, stacklevel=2)
                    continue
                found[entry.name] = entry
        found.update(self._added)
        return {entry.name: entry for entry in sorted(found.values(), key=lambda entry: entry.rank)}

    def _plugins(self) -> list[str]:
        return sorted({point.value.partition(":")[0] for point in entry_points(group=self.group)})

    def _declared(self, module: str) -> Iterator[E]:
        """The entries that a module, or the modules of a package, declare."""
        try:
            for name, file in _sources(module):
                for fields, defined in _declarations(file, self.decorator):
                    yield self.entry(**fields, target=f"{name}:{defined}")
        except _NotPlainError:
            yield from self._imported(module)
        except (ImportError, OSError, SyntaxError, TypeError, ValueError) as error:
            warnings.warn(f"the {self.noun}s of {module} can't be used: {error}", stacklevel=2)

    def _imported(self, module: str) -> Iterator[E]:
        self._importing = True
        try:
            import_module(module)
        except Exception as error:  # a stranger's module can end in anything
            warnings.warn(f"the {self.noun}s of {module} can't be used: {error}", stacklevel=2)
        finally:
            self._importing = False
        for entry in list(self._added.values()):
            if entry.target.startswith((f"{module}:", f"{module}.")):
                yield entry


class _NotPlainError(Exception):
    """A declaration's arguments can't be read without running the module."""


def _sources(module: str) -> Iterator[tuple[str, Path]]:
    """The names and files of a module, or of a package's modules, found without importing them."""
    spec = _spec(module)
    if spec.submodule_search_locations is None:
        yield module, Path(str(spec.origin))
        return
    for folder in spec.submodule_search_locations:
        for file in sorted(Path(folder).glob("*.py")):
            yield (module if file.stem == "__init__" else f"{module}.{file.stem}"), file


def _spec(module: str) -> ModuleSpec:
    """Where a module is; its parents aren't imported for that, which `find_spec` would do."""
    first, *rest = module.split(".")
    spec, name = find_spec(first), first
    for part in rest:
        name = f"{name}.{part}"
        places = spec.submodule_search_locations if spec is not None else None
        spec = PathFinder.find_spec(name, places) if places is not None else None
    if spec is None or (spec.origin is None and spec.submodule_search_locations is None):
        raise ImportError(f"there is no module {module}")
    return spec


def _declarations(file: Path, decorator: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The arguments of each use of a decorator in a file, and the name of what it decorates."""
    text = file.read_text(encoding="utf-8")
    if decorator not in text:
        return
    tree = ast.parse(text, str(file))
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in tree.body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            continue
        # As they are carried out: from the one nearest to the definition outwards. Listings read from the top.
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and _called(call.func) == decorator:
                fields = {word.arg: _plain(word.value, constants) for word in call.keywords if word.arg}
                if len(call.args) != 1 or len(fields) != len(call.keywords):
                    raise _NotPlainError
                yield {"name": _plain(call.args[0], constants), **fields}, node.name


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _plain(node: ast.expr, constants: Mapping[str, ast.expr]) -> Any:
    """The value of an expression of literals and of the module's constants."""
    if isinstance(node, ast.Name) and node.id in constants:
        return _plain(constants[node.id], {})
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise _NotPlainError from None
