"""Bases that a detector's run keeps, and its checkpoints: settings that reach further, and contents that are none."""

from __future__ import annotations

import copy
import pprint
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import torch

from tests.hostile import CANARY, Kind
from tests.hostile.checkpoints import Bomb, changed, write
from tests.hostile.plans import mutate

BASES = ("ssd", "retinanet", "faster_rcnn", "yolov3", "rtmdet")
NETWORK = "resnet18-lip-2222"

PAYLOADS: tuple[dict[str, Any], ...] = (
    {"type": f"{CANARY}.x"},
    {"type": "os.system", "command": f"touch {CANARY}"},
    {"type": "builtins.open"},
    {"type": "Pretrained", "checkpoint": f"{CANARY}.pth"},
    {"type": "Pretrained", "checkpoint": "http://127.0.0.1:9/x"},
    {"init_cfg": {"type": "PretrainedInit", "checkpoint": f"{CANARY}.pth"}},
    {"pretrained": f"{CANARY}.pth"},
    {"_scope_": CANARY},
    {"_base_": f"{CANARY}.py"},
    {"_delete_": True},
    {"constructor": f"{CANARY}.C"},
    {"backend_args": {"backend": "http"}},
    {"file_client_args": {"backend": "disk"}},
    {"checkpoint": f"{CANARY}.pth"},
    {"type": "LoadProposals"},
    {"type": "RefCocoDataset", "ann_file": f"{CANARY}.pkl"},
    {"proposal_file": f"{CANARY}.pkl"},
    {"type": "WandbVisBackend"},
    {"type": "TensorboardVisBackend", "save_dir": CANARY},
    {"type": "DumpResults"},
    {"type": "Albu", "transforms": [{"type": "ReplayCompose"}]},
    {"type": "BertModel", "name": CANARY},
    {"type": "KnowledgeDistillationSingleStageDetector", "teacher_config": f"{CANARY}.py"},
    {"ema_type": f"{CANARY}.E"},
    {"type": "DetInferencer", "model": CANARY},
    {"custom_imports": {"imports": [CANARY]}},
    {"note": f"{{{{${CANARY}:x}}}}"},
    {"type": "mmengine.runner.Runner"},
    {"type": "torch.load"},
    {"worker_init_fn": {"type": f"{CANARY}.f"}},
    {"out_channels": 10**9},
    {"stacked_convs": 60_000},
    {"num_outs": 10**6},
    {"type": "__import__"},
    {"type": "nms"},
)


@cache
def base(name: str) -> dict[str, Any]:
    from sapool.detect.binding.base import load_base  # noqa: PLC0415
    from tests.detect.support import SHIPPED  # noqa: PLC0415

    found: dict[str, Any] = load_base(SHIPPED[name]).to_dict()
    return found


def dictionaries(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        yield from dictionaries(item)


_KEPT = ("model", "train_dataloader", "val_dataloader", "optim_wrapper", "param_scheduler", "custom_hooks", "train_cfg")


def some_base(random: Random, folder: Path) -> str:
    made = copy.deepcopy(base(random.choice(BASES)))
    for _ in range(random.choice((0, 1, 1, 2))):
        place = random.choice(
            list(dictionaries(made[random.choice([name for name in _KEPT if name in made])])) or [made]
        )
        payload = random.choice(PAYLOADS)
        if random.random() < 0.5:
            place.update(payload)
        else:
            place[random.choice([*place, "x"])] = payload
    for _ in range(random.choice((0, 0, 1, 2))):
        name = random.choice([name for name in _KEPT if name in made])
        made[name] = mutate(random, made[name])
    return "\n".join(f"{name} = {pprint.pformat(value)}" for name, value in made.items())


def opened(given: str, folder: Path) -> None:
    """What is accepted is bound to a detector that can be built, and names nothing of what reaches further."""
    from sapool.detect.binding.base import KEPT  # noqa: PLC0415
    from sapool.detect.binding.config import bind, build_model, start_model  # noqa: PLC0415
    from tests.detect.support import coco, recipe_for  # noqa: PLC0415

    (folder / KEPT).write_text(given, encoding="utf-8", errors="surrogatepass")
    recipe = recipe_for(str(folder / "gone.py"), NETWORK)
    bound = bind(recipe, coco(recipe), folder, run=folder)
    told = str(bound.config.to_dict())
    assert f"{CANARY}." not in told
    assert "http:" not in told
    with torch.device("meta"):
        model = build_model(bound.config)
    model.backbone.init_cfg = None
    if sum(parameter.numel() for parameter in model.parameters()) < 10**8:
        with torch.device("cpu"):
            start_model(bound.config)


@cache
def content() -> dict[str, Any]:
    """What a checkpoint of a run holds that was saved after an epoch."""
    import numpy as np  # noqa: PLC0415
    from mmengine.logging import HistoryBuffer  # noqa: PLC0415

    model, bound = detector()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    meta = {"epoch": 1, "iter": 3, "cfg": bound.config.pretty_text, "seed": 0}
    history = {"train/loss": HistoryBuffer([1.0, 2.0], [1, 1])}
    hub = {
        "log_scalars": history,
        "runtime_info": {"best_score": np.float64(0.1)},
        "resumed_keys": {"train/loss": True},
    }
    own = {"losses": (1.0, 3), "batch": 0, "validation_due": False, "memory": {":_is_init": True}, "gradients": {}}
    state = {"optimizer": optimizer.state_dict(), "param_schedulers": [{"last_step": 1}]}
    return {
        "meta": meta,
        "state_dict": model.state_dict(),
        "message_hub": hub,
        "sapool": own,
        **state,
        "sapool_seconds": 1.0,
    }


@cache
def detector() -> tuple[Any, Any]:
    from sapool.detect.binding.config import bind, build_model  # noqa: PLC0415
    from tests.detect.support import SHIPPED, coco, recipe_for  # noqa: PLC0415

    recipe = recipe_for(SHIPPED["ssd"], "mobilenet-lip-1222121")
    bound = bind(recipe, coco(recipe), Path("work"))
    return build_model(bound.config), bound


def some_checkpoint(random: Random, folder: Path) -> dict[str, Any]:
    return changed(random, content())


def gone_on_from(given: dict[str, Any], folder: Path) -> None:
    """What is accepted loads into the detector, its optimizer, and mmengine's hub."""
    from mmengine.logging import MessageHub  # noqa: PLC0415

    from sapool.detect.binding.config import check_fits  # noqa: PLC0415
    from sapool.detect.checkpoints import read_run_checkpoint  # noqa: PLC0415

    path = folder / "epoch_1.pth"
    write(given, path)
    model, bound = detector()
    found = read_run_checkpoint(path, "mobilenet-lip-1222121")
    check_fits(bound, found, path)
    model.load_state_dict(found["state_dict"])
    if "message_hub" in found:
        MessageHub("hostile").load_state_dict(found["message_hub"])


def _import() -> None:
    import sapool.detect.run  # noqa: F401, PLC0415


KINDS = (
    Kind(
        "bases that runs keep",
        make=some_base,
        judge=opened,
        corpus=(*("", "model = {}", "model = []", "import os", "(" * 5000, "model = 1\n" * 3),),
        rounds=4,
        quick=0,
        setting_up=_import,
    ),
    Kind(
        "detectors' checkpoints of other contents",
        make=some_checkpoint,
        judge=gone_on_from,
        corpus=({}, {"meta": Bomb()}, {"sapool": Bomb()}, {"message_hub": {"log_scalars": Bomb()}}),
        rounds=4,
        quick=0,
        setting_up=_import,
    ),
) if find_spec("mmdet") else ()  # fmt: skip
