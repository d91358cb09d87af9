"""Two processes share the tests, module by module; each computes with one thread, lest they fight for cores."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, by child processes too

if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, by all that tests start too


@pytest.fixture(scope="session")
def classifier_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run of a classifier; tests may add to it, and leave what training wrote as it is."""
    from tests.classify.support import SHORT, train

    folder = tmp_path_factory.mktemp("runs") / "classifier"
    train(folder, *SHORT, "architecture=mobilenet-nlp_headfix2_nowin-1221111")
    return folder


@pytest.fixture(scope="session")
def detection_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few images of digits in COCO's format."""
    pytest.importorskip("mmdet")
    from tests.detect.support import made

    return made(tmp_path_factory.mktemp("data") / "digits", 12, 3)


@pytest.fixture(scope="session")
def detector_settings(detection_data: Path) -> list[str]:
    """Overrides of `ssd-digits` that make a run of seconds of it."""
    from tests.detect.support import overrides

    return overrides(detection_data)


@pytest.fixture(scope="session")
def detector_run(tmp_path_factory: pytest.TempPathFactory, detector_settings: list[str]) -> Path:
    """The folder of a small run of a detector; to be used as a classifier's."""
    from tests.commands import sapoolc

    folder = tmp_path_factory.mktemp("runs") / "detector"
    sapoolc("train", "ssd-digits", *detector_settings, "--run-dir", folder)
    return folder


@pytest.fixture(scope="session")
def torchvision_settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of `retinanet-torchvision-digits` that make a run of seconds of it."""
    from sapool.boxes import digits

    root = tmp_path_factory.mktemp("data") / "torchvision"
    digits.make(root, {"train": 8, "val": 3})
    return [
        "data.name=coco_folder",
        f"data.root={root}",
        "data.image_size=64",
        "architecture=mobilenet-lip-1222121",
        "detector.neck_channels=[16]",
        "train.batch_size=4",
        "train.epochs=2",
        "train.validate_every=1",
        "train.log_every=1",
        "schedule.warmup_steps=0",
    ]


@pytest.fixture(scope="session")
def torchvision_run(tmp_path_factory: pytest.TempPathFactory, torchvision_settings: list[str]) -> Path:
    """The folder of a small run of a detector of torchvision's; to be used as a classifier's."""
    from tests.commands import sapoolc

    folder = tmp_path_factory.mktemp("runs") / "torchvision"
    sapoolc("train", "retinanet-torchvision-digits", *torchvision_settings, "--run-dir", folder)
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two images of noise, in a folder with the name of a class."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("images") / "3"
    folder.mkdir()
    rng = np.random.default_rng(0)
    files = [folder / f"{name}.png" for name in ("one", "two")]
    for file in files:
        Image.fromarray(rng.integers(0, 255, (40, 30, 3), dtype=np.uint8)).save(file)
    return files
