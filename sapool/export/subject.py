"""What is written: a network made ready for export, what of it is compared, and what its file says of itself."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, fx, nn

from sapool.errors import InputError
from sapool.export.calibration import Calibration, Preparation
from sapool.inference import prepare
from sapool.ir.plan import Plan
from sapool.model import CompiledModel
from sapool.passes.record import Log
from sapool.poolings.base import Pooling
from sapool.schedule.streamed import StreamedModel, stream

Rewriting = Callable[[fx.GraphModule, Plan], Log]
"""Exact rewrites of a compiled graph, in place, for what a runtime can't do or does badly."""


class Watched(nn.Module):
    """A network that also returns the weights of its pools: (N, C, H, W) to a flat tuple, outputs first.

    Attributes:
        maps: names of the pools that weigh pixels, in the order of execution.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.pools = {name: module for name, module in network.named_modules() if _weighs(module)}
        self.maps: tuple[str, ...] = ()
        self.train(network.training)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        seen: dict[str, Tensor] = {}
        with _recorded(self.pools, seen):
            result = self.network(x)
        self.maps = tuple(seen)
        return (*(result if isinstance(result, (list, tuple)) else (result,)), *seen.values())


def _weighs(module: nn.Module) -> bool:
    return isinstance(module, Pooling) and type(module).weight is not Pooling.weight


@contextmanager
def _recorded(pools: dict[str, nn.Module], seen: dict[str, Tensor]) -> Iterator[None]:
    """Notes the weights that pools compute for themselves: on the grid of their tokens, where they have one."""
    for name, pool in pools.items():
        method = "grid_weight" if hasattr(pool, "grid_weight") else "weight"
        vars(pool)[method] = _noting(getattr(pool, method), name, seen)
    try:
        yield
    finally:
        for pool in pools.values():
            vars(pool).pop("grid_weight", None)
            vars(pool).pop("weight", None)


def _noting(method: Callable[..., Tensor], name: str, seen: dict[str, Tensor]) -> Callable[..., Tensor]:
    def noting(*arguments: Any) -> Tensor:
        seen[name] = method(*arguments)
        return seen[name]

    return noting


@dataclass(frozen=True)
class Bands:
    """That a network is wanted in bands of rows that a format has of its own.

    Attributes:
        budget: bytes that activations may take; None for the smallest arena.
    """

    budget: int | None = None


@dataclass(frozen=True)
class Subject:
    """A network on its way into a file.

    Attributes:
        network: in eval mode, in float32, rewritten for inference and for the format, streamed if that was asked; (N,
            C, H, W) to logits or a list of maps.
        watched: the same, returning a flat tuple of its outputs and of its pools' weights.
        original: the model as it was given, watched too: what the file is compared with.
        outputs: names of the outputs.
        maps: names of the pools whose weights are returned besides.
        channels, size: of the images.
        calibration: images to calibrate on and to compare on.
        metadata: what the file says of itself: text by name.
        plan: of the model.
        optimized: the network before it was streamed; its graph is what figures of cost are of.
        streamed: whether it computes in bands of rows.
        bands: what was asked of a format that has bands of its own; None where nothing was.
    """

    network: nn.Module
    watched: Watched
    original: Watched
    outputs: tuple[str, ...]
    maps: tuple[str, ...]
    channels: int
    size: tuple[int, int]
    calibration: Calibration
    metadata: dict[str, str]
    plan: Plan
    optimized: CompiledModel
    streamed: bool
    bands: Bands | None = None

    @property
    def example(self) -> Tensor:
        """Two of the images."""
        images = self.calibration.images
        return images[[0, len(images) - 1]]

    def expected(self, images: Tensor) -> list[Tensor]:
        """What the model as it was given computes: its outputs, and the weights of the pools in `maps`."""
        with torch.no_grad():
            found = self.original.to(images.dtype)(images)
        self.original.float()
        count = len(self.outputs)
        weights = dict(zip(self.original.maps, found[count:], strict=True))
        return [*found[:count], *(weights[name] for name in self.maps)]


def subject(
    model: CompiledModel | StreamedModel,
    calibration: Calibration,
    preparation: Preparation,
    rewrite: Rewriting,
    bands: Bands | None = None,
) -> Subject:
    """Makes a model ready to be written. The model stays as it is.

    With `bands` the network of a streamed model isn't streamed: the format has bands of its own.

    Raises:
        InputError: it has no weights.
    """
    compiled, size = _compiled(model)
    if any(tensor.is_meta for tensor in (*compiled.parameters(), *compiled.buffers())):
        raise InputError("the model has no weights: it is on the meta device")
    original = copy.deepcopy(compiled).eval().float().cpu()
    tuned = prepare(original)
    rewrite(tuned, tuned.plan)
    tuned.requires_grad_(False)
    network: nn.Module = tuned
    if isinstance(model, StreamedModel) and bands is None:
        schedule = model.schedule
        network = stream(
            tuned,
            schedule.arena,
            image_size=size,
            assumptions=schedule.assumptions,
            input_by_rows=schedule.input_by_rows,
        ).eval()
    watched = Watched(network)
    with torch.no_grad():
        results = watched(calibration.images[:1])
    count = len(results) - len(watched.maps)
    names = tuple(f.name for f in compiled.feature_info) if compiled.plan.options.features_only else ("logits",)
    assert len(names) == count, (names, count)
    return Subject(
        network,
        watched,
        Watched(original),
        names,
        watched.maps,
        compiled.plan.options.in_chans,
        size,
        calibration,
        metadata(compiled, preparation, network),
        compiled.plan,
        tuned,
        network is not tuned,
        bands,
    )


def shape_of(model: CompiledModel | StreamedModel) -> tuple[int, tuple[int, int]]:
    """Channels and size of the images that a model is exported for."""
    options = compiled_twin(model).plan.options
    if isinstance(model, StreamedModel):
        return options.in_chans, model.program.size
    height, width = options.image_size
    return options.in_chans, (height, width)


def compiled_twin(model: CompiledModel | StreamedModel) -> CompiledModel:
    """The compiled model itself, or that of a streamed one, without weights.

    Raises:
        InputError: it isn't a compiled one.
    """
    compiled = model.program.module if isinstance(model, StreamedModel) else model
    if not isinstance(compiled, CompiledModel):
        raise InputError("only what sapool compiled can be exported: sapool.compile(TEXT), or a stream of that")
    return compiled


def _compiled(model: CompiledModel | StreamedModel) -> tuple[CompiledModel, tuple[int, int]]:
    """The compiled model, that of a streamed one with its weights; and the size of its images."""
    compiled = compiled_twin(model)
    _, size = shape_of(model)
    if isinstance(model, StreamedModel):
        compiled = copy.deepcopy(compiled)
        compiled.to_empty(device="cpu")
        compiled.load_state_dict(model.state_dict(), assign=True)
    return compiled, size


def metadata(model: CompiledModel, preparation: Preparation, network: nn.Module) -> dict[str, str]:
    """What a file says of itself: text by name, JSON where it isn't plain."""
    options = model.plan.options
    return {
        "sapool": version("sapool"),
        "torch": str(torch.__version__),
        "architecture": model.plan.architecture,
        "plan": model.plan.to_json(),
        "image_size": options.size_text,
        "channels": str(options.in_chans),
        "classes": json.dumps(list(preparation.classes)),
        "mean": json.dumps(list(preparation.mean) if preparation.mean is not None else None),
        "std": json.dumps(list(preparation.std) if preparation.std is not None else None),
        "streamed": str(network.schedule) if isinstance(network, StreamedModel) else "",
        "digest": digest(model),
    }


def digest(model: CompiledModel) -> str:
    """SHA-256 of a model's plan and of every tensor of its state dict."""
    total = hashlib.sha256(model.plan.to_json().encode())
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
