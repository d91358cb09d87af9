"""Data sets: found, missing, damaged; the same images by every way in; the published transforms."""

from __future__ import annotations

import gzip
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from sapool.catalogue.data_sets import default_root
from sapool.classify.data import sources, transforms
from sapool.classify.data.module import DataModule
from sapool.classify.data.sources import open_data
from sapool.errors import InputError
from sapool.recipes.reading import read_recipe
from sapool.recipes.settings import Data
from tests.classify.support import FASHION, train
from tests.commands import sapoolc

needs_fashion = pytest.mark.skipif(
    not FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist isn't installed"
)


def write_idx(folder: Path, images: torch.Tensor, labels: torch.Tensor, prefix: str) -> None:
    """Files of the MNIST format, packed."""
    folder.mkdir(exist_ok=True)
    for array, kind in ((images, "images-idx3"), (labels, "labels-idx1")):
        header = bytes([0, 0, 8, array.dim()]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        content = header + array.to(torch.uint8).numpy().tobytes()
        (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))


def write_folders(folder: Path, images: torch.Tensor, labels: torch.Tensor) -> None:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = folder / str(int(label)) / f"{number:05d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.numpy()).save(file)


@needs_fashion
def test_fashion_mnist_is_all_there_where_debian_puts_it():
    opened = open_data(Data.model_validate({"name": "fashion_mnist"}))
    assert (len(opened.train.labels), len(opened.test.labels)) == (60_000, 10_000)
    assert opened.train.labels.bincount().tolist() == [6000] * 10
    assert opened.classes[0] == "T-shirt/top"
    image = opened.train.image(59_999)
    assert image.dtype == torch.uint8
    assert image.shape == (1, 28, 28)


@needs_fashion
@pytest.mark.parametrize("workers", [0, 2])
def test_class_folders_give_the_same_batches_as_packed_files(tmp_path, workers):
    real = open_data(Data.model_validate({"name": "fashion_mnist"}))
    generator = torch.Generator().manual_seed(0)
    for prefix, name, source, count in (("train", "train", real.train, 300), ("t10k", "test", real.test, 60)):
        chosen = torch.randperm(len(source.labels), generator=generator)[:count]
        images, labels = source.images[chosen, 0], source.labels[chosen]
        write_idx(tmp_path / "packed", images, labels, prefix)
        write_folders(tmp_path / "folders" / name, images, labels)
    packed = read_recipe("fashion_mnist", [f"data.root={tmp_path / 'packed'}", f"data.workers={workers}"])
    settings = {name: getattr(packed.data, name) for name in ("image_size", "augment", "flip", "mean", "std")}
    data = {"name": "folder", "root": str(tmp_path / "folders"), **settings}
    folders = packed.model_copy(update={"data": Data.model_validate(data)})
    one, other = DataModule(packed), DataModule(folders)
    assert len(one.train) == 270
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        pairs = list(zip(getattr(one, loader)(), getattr(other, loader)(), strict=True))
        assert pairs
        for (x, labels), (y, others) in pairs:
            assert x.shape[1:] == (3, 32, 32)
            assert torch.equal(x, y)
            assert torch.equal(labels, others)


def batches(recipe, epoch=0, start=0):
    loader = DataModule(recipe).train_dataloader()
    loader.batches.sampler.set_epoch(epoch)
    loader.load_state_dict({"given": start})
    return list(loader)


def test_order_and_augmentation_depend_on_seed_epoch_and_place_alone():
    recipe = read_recipe("digits", ["train.steps_per_epoch=5"])
    whole = batches(recipe, epoch=3)
    assert len(whole) == 5
    torch.rand(7)  # whatever was drawn before
    rest = batches(recipe, epoch=3, start=2)
    assert len(rest) == 3
    for (x, labels), (y, others) in zip(whole[2:], rest, strict=True):
        assert torch.equal(x, y)
        assert torch.equal(labels, others)
    assert not torch.equal(whole[0][0], batches(recipe, epoch=4)[0][0])
    assert not torch.equal(whole[0][0], batches(read_recipe("digits", ["train.seed=1"]), epoch=3)[0][0])


def test_loading_draws_nothing_from_torchs_own_generator():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    batches(read_recipe("digits", ["train.steps_per_epoch=2"]))
    assert torch.equal(torch.rand(3), expected)


def test_the_last_batch_is_left_out_or_kept():
    # 1437 images train with select=test: 22 batches of 64, and 29 more.
    def sizes(*overrides):
        recipe = read_recipe("digits", ["select=test", *overrides])
        return [len(labels) for _, labels in DataModule(recipe).train_dataloader()]

    assert sizes() == [64] * 22
    assert sizes("train.drop_last=false") == [64] * 22 + [29]
    with pytest.raises(InputError, match="leave one for the last batch of 4, and batch norm needs two"):
        sizes("train.drop_last=false", "train.batch_size=4")


def test_held_out_images_are_stratified_and_not_trained_on():
    data = DataModule(read_recipe("digits"))
    assert not set(data.train.indices) & set(data.selection.indices)
    assert len(data.train) + len(data.selection) == 1437
    counts = data.selection.source.labels[data.selection.indices].bincount()
    assert counts.max() - counts.min() <= 2
    on_test = DataModule(read_recipe("digits", ["select=test"]))
    assert len(on_test.train) == 1437
    assert on_test.selection is on_test.test


@pytest.mark.parametrize(
    ("name", "looked_for"),
    [
        ("mnist", "train-images-idx3-ubyte"),
        ("cifar10", "cifar-10-batches-py"),
        ("cifar100", "cifar-100-python"),
        ("stl10", "stl10_binary"),
        ("imagenet", "train/CLASS/IMAGE and val/CLASS/IMAGE"),
    ],
)
def test_missing_data_set_says_what_where_and_how(name, looked_for, tmp_path, monkeypatch):
    def offline(*arguments, **settings):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", offline)
    with pytest.raises(InputError) as caught:
        open_data(Data.model_validate({"name": name, "root": str(tmp_path)}))
    said = str(caught.value)
    assert f"looked for {looked_for} in {tmp_path}" in said
    assert "To get it: " in said
    assert "\n" not in said


def trusting(monkeypatch):
    """Torchvision compares its data sets' files with published checksums, which generated ones can't have."""
    for reader in ("cifar", "stl10"):
        monkeypatch.setattr(f"torchvision.datasets.{reader}.check_integrity", lambda *_: True)


@pytest.mark.parametrize(
    ("name", "folder", "files", "meta", "key"),
    [
        ("cifar10", "cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)], "batches.meta", "label"),
        ("cifar100", "cifar-100-python", ["train"], "meta", "fine_label"),
    ],
)
def test_cifar_as_it_is_stored(name, folder, files, meta, key, tmp_path, monkeypatch):
    """Rows of 3072 bytes, red, green and blue planes one after the other, in pickled batches."""
    trusting(monkeypatch)
    where = tmp_path / folder
    where.mkdir()
    classes = [f"class {i}" for i in range(10)]
    (where / meta).write_bytes(pickle.dumps({f"{key}_names": classes}))
    rng, rows, labels = np.random.default_rng(0), {}, {}
    for file in [*files, "test" if name == "cifar100" else "test_batch"]:
        rows[file] = rng.integers(0, 256, (6, 3072), dtype=np.uint8)
        labels[file] = [int(label) for label in rng.integers(0, 10, 6)]
        (where / file).write_bytes(pickle.dumps({"data": rows[file], f"{key}s": labels[file]}))
    opened = open_data(Data.model_validate({"name": name, "root": str(tmp_path)}))
    assert opened.classes == tuple(classes)
    stored = [(label, row) for file in files for label, row in zip(labels[file], rows[file], strict=True)]
    stored.sort(key=lambda pair: pair[0])
    assert opened.train.labels.tolist() == [label for label, _ in stored]
    for index, (_, row) in enumerate(stored):
        assert np.array_equal(opened.train.image(index).numpy(), row.reshape(3, 32, 32))
    assert len(opened.test.labels) == 6


def test_stl10_as_it_is_stored(tmp_path, monkeypatch):
    """Planes of 96 columns one after the other, and labels from 1."""
    trusting(monkeypatch)
    where = tmp_path / "stl10_binary"
    where.mkdir()
    (where / "class_names.txt").write_text("".join(f"class {i}\n" for i in range(10)))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 3, 96, 96), dtype=np.uint8)
    for split in ("train", "test"):
        (where / f"{split}_X.bin").write_bytes(images.transpose(0, 1, 3, 2).tobytes())
        (where / f"{split}_y.bin").write_bytes(bytes([3, 1, 10, 2]))
    opened = open_data(Data.model_validate({"name": "stl10", "root": str(tmp_path)}))
    assert opened.classes[0] == "class 0"
    assert opened.train.labels.tolist() == [0, 1, 2, 9]
    for index, stored in enumerate((1, 3, 0, 2)):
        assert np.array_equal(opened.train.image(index).numpy(), images[stored])


def test_imagenet_from_class_folders(tmp_path):
    for split in ("train", "val"):
        for name in ("n01440764", "n01443537"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (40, 30), "red").save(tmp_path / split / name / "1.JPEG")
    opened = open_data(Data.model_validate({"name": "imagenet", "root": str(tmp_path)}))
    assert opened.classes == ("n01440764", "n01443537")
    assert opened.train.image(0).shape == (3, 30, 40)


def test_damaged_files_are_named(tmp_path):
    images, labels = torch.zeros(20, 28, 28), torch.arange(20) % 10
    for prefix in ("train", "t10k"):
        write_idx(tmp_path, images, labels, prefix)
    data = Data.model_validate({"name": "mnist", "root": str(tmp_path)})
    assert len(open_data(data).train.labels) == 20
    file = tmp_path / "train-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    for broken in (whole[:-20], b"no gzip", gzip.compress(b"\0\0\x08\x03 too short")):
        file.write_bytes(broken)
        with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz is damaged"):
            open_data(data)
    file.unlink()
    shutil.copy(tmp_path / "t10k-images-idx3-ubyte.gz", file)
    write_idx(tmp_path, images[:5], labels[:5], "t10k")
    shutil.copy(tmp_path / "t10k-labels-idx1-ubyte.gz", tmp_path / "train-labels-idx1-ubyte.gz")
    with pytest.raises(InputError, match="20 images and 5 labels"):
        open_data(data)


@pytest.fixture
def folders(tmp_path):
    images, labels = torch.randint(0, 255, (40, 16, 16), dtype=torch.uint8), torch.arange(40) % 2
    write_folders(tmp_path / "images" / "train", images, labels)
    write_folders(tmp_path / "images" / "test", images[:8], labels[:8])
    return tmp_path / "images"


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fault", ["deleted", "cut off"])
def test_image_lost_in_a_run(folders, tmp_path, workers, fault):
    settings = ["data.name=folder", f"data.root={folders}", f"data.workers={workers}", "train.epochs=1"]
    settings += ["train.steps_per_epoch=2", "schedule.warmup_epochs=0"]
    run = tmp_path / "run"
    train(run, *settings)
    for file in (folders / "train").rglob("*.png"):
        file.unlink() if fault == "deleted" else file.write_bytes(file.read_bytes()[:60])
    kept = (run / "last.ckpt").read_bytes()
    if fault == "deleted":
        said = "".join(sapoolc("train", "--resume", "--run-dir", run, code=2))
        assert "train" in said
    else:
        said = train(tmp_path / "second", *settings, code=2)
        assert "can't be read" in said
    assert (run / "last.ckpt").read_bytes() == kept


def test_image_deleted_between_listing_and_reading(folders):
    data = Data.model_validate({"name": "folder", "root": str(folders)})
    source = open_data(data).train
    Path(source.paths[3]).unlink()
    assert source.image(2).shape[1:] == (16, 16)
    with pytest.raises(InputError, match=r"was there when the run began and is gone; put it back .*--resume"):
        source.image(3)


def test_class_folders_that_differ(folders):
    shutil.move(folders / "test" / "1", folders / "test" / "2")
    with pytest.raises(InputError, match="class folders of train and test differ: 1, 2"):
        open_data(Data.model_validate({"name": "folder", "root": str(folders)}))


def names(module: torch.nn.Module) -> list[str]:
    return [type(step).__name__ for step in module.transforms]


@pytest.mark.parametrize(
    ("data", "training", "evaluation"),
    [
        ({"name": "cifar100"}, ["Resize", "RandomCrop", "RandomHorizontalFlip"], ["Resize"]),
        (
            {"name": "cifar100", "image_size": 64},
            ["Resize", "RandomResizedCrop", "RandomHorizontalFlip"],
            ["Resize"],
        ),
        ({"name": "stl10"}, ["RandomResizedCrop", "RandomHorizontalFlip"], ["Resize", "CenterCrop"]),
        (
            {"name": "stl10", "image_size": 128},
            ["Resize", "RandomResizedCrop", "RandomHorizontalFlip"],
            ["Resize", "CenterCrop"],
        ),
        ({"name": "imagenet"}, ["RandomResizedCrop", "RandomHorizontalFlip"], ["Resize", "CenterCrop"]),
        ({"name": "mnist"}, ["Resize", "RandomCrop"], ["Resize"]),
        (
            {"name": "cifar10", "randaugment": 2},
            ["Resize", "RandomCrop", "RandomHorizontalFlip", "RandAugment"],
            ["Resize"],
        ),
    ],
)
def test_published_transforms(data, training, evaluation):
    settings = Data.model_validate(data)
    assert names(transforms.training(settings)) == training
    assert names(transforms.evaluation(settings)) == evaluation
    image = torch.randint(0, 255, (3, 50, 40), dtype=torch.uint8)
    side = settings.image_size
    for made in (transforms.training(settings)(image), transforms.evaluation(settings)(image)):
        assert made.shape == (3, side, side)
        assert made.dtype == torch.uint8


def test_normalisation_is_that_of_the_data_set():
    x = transforms.normalise(Data.model_validate({"name": "cifar100"}))(
        torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    )
    expected = torch.tensor([(1 - 0.5071) / 0.2675, (1 - 0.4867) / 0.2565, (1 - 0.4408) / 0.2761])
    torch.testing.assert_close(x[0, :, 0, 0], expected)


def test_mixing_is_one_of_what_is_asked_for():
    assert transforms.mixing(Data.model_validate({"name": "digits"}), 10) is None
    assert isinstance(transforms.mixing(Data.model_validate({"name": "digits", "mixup": 0.2}), 10), v2.MixUp)
    both = transforms.mixing(Data.model_validate({"name": "digits", "mixup": 0.2, "cutmix": 1}), 10)
    _, labels = both(torch.rand(4, 3, 8, 8), torch.arange(4))
    torch.testing.assert_close(labels.sum(1), torch.ones(4))


def test_data_is_kept_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "sapool" / "data"
    assert sources.default_root() == default_root()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "sapool" / "data"
