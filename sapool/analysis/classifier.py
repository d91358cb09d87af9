"""The classifier at the end of a network: the layer whose outputs are the classes."""

from __future__ import annotations

from torch import fx, nn

from sapool.errors import InputError


def classifier_node(module: fx.GraphModule) -> fx.Node | None:
    """The call of the last layer with weights before the output, where it is linear or a convolution; else None."""
    returned = module.graph.output_node().args[0]
    node = returned if isinstance(returned, fx.Node) else None
    while node is not None:
        layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            return node
        if layer is not None and any(True for _ in layer.parameters()):
            return None
        node = next(iter(node.all_input_nodes), None)
    return None


def replace_classifier(module: fx.GraphModule, classes: int, name: str) -> nn.Linear | nn.Conv2d:
    """Puts a new last layer, with as many outputs, in the old one's place; returns it.

    Args:
        module: changed in place.
        classes: how many.
        name: what to call the network in messages.

    Raises:
        InputError: it doesn't end in a layer of its own.
    """
    node = classifier_node(module)
    if node is None:
        raise InputError(f"{name} doesn't end in a linear layer or a convolution, so it has no classifier to replace")
    old = module.get_submodule(str(node.target))
    new: nn.Linear | nn.Conv2d
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, classes, old.bias is not None)
    else:
        assert isinstance(old, nn.Conv2d)
        settings = (old.kernel_size, old.stride, old.padding, old.dilation)
        new = nn.Conv2d(old.in_channels, classes, *settings, bias=old.bias is not None)  # type: ignore[arg-type]
    module.set_submodule(str(node.target), new.to(old.weight.device, old.weight.dtype).train(old.training))
    return new
