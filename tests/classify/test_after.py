"""What comes after training: evaluation, prediction, heatmaps, comparison; and the options of training itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sapool
from sapool.classify.heatmap import grad_cam, sheet
from sapool.digests import read_json
from sapool.poolings.dynamic import KernelAttention
from sapool.recipes.settings import Schedule
from sapool.training import history
from sapool.training.optimizers import make_schedule
from sapool.training.temperature import fold_temperature
from tests.classify.support import FASHION, SHORT, checkpoint, train
from tests.commands import sapoolc


@pytest.fixture(scope="module")
def on_test(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("runs") / "on-test"
    return folder, train(folder, *SHORT, "select=test")


def test_a_run_keeps_what_it_says(classifier_run):
    later = {"evaluation.json", "confusion.png", "heatmaps"}  # of other tests
    assert {f.name for f in classifier_run.iterdir()} - later == {
        "recipe.toml", "last.ckpt", "best.ckpt", "model.pt", "metrics.csv", "curves.png", "summary.json", "logs"
    }  # fmt: skip
    assert list((classifier_run / "logs" / "tensorboard").glob("events.out.tfevents.*"))
    assert Image.open(classifier_run / "curves.png").size[0] > 1000
    # The file for the library holds the best epoch's averaged weights.
    model, best = sapool.load(classifier_run / "model.pt"), checkpoint(classifier_run / "best.ckpt")["state_dict"]
    for key, value in model.state_dict().items():
        assert torch.equal(value, best[f"model.{key}"])


def test_select_on_test_is_labelled_everywhere(on_test, classifier_run):
    folder, said = on_test
    assert "epochs are chosen on the test set" in said
    assert "selected on test accuracy" in said
    assert re.search(r"test accuracy \(selected on test\)", said)
    summary = read_json(folder / "summary.json")
    assert summary["select"] == "test"
    assert "best on the test set itself" in summary["test_is"]
    assert summary["selected_on_test_accuracy"] == summary["test_accuracy"]
    header = (folder / "metrics.csv").read_text().splitlines()[0]
    assert "selected_on_test_accuracy" in header
    assert "val_accuracy" not in header
    out, _ = sapoolc("evaluate", folder)
    assert re.search(r"chosen on\s+the test set itself", out)
    out, _ = sapoolc("compare", folder, classifier_run, "-o", folder / "compare.png")
    assert "what chose their epoch" in out


def test_evaluate_agrees_with_the_summary(classifier_run):
    out, _ = sapoolc("evaluate", classifier_run, "--json")
    content = json.loads(out)
    assert content["top1"] == read_json(classifier_run / "summary.json")["test_accuracy"]
    confusion = np.array(content["confusion"])
    assert confusion.sum() == content["test_images"] == 360
    assert content["top1"] == pytest.approx(confusion.trace() / 360, abs=1e-6)
    for number, accuracy in enumerate(content["per_class"].values()):
        assert accuracy == pytest.approx(confusion[number, number] / confusion[number].sum(), abs=1e-6)
    assert content["top1"] <= content["top5"] <= 1
    assert Image.open(classifier_run / "confusion.png").size[0] > 500


def test_predict_is_the_models_softmax(classifier_run, images):
    out, _ = sapoolc("predict", classifier_run, *images, "--json", "--top", 2)
    found = json.loads(out)
    assert [entry["image"] for entry in found] == [str(image) for image in images]
    ranked = found[0]["classes"]
    assert len(ranked) == 2
    assert 1 >= ranked[0]["probability"] >= ranked[1]["probability"] >= 0
    _, err = sapoolc("predict", classifier_run, "nowhere.png", code=2)
    assert "no such image: nowhere.png" in err
    _, err = sapoolc("predict", classifier_run, classifier_run / "summary.json", code=2)
    assert "can't be read as an image" in err


def test_heatmap_sheets(classifier_run, images, tmp_path):
    out, _ = sapoolc("heatmap", classifier_run, *images, "-o", tmp_path)
    assert out.split() == [str(tmp_path / "one.png"), str(tmp_path / "two.png")]
    for name in ("one", "two"):
        assert min(Image.open(tmp_path / f"{name}.png").size) > 500
    _, err = sapoolc("heatmap", classifier_run, images[0], "--label", "33", code=2)
    assert "no class '33'" in err


def test_a_sheet_has_a_panel_for_each_site_and_class(classifier_run, on_test):
    run = sapool.open_run(classifier_run)
    model, classes = run.model, run.classes
    x = torch.randn(1, 3, 32, 32)
    panels = sheet(model, x, classes, "3")
    titles = [panel.title for panel in panels]
    pools = [site for site in model.plan.sites if site.action == "pool"]
    by_role = {title.split("\n")[1].split(":")[0] for title in titles[len(pools) :]}
    assert by_role in ({"true", "predicted"}, {"true = predicted"})
    assert len(panels) == len(pools) + len(by_role)
    for site, panel in zip(pools, panels, strict=False):
        assert panel.title.startswith(f"{site.name}: nlp, {site.map[0]}x{site.map[1]}")
        if panel.plain:
            assert "practically uniform" in panel.note
        else:
            assert panel.map.shape == (32, 32)
            assert panel.map.min() < 1 < panel.map.max()
    # One Grad-CAM where the true class is the predicted one.
    predicted = classes[int(model(x).argmax())]
    agreed = [panel.title for panel in sheet(model, x, classes, predicted)][len(pools) :]
    assert [title.split("\n")[1].split(":")[0] for title in agreed] == ["true = predicted"]
    maps = model.weight_maps(x)
    assert {name: weight.shape[-2:] for name, weight in maps.items()} == {site.name: site.map for site in pools}
    # A pooling without weights says so in place of a map.
    run = sapool.open_run(on_test[0])
    model, classes = run.model, run.classes
    assert "has no weights" in sheet(model, x, classes, None)[0].note


def test_grad_cam_leaves_the_model_as_it_was(classifier_run):
    model = sapool.open_run(classifier_run).model
    before = str(model.graph)
    cam, where = grad_cam(model, torch.randn(1, 3, 32, 32), 0)
    assert str(model.graph) == before
    assert re.fullmatch(r"stage\d, \d+x\d+|head, \d+x\d+", where)
    assert cam is None or (cam.shape == (32, 32) and cam.max() <= 1)


def test_dry_run_writes_nothing(tmp_path):
    out, _ = sapoolc("train", "digits", "architecture=resnet18-lip-1222", "--dry-run", cwd=tmp_path)
    assert re.search(r"estimate: \d+ (s|min) an epoch \(20 batches\), [\d.]+ (s|min|h) for 6 epochs", out)
    assert "peak activations" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            ("optimizer.name=adam", "optimizer.amsgrad=true", "train.accumulate=3", "data.cutmix=1.0", "data.mixup=0"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("optimizer.name=sgd", "optimizer.nesterov=true", "train.precision=bf16-mixed", "train.channels_last=true"),
            marks=pytest.mark.slow,
        ),
        ("schedule.name=step", "train.label_smoothing=0.1", "data.randaugment=2", "train.profile=true"),
    ],
)
def test_options_train(settings, tmp_path):
    train(tmp_path / "run", *SHORT, *settings)
    losses = [row["train_loss_step"] for row in history.rows(tmp_path / "run") if "train_loss_step" in row]
    assert len(losses) >= 2
    assert np.isfinite(losses).all()
    assert (tmp_path / "run" / "fit-profile.txt").exists() == ("train.profile=true" in settings)


@pytest.mark.slow
def test_temperature_falls_to_one_and_is_folded_into_the_file(tmp_path, images):
    run = tmp_path / "run"
    train(run, *SHORT, "architecture=dymobilenet-skip-1222121", "train.temperature_epochs=1", "train.ema=0.5")
    assert checkpoint(run / "last.ckpt")["sapool"]["temperature"] == 1
    model = sapool.open_run(run).model
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
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fashion_mnist_is_learned_in_a_bounded_run(tmp_path):
    out, _ = sapoolc(
        "train", "fashion_mnist", "train.steps_per_epoch=150", "train.profile=true", "--run-dir", tmp_path / "run"
    )
    assert float(re.search(r"test accuracy\s+([0-9.]+)", out)[1]) > 0.70
    profile = (tmp_path / "run" / "fit-profile.txt").read_text()

    def seconds(action: str) -> float:
        row = next(line for line in profile.splitlines() if line.startswith(f"|  {action}"))
        return float(row.split("|")[4])

    assert seconds("[_TrainingEpochLoop].train_dataloader_next") < 0.15 * seconds("run_training_epoch")
