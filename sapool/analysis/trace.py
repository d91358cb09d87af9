"""Tracing: from a module to a graph whose nodes are named after the modules that they call."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import fx, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from sapool.errors import InputError, brief, first_line
from sapool.poolings import Pooling
from sapool.poolings.dynamic import DynamicConv2d

# What has a stride is one node, whatever a library derives from it.
_LEAVES: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, DynamicConv2d, Pooling)


TRACING = threading.RLock()
"""Held while torch.fx traces: its wrappers are taken off in the order in which they were put on."""


class Tracer(fx.Tracer):
    """torch.fx's tracer; modules of `torch.nn`, convolutions and pools derived from them, and ours are single nodes.

    Args:
        leaves: further classes whose modules are single nodes.
        functions: further functions that are.
    """

    def __init__(
        self, leaves: tuple[type[nn.Module], ...] = (), functions: tuple[Callable[..., Any], ...] = ()
    ) -> None:
        super().__init__(autowrap_functions=functions)
        self.leaves = (*_LEAVES, *leaves)
        self.thread = threading.get_ident()

    # For the time of a trace, torch.fx puts wrappers around the calls and attributes of every module in the process.
    # What other threads do meanwhile goes through them as if they weren't there.

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Notes a call of a module; other threads just make it."""
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        """Notes that a parameter is read; other threads just read it."""
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.leaves) or super().is_leaf_module(m, module_qualified_name)

    def create_node(
        self, kind: str, target: Any, args: Any, kwargs: Any, name: str | None = None, type_expr: Any = None
    ) -> fx.Node:
        """Names functions after the module that calls them too: `layer1_0_add`, not `add_7`."""
        if kind in ("call_function", "call_method") and self.module_stack:
            path = next(reversed(self.module_stack.values()))[0]
            called = target if isinstance(target, str) else getattr(target, "__name__", "call")
            name = f"{path}.{called}".replace(".", "_")
        return super().create_node(kind, target, args, kwargs, name, type_expr)


def trace(module: nn.Module, name: str = "") -> fx.GraphModule:
    """The graph of a module's forward. It computes exactly what the module computes; parameters keep their names.

    A graph has one forward for training and evaluation. Where a module's own differs between the two (stochastic
    depth, for instance), modules of its class stay single nodes, which go on doing what their mode asks.

    Args:
        module: shares its parameters with the graph.
        name: what to call it in messages.

    Raises:
        InputError: the forward can't be traced; names the module that stops it.
    """
    name = name or type(module).__name__
    _check_names(module, name)
    leaves, functions = _marked_by_timm()
    if any(isinstance(child, StochasticDepth) and child.p > 0 for child in module.modules()):
        leaves = (*leaves, StochasticDepth)  # known to differ; others are found out
    while True:
        _forget_constants(module)
        evaluation = _trace(module, name, leaves, functions, training=False)
        _forget_constants(module)
        training = _trace(module, name, leaves, functions, training=True)
        dropouts = _follow_mode(training, evaluation)
        differing = _first_difference(training, evaluation)
        if differing is None:
            return _graph_module(module, training, dropouts)
        path = _caller(differing)
        owner = type(module.get_submodule(path))
        if not path or issubclass(owner, nn.Sequential):
            raise InputError(
                f"{name} can't be traced: its forward does other things in training than in evaluation "
                f"(at {differing.name}), and a graph has one forward; move that into a module of its own"
            )
        leaves = (*leaves, owner)


def _check_names(module: nn.Module, name: str) -> None:
    """Refuses names that would end the text which torch.fx puts them into, in the code that it makes of a graph."""
    parts = (*module.named_modules(), *module.named_parameters(), *module.named_buffers())
    odd = [path for path, _ in parts if not path.isprintable() or any(mark in path for mark in "\"'\\")]
    if odd:
        raise InputError(
            f"{name} can't be traced by torch.fx: its part {brief(odd[0])} has a name that code can't be written with; "
            "use letters, digits and _"
        )


def _forget_constants(module: nn.Module) -> None:
    """Takes off a module what torch.fx has put on it: tensors made in a forward, numbered anew by each trace."""
    for name in [name for name in vars(module) if name.startswith("_tensor_constant")]:
        delattr(module, name)


def _trace(
    module: nn.Module, name: str, leaves: tuple[type[nn.Module], ...], functions: tuple[Any, ...], *, training: bool
) -> fx.Graph:
    tracer = Tracer(leaves, functions)
    with _mode(module, training=training):
        try:
            with TRACING:
                return tracer.trace(module)
        except Exception as error:  # whatever a forward does with a value that it doesn't have yet
            path = _where(tracer)
            within = f"{path} ({type(module.get_submodule(path)).__name__})" if path else "its own forward"
            reason = first_line(error)
            raise InputError(
                f"{name} can't be traced by torch.fx: {within} stops it ({reason.rstrip('.')}). Its control flow "
                "depends on values or sizes; choose another backbone, or rewrite that forward without it"
            ) from None


def _graph_module(module: nn.Module, graph: fx.Graph, dropouts: dict[str, float]) -> fx.GraphModule:
    traced = fx.GraphModule(module, graph, class_name=type(module).__name__)
    for node in [node for node in graph.nodes if node.name in dropouts]:
        owner = _caller(node)
        path = f"{owner}.dropout" if owner else "dropout"
        while has_attribute(traced, path):
            path += "_"
        traced.add_submodule(path, nn.Dropout(dropouts[node.name]))
        with graph.inserting_before(node):
            call = graph.create_node("call_module", path, node.args[:1], name=f"{node.name}_")
        call.meta["nn_module_stack"] = node.meta.get("nn_module_stack", {})
        node.replace_all_uses_with(call)
        graph.erase_node(node)
    traced.recompile()
    keep_order(traced, module)
    return traced


def has_attribute(module: nn.Module, path: str) -> bool:
    """Whether a module, parameter or buffer stands at a path."""
    parent, _, name = path.rpartition(".")
    try:
        return hasattr(module.get_submodule(parent), name)
    except AttributeError:
        return False


def keep_order(copy: nn.Module, original: nn.Module) -> None:
    """Gives a copy's parameters, buffers and modules the order that they have in the original.

    torch.fx registers them in the order of their use; optimisers and checkpoints go by that of the state dict. Buffers
    that aren't of the state dict stay out of it, and so do tensors that a forward makes.
    """
    transient = vars(original).get("_non_persistent_buffers_set", set())
    for name in vars(copy).get("_buffers", {}):
        if name in transient or name.startswith("_tensor_constant"):
            copy._non_persistent_buffers_set.add(name)
    for kind in ("_parameters", "_buffers", "_modules"):
        own, order = vars(copy).get(kind, {}), list(vars(original).get(kind, ()))
        for name in [name for name in order if name in own] + [name for name in own if name not in order]:
            own[name] = own.pop(name)
    for name, child in vars(copy).get("_modules", {}).items():
        twin = vars(original).get("_modules", {}).get(name)
        if child is not None and isinstance(twin, nn.Module) and child is not twin:
            keep_order(child, twin)


def _follow_mode(training: fx.Graph, evaluation: fx.Graph) -> dict[str, float]:
    """The rates of functional dropouts that take their module's mode, by node; modules will stand in for them.

    Their constants are made the same in both graphs, which then differ no more.
    """
    rates: dict[str, float] = {}
    for one, other in zip(training.nodes, evaluation.nodes, strict=False):
        both = one.target is F.dropout and other.target is F.dropout
        if both and one.kwargs.get("training") is True and other.kwargs.get("training") is False:
            other.kwargs = {**other.kwargs, "training": True}
            rates[one.name] = one.args[1] if len(one.args) > 1 else one.kwargs.get("p", 0.5)
    return rates


@contextmanager
def _mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    before = [(child, child.training) for child in module.modules()]
    try:
        for child, _ in before:
            child.training = training
        yield
    finally:
        for child, mode in before:
            child.training = mode


def _where(tracer: Tracer) -> str:
    """The path of the module in whose forward tracing stopped."""
    stack = list(tracer.module_stack.values())
    return str(stack[-1][0]) if stack else ""


def _caller(node: fx.Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    if node.op == "call_module":  # the last entry is the called module itself
        stack = stack[:-1]
    return str(stack[-1][0]) if stack else ""


def _first_difference(one: fx.Graph, other: fx.Graph) -> fx.Node | None:
    a: fx.Node
    b: fx.Node
    for a, b in zip(one.nodes, other.nodes, strict=False):
        if _said(a) != _said(b):
            # The mode in which more is done tells whose doing it is.
            return a if len(one.nodes) >= len(other.nodes) else b
    return None if len(one.nodes) == len(other.nodes) else one.output_node()


def _said(node: fx.Node) -> tuple[object, ...]:
    return node.op, node.name, str(node.target), str(node.args), str(node.kwargs)


def _marked_by_timm() -> tuple[tuple[type[nn.Module], ...], tuple[Callable[..., Any], ...]]:
    """The modules and functions that timm, where it is in use, declares to be untraceable inside."""
    marks = sys.modules.get("timm.models._features_fx")
    if marks is None:
        return (), ()
    return tuple(marks.get_notrace_modules()), tuple(marks.get_notrace_functions())
