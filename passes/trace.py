"""Tracing: from a module to a graph whose nodes are named after the modules that they call."""

from __future__ import annotations

from typing import Any

from torch import fx, nn


class Tracer(fx.Tracer):
    """torch.fx's tracer; modules of `torch.nn` and our own poolings stay single nodes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        ours = type(m).__module__.startswith("sapool.poolings")
        return ours or super().is_leaf_module(m, module_qualified_name)

    def create_node(
        self, kind: str, target: Any, args: Any, kwargs: Any, name: str | None = None, type_expr: Any = None
    ) -> fx.Node:
        """Names functions after the module that calls them too: `layer1_0_add`, not `add_7`."""
        if name is None and kind in ("call_function", "call_method") and self.module_stack:
            path = next(reversed(self.module_stack.values()))[0]
            called = target if isinstance(target, str) else getattr(target, "__name__", "call")
            name = f"{path}.{called}".replace(".", "_")
        return super().create_node(kind, target, args, kwargs, name, type_expr)


def trace(module: nn.Module) -> fx.GraphModule:
    """The graph of a module's forward. It computes exactly what the module computes; parameters keep their names."""
    tracer = Tracer()
    graph = tracer.trace(module)
    return fx.GraphModule(module, graph, class_name=type(module).__name__)
