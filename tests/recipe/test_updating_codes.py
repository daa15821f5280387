"""Codes are made with features, made again when they are missing or of another version, and left alone otherwise."""

import shutil

import pytest
from spadeline.engine.errors import InputError
from spadeline.engine.match.codes import CODES_VERSION
from spadeline.engine.recipe.changes import add_images, remove_images, set_calibration, update_codes
from spadeline.engine.recipe.recipe import Recipe

from ..recipes import (
    CODE_FILES,
    FEATURE_FILES,
    FILES,
    as_version_1,
    assert_features,
    assert_holds,
    edit_manifest,
    images,
    live_files,
    mask,
    names_in,
    without_codes,
)
from .conftest import CALIBRATION


def other_version(content):
    content["codes_version"] = CODES_VERSION + 1


def remove_unnamed(folder):
    """Remove files that an edited recipe.json doesn't name any more, as if they had never been written."""
    for name in names_in(folder) - live_files(Recipe.load(folder)):
        (folder / name).unlink()


@pytest.mark.parametrize("change", [without_codes, other_version, as_version_1])
def test_whoever_writes_features_makes_codes_that_are_missing(create, tmp_path, change):
    create("a", "b")
    for folder, write, names in (
        (tmp_path / "more", lambda folder: add_images(folder, images("c"), 1), ("a", "b", "c")),
        (tmp_path / "fewer", lambda folder: remove_images(folder, ["a"]), ("b",)),
    ):
        shutil.copytree(tmp_path / "recipe", folder)
        edit_manifest(folder, change)
        remove_unnamed(folder)
        recipe = write(folder)
        assert recipe.codes_version == CODES_VERSION
        assert names_in(folder) == live_files(recipe)
        assert_holds(recipe, *names)


@pytest.mark.parametrize("change", [without_codes, other_version, as_version_1])
def test_codes_are_updated_and_nothing_else(create, change):
    first = create("a", "b", calibrate=lambda _: CALIBRATION)
    edit_manifest(first.folder, change)
    remove_unnamed(first.folder)
    recipe = update_codes(first.folder)
    codes = {name.replace("-1.npy", "-2.npy") for name in CODE_FILES}
    assert names_in(first.folder) == {"recipe.json", ".lock", "extractor-1.onnx", *FEATURE_FILES, *codes}
    assert (recipe.generation, recipe.calibration, recipe.created) == (1, CALIBRATION, first.created)
    assert_holds(Recipe.load(first.folder, verify=True), "a", "b")
    assert_holds(add_images(first.folder, images("c"), 1), "a", "b", "c")


def test_codes_that_are_there_are_not_updated(create):
    recipe = create("a", "b", ignore=mask())
    before = (recipe.folder / "recipe.json").read_bytes()
    assert update_codes(recipe.folder) == recipe
    assert (recipe.folder / "recipe.json").read_bytes() == before
    assert names_in(recipe.folder) == {"recipe.json", ".lock", *FILES}


def test_codes_of_another_version_survive_new_thresholds(create):
    recipe = create("a", "b")
    edit_manifest(recipe.folder, other_version)
    changed = set_calibration(recipe.folder, CALIBRATION)
    assert changed.codes_version == CODES_VERSION + 1
    assert changed.files == recipe.files
    assert names_in(recipe.folder) == live_files(recipe)


def test_levels_of_too_many_channels_have_no_codes(create, monkeypatch):
    monkeypatch.setattr("spadeline.engine.match.codes.MOST_CHANNELS", 255)
    folder = create("a", "b").folder
    add_images(folder, images("c"), 1)
    recipe = remove_images(folder, ["a"])
    assert (recipe.codes, recipe.codes_version) == (None, None)
    assert names_in(folder) == {
        "recipe.json",
        ".lock",
        "extractor-1.onnx",
        *(f.replace("-1.", "-3.") for f in FEATURE_FILES),
    }
    assert_features(recipe, "b", "c")
    with pytest.raises(InputError) as error:
        update_codes(folder)
    assert str(error.value) == f"{folder}: expected levels that can be encoded, got ones of 3, 256, 5 channels"
    assert Recipe.load(folder) == recipe
