from __future__ import annotations

import pytest
import torch
from torch import fx, nn
from torchvision import models

from sapool.analysis.trace import trace
from sapool.ir.plan import Plan
from sapool.ir.site import Restride, Site
from sapool.passes.adopt_dialect import adopt_dialect
from tests.passes.tiny import also_return, identities, image, nodes, plan, reasons, run


def traced(builder: str, device: str = "meta") -> fx.GraphModule:
    torch.manual_seed(0)
    with torch.device(device):
        return trace(models.get_model(builder, num_classes=5)).eval()


def paper(backbone: str, *sites: Site) -> Plan:
    return plan(*sites, backbone=backbone, dialect="paper")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_resnets_stem_pool_has_no_padding(name: str) -> None:
    module = traced(name)
    keys, names = list(module.state_dict()), list(nodes(module))
    log = run(adopt_dialect, module, paper(name))
    pool = module.maxpool
    assert isinstance(pool, nn.MaxPool2d)
    assert (pool.kernel_size, pool.stride, pool.padding) == (2, 2, 0)
    (rewrite,) = log.rewrites
    assert (rewrite.rule, rewrite.site, rewrite.target) == ("adopt_dialect", "stem", "maxpool")
    assert "kernel_size=3" in rewrite.before
    assert "kernel_size=2" in rewrite.after
    assert list(module.state_dict()) == keys
    assert list(nodes(module)) == names


def test_a_mobilenets_classifier_has_no_dropout() -> None:
    module = traced("mobilenet_v2", "cpu")
    keys, y = list(module.state_dict()), module(image())
    log = run(adopt_dialect, module, paper("mobilenet"))
    assert [(r.site, r.target, r.after) for r in log.rewrites] == [("classifier", "classifier.0", "nothing")]
    assert "classifier_0" not in nodes(module)
    assert list(module.state_dict()) == keys
    assert torch.equal(module(image()), y)
    # Trained, nothing is random any more: batch norms of equal batches give equal outputs.
    assert torch.equal(module.train()(image()), module(image()))


def test_a_dropout_with_several_users() -> None:
    module = traced("mobilenet_v2")
    also_return(module, "classifier_0")
    run(adopt_dialect, module, paper("mobilenet"))
    after = nodes(module)
    assert module.graph.output_node().args == ((after["classifier_1"], after["flatten"]),)
    assert after["classifier_1"].all_input_nodes == [after["flatten"]]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet"])
def test_torchvisions_dialect_leaves_all_alone(name: str) -> None:
    module = traced("mobilenet_v2" if name == "mobilenet" else name)
    before = identities(module)
    log = run(adopt_dialect, module, plan(backbone=name))
    assert (log.rewrites, log.refusals) == ([], [])
    assert identities(module) == before


def test_a_prepool_takes_the_stem_pools_place() -> None:
    module = traced("resnet18")
    before = identities(module)
    log = run(adopt_dialect, module, paper("resnet18", Site("prepool", 4, 4, 64, restride=Restride((), ("maxpool",)))))
    assert log.rewrites == []
    assert reasons(log) == {"maxpool": "the prepool takes its place"}
    assert identities(module) == before
