"""Measuring what a traced backbone offers to a plan: its stem and stages with their nodes, channels and strides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from torch import fx, nn
from torch.nn import functional as F

from sapool.analysis.dataflow import Dataflow
from sapool.analysis.resolution import Drop, Resolution, measure
from sapool.analysis.stages import Hierarchy, Unit, discover
from sapool.analysis.strided import strided
from sapool.catalogue.backbones import Backbone, Pools
from sapool.errors import InputError, did_you_mean
from sapool.ir.survey import Place, Stage, Strides, Survey

_PADDING = (nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d)


Stages = Sequence[str | Sequence[str]]
"""A backbone's stages in order, each a module's path, or several; `layer1.*` is all that is right below `layer1`."""


def survey(module: fx.GraphModule, name: str, backbone: Backbone | None = None, stages: Stages | None = None) -> Survey:
    """Measures a traced backbone: by its catalogue entry, by named stages, or by what the graph shows.

    Raises:
        InputError: it has no stages that could be rewritten; says why, and where.
    """
    return _Surveyor(module, name).survey(backbone, stages)


class _Surveyor:
    def __init__(self, module: fx.GraphModule, name: str) -> None:
        self.module, self.name = module, name
        self.flow = Dataflow(module.graph)
        self.resolution: Resolution = measure(module, name)
        self.hierarchy = Hierarchy(module, self.flow, self.resolution)
        self.nodes = {node.name: node for node in module.graph.nodes}

    def survey(self, backbone: Backbone | None, named: Stages | None = None) -> Survey:
        if backbone is None or not backbone.stages:
            units = self._merged(discover(self.hierarchy, self.name)) if named is None else self._named(named)
            for number, stage in enumerate(units, start=1):
                levels = {level for unit in stage for level in self.hierarchy.levels(unit)}
                if len(levels) > 1:
                    raise self._refused(f"stage {number} ({stage[0].name}, ...) is strided {len(levels)} times")
            blocks = [self.hierarchy.blocks(stage) for stage in units]
            head = backbone.head if backbone else None
        else:
            blocks = [self._expanded(patterns) for patterns in backbone.stages]
            units, head = blocks, backbone.head
        stages = tuple(
            self._stage(number, *pair) for number, pair in enumerate(zip(units, blocks, strict=True), start=1)
        )
        for before, after in pairwise(stages):
            one, other = (self.resolution.reduction[self.nodes[p.node]] for p in (before.last, after.entry))
            if one != other:
                raise self._refused(f"{after.name} ({after.modules[0]}, ...) doesn't read what {before.name} hands on")
        inside = {node for stage in units for unit in stage for node in unit.nodes}
        start = min(self.flow.order[node] for node in inside)
        stem = [drop for drop in self.resolution.drops if self.flow.order[drop.node] < start]
        stem_stride = self.resolution.reduction[self.nodes[stages[0].entry.node]]
        behind = [drop for drop in self.resolution.drops if drop not in stem and drop.node not in inside]
        if behind:
            raise self._refused(f"{behind[0].node.name} lowers the resolution behind the stages")
        strides = self._strides(stem)
        if self._stride(stem) != stem_stride:  # something else lowers it too, reshaping for instance
            strides = replace(strides, fixed=(*strides.fixed, stages[0].entry.node))
        end, gone = stages[0].entry.node, dict(strides.pools)
        while end in gone:  # a prepool takes the place of the stem's own pooling
            end = gone[end]
        layers = [node for node, place in self.flow.order.items() if place < start]
        return Survey(
            strides=strides,
            candidates=tuple(node.name for node in self._wide(layers)[:1]),
            stem=self._place(self.nodes[end]),
            stem_stride=stem_stride,
            stages=stages,
            head=self._place(self._exit(self._expanded((head,)), "the head")) if head else None,
            head_modules=(head,) if head else (),
            pools=(backbone.pools if backbone else None) or self._usual_pools(stages, blocks),
        )

    def _stage(self, number: int, units: list[Unit], blocks: list[Unit]) -> Stage:
        what = f"stage {number} ({', '.join(unit.name for unit in units[:3])}{', ...' if len(units) > 3 else ''})"
        region = [node for unit in units for node in unit.nodes]
        sources = [node for node in self.flow.entry(region) if node in self.resolution.reduction]
        if len(sources) != 1:
            raise self._refused(f"{what} reads {len(sources)} maps, not one: {', '.join(n.name for n in sources[:4])}")
        entry, last = sources[0], self._exit(units, what)
        first_region = list(blocks[0].nodes)
        exits = self._exits(blocks[:1])
        first = exits[0] if len(exits) == 1 else last
        members = set(region)
        drops = [drop for drop in self.resolution.drops if drop.node in members]
        candidates, shortcuts = self._candidates(entry, first, first_region)
        return Stage(
            name=f"stage{number}",
            modules=tuple(unit.name for unit in units),
            block=blocks[0].name,
            strides=self._strides(drops),
            candidates=candidates,
            shortcuts=shortcuts,
            stride=self._stride(drops),
            entry=self._place(entry),
            first=self._place(first),
            last=self._place(last),
            readers=tuple(node.name for node in entry.users if node in members),
        )

    def _candidates(
        self, entry: fx.Node, first: fx.Node, block: list[fx.Node]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The convolutions that could take a stride between two nodes, and the first nodes of ways without any."""
        wide, convs = self._wide(block), self._wide(block, least=1)
        if not wide:
            return (), ()
        parallel = self.flow.between(entry, first, avoiding=wide[:1], within=block) or []
        taken = wide[:1]
        for node in parallel:  # one of each way: convolutions of which one feeds another would stride it twice
            pairs = [pair for other in taken for pair in ((node, other), (other, node))]
            if node in convs and not any(self.flow.feeds(*pair) for pair in pairs):
                taken.append(node)
        free = self.flow.between(entry, first, avoiding=convs, within=block)
        ways = [] if free is None else [node for node in entry.users if node in free or node is first]
        return tuple(node.name for node in taken), tuple(node.name for node in ways)

    def _wide(self, nodes: Iterable[fx.Node], least: int = 2) -> list[fx.Node]:
        """The convolutions of maps whose kernels have at least that side."""
        found = [(node, strided(self.module, node)) for node in nodes if node in self.resolution.reduction]
        return [
            node for node, what in found if what is not None and what.kind == "conv" and (what.kernel or 3) >= least
        ]

    def _strides(self, drops: list[Drop]) -> Strides:
        finest = min((drop.before for drop in drops), default=0)
        # A pooling with no other drop at its resolution stands in nobody's way.
        alone = [
            drop
            for drop in drops
            if drop.strided is not None
            and drop.strided.kind == "pool"
            and sum(other.before == drop.before for other in drops) == 1
        ]
        gone = [pair for drop in alone for pair in self._with_padding(drop.node)]
        return Strides(
            first=tuple(drop.node.name for drop in drops if drop.before == finest and drop.strided),
            later=tuple(drop.node.name for drop in drops if drop.before != finest and drop.strided),
            pools=tuple(gone),
            fixed=tuple(drop.node.name for drop in drops if not drop.strided),
        )

    def _with_padding(self, pool: fx.Node) -> list[tuple[str, str]]:
        """A pooling, and the padding in front of it where that serves nothing else, each with what it reads."""
        source = pool.all_input_nodes[0]
        pairs = [(pool.name, source.name)]
        layer = self.module.get_submodule(str(source.target)) if source.op == "call_module" else None
        if (source.target is F.pad or isinstance(layer, _PADDING)) and len(source.users) == 1:
            pairs.append((source.name, source.all_input_nodes[0].name))
        return pairs

    def _stride(self, drops: list[Drop]) -> int:
        if not drops:
            return 1
        return max(drop.after for drop in drops) // min(drop.before for drop in drops)

    def _exit(self, units: list[Unit], what: str) -> fx.Node:
        found = self._exits(units)
        if len(found) != 1:
            raise self._refused(f"{what} hands on {len(found)} maps, not one: {', '.join(n.name for n in found[:4])}")
        return found[0]

    def _exits(self, units: Iterable[Unit]) -> list[fx.Node]:
        region = [node for unit in units for node in unit.nodes]
        return [node for node in self.flow.exit(region) if node in self.resolution.reduction]

    def _merged(self, stages: list[list[Unit]]) -> list[list[Unit]]:
        """Stages that hand on a single map: one that doesn't goes together with the next."""
        merged: list[list[Unit]] = []
        open_end = False
        for stage in stages:
            if open_end:
                merged[-1] += stage
            else:
                merged.append(list(stage))
            open_end = len(self._exits(merged[-1])) != 1
        return merged

    def _usual_pools(self, stages: tuple[Stage, ...], blocks: list[list[Unit]]) -> Pools:
        """Before the first block where depthwise convolutions downsample, after it where it is a downsampling layer."""
        own = [self.nodes[name] for stage in stages for name in stage.strides.first]
        if any(what is not None and what.depthwise for what in (strided(self.module, node) for node in own)):
            return "before"
        layers = [
            self.hierarchy.convs(stage[0]) == 1 and bool(self.hierarchy.drops_in(stage[0]))
            for stage, found in zip(blocks, stages, strict=True)
            if found.stride > 1 and len(stage) > 1
        ]
        return "first" if layers and all(layers) else "last"

    def _named(self, stages: Stages) -> list[list[Unit]]:
        """The units of stages that the caller names.

        Raises:
            InputError: a name is no module that is called, or the stages aren't in order, or share one.
        """
        units: list[list[Unit]] = []
        behind = -1
        for stage in stages:
            paths = [stage] if isinstance(stage, str) else list(stage)
            whole = [unit for path in paths for unit in self._units(path)]
            places = [self.flow.order[node] for unit in whole for node in unit.nodes]
            if not places or min(places) <= behind or len(set(places)) != len(places):
                raise InputError(
                    f"stages: {' + '.join(paths) or 'an empty stage'} doesn't come behind the stages before it; name "
                    "them in the order in which they run, each module once"
                )
            behind = max(places)
            units.append(whole)
        if not units:
            raise InputError("stages: expected at least one module's path, for instance ['layer1', 'layer2']")
        return units

    def _units(self, path: str) -> list[Unit]:
        """What a path names: a module, those right below it (`layer1.*`), or an operation between modules."""
        parent, star, rest = path.partition(".*")
        known = [name for name in self.hierarchy.members if name]
        if star and not rest and parent in self.hierarchy.members:
            return [part for part in self.hierarchy.parts(self.hierarchy.unit(parent)) if part.nodes]
        if path in known:
            return [self.hierarchy.unit(path)]
        if path in self.nodes and self.nodes[path].op != "placeholder":
            return [Unit(path, (self.nodes[path],))]
        raise InputError(f"stages: {self.name} runs no module '{path}'.{did_you_mean(path, known)}")

    def _expanded(self, patterns: tuple[str, ...]) -> list[Unit]:
        """Units of a stage's blocks; `layer1.*` stands for the children of `layer1`, in order."""
        paths: list[str] = []
        for pattern in patterns:
            parent, star, _ = pattern.partition(".*")
            children = [f"{parent}.{name}" for name, _ in self.module.get_submodule(parent).named_children()]
            paths += children if star else [parent]
        found = [self.hierarchy.unit(path) for path in paths]
        assert all(unit.nodes for unit in found), f"{self.name}: not all of {paths} are called"
        return found

    def _place(self, node: fx.Node) -> Place:
        if node in self.resolution.channels_last:
            raise self._refused(f"{node.name} is laid out (N, H, W, C), and pools take (N, C, H, W)")
        return Place(node.name, self.resolution.channels[node])

    def _refused(self, reason: str) -> InputError:
        return InputError(
            f"{self.name} can't be rewritten: {reason}. Stages must follow each other as a chain of maps; choose "
            "another backbone"
        )
