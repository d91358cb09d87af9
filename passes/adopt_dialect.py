"""`dialect="paper"`: the published network where it isn't torchvision's (semantics §2)."""

from __future__ import annotations

from torch import fx, nn

from sapool.catalogue.backbones import BACKBONES
from sapool.ir.plan import Plan
from sapool.passes.driver import bypass
from sapool.passes.record import Log


def adopt_dialect(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Replaces or drops the modules that the catalogue's entry lists under `paper`."""
    entry = BACKBONES.get(plan.backbone)
    # Of timm's MobileNetV2s only the start of their parameters is otherwise (sapool.weights.initialization).
    if plan.options.dialect != "paper" or entry is None:
        return
    replaced = {node for site in plan.sites if site.restride for node in site.restride.removes}
    for path, arguments in (entry.paper or {}).items():
        old = module.get_submodule(path)
        (node,) = module.graph.find_nodes(op="call_module", target=path)
        if node.name in replaced:
            log.refused("stem", path, "the prepool takes its place")
        elif arguments is None:
            bypass(module, node)
            log.rewrote("classifier", path, old, "nothing")
        else:
            new = nn.MaxPool2d(**arguments)  # type: ignore[arg-type]
            module.set_submodule(path, new)
            log.rewrote("stem", path, old, new)
