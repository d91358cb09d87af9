"""Recipes: inheritance, overrides, schema, and the sentences about wrong ones."""

from __future__ import annotations

import json
import tomllib

import jsonschema
import pytest

from sapool import recipes
from sapool.catalogue.data_sets import DATA_SETS
from sapool.errors import RecipeError
from sapool.recipes.reading import flat, read_recipe, schema, to_toml
from sapool.recipes.settings import Data
from sapoolc import main


@pytest.mark.parametrize("name", recipes.names())
def test_shipped_recipes_read_back_as_they_are_saved(name, tmp_path):
    recipe = read_recipe(name)
    saved = tmp_path / "recipe.toml"
    saved.write_text(to_toml(recipe), encoding="utf-8")
    assert flat(read_recipe(str(saved))) == flat(recipe)


def test_the_recipes_that_the_documents_name_are_shipped():
    assert {"digits", "stl10", "cifar100", "imagenet", "folder", "fashion_mnist"} <= set(recipes.names())


@pytest.mark.parametrize("name", recipes.names())
def test_schema_takes_every_shipped_recipe_and_what_is_saved_of_it(name):
    validator = jsonschema.Draft202012Validator(schema())
    validator.validate(tomllib.loads(recipes.text(name)))
    validator.validate(tomllib.loads(to_toml(read_recipe(name))))


@pytest.mark.parametrize(
    "text",
    [
        'architecture = "resnet18-nlp-1222"',
        'extends = "digits"\ntypo = 1',
        'extends = "digits"\n[train]\nepochs = 0',
        'extends = "digits"\nacknowledge = ["one-tokn"]',
        'extends = "digits"\n[data]\nname = "cifar11"',
        'extends = "digits"\n[optimizer]\nlr = "fast"',
    ],
)
def test_schema_refuses_what_the_reader_refuses(text, tmp_path):
    assert list(jsonschema.Draft202012Validator(schema()).iter_errors(tomllib.loads(text)))
    file = tmp_path / "r.toml"
    file.write_text(text)
    with pytest.raises(RecipeError):
        read_recipe(str(file))


def test_schema_command_prints_it(capsys):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(schema()))


def test_extends_merges_section_by_section_through_files(tmp_path):
    (tmp_path / "a.toml").write_text('extends = "stl10"\n[optimizer]\nnesterov = true\n')
    (tmp_path / "b.toml").write_text('extends = "a.toml"\narchitecture = "resnet18-lip-1222"\n[train]\nepochs = 7\n')
    recipe = read_recipe(str(tmp_path / "b.toml"), ["optimizer.lr=0.5"])
    assert (recipe.title, recipe.architecture, recipe.dialect) == ("b", "resnet18-lip-1222", "paper")
    assert recipe.select == "test"
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.data.name) == (7, 8, "stl10")
    assert (recipe.optimizer.nesterov, recipe.optimizer.momentum, recipe.optimizer.lr) == (True, 0.9, 0.5)


def test_recipes_that_extend_each_other_are_refused(tmp_path):
    (tmp_path / "a.toml").write_text('extends = "b.toml"')
    (tmp_path / "b.toml").write_text('extends = "a.toml"')
    with pytest.raises(RecipeError, match="extends itself"):
        read_recipe(str(tmp_path / "a.toml"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epoch=5", r"unknown setting 'train.epoch'. Did you mean 'train.epochs'\?"),
        ("train.epochs=0", "train.epochs: .*greater than or equal to 1, not 0"),
        ("train.epochs", "isn't of the form key=value"),
        ("optimizer.lr=nan", "optimizer.lr: .*finite"),
        ("architecture=resnet18-nlpp-1222", "nearest valid spelling: resnet18-nlp-1222"),
        ("schedule.warmup_epochs=6", r"leaves nothing of train.epochs \(6\)"),
        ('acknowledge=["one-tokn"]', r"there is no diagnostic 'one-tokn'.*Did you mean 'one-token'"),
        ("data.std=[0.5, 0, 0.5]", "expected positive numbers"),
        ("train.epochs=1e3", "valid integer, not 1000.0"),
        ('train.epochs="1"', "valid integer, not '1'"),
        ("train.epochs=true", "valid integer, not True"),
        ("train.epochs=5 # five", "valid integer, not '5 # five'"),
        ("train.epochs=5\ndata.name=x", "isn't of the form key=value"),
        ("train.epochs=" + "9" * 5000, r"valid integer, not '99.*\(5,002 characters\)"),
        ("title=mine", "unknown setting 'title'"),
        ("data.name=[1]", "data.name: expected a valid string, not "),
        ("data.root=a\0b", "expected text without NUL"),
        ("data.root=\udcff", "expected text that UTF-8 can write"),
        ("a.b.c=1", "isn't of the form key=value"),
        ("architecture=a\0.json", "expected text without NUL"),
        ("data.x=" + "[" * 5000, "unknown setting 'data.x'"),
        ("train.devices=0", "expected how many devices, or the different numbers of some, such as 0,1, not 0"),
        ("train.devices=0,0", "different numbers of some"),
        ("train.devices=-1", "different numbers of some"),
    ],
)
def test_wrong_overrides(override, said):
    with pytest.raises(RecipeError, match=said):
        read_recipe("digits", [override])


@pytest.mark.parametrize("setting", ["ema=0.9", "clip_norm=1"])
def test_what_fsdp_cannot_do_is_refused(setting):
    with pytest.raises(RecipeError, match="use ddp"):
        read_recipe("digits", ["train.strategy=fsdp", f"train.{setting}"])


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_data_set_brings_its_own_settings(name):
    data, entry = Data.model_validate({"name": name}), DATA_SETS[name]
    assert (data.image_size, data.augment, data.flip) == (entry.size, entry.augment, entry.flip)
    assert (data.mean, data.std) == (entry.mean, entry.std)
    assert Data.model_validate({"name": name, "image_size": 64}).image_size == 64


@pytest.mark.parametrize(
    ("given", "devices", "processes"),
    [("2", 2, 2), ("0,1", (0, 1), 2), ("[3]", (3,), 1), ("1,3,2", (1, 3, 2), 3)],
)
def test_devices_are_counted_or_numbered(given, devices, processes, tmp_path):
    recipe = read_recipe("digits", [f"train.devices={given}"])
    assert (recipe.train.devices, recipe.train.processes) == (devices, processes)
    saved = tmp_path / "recipe.toml"
    saved.write_text(to_toml(recipe), encoding="utf-8")
    assert read_recipe(str(saved)).train.devices == devices
    jsonschema.Draft202012Validator(schema()).validate(tomllib.loads(saved.read_text()))


@pytest.mark.parametrize(
    ("overrides", "size", "sides", "mean"),
    [
        (["data.image_size=96x160", "model.in_chans=1"], (96, 160), (96, 160), (0.485,)),
        (["data.image_size=[64, 64]", "model.in_chans=2"], 64, (64, 64), (0.485, 0.5)),
        (["data.image_size=48", "model.in_chans=4"], 48, (48, 48), (0.5071, 0.4867, 0.4408, 0.5)),
        (["data.mean=0.25", "model.in_chans=5", "data.std=[0.5]"], 32, (32, 32), (0.25,) * 5),
    ],
)
def test_images_are_as_they_are(overrides, size, sides, mean, tmp_path):
    recipe = read_recipe("cifar100", overrides)
    assert (recipe.data.image_size, recipe.data.sides) == (size, sides)
    assert recipe.data.mean == pytest.approx(mean, abs=3e-3)
    assert len(recipe.data.std) == recipe.model.in_chans
    saved = tmp_path / "recipe.toml"
    saved.write_text(to_toml(recipe), encoding="utf-8")
    assert flat(read_recipe(str(saved))) == flat(recipe)
    jsonschema.Draft202012Validator(schema()).validate(tomllib.loads(saved.read_text()))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.image_size=0", r"data.image_size: expected a side of 8 to 8192 pixels, or height and width"),
        ("data.image_size=96x", "expected a side of 8"),
        ("data.image_size=[96, 160, 3]", "expected a side of 8"),
        ("model.in_chans=0", "model.in_chans: .*greater than or equal to 1"),
        ("in_chans=1", "Did you mean 'model.in_chans'"),
    ],
)
def test_images_that_cannot_be(override, said):
    for name in ("digits", "ssd-digits"):
        with pytest.raises(RecipeError, match=said):
            read_recipe(name, [override])


def test_channels_and_statistics_belong_together():
    with pytest.raises(RecipeError, match=r"data.mean has 3 numbers, and the images have 1 channel \(model.in_chans\)"):
        read_recipe("digits", ["model.in_chans=1", "data.mean=[0.5, 0.5, 0.5]"])
    with pytest.raises(RecipeError, match=r"data.randaugment changes colours: of 1 channel or 3, not of 2"):
        read_recipe("digits", ["model.in_chans=2", "data.randaugment=1"])
    with pytest.raises(RecipeError, match="detectors see images of 1 channel or 3, not of 4"):
        read_recipe("ssd-digits", ["model.in_chans=4"])


def test_many_unknown_settings_are_told_in_short(tmp_path):
    path = tmp_path / "many.toml"
    path.write_text('extends = "digits"\n' + "\n".join(f"key{n} = 1" for n in range(20_000)))
    with pytest.raises(RecipeError) as caught:
        read_recipe(str(path))
    assert str(caught.value).endswith("and 19,995 more")
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "9" * 5000, "isn't TOML"),
        ("a = " + "[" * 50_000, "isn't TOML"),
        ('title = "mine"', "unknown setting 'title'"),
        ('extends = "a\\u0000.toml"', "can't be read"),
        ('extends = "loop.toml"', "can't be read"),
        ('extends = "here.toml"', "extends itself"),
    ],
)
def test_recipes_that_lead_nowhere(text, said, tmp_path):
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    (tmp_path / "here.toml").write_text(text)
    with pytest.raises(RecipeError, match=said):
        read_recipe(str(tmp_path / "here.toml"))


def test_a_long_chain_of_recipes(tmp_path):
    for number in range(2000):
        (tmp_path / f"{number}.toml").write_text(f'extends = "{number + 1}.toml"')
    with pytest.raises(RecipeError, match="more than 32 recipes extend each other"):
        read_recipe(str(tmp_path / "0.toml"))
