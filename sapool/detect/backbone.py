"""`SapoolBackbone`: any compiled network as the backbone of any mmdet detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.registry import MODELS
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from sapool.boxes.frozen import modules_of_stages
from sapool.compiler import compile, execute
from sapool.detect.checkpoints import pretrained
from sapool.ir.options import Dialect
from sapool.ir.plan_file import is_plan_file
from sapool.model import check_channels
from sapool.planning import plan_from_json, read_plan
from sapool.weights.transfer import transfer


@MODELS.register_module()
class SapoolBackbone(BaseModule):  # type: ignore[misc]
    """A compiled network that returns feature maps, under the parameter names of its backbone.

    Its keys in a detector's checkpoint are `backbone.layer1.0.conv1.weight` and the like, those of mmdet's own ResNet.

    Args:
        arch: an architecture string, or the file of a plan (.json).
        out_indices: which maps it returns, from 0; None for all. `feature_info` tells their channels and reductions.
        frozen_stages: -1 trains everything; 0 freezes the stem (and a prepool), k the first k stages and their pools
            too.
        norm_eval: batch norms keep their statistics while training.
        dialect: "torchvision", or "paper" for the published network where the two differ.
        plan: the plan itself, as JSON, in place of what `arch` says.
        in_chans: channels of the images; None for the plan's, or 3.
        init_cfg: mmengine's. `dict(type="Pretrained", checkpoint=...)` takes a file, an address, "DEFAULT" for the
            published weights of the unmodified backbone, or mmengine's "torchvision://resnet18"; with `prefix` only the
            keys under it, such as `prefix="backbone."` for a detector's checkpoint. What doesn't fit stays as
            initialised, and the log says what that is.

    Raises:
        InputError: the architecture, an index or the number of frozen stages isn't possible.
    """

    def __init__(
        self,
        arch: str,
        out_indices: Sequence[int] | int | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        dialect: Dialect = "torchvision",
        init_cfg: dict[str, Any] | None = None,
        plan: str | None = None,
        in_chans: int | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if isinstance(out_indices, int):
            out_indices = (out_indices,)
        wanted: dict[str, Any] = {"features_only": True, "out_indices": out_indices}
        if in_chans is not None:
            wanted["in_chans"] = in_chans
        if plan is not None or is_plan_file(arch):
            found = plan_from_json(plan) if plan is not None else read_plan(arch)
            model = execute(found.with_options(**wanted))
        else:
            model = compile(arch, dialect=dialect, **wanted)
        self.arch, self.plan, self.feature_info = arch, model.plan, model.feature_info
        self.frozen_stages, self.norm_eval = frozen_stages, norm_eval
        self._frozen = modules_of_stages(model, frozen_stages)
        # The network's own children become this module's, so that its keys, and what replaces children by name (such
        # as the conversion to synchronised batch norm), see no wrapper. The generated code finds them under `self`.
        for name, child in model.named_children():
            self.add_module(name, child)
        for name, value in model.named_parameters(recurse=False):
            self.register_parameter(name, value)
        for name, buffer in model.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        self._run = type(model).forward
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps (N, C, H/r, W/r) for `feature_info`'s channels C and reductions r, of images (N, in_chans, H, W)."""
        try:
            return tuple(self._run(self, x))
        except RuntimeError as error:
            check_channels((x,), self.plan, error)
            raise

    def train(self, mode: bool = True) -> SapoolBackbone:
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        for path in self._frozen:
            module = self.get_submodule(path)
            module.eval()
            module.requires_grad_(False)

    def init_weights(self) -> None:
        """Loads what `init_cfg` names as pretrained; other initialisations are mmengine's."""
        given = self.init_cfg
        if not isinstance(given, dict) or given.get("type") not in ("Pretrained", "PretrainedInit"):
            super().init_weights()
            return
        done = transfer(
            self, pretrained(given["checkpoint"], self.state_dict(), self.plan, given.get("prefix")), self.plan.backbone
        )
        self._is_init = True
        print_log(f"{self.arch}: {given['checkpoint']}: {done}", logger="current")
        idle = [path for path in self._frozen if any(key.startswith(f"{path}.") for key in done.new)]
        if idle:
            print_log(f"{self.arch}: frozen but not in the weights: {', '.join(idle)}", logger="current", level=30)
