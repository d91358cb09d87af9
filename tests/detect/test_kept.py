"""A kept base is made anew: what it may say comes through as it is, and nothing else does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sapool.detect.binding.base import KEPT, load_base
from sapool.detect.binding.config import bind, write_config
from sapool.detect.binding.kept import made_anew
from sapool.errors import InputError
from tests.detect.support import SHIPPED, coco, recipe_for

Change = Callable[[dict[str, Any]], object]


def plain(name: str = "ssd") -> dict[str, Any]:
    found: dict[str, Any] = load_base(SHIPPED[name]).to_dict()
    return found


def pipeline(base: dict[str, Any]) -> Any:
    data = base["train_dataloader"]["dataset"]
    return data["dataset"]["pipeline"] if "dataset" in data else data["pipeline"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_base_is_bound_to_the_same(name: str, tmp_path: Path) -> None:
    recipe = recipe_for(SHIPPED[name], "resnet18-lip-2222")
    gone = recipe.model_copy(
        update={"detector": recipe.detector.model_copy(update={"base": str(tmp_path / "gone.py")})}
    )
    write_config(load_base(SHIPPED[name]), tmp_path / KEPT)
    kept = bind(gone, coco(recipe), tmp_path, run=tmp_path)
    assert kept.config.to_dict() == bind(recipe, coco(recipe), tmp_path).config.to_dict()


REFUSED: dict[str, Change] = {
    "os.system": lambda base: base["model"]["bbox_head"].update(loss_cls={"type": "os.system"}),
    "another scope": lambda base: base["model"]["bbox_head"].update(type="zzcanary.SSDHead"),
    "a type that is registered, and fetches": lambda base: base["model"].update(language={"type": "BertModel"}),
    "a type of another kind": lambda base: base["optim_wrapper"].update(type="SSDHead"),
    "a type that is no text": lambda base: base["model"]["neck"].update(type=["SSDNeck"]),
    "_scope_": lambda base: base["model"]["neck"].update(_scope_="zzcanary"),
    "constructor": lambda base: base["optim_wrapper"].update(constructor="zzcanary.Constructor"),
    "ema_type": lambda base: base.update(custom_hooks=[{"type": "EMAHook", "ema_type": "zzcanary.EMA"}]),
    "another hook": lambda base: base.update(custom_hooks=[{"type": "CheckpointHook", "out_dir": "x"}]),
    "backend_args": lambda base: pipeline(base)[0].update(backend_args={"backend": "http"}),
    "file_client_args": lambda base: pipeline(base)[0].update(file_client_args={"backend": "petrel"}),
    "proposals": lambda base: pipeline(base).append({"type": "LoadProposals"}),
    "albumentations": lambda base: pipeline(base).append({"type": "Albu", "transforms": [{"type": "x"}]}),
    "an address": lambda base: base["model"]["neck"].update(note="http://127.0.0.1:9/x"),
    "a path": lambda base: base["model"]["bbox_head"].update(note="/etc/passwd"),
    "a checkpoint": lambda base: base["model"]["bbox_head"].update(checkpoint="x.pth"),
    "pretrained": lambda base: base["model"]["neck"].update(pretrained="x.pth"),
    "a variable": lambda base: base["model"]["neck"].update(note="{{$HOME:x}}"),
    "a worker's function": lambda base: base["train_dataloader"].update(worker_init_fn={"type": "os.system"}),
    "a collate function": lambda base: base["train_dataloader"].update(collate_fn={"type": "os.system"}),
    "a sampler": lambda base: base["train_dataloader"]["sampler"].update(type="zzcanary.Sampler"),
    "a schedule": lambda base: base.update(param_scheduler=[{"type": "zzcanary.LR"}]),
    "a metric": lambda base: base.update(val_evaluator={"metric": "zzcanary"}),
    "too many channels": lambda base: base["model"]["neck"].update(out_channels=[10**9]),
    "a number without end": lambda base: base["model"]["neck"].update(note=10**400),
    "too many items": lambda base: base["model"]["neck"].update(out_channels=[1] * 10_000),
    "bytes": lambda base: base["model"]["neck"].update(note=b"x"),
    "no number": lambda base: base["model"]["neck"].update(note=float("nan")),
    "a key that is no name": lambda base: base["model"]["neck"].update({1: 2}),
    "no model": lambda base: base.pop("model"),
    "a model that is a list": lambda base: base.update(model=[]),
    "no pipeline's settings": lambda base: base["train_dataloader"].update(dataset=3),
    "epochs": lambda base: base["train_cfg"].update(max_epochs="3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_reaches_further_is_refused(name: str) -> None:
    base = copy.deepcopy(plain())
    REFUSED[name](base)
    with pytest.raises(InputError, match=r"x\.py (isn't used: |describes no detector)") as caught:
        made_anew(base, Path("x.py"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_nesting_without_end_is_refused() -> None:
    base = plain()
    base["model"]["neck"]["note"] = deep = []
    for _ in range(900):
        deep.append([])
        deep = deep[0]
    with pytest.raises(InputError, match="nested too deep"):
        made_anew(base, Path("x.py"))


def test_everything_else_is_left_out() -> None:
    base = copy.deepcopy(plain())
    weights = {"type": "Pretrained", "checkpoint": "http://127.0.0.1:9/zzcanary.pth"}
    base["model"] |= {"init_cfg": weights, "pretrained": "zzcanary.pth"}
    base["model"]["backbone"] |= {"type": "os.system", "init_cfg": weights}
    base["model"]["neck"]["init_cfg"] = weights
    base["model"]["bbox_head"]["init_cfg"] = [weights, {"type": "Normal", "layer": "Conv2d", "std": 0.01}]
    leaf = base["train_dataloader"]["dataset"]["dataset"]
    leaf |= {"type": "RefCocoDataset", "ann_file": "zzcanary.pkl", "data_root": "s3://zzcanary"}
    base |= {
        "_base_": "zzcanary.py",
        "custom_imports": {"imports": ["zzcanary"]},
        "load_from": "zzcanary.pth",
        "resume": True,
        "default_scope": "zzcanary",
        "default_hooks": {"x": {"type": "zzcanary.Hook"}},
        "visualizer": {"type": "Visualizer", "vis_backends": [{"type": "WandbVisBackend"}]},
        "vis_backends": [{"type": "MLflowVisBackend", "tracking_uri": "http://zzcanary"}],
        "log_processor": {"type": "zzcanary.X"},
        "runner_type": "zzcanary.Runner",
        "env_cfg": {"cudnn_benchmark": True, "mp_cfg": {"mp_start_method": "zzcanary"}},
        "val_cfg": {"type": "zzcanary.Loop"},
    }
    made = made_anew(base, Path("x.py"))
    told = str(made.to_dict())
    assert not any(word in told for word in ("zzcanary", "Pretrained", "os.system", "Wandb", "RefCoco"))
    assert made.model.bbox_head.init_cfg == [{"type": "Normal", "layer": "Conv2d", "std": 0.01}]
    assert made.env_cfg.cudnn_benchmark is True
