"""Files that are made of a run, and images that are read for it."""

from __future__ import annotations

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from sapool.digests import read_json
from sapool.errors import InputError
from sapool.runs.failures import loss_is_no_number, unwritable
from sapool.runs.images import read_image
from sapool.runs.outputs import file_names, make_folder, save_figure, save_json
from sapool.runs.protocol import as_names
from sapool.weights.atomic import replacing


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (["a/one.jpg", "two.png"], ["one.png", "two.png"]),
        (["a/x.png", "b/x.jpg", "y.png"], ["x-1.png", "x-2.png", "y.png"]),
        (["x-1.png", "a/x.png", "b/x.png"], ["x-1.png", "x-2.png", "x-3.png"]),
        (["a/x.png", "b/x.png", "x-1.png"], ["x-1.png", "x-2.png", "x-1-3.png"]),
        ([], []),
    ],
)
def test_every_image_has_a_name_of_its_own(images, names):
    assert file_names(images) == names


def test_folders_and_files(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    save_json({"top1": 0.5}, tmp_path / "a" / "x.json")
    assert read_json(tmp_path / "a" / "x.json") == {"top1": 0.5}
    save_figure(Figure(), tmp_path / "a" / "x.png")
    assert Image.open(tmp_path / "a" / "x.png").format == "PNG"
    with pytest.raises(InputError, match=r"x\.json/c can't be made"):
        make_folder(tmp_path / "a" / "x.json" / "c")
    with pytest.raises(InputError, match="can't be written"):
        save_figure(Figure(), tmp_path / "nowhere" / "x.png")


@pytest.mark.filterwarnings("error")
def test_names_in_a_figure_are_shown_as_elsewhere(tmp_path):
    figure = Figure()
    figure.suptitle("a\x1b[2J\x9b\nb")
    save_figure(figure, tmp_path / "x.png")
    assert figure.get_suptitle() == "a\\x1b[2J\\x9b\nb"


def test_images_are_read_in_colour_or_refused(tmp_path):
    file = tmp_path / "grey.png"
    Image.new("L", (5, 3), 7).save(file)
    assert torch.equal(read_image(file), torch.full((3, 3, 5), 7, dtype=torch.uint8))
    assert as_names(file) == as_names(str(file)) == as_names([file]) == (str(file),)
    with pytest.raises(InputError, match="no such image"):
        read_image(tmp_path / "nowhere.png")
    for content in (b"", b"no image", file.read_bytes()[:50]):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"grey\.png can't be read as an image"):
            read_image(file)


def test_failures_say_where_and_what_to_do(tmp_path):
    said = str(loss_is_no_number(float("nan"), 2, 3, 0.5))
    assert "the loss became nan in epoch 2, batch 3, at a learning rate of 0.5. What was saved before is kept." in said
    said = str(unwritable(tmp_path / "x.ckpt", OSError("quota")))
    kept = "What was saved before is kept; make room and go on with --resume."
    assert said == f"{tmp_path / 'x.ckpt'} can't be written: quota. {kept}"


def test_folders_and_patterns_stand_for_their_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "notes.txt", "more/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd[1].png").touch()
    assert as_names(".") == ("a.JPG", "b.png", "more/c.webp", "odd[1].png")
    assert as_names(["*.png", "more", tmp_path / "b.png"]) == (
        "b.png",
        "odd[1].png",
        "more/c.webp",
        str(tmp_path / "b.png"),
    )
    assert as_names("**/*.webp") == ("more/c.webp",)
    assert as_names("odd[1].png") == ("odd[1].png",)  # a file of that name comes first
    for mistake, said in (("empty", "no image in the folder"), ("x*.png", "no image is like"), ("x", "no such image")):
        with pytest.raises(InputError, match=said):
            as_names(mistake)


def test_long_names_leave_room(tmp_path):
    images = ["a" * 250 + ".png", "b/" + "a" * 250 + ".jpg", "ä" * 125 + ".png"]
    names = file_names(images)
    assert len(set(names)) == 3
    for name in names:
        with replacing(tmp_path / name) as temporary:
            temporary.write_text("x")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    with replacing(tmp_path / ("c" * 251 + ".png")) as temporary:
        temporary.write_text("x")


def test_a_folder_that_is_gone_keeps_nothing(tmp_path):
    said = str(unwritable(tmp_path / "gone" / "last.ckpt", OSError("No such file or directory")))
    assert "is gone" in said
    assert "is kept" not in said
