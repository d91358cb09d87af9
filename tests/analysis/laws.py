"""What holds for every backbone, whoever made it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn

import sapool
from sapool.analysis.survey import survey
from sapool.analysis.trace import trace
from sapool.catalogue.backbones import BACKBONES
from sapool.catalogue.builders import build
from sapool.ir.options import Options
from sapool.ir.plan import Plan
from sapool.ir.planner import make_plan
from sapool.ir.survey import Survey
from sapool.passes import rewrite
from sapool.passes.measure import Feature, measure
from sapool.passes.verify import verify

KINDS = ("nlp_headfix2_nowin", "lip")
CLASSES = 7


class Subject:
    """A backbone with numbers, or without (`device="meta"`): as it was built, traced, and surveyed."""

    def __init__(self, name: str, size: int, device: str = "cpu") -> None:
        self.name, self.size = name, size
        torch.manual_seed(0)
        with torch.device(device):
            self.eager = build(name, CLASSES)
        self.traced = trace(copy.deepcopy(self.eager), name)
        self.found: Survey = survey(self.traced, name, BACKBONES.get(name))

    def rewritten(self, kind: str, strides: str) -> tuple[fx.GraphModule, Plan, tuple[Feature, ...]]:
        """As `compile` does it, without tracing and measuring anew."""
        module = copy.deepcopy(self.traced)
        architecture = sapool.parse(f"{self.name}-{kind}-{strides}")
        plan = make_plan(architecture, self.found, Options(num_classes=CLASSES, image_size=self.size))  # type: ignore[arg-type]
        rewrite(module, plan)
        measured = measure(module, plan)
        verify(module, plan, measured)
        return module, plan, measured.features

    def halved(self) -> str:
        """The unchanged strides with the first stage halved again."""
        first, *rest = (stage.stride for stage in self.found.stages)
        return "".join(map(str, (first * 2, *rest)))


def traced_equals_eager(subject: Subject) -> None:
    """Outputs bit for bit, training and evaluating, and running statistics after it; the keys in their order."""
    eager, traced = copy.deepcopy(subject.eager), copy.deepcopy(subject.traced)
    assert list(traced.state_dict()) == list(eager.state_dict())
    for training in (True, False):
        outputs = []
        for module in (eager, traced):
            torch.manual_seed(1)  # of dropout and stochastic depth
            with torch.no_grad():
                outputs.append(module.train(training)(image(subject.size)))
        assert torch.equal(*outputs), f"training={training}"
    pairs = zip(eager.state_dict().values(), traced.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def unchanged_strides_change_nothing(subject: Subject) -> None:
    """The identity law: `skip` with the strides that were found is the backbone itself."""
    text = f"{subject.name}-skip-{subject.found.unchanged}"
    torch.manual_seed(0)
    model = sapool.compile(text, num_classes=CLASSES, image_size=subject.size).eval()
    eager = copy.deepcopy(subject.eager).eval()
    # What no output of the backbone needs may go, so long as it has no weights.
    assert {rewrite.rule for rewrite in model.rewrites} <= {"clean_up"}
    assert list(model.state_dict()) == list(eager.state_dict())
    model.load_state_dict(eager.state_dict())
    with torch.no_grad():
        assert torch.equal(model(image(subject.size)), eager(image(subject.size)))


def compiles(subject: Subject) -> None:
    """Each output is as planned: one kind at the unchanged strides, another with the first halved again."""
    for kind, strides in zip(KINDS, (subject.found.unchanged, subject.halved()), strict=True):
        _, plan, features = subject.rewritten(kind, strides)
        reduction, expected = subject.found.stem_stride, []
        for digit in strides:
            reduction *= int(digit)
            expected.append(reduction)
        assert [feature.reduction for feature in features][: len(expected)] == expected
        channels = [stage.last.channels for stage in subject.found.stages]
        assert [feature.channels for feature in features][: len(expected)] == channels
        pooled = {site.name for site in plan.sites if site.action == "pool"}
        assert pooled == {f"stage{i}" for i, digit in enumerate(strides, start=1) if digit != "1"}


def trains(subject: Subject) -> None:
    """One step: every parameter gets a finite gradient, those of the pools all, the backbone's where it does itself."""
    module, _, _ = subject.rewritten(KINDS[0], subject.found.unchanged)
    gradients = _gradients(module, subject.size)
    plain = _gradients(copy.deepcopy(subject.eager), subject.size)
    missing = {key for key, grad in gradients.items() if grad is None}
    assert missing == {key for key, grad in plain.items() if grad is None}
    assert any(key.startswith("pools.") for key in gradients)
    odd = [key for key, grad in gradients.items() if grad is not None and not grad.isfinite().all()]
    assert not odd, odd


def _gradients(module: nn.Module, size: int) -> dict[str, Tensor | None]:
    loss = nn.functional.cross_entropy(module.train()(image(size)), torch.tensor([1, 2]))
    loss.backward()
    return {key: parameter.grad for key, parameter in module.named_parameters()}


def image(size: int) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
