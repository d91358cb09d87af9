"""What comes after training: evaluation, prediction, heatmaps, comparison; and the options of training itself."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sapool
from sapool.classify.fold import fold_temperature
from sapool.classify.heatmap import grad_cam, pool_weights, sheet
from sapool.classify.optimizers import make_schedule
from sapool.poolings.dynamic import KernelAttention
from sapool.recipes.settings import Schedule
from sapool.runs.folder import model_of
from tests.classify.support import FASHION, checkpoint, sapoolc, train

SHORT = ("train.epochs=2", "train.steps_per_epoch=3", "data.image_size=32")


@pytest.fixture(scope="module")
def nlp(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "nlp"
    train(folder, *SHORT, "architecture=mobilenet-nlp_headfix2_nowin-1221111")
    return folder


@pytest.fixture(scope="module")
def on_test(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("runs") / "on-test"
    return folder, train(folder, *SHORT, "select=test")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images") / "3"
    folder.mkdir()
    rng = np.random.default_rng(0)
    files = [folder / f"{name}.png" for name in ("one", "two")]
    for file in files:
        Image.fromarray(rng.integers(0, 255, (40, 30, 3), dtype=np.uint8)).save(file)
    return files


def test_a_run_keeps_what_it_says(nlp):
    assert {f.name for f in nlp.iterdir()} == {
        "recipe.toml", "last.ckpt", "best.ckpt", "model.pt", "metrics.csv", "curves.png", "summary.json", "logs"
    }  # fmt: skip
    assert list((nlp / "logs" / "tensorboard").glob("events.out.tfevents.*"))
    assert Image.open(nlp / "curves.png").size[0] > 1000
    # The file for the library holds the best epoch's averaged weights.
    model, best = sapool.load(nlp / "model.pt"), checkpoint(nlp / "best.ckpt")["state_dict"]
    for key, value in model.state_dict().items():
        assert torch.equal(value, best[f"model.{key}"])


def test_select_on_test_is_labelled_everywhere(on_test, nlp):
    folder, said = on_test
    assert "epochs are chosen on the test set" in said
    assert "selected on test accuracy" in said
    assert re.search(r"test accuracy \(selected on test\)", said)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["select"] == "test"
    assert "best on the test set itself" in summary["test_is"]
    assert summary["selected_on_test_accuracy"] == summary["test_accuracy"]
    header = (folder / "metrics.csv").read_text().splitlines()[0]
    assert "selected_on_test_accuracy" in header
    assert "val_accuracy" not in header
    out, _ = sapoolc("evaluate", folder)
    assert re.search(r"chosen on\s+the test set itself", out)
    out, _ = sapoolc("compare", folder, nlp, "-o", folder / "compare.png")
    assert "what chose their epoch" in out


def test_evaluate_agrees_with_the_summary(nlp):
    out, _ = sapoolc("evaluate", nlp, "--json")
    content = json.loads(out)
    assert content["top1"] == json.loads((nlp / "summary.json").read_text())["test_accuracy"]
    confusion = np.array(content["confusion"])
    assert confusion.sum() == content["test_images"] == 360
    assert content["top1"] == pytest.approx(confusion.trace() / 360, abs=1e-6)
    for number, accuracy in enumerate(content["per_class"].values()):
        assert accuracy == pytest.approx(confusion[number, number] / confusion[number].sum(), abs=1e-6)
    assert content["top1"] <= content["top5"] <= 1
    assert Image.open(nlp / "confusion.png").size[0] > 500


def test_predict_is_the_models_softmax(nlp, images):
    out, _ = sapoolc("predict", nlp, *images, "--json", "--top", 2)
    found = json.loads(out)
    assert [entry["image"] for entry in found] == [str(image) for image in images]
    ranked = found[0]["classes"]
    assert len(ranked) == 2
    assert 1 >= ranked[0]["probability"] >= ranked[1]["probability"] >= 0
    _, err = sapoolc("predict", nlp, "nowhere.png", code=2)
    assert "no such image: nowhere.png" in err
    _, err = sapoolc("predict", nlp, nlp / "summary.json", code=2)
    assert "can't be read as an image" in err


def test_heatmap_sheets(nlp, images, tmp_path):
    out, _ = sapoolc("heatmap", nlp, *images, "-o", tmp_path)
    assert out.split() == [str(tmp_path / "one.png"), str(tmp_path / "two.png")]
    for name in ("one", "two"):
        assert min(Image.open(tmp_path / f"{name}.png").size) > 500
    _, err = sapoolc("heatmap", nlp, images[0], "--label", "33", code=2)
    assert "no class '33'" in err


def test_a_sheet_has_a_panel_for_each_site_and_class(nlp, on_test):
    model, _, classes, _ = model_of(nlp)
    x = torch.randn(1, 3, 32, 32)
    panels = sheet(model, x, classes, "3")
    titles = [panel.title for panel in panels]
    pools = [site for site in model.plan.sites if site.action == "pool"]
    assert len(panels) == len(pools) + 2
    for site, panel in zip(pools, panels, strict=False):
        assert panel.title.startswith(f"{site.name}: nlp, {site.map[0]}x{site.map[1]}")
        assert panel.map.shape == (32, 32)
        assert 0 <= panel.map.min() < panel.map.max() <= 1
    assert "true: 3" in titles[-2]
    assert "predicted: " in titles[-1]
    maps, logits = pool_weights(model, x)
    torch.testing.assert_close(logits, model(x))
    assert [maps[site.module].shape[-2:] for site in pools] == [site.map for site in pools]
    # A pooling without weights says so in place of a map.
    model, _, classes, _ = model_of(on_test[0])
    assert "has no weights" in sheet(model, x, classes, None)[0].note


def test_grad_cam_leaves_the_model_as_it_was(nlp):
    model, *_ = model_of(nlp)
    before = str(model.graph)
    cam, where = grad_cam(model, torch.randn(1, 3, 32, 32), 0)
    assert str(model.graph) == before
    assert re.fullmatch(r"stage\d, \d+x\d+|head, \d+x\d+", where)
    assert cam is None or (cam.shape == (32, 32) and cam.max() <= 1)


def test_compare(nlp, tmp_path):
    out, _ = sapoolc("compare", nlp, nlp, "-o", tmp_path / "c.png", "--json")
    entry = json.loads(out)[0]
    model = sapool.load(nlp / "model.pt")
    assert entry["parameters"] == sum(p.numel() for p in model.parameters())
    assert entry["macs"] > 0
    assert entry["peak_bytes"] > 0
    assert Image.open(tmp_path / "c.png").size[0] > 1000
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "recipe.toml").write_text((nlp / "recipe.toml").read_text())
    _, err = sapoolc("compare", tmp_path / "unfinished", code=2)
    assert "isn't finished" in err


def test_dry_run_writes_nothing(tmp_path):
    out, _ = sapoolc("train", "digits", "architecture=resnet18-lip-1222", "--dry-run", cwd=tmp_path)
    assert re.search(r"estimate: \d+ (s|min) an epoch \(20 batches\), [\d.]+ (s|min|h) for 6 epochs", out)
    assert "peak activations" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings",
    [
        ("optimizer.name=adam", "optimizer.amsgrad=true", "train.accumulate=3", "data.cutmix=1.0", "data.mixup=0"),
        ("optimizer.name=sgd", "optimizer.nesterov=true", "train.precision=bf16-mixed", "train.channels_last=true"),
        ("schedule.name=step", "train.label_smoothing=0.1", "data.randaugment=2", "train.profile=true"),
    ],
)
def test_options_train(settings, tmp_path):
    train(tmp_path / "run", *SHORT, *settings)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        losses = [float(row["train_loss_step"]) for row in csv.DictReader(file) if row["train_loss_step"]]
    assert len(losses) >= 2
    assert np.isfinite(losses).all()
    assert (tmp_path / "run" / "fit-profile.txt").exists() == ("train.profile=true" in settings)


def test_temperature_falls_to_one_and_is_folded_into_the_file(tmp_path, images):
    run = tmp_path / "run"
    train(run, *SHORT, "architecture=dymobilenet-skip-1222121", "train.temperature_epochs=1", "train.ema=0.5")
    assert checkpoint(run / "last.ckpt")["sapool"]["temperature"] == 1
    model, _, _, _ = model_of(run)
    epoch = checkpoint(run / "best.ckpt")["epoch"]
    temperatures = {m.temperature for m in model.modules() if isinstance(m, KernelAttention)}
    assert temperatures == {1.0 if epoch else 34.0}
    for module in model.modules():
        if isinstance(module, KernelAttention):
            module.temperature = 1.0
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
        fold_temperature(model)
        torch.testing.assert_close(model(x), before, atol=1e-4, rtol=1e-4)
    assert {m.temperature for m in model.modules() if isinstance(m, KernelAttention)} == {34.0}


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"name": "constant"}, {0: 1.0, 99: 1.0}),
        ({"name": "step"}, {0: 1.0, 59: 1.0, 60: 0.2, 80: 0.04, 90: 0.008}),
        ({"name": "step", "warmup_epochs": 1, "warmup_start": 0.1}, {0: 0.1, 10: 1.0, 59: 1.0, 60: 0.2, 90: 0.008}),
        ({"name": "cosine", "min_lr": 0.1}, {0: 1.0, 50: 0.55, 100: 0.1}),
        ({"name": "cosine", "warmup_epochs": 2, "warmup_start": 0.5}, {0: 0.5, 20: 1.0, 60: 0.5, 100: 0.0}),
    ],
)
def test_schedules(settings, rates):
    """Ten epochs of ten steps, from a rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    schedule = make_schedule(optimizer, Schedule.model_validate(settings), 10, 10)
    seen = []
    for _ in range(101):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert {step: seen[step] for step in rates} == pytest.approx(rates, abs=1e-6)


@pytest.mark.skipif(not FASHION.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
@pytest.mark.timeout(900)
def test_fashion_mnist_is_learned_in_a_bounded_run(tmp_path):
    out, _ = sapoolc("train", "fashion_mnist", "train.profile=true", "--run-dir", tmp_path / "run", wait=800)
    assert float(re.search(r"test accuracy\s+([0-9.]+)", out)[1]) > 0.80
    profile = (tmp_path / "run" / "fit-profile.txt").read_text()

    def seconds(action: str) -> float:
        row = next(line for line in profile.splitlines() if line.startswith(f"|  {action}"))
        return float(row.split("|")[4])

    assert seconds("[_TrainingEpochLoop].train_dataloader_next") < 0.15 * seconds("run_training_epoch")
