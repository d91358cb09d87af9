"""Finding the stages of a backbone that the catalogue doesn't have: the graph says where resolution drops, the module
hierarchy what belongs together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import fx, nn

from sapool.analysis.dataflow import Dataflow, module_path
from sapool.analysis.resolution import Drop, Resolution
from sapool.errors import InputError

# A digit a stage: with more of them than this, nobody reads the string, and blocks are gathered between drops.
_READABLE = 9


@dataclass(frozen=True)
class Unit:
    """A piece of a network: a module with everything in it, or a single operation between modules.

    Attributes:
        name: the module's path, or the operation's node.
        nodes: in order of execution.
    """

    name: str
    nodes: tuple[fx.Node, ...]


class Hierarchy:
    """A graph seen through its modules."""

    def __init__(self, module: fx.GraphModule, flow: Dataflow, resolution: Resolution) -> None:
        self.module, self.resolution, self.flow = module, resolution, flow
        self.drops = {drop.node: drop for drop in resolution.drops}
        self.members: dict[str, list[fx.Node]] = {}
        for node in flow.order:
            path = module_path(node)
            while node.op not in ("placeholder", "output", "get_attr"):
                self.members.setdefault(path, []).append(node)
                if not path:
                    break
                path = path.rpartition(".")[0]

    def unit(self, path: str) -> Unit:
        """A module with everything in it; "" for the whole network."""
        return Unit(path, tuple(self.members.get(path, ())))

    def parts(self, unit: Unit) -> list[Unit]:
        """The units right below a unit; the unit alone where it is a single operation."""
        if len(unit.nodes) == 1 and module_path(unit.nodes[0]) in ("", unit.name):
            return [unit]
        return self._split(unit.name, unit.nodes)

    def _split(self, path: str, nodes: Iterable[fx.Node]) -> list[Unit]:
        groups: dict[str, list[fx.Node]] = {}
        start = f"{path}." if path else ""
        for node in nodes:
            owner = module_path(node)
            if owner.startswith(start) and owner != path:
                name = start + owner.removeprefix(start).partition(".")[0]
            else:
                name = node.name
            groups.setdefault(name, []).append(node)
        return [Unit(name, tuple(members)) for name, members in groups.items()]

    def drops_in(self, unit: Unit) -> list[Drop]:
        """The drops of a unit."""
        return [self.drops[node] for node in unit.nodes if node in self.drops]

    def levels(self, unit: Unit) -> set[int]:
        """The resolutions at which a unit's drops begin."""
        return {drop.before for drop in self.drops_in(unit)}

    def convs(self, unit: Unit) -> int:
        """How many convolutions of maps a unit has; those on globally pooled values, of gates, aren't counted."""
        count = 0
        for node in unit.nodes:
            if node not in self.resolution.reduction:
                continue
            if node.op == "call_module":
                inner = self.module.get_submodule(str(node.target)).modules()
                count += sum(isinstance(child, nn.Conv2d) for child in inner)
            elif getattr(node.target, "__name__", "") == "conv2d":
                count += 1
        return count

    def is_block(self, unit: Unit) -> bool:
        """Whether a unit is more than a convolution with what follows it."""
        return self.convs(unit) > 1

    def ends_in_pool(self, unit: Unit) -> bool:
        """Whether a unit is nothing but a pooling that drops the resolution."""
        drops = self.drops_in(unit)
        return len(unit.nodes) == 1 and bool(drops) and drops[0].strided is not None and drops[0].strided.kind == "pool"

    def blocks(self, units: list[Unit]) -> list[Unit]:
        """The blocks of a stage in order: the stage's own units, or what its only unit is a container of."""
        if len(units) > 1 or self._joins(units[0]):
            return units
        inner = [part for part in self.parts(units[0]) if self.convs(part) or self.drops_in(part)]
        whole = bool(inner) and set(self.drops_in(units[0])) <= set(self.drops_in(inner[0]))
        if len(inner) < 2 or len(inner[0].nodes) == 1 or not whole or not any(map(self.is_block, inner)):
            return units
        return [block for part in inner for block in self._flattened(part)]

    def _flattened(self, unit: Unit) -> list[Unit]:
        """The blocks in a container; the unit itself where it is one."""
        inner = [part for part in self.parts(unit) if self.convs(part)]
        if len(inner) > 1 and all(map(self.is_block, inner)) and not self._joins(unit):
            return [block for part in inner for block in self._flattened(part)]
        return [unit]

    def _joins(self, unit: Unit) -> bool:
        """Whether branches come together in a unit's own forward: then it is a block, and no container."""
        maps = self.resolution.reduction
        own = [node for node in unit.nodes if module_path(node) == unit.name and node.op != "call_module"]
        return any(sum(source in maps for source in node.all_input_nodes) > 1 for node in own)


def discover(hierarchy: Hierarchy, name: str) -> list[list[Unit]]:
    """The stages of a backbone, each a list of units; what comes before them is the stem.

    Raises:
        InputError: there is nothing that could be called a stage.
    """
    units = _apart(hierarchy, name)
    start = _stem(hierarchy, units)
    last = _end(hierarchy, units, start)
    region = units[start : last + 1]
    if not any(hierarchy.drops_in(unit) for unit in region):
        drops = ", ".join(f"{d.node.name} ({d.after // d.before}x)" for d in hierarchy.drops.values()) or "nothing"
        raise InputError(
            f"{name} has no stages to rewrite: {drops} is all that lowers its resolution, and then come tokens or maps "
            "of one size, as in attention and isotropic backbones. Choose a backbone that downsamples by convolutions"
        )
    blocks = [unit for unit in region if hierarchy.is_block(unit)]
    return _at_drops(hierarchy, region) if not 0 < len(blocks) <= _READABLE else _by_container(hierarchy, region)


def _apart(hierarchy: Hierarchy, name: str) -> list[Unit]:
    """The network as a sequence of units that drop the resolution once at most."""
    units = hierarchy.parts(hierarchy.unit(""))
    while any(len(hierarchy.levels(unit)) > 1 for unit in units):
        opened: list[Unit] = []
        for unit in units:
            if len(hierarchy.levels(unit)) < 2:
                opened.append(unit)
                continue
            parts = hierarchy.parts(unit)
            if parts == [unit]:
                raise InputError(
                    f"{name} can't be rewritten: {unit.name} lowers the resolution more than once by itself"
                )
            opened += parts
        units = opened
    return units


def _stem(hierarchy: Hierarchy, units: list[Unit]) -> int:
    """Where the stages begin: the stem is the first unit that convolves or drops, and single layers that follow it."""
    works = [number for number, unit in enumerate(units) if hierarchy.convs(unit) or hierarchy.drops_in(unit)]
    first = works[0] if works else 0
    last = max((number for number in works if hierarchy.drops_in(units[number])), default=first)
    # A module that holds this unit, and not the rest of the network, is a stem as a whole.
    parent = f"{units[first].name.rpartition('.')[0]}."
    behind = next((number for number in range(first, last + 1) if not units[number].name.startswith(parent)), first + 1)
    if parent == "." or any(unit.name.startswith(parent) for unit in units[behind : last + 1]):
        behind = first + 1
    for number in range(behind, last + 1):
        if hierarchy.is_block(units[number]):
            return number
    # A plain sequence of layers: its first convolution with what belongs to it is the stem.
    number = first + 1
    while number <= last and not hierarchy.convs(units[number]) and not hierarchy.drops_in(units[number]):
        number += 1
    return number


def _end(hierarchy: Hierarchy, units: list[Unit], start: int) -> int:
    """The number of the last unit that belongs to a stage."""
    last = max([start, *(number for number, unit in enumerate(units) if hierarchy.drops_in(unit))])
    parents = {unit.name.rpartition(".")[0] for unit in units[start : last + 1] if hierarchy.is_block(unit)}
    for number in range(last + 1, len(units)):
        unit = units[number]
        same = unit.name.rpartition(".")[0] in parents
        if same and hierarchy.is_block(unit) and any(node in hierarchy.resolution.reduction for node in unit.nodes):
            last = number
    return last


def _by_container(hierarchy: Hierarchy, region: list[Unit]) -> list[list[Unit]]:
    """A stage for each container; a downsampling layer between two belongs to the second, a pooling to the first."""
    stages: list[list[Unit]] = []
    waiting = False  # for the container that a downsampling layer belongs to
    for unit in region:
        drops, block = bool(hierarchy.drops_in(unit)), hierarchy.is_block(unit)
        dropped = bool(stages) and any(hierarchy.drops_in(member) for member in stages[-1])
        begins = not stages or (block and not waiting)
        if not block and drops and (dropped or not hierarchy.ends_in_pool(unit)):
            begins = waiting = True
        elif block:
            waiting = False
        if begins:
            stages.append([])
        stages[-1].append(unit)
    return stages


def _at_drops(hierarchy: Hierarchy, region: list[Unit]) -> list[list[Unit]]:
    """A new stage at each drop, or behind it where it is a pooling."""
    stages: list[list[Unit]] = [[]]
    for unit in region:
        drops = bool(hierarchy.drops_in(unit))
        dropped = any(hierarchy.drops_in(member) for member in stages[-1])
        ends = hierarchy.ends_in_pool(unit)
        if drops and stages[-1] and (dropped or not ends):
            stages.append([])
        stages[-1].append(unit)
        if ends:
            stages.append([])
    return [stage for stage in stages if stage]
