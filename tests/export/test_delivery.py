"""Files for runtimes are verified before they are left; a format that writes something else leaves nothing."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import sapool
from sapool.errors import InputError, WorkError
from sapool.export.calibration import Calibration, Preparation, calibration_of, noise
from sapool.export.comparison import STEP, compared
from sapool.export.delivery import Backend, deliver
from sapool.export.subject import Subject, Watched, digest
from sapool.export.verification import Runtime
from sapool.inference import optimize
from sapool.model import CompiledModel
from sapool.poolings.attention import SelfAttention

SIZE = 32
Change = Callable[[int, Tensor], Tensor]


@pytest.fixture(scope="module")
def model() -> CompiledModel:
    torch.manual_seed(0)
    return sapool.compile("mobilenet_v2-nlp_nowin-1222121", num_classes=5, image_size=SIZE)


class Echo(Backend):
    """A format whose files are what the network computes, changed by someone."""

    format = "echo"

    def __init__(self, change: Change, *, integer: bool = False) -> None:
        self.change = change
        self.integer = integer  # type: ignore[misc]

    @property
    def runtime(self) -> str:
        return "torch"

    def write(self, subject: Subject, path: Path, watched: Path) -> None:
        path.write_text("plain")
        watched.write_text("watched")

    def open(self, path: Path, subject: Subject) -> Runtime:
        module = subject.watched

        def run(images: Tensor) -> list[Tensor]:
            with torch.no_grad():
                results = [self.change(place, tensor) for place, tensor in enumerate(module(images))]
            return results if path.read_text() == "watched" else results[:1]

        return run


def delivered(model: CompiledModel, path: Path, change: Change, *, integer: bool = False) -> object:
    calibration = Calibration(noise(3, (SIZE, SIZE), 4).images, "images")
    return deliver(Echo(change, integer=integer), model, path, calibration, Preparation(classes=("a",) * 5))


def test_a_right_file_is_left_with_its_table(model: CompiledModel, tmp_path: Path) -> None:
    found = delivered(model, tmp_path / "x.echo", lambda place, tensor: tensor)
    told = json.loads((tmp_path / "x.echo.json").read_text())
    assert [(row["name"], row["what"]) for row in told["compared"]] == [
        ("logits", "output"),
        *((f"pools.{site.name}", "weights") for site in model.plan.sites if site.pool is not None),
    ]
    assert max(row["error"] for row in told["compared"]) < 1e-5
    assert told == json.loads(json.dumps(found.as_data()))  # type: ignore[attr-defined]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.echo", "x.echo.json"]


@pytest.mark.parametrize(
    ("change", "integer", "said"),
    [
        (lambda place, tensor: tensor * (1 + 1e-3 * (place == 0)), False, "its output logits differs"),
        (lambda place, tensor: tensor * (1 + 1e-3 * (place == 2)), False, "pools.stage3's weights differs"),
        (lambda place, tensor: tensor * float("nan") if place == 0 else tensor, True, "not a number"),
        (lambda place, tensor: tensor * 0 + tensor.mean() if place == 1 else tensor, True, "is dead: it keeps 0%"),
        (lambda place, tensor: -tensor if place == 0 else tensor, True, "too far from the model's: cosine -1"),
        (lambda place, tensor: 3 - tensor if place == 1 else tensor, True, "correlate too little"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_not_left(
    change: Change, integer: bool, said: str, model: CompiledModel, tmp_path: Path
) -> None:
    (tmp_path / "x.echo").write_text("what was there before")
    with pytest.raises(WorkError, match=said):
        delivered(model, tmp_path / "x.echo", change, integer=integer)
    assert [file.name for file in tmp_path.iterdir()] == ["x.echo"]
    assert (tmp_path / "x.echo").read_text() == "what was there before"


def test_integers_need_images(model: CompiledModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="integers are fitted to images"):
        deliver(Echo(lambda place, tensor: tensor, integer=True), model, tmp_path / "x.echo", None, None)
    assert not list(tmp_path.iterdir())


def test_weights_are_watched_as_pools_compute_them(model: CompiledModel) -> None:
    watched, x = Watched(optimize(model)), torch.randn(2, 3, SIZE, SIZE)
    logits, *weights = watched(x)
    assert watched.maps == tuple(site.module for site in model.plan.sites if site.pool is not None)
    assert len(weights) == len(watched.maps)
    assert all("grid_weight" not in vars(pool) for pool in watched.pools.values())
    assert torch.equal(logits, watched.network(x))
    pool = watched.pools[watched.maps[0]]
    with_weights: list[Tensor] = []
    pool.register_forward_pre_hook(lambda module, inputs: with_weights.append(module.grid_weight(*inputs, *inputs)))
    assert torch.equal(watched(x)[1], with_weights[0])


def test_flat_weights_are_no_structure() -> None:
    flat, steep = torch.ones(2, 1, 8, 8), torch.arange(128.0).reshape(2, 1, 8, 8)
    assert compared("", "", flat, flat, flat).correlation is None
    assert compared("", "", flat + 1e-3 * steep / 127, flat, flat, step=STEP).alive is None
    assert compared("", "", steep, steep, -steep).correlation == pytest.approx(-1)
    assert compared("", "", steep, steep, steep * 0).alive == 0


def test_exported_attention_has_no_padded_heads() -> None:
    program = torch.export.export(SelfAttention(12, 3).eval(), (torch.randn(1, 9, 12),))
    assert not [node for node in program.graph.nodes if "pad" in str(node.target)]


def test_images_to_calibrate_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected images of shape"):
        calibration_of(torch.zeros(2, 3, 8, 9), 3, (8, 8), Preparation())
    with pytest.raises(InputError, match="is no folder"):
        calibration_of(tmp_path / "nothing", 3, (8, 8), Preparation())
    with pytest.raises(InputError, match="there are no images"):
        calibration_of(tmp_path, 3, (8, 8), Preparation())
    found = calibration_of("noise", 1, (8, 9), Preparation())
    assert found is not None
    assert found.noise
    assert found.images.shape == (32, 1, 8, 9)


def test_a_digest_is_of_weights_and_plan(model: CompiledModel) -> None:
    other = copy.deepcopy(model)
    assert digest(other) == digest(model)
    with torch.no_grad():
        next(other.parameters()).flatten()[0] += 1
    assert digest(other) != digest(model)
