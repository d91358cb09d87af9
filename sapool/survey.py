"""What a traced backbone offers to a plan: its stem and stages with their nodes, channels and strides, as measured."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx, nn

from sapool.backbones import Backbone
from sapool.dataflow import Dataflow
from sapool.shapes import propagate


@dataclass(frozen=True)
class Place:
    """A value of the graph that could be pooled.

    Attributes:
        node: its name in the graph.
        channels: its C.
    """

    node: str
    channels: int


@dataclass(frozen=True)
class Stage:
    """A stage of the backbone.

    Attributes:
        name: `stage1`, `stage2`, ...
        modules: paths of its blocks.
        conv: path of the first block's own strided convolution (of those with a kernel larger than 1×1, the first).
        shortcuts: paths of the convolutions that run parallel to `conv` and take its stride.
        open_shortcut: whether the first block also has a parallel way without any convolution (an identity shortcut).
        stride: the stage's downsampling factor.
        entry, first, last: what the stage reads, what its first block returns, what its last block returns.
    """

    name: str
    modules: tuple[str, ...]
    conv: str
    shortcuts: tuple[str, ...]
    open_shortcut: bool
    stride: int
    entry: Place
    first: Place
    last: Place


@dataclass(frozen=True)
class Survey:
    """A measured backbone.

    Attributes:
        stem_conv: path of the stem's strided convolution.
        stem_pool: path of its pooling, or None.
        stem: the map after its last activation.
        stem_stride: the stem's downsampling factor, pooling included.
        stages: in order.
        head: the last convolution's output, or None.
    """

    stem_conv: str
    stem_pool: str | None
    stem: Place
    stem_stride: int
    stages: tuple[Stage, ...]
    head: Place | None


def survey(module: fx.GraphModule, backbone: Backbone) -> Survey:
    """Measures a traced backbone. Catalogue entries that don't fit the graph are assertions: they are our mistake."""
    # No map of the catalogue's backbones vanishes or rounds at this size, so the ratios of sizes are the strides.
    size = 256
    values = propagate(module, size, size)
    flow = Dataflow(module.graph)

    def place(node: fx.Node) -> Place:
        return Place(node.name, int(values[node.name].shape[1]))

    def only(found: list[fx.Node], what: str) -> fx.Node:
        assert len(found) == 1, f"{backbone.name}: {what} is {[node.name for node in found]}, expected one node"
        return found[0]

    def stride(place: Place) -> int:
        return size // int(values[place.node].shape[2])

    def end_of(path: str) -> Place:
        return place(only(flow.exit(flow.inside([path])), f"the end of {path}"))

    stem = end_of(backbone.stem_end)
    stages: list[Stage] = []
    for number, patterns in enumerate(backbone.stages, start=1):
        blocks = _expand(module, patterns)
        first_block, whole = flow.inside(blocks[:1]), flow.inside(blocks)
        entry = only(flow.entry(first_block), f"the input of {blocks[0]}")
        first = only(flow.exit(first_block), f"the output of {blocks[0]}")
        last = only(flow.exit(whole), f"the output of stage {number}")
        convs = [node for node in first_block if _is_conv(module, node)]
        conv = next(node for node in convs if max(module.get_submodule(str(node.target)).kernel_size) > 1)  # type: ignore[arg-type]
        parallel = flow.between(entry, first, avoiding=[conv]) or []
        stages.append(
            Stage(
                name=f"stage{number}",
                modules=tuple(blocks),
                conv=str(conv.target),
                shortcuts=tuple(str(node.target) for node in parallel if node in convs),
                open_shortcut=flow.between(entry, first, avoiding=convs) is not None,
                stride=stride(place(last)) // stride(place(entry)),
                entry=place(entry),
                first=place(first),
                last=place(last),
            )
        )
    head = end_of(backbone.head) if backbone.head else None
    return Survey(
        stem_conv=backbone.stem_conv,
        stem_pool=backbone.stem_pool,
        stem=stem,
        stem_stride=stride(stages[0].entry),
        stages=tuple(stages),
        head=head,
    )


def _expand(module: nn.Module, patterns: tuple[str, ...]) -> list[str]:
    """Paths of a stage's blocks; `layer1.*` stands for the children of `layer1`, in order."""
    paths: list[str] = []
    for pattern in patterns:
        parent, star, _ = pattern.partition(".*")
        children = [f"{parent}.{name}" for name, _ in module.get_submodule(parent).named_children()] if star else []
        paths += children or [parent]
    return paths


def _is_conv(module: nn.Module, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), nn.Conv2d)
