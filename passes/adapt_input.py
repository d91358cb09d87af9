"""Images of other than the usual channels: the first convolution takes as many as there are."""

from __future__ import annotations

from torch import fx, nn

from sapool.analysis.shapes import image, input_convolution
from sapool.errors import InputError, PlanError
from sapool.ir.plan import Plan
from sapool.passes.driver import stamp
from sapool.passes.record import Log


def adapt_input(module: fx.GraphModule, plan: Plan, log: Log) -> None:
    """Replaces the first convolution, under its own name; its other settings stay.

    Raises:
        InputError: images are rearranged before it, or each channel has a kernel of its own there.
    """
    found, wanted = input_convolution(module), plan.options.in_chans
    own = image(module, 1).shape[1]
    if found is None and wanted != own:
        raise InputError(
            f"in_chans: {plan.backbone} takes images of {own} channels, not of {wanted}: what it does with them first "
            "is no plain convolution that could be adapted; choose another backbone"
        )
    if found is None or found[1].in_channels == wanted:
        return
    node, old = found
    path = str(node.target)
    new = nn.Conv2d(
        wanted,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    ).to(old.weight.device, old.weight.dtype)
    module.set_submodule(path, new)
    stamp(node, log.rule, "")
    log.rewrote("", path, f"{old.in_channels} input channels", f"{wanted} input channels")


def has_channels(module: fx.GraphModule, plan: Plan) -> None:
    """Raises PlanError where images don't have the planned channels."""
    found, wanted = input_convolution(module), plan.options.in_chans
    if found is not None and found[1].in_channels != wanted:
        problem = f"{found[0].target} takes images of {found[1].in_channels} channels, not {wanted}"
        raise PlanError("", "options.in_chans", problem)
