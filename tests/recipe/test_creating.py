"""A recipe is created whole, in the place of another one only on demand, or not at all."""

import re

import pytest
from spadeline.engine.errors import InputError, OutputError, RecipeError
from spadeline.engine.match.codes import CODES_VERSION
from spadeline.engine.recipe.changes import add_images, create_recipe
from spadeline.engine.recipe.recipe import Recipe
from spadeline.engine.recipe.records import ImageRecord
from spadeline.engine.settings import Settings

from ..recipes import GEOMETRY, assert_holds, create_small, images, live_files, mask, names_in
from .conftest import CALIBRATION


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_create_and_load(create, extractor, storage):
    settings = Settings(storage=storage, k_gallery=2, window=1)
    created = create("a", "b", "c", settings=settings)
    recipe = Recipe.load(created.folder, verify=True)
    assert recipe == created
    assert recipe.settings == settings
    assert recipe.generation == 1
    assert recipe.calibration is None
    assert recipe.codes_version == CODES_VERSION
    assert recipe.ignore is None
    assert recipe.images[1] == ImageRecord("b", f"{1:064x}")
    assert {name: getattr(recipe, name) for name in GEOMETRY if name != "embedding_size"} == {
        name: value for name, value in GEOMETRY.items() if name != "embedding_size"
    }
    assert recipe.extractor_path == recipe.folder / "extractor-1.onnx"
    assert recipe.extractor_path.read_bytes() == extractor.read_bytes()
    assert names_in(recipe.folder) == live_files(recipe)
    assert_holds(recipe, "a", "b", "c")


def test_create_goes_live_with_its_thresholds(create, tmp_path):
    def calibrate(recipe):
        assert_holds(recipe, "a", "b")
        assert not (tmp_path / "recipe" / "recipe.json").exists()
        return CALIBRATION

    assert create("a", "b", calibrate=calibrate).calibration == CALIBRATION


def test_failing_thresholds_leave_no_recipe(create, tmp_path):
    def calibrate(recipe):
        raise InputError("too few")

    with pytest.raises(InputError, match="too few"):
        create("a", "b", calibrate=calibrate)
    assert names_in(tmp_path / "recipe") == {".lock"}


def test_create_replaces_a_recipe_only_on_demand(create):
    first = create("a")
    with pytest.raises(RecipeError, match=re.escape(f"{first.folder}: expected no recipe, got one; overwrite it")):
        create("b")
    assert_holds(Recipe.load(first.folder, verify=True), "a")
    second = create("b", "c", overwrite=True)
    assert second.extractor_path.name == "extractor-2.onnx"
    assert_holds(Recipe.load(first.folder, verify=True), "b", "c")
    assert names_in(first.folder) == live_files(second)


@pytest.mark.parametrize("damage", [b"{", b'{"format": "spadeline-recipe", "version": 5}'])
def test_overwrite_replaces_a_damaged_recipe(create, damage):
    folder = create("a").folder
    (folder / "recipe.json").write_bytes(damage)
    before = names_in(folder)
    with pytest.raises(InputError, match="expected 5 images, got 1"):
        create("b", count=5, overwrite=True)
    assert names_in(folder) == before
    with pytest.warns(UserWarning, match="they were left alone; delete them unless they are wanted"):
        recipe = create("b", overwrite=True)
    assert recipe.generation == 2
    assert names_in(folder) == before | live_files(recipe)


def test_overwrite_with_the_recipes_own_extractor(create, extractor):
    first = create("a")
    options = GEOMETRY | {
        "count": 1,
        "features": images("b"),
        "overwrite": True,
        "settings": Settings(storage="float32"),
    }
    second = create_recipe(first.folder, extractor_path=first.extractor_path, **options)
    assert second.extractor_path.read_bytes() == extractor.read_bytes()
    assert_holds(second, "b")


def test_an_extractor_of_a_recipes_kind_of_name_is_left(create, tmp_path):
    source = tmp_path / "recipe" / "extractor-7.onnx"
    source.parent.mkdir()
    source.write_bytes(b"mine")
    with pytest.warns(UserWarning, match=r"such as extractor-7\.onnx: they were left alone"):
        recipe = create_small(source.parent, "a", extractor_path=source)
    assert source.read_bytes() == recipe.extractor_path.read_bytes() == b"mine"
    assert add_images(recipe.folder, images("b"), 1).generation == 2
    assert source.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"count": 0}, "count: expected an integer from 1 to 2147483647, got 0"),
        ({"count": 1}, "features: expected 1 images, got more"),
        ({"count": 3}, "features: expected 3 images, got 2"),
        (
            {"features": images("a", "a")},
            "image 'a': expected a name of its own, got one that the recipe holds",
        ),
        ({"level_names": ("layer1", "conv", "layer3")}, "level_names: expected 'layer' and a number"),
        ({"settings": Settings(level_weights=(1.0, 2.0))}, "level_weights: expected 3, one for each of layer1, layer2"),
        ({"ignore": mask().T}, "ignore: expected bool (28, 36), the extractor's input size, got bool (36, 28)"),
        ({"ignore": mask() * 1.0}, "ignore: expected bool (28, 36), the extractor's input size, got float64 (28, 36)"),
        ({"ignore": mask() | True}, "ignore: expected a pixel or more that is scored, got a mask that ignores all"),
        ({"input_size": (3, 36)}, "shape of layer1: h: expected an integer from 1 to 3, got 7"),
        (
            {"embedding_size": 7},
            "image 'a', embeddings: expected float32 or float16 (1, 7), got float32 (1, 6)",
        ),
    ],
)
def test_create_refuses(create, tmp_path, options, text):
    with pytest.raises(InputError) as error:
        create("a", "b", **options)
    assert text in str(error.value)
    folder = tmp_path / "recipe"
    assert not folder.exists() or names_in(folder) == {".lock"}
    with pytest.raises(RecipeError, match=r"recipe\.json: is missing"):
        Recipe.load(folder)


@pytest.mark.parametrize("options", [{"settings": Settings(level_weights=(1.0,))}, {"ignore": mask()[1:]}])
def test_create_refuses_options_before_it_takes_features(create, tmp_path, options):
    def features():
        raise AssertionError
        yield

    with pytest.raises(InputError, match="expected"):
        create("a", features=features(), **options)
    assert not (tmp_path / "recipe").exists()


def test_create_refuses_a_missing_extractor(create, extractor, tmp_path):
    extractor.unlink()
    with pytest.raises(InputError, match=r"model\.onnx: is missing"):
        create("a")
    extractor.touch()
    with pytest.raises(InputError, match="size: expected an integer from 1"):
        create("a")
    assert names_in(tmp_path / "recipe") == {".lock"}


def test_folder_that_cannot_be_made(create, extractor):
    with pytest.raises(OutputError, match=r"model\.onnx: can't be written: File exists"):
        create("a", folder=extractor)
    with pytest.raises(OutputError, match=r"model\.onnx/recipe: can't be written: Not a directory"):
        create("a", folder=extractor / "recipe")
