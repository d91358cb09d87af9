"""Classifiers with the methods of timm's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn

from sapool.analysis.classifier import classifier_node
from sapool.analysis.shapes import propagate
from sapool.errors import InputError
from sapool.model import CompiledModel, Origin
from sapool.timm.names import spelled

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TimmClassifier(CompiledModel):
    """A compiled classifier with the methods of timm's models."""

    @classmethod
    def of(cls, module: fx.GraphModule, origin: Origin) -> TimmClassifier:
        """The classifier of a rewritten graph."""
        model = super().of(module, origin)
        assert isinstance(model, TimmClassifier)
        node = classifier_node(model)
        if node is None:
            raise InputError(f"{model.plan.architecture} has no classifier that timm's methods could work on")
        model.meta["timm"] = (str(node.target), model.plan.options.num_classes, "avg")
        return model

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier, 0 where it was taken off."""
        return int(self.meta["timm"][1])

    @property
    def num_features(self) -> int:
        """Channels of what the classifier reads."""
        small, _ = self._values()
        return int(small[self._classifier().all_input_nodes[0].name].shape[1])

    @property
    def head_hidden_size(self) -> int:
        """timm's other name for `num_features`."""
        return self.num_features

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """How images are prepared, as timm's data tools ask for it."""
        options = self.plan.options
        mean, std = (_MEAN, _STD) if options.in_chans == len(_MEAN) else ((0.5,) * options.in_chans,) * 2
        return {
            "architecture": spelled(self.plan.architecture),
            "input_size": (options.in_chans, *options.image_size),
            "num_classes": self.num_classes,
            "mean": mean,
            "std": std,
            "interpolation": "bilinear",
            "crop_pct": 0.875,
        }

    @property
    def default_cfg(self) -> dict[str, Any]:
        """timm's other name for `pretrained_cfg`."""
        return self.pretrained_cfg

    def get_classifier(self) -> nn.Module:
        """The last layer; an identity where it was taken off."""
        return self.get_submodule(str(self.meta["timm"][0]))

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Gives the network a new classifier, or none with 0 classes.

        Args:
            num_classes: its outputs.
            global_pool: "" to return the last map, which 0 classes go with; else the network's own pooling.

        Raises:
            InputError: pooling was taken off before, or is to be taken off in front of a classifier.
        """
        path, _, pool = self.meta["timm"]
        if pool == "" and (num_classes or global_pool):
            raise InputError("global_pool: it was taken off; make the network anew, by timm.create_model")
        if global_pool == "" and num_classes:
            raise InputError("global_pool: a classifier reads pooled features; take off both, with num_classes=0")
        if num_classes:
            if isinstance(self.get_classifier(), nn.Identity):
                self.set_submodule(path, nn.Linear(self.num_features, 1, device=next(self.parameters()).device))
            super().reset_classifier(num_classes)
        elif global_pool == "":
            last, output = self._last_map(), self.graph.output_node()
            output.args = (last,)
            self.graph.eliminate_dead_code()
            self.delete_all_unused_submodules()
            self.recompile()
        else:
            self.set_submodule(path, nn.Identity())
        self.meta["timm"] = (path, num_classes, pool if global_pool is None else global_pool)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the last map, before it is pooled."""
        found: Tensor = self._part(None, self._last_map()).run(x)
        return found

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The last map to logits, or to what the classifier reads: (N, features)."""
        if self.meta["timm"][2] == "":
            return x
        end = self._classifier().all_input_nodes[0] if pre_logits else self.graph.output_node().all_input_nodes[0]
        found: Tensor = self._part(self._last_map(), end).run(x)
        return found

    def _part(self, start: fx.Node | None, end: fx.Node) -> fx.Interpreter:
        """What leads from a node, or from the image, to another."""
        graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
        if start is not None:
            copies[start] = graph.placeholder("x")
        begun = start is None
        for node in self.graph.nodes:
            if begun and node.op != "output":
                copies[node] = graph.node_copy(node, lambda n: copies[n])
            begun = begun or node is start
            if node is end:
                break
        graph.output(copies[end])
        return fx.Interpreter(self, graph=graph)

    def _classifier(self) -> fx.Node:
        (node,) = self.graph.find_nodes(op="call_module", target=self.meta["timm"][0])
        return node  # type: ignore[no-any-return]

    def _last_map(self) -> fx.Node:
        """The last value that is larger for larger images."""
        if self.meta["timm"][2] == "":
            return self.graph.output_node().all_input_nodes[0]
        small, large = self._values()
        node = self._classifier().all_input_nodes[0]
        while small[node.name].shape == large[node.name].shape:
            node = node.all_input_nodes[0]
        return node

    def _values(self) -> list[dict[str, Any]]:
        height, width = self.plan.options.image_size
        return propagate(self, (height, width), (2 * height, 2 * width))

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, arguments = super().__reduce__()
        return _classifier_again, (rebuild, arguments, self.meta["timm"])


def _classifier_again(rebuild: Callable[..., CompiledModel], arguments: Any, state: Any) -> TimmClassifier:
    plain = rebuild(*arguments)
    model = CompiledModel.of.__func__(TimmClassifier, plain, plain.origin)  # type: ignore[attr-defined]
    assert isinstance(model, TimmClassifier)
    model.meta["timm"] = state
    return model
