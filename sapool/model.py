"""The result of compilation: an ordinary `torch.nn.Module` that knows where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, fx, nn
from torch.fx.graph_module import reduce_graph_module

from sapool.analysis.classifier import replace_classifier
from sapool.analysis.parts import parts_of
from sapool.analysis.trace import TRACING, keep_order
from sapool.errors import InputError
from sapool.grammar import parse
from sapool.ir.architecture import Architecture
from sapool.ir.plan import Plan
from sapool.passes.measure import Feature, FeatureInfo
from sapool.passes.record import PassRun, Refusal, Rewrite
from sapool.poolings.weights import recording
from sapool.weights.initialization import start_classifier
from sapool.weights.narrowing import Shapes, narrow
from sapool.weights.transfer import Transfer

_STAMPS = ("rule", "site", "feature")


@dataclass(frozen=True)
class Origin:
    """What compilation left behind besides the graph."""

    plan: Plan
    rewrites: tuple[Rewrite, ...]
    refusals: tuple[Refusal, ...]
    passes: tuple[PassRun, ...]
    features: tuple[Feature, ...]
    transfer: Transfer | None = None
    optimized: bool = False
    guests: tuple[str, ...] = ()  # passes of other packages that ran
    without: tuple[str, ...] = ()  # passes that were left out
    full: Plan | None = None  # of a pruned model, the plan that was carried out before
    shapes: Shapes | None = None  # of a pruned model's state dict, before optimization
    own: nn.Module | None = None  # the caller's backbone without data, where it isn't one that can be built again


class CompiledModel(fx.GraphModule):
    """A rewritten backbone. Use it as any module: (N, C, H, W) to (N, num_classes), or to a list of feature maps.

    Copies, pickles, `state_dict`, `torch.compile` and `torch.export` work as for every `torch.fx.GraphModule`.
    """

    @classmethod
    def of(cls, module: fx.GraphModule, origin: Origin) -> CompiledModel:
        """The compiled model of a rewritten graph."""
        model = cls(module, module.graph, class_name=cls.__name__)
        # fx carries `meta` through copies and pickles; attributes of a subclass it forgets.
        model.meta["sapool"] = origin
        keep_order(model, module)
        model.train(module.training)
        return model

    @property
    def origin(self) -> Origin:
        """Everything that compilation recorded."""
        origin = self.meta["sapool"]
        assert isinstance(origin, Origin)
        return origin

    @property
    def architecture(self) -> Architecture:
        """What was written; edits of the plan don't change it."""
        return parse(self.origin.plan.architecture)

    @property
    def plan(self) -> Plan:
        """What was done where, with map sizes measured at `plan.options.image_size`."""
        return self.origin.plan

    @property
    def rewrites(self) -> tuple[Rewrite, ...]:
        """Each change of the graph, in order."""
        return self.origin.rewrites

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Each place that a rule left alone, with its reason."""
        return self.origin.refusals

    @property
    def transfer(self) -> Transfer | None:
        """What loading weights transferred, left new and dropped; None where none were loaded."""
        return self.origin.transfer

    @property
    def feature_info(self) -> FeatureInfo:
        """Channels, reduction and name of each feature map, as measured; with the methods of timm's models.

        Those that the model returns, in order, with `features_only`; else those that it could return.
        """
        features = self.origin.features
        if not self.plan.options.features_only:
            return FeatureInfo(features)
        names = [feature.name for feature in features]
        return FeatureInfo(features, (names.index(self.plan.features[index][0]) for index in self.plan.outputs))

    def reset_classifier(self, num_classes: int) -> None:
        """Gives the network a new last layer, which starts at random; its other weights stay.

        Args:
            num_classes: the layer's outputs.

        Raises:
            InputError: there is no such layer, or it can't have so many outputs.
        """
        plan = self.plan.with_options(num_classes=num_classes)
        if plan.options.features_only:
            raise InputError(f"{plan.architecture} returns maps (features_only), and has no classifier to replace")
        layer = replace_classifier(self, num_classes, plan.architecture)
        start_classifier(layer, plan)
        origin, path = self.origin, next(name for name, module in self.named_modules() if module is layer)
        shapes = {f"{path}.{name}": tuple(value.shape) for name, value in layer.named_parameters()}
        self.meta["sapool"] = replace(
            origin,
            plan=plan,
            full=origin.full and origin.full.with_options(num_classes=num_classes),
            shapes=origin.shapes and {**origin.shapes, **shapes},
        )

    def freeze(self, until: str | None) -> None:
        """Stops a part of the network from learning: its weights get no gradients, its batch norms keep statistics.

        Args:
            until: the last part that is frozen: `stem` (with a prepool), `stage1` and so on (with its pool), or `head`;
                None to let everything learn again.

        Raises:
            InputError: there is no such part.
        """
        self.requires_grad_(True)
        self.meta["frozen"] = frozen = self._parts_until(until)
        for path in frozen:
            self.get_submodule(path).requires_grad_(False)
        self.train(self.training)

    def _parts_until(self, until: str | None) -> tuple[str, ...]:
        """Paths of the modules of all parts up to one, in order."""
        names = ["stem", *(name for name, _ in self.plan.parts)]
        if until is None:
            return ()
        if until not in names:
            raise InputError(f"freeze: {self.plan.architecture} has the parts {', '.join(names)}, not '{until}'")
        within = names[: names.index(until) + 1]
        wanted = {*within, "pools.prepool", *(f"pools.{name}" for name in within)}
        parts = parts_of(self, self.plan)
        called = (node for node in self.graph.nodes if node.op == "call_module" and parts[node.name] in wanted)
        return tuple(dict.fromkeys(str(node.target) for node in called))

    def train(self, mode: bool = True) -> Self:
        """As for every module; what is frozen stays as in evaluation."""
        super().train(mode)
        for path in self.meta.get("frozen", ()):
            self.get_submodule(path).eval()
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except RuntimeError as error:
            check_channels(args, self.plan, error)
            raise

    def with_transfer(self, transfer: Transfer) -> CompiledModel:
        """Records what loading weights did; returns the model itself."""
        self.meta["sapool"] = replace(self.origin, transfer=transfer)
        return self

    def weight_maps(self, x: Tensor) -> dict[str, Tensor]:
        """The weight that each pool gives to each pixel of the map that it pools, without gradients.

        The model runs as in evaluation, whatever its mode. `sapool.uniformity` tells of each how even it is.

        Args:
            x: images as the model takes them, (N, C, H, W).

        Returns:
            By the site's name (`stem`, `stage1`, `prepool`), in order of execution, (N, c, h, w) of the map at that
            site. Poolings that weigh nothing, such as `maxp`, aren't in it.
        """
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            with torch.no_grad(), recording(pools_of(self, self.plan)) as found:
                self(x)
        finally:
            for module, mode in modes.items():
                module.training = mode
        return {name: weight for name, weight in found.items() if weight is not None}

    def narrow(self, shapes: Shapes) -> CompiledModel:
        """Gives the layers the widths that a state dict of those shapes needs, in place; returns the model itself.

        Tensors whose shape changes are new and hold no numbers: load the state dict next.

        Raises:
            WeightsError: the network can't have such tensors.
        """
        plan, measured = narrow(self, self.plan, shapes)
        self.meta["sapool"] = replace(
            self.origin,
            plan=plan.with_maps(measured.maps),
            features=measured.features,
            full=self.origin.full or self.plan,
            shapes=dict(shapes),
        )
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # fx pickles generated code and traces it again on loading: the nodes keep their order, not names and stamps.
        _, (body, imports) = super().__reduce__()
        stamps = [(n.name, {key: n.meta[key] for key in _STAMPS if key in n.meta}) for n in self.graph.nodes]
        return _unpickle, (body, imports, self.origin, stamps)


def pools_of(module: nn.Module, plan: Plan) -> dict[str, nn.Module]:
    """A network's pools by the names of their sites, in order of execution; those that it has.

    Args:
        module: the network, or one with its modules under the same names.
        plan: its plan.
    """
    present = dict(module.named_modules())  # where only some feature maps are wanted, not every pool is
    pools = (site for site in plan.sites if site.action == "pool" and site.module in present)
    return {site.name: present[site.module] for site in pools}


def check_channels(args: tuple[Any, ...], plan: Plan, error: RuntimeError) -> None:
    """Says of a call that failed that the images had other channels, where that is why.

    Raises:
        InputError: they had; names `in_chans`.
    """
    wanted = plan.options.in_chans
    x = args[0] if args and isinstance(args[0], Tensor) else None
    if x is not None and x.dim() == 4 and x.shape[1] != wanted:
        raise InputError(
            f"{plan.architecture} takes images of {wanted} channels (in_chans), not of {x.shape[1]}: expected "
            f"(N, {wanted}, H, W), not {tuple(x.shape)}; compile it with in_chans={x.shape[1]}, or convert the images"
        ) from error


def _unpickle(
    body: dict[str, Any], imports: str, origin: Origin, stamps: list[tuple[str, dict[str, str]]]
) -> CompiledModel:
    with TRACING:
        module = reduce_graph_module(body, imports)
    assert isinstance(module, fx.GraphModule)
    for node, (name, stamp) in zip(module.graph.nodes, stamps, strict=True):
        node.name = name
        node.meta.update(stamp)
    return CompiledModel.of(module, origin)
