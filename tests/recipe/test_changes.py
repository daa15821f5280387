"""Images come and go, thresholds and settings change, and a change that is refused leaves the recipe."""

import shutil
import subprocess

import numpy as np
import pytest
from spadeline.engine.errors import InputError, RecipeError
from spadeline.engine.recipe.changes import add_images, remove_images, replace_extractor, set_calibration, update_codes
from spadeline.engine.recipe.recipe import Recipe
from spadeline.engine.recipe.records import ImageRecord
from spadeline.engine.settings import Settings

from ..recipes import (
    FILES,
    GEOMETRY,
    assert_holds,
    create_small,
    features_of,
    images,
    live_files,
    mask,
    names_in,
    peak_memory,
)
from .conftest import CALIBRATION
from .manifests import FULL


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_add_and_remove_are_exact(create, storage):
    recipe = create("a", "b", settings=Settings(storage=storage))
    created, folder = recipe.created, recipe.folder
    recipe = add_images(folder, images("c", 'Ä \n"漢\udcff.png'), 2)
    assert_holds(recipe, "a", "b", "c", 'Ä \n"漢\udcff.png')
    recipe = remove_images(folder, ["a", "c"])
    assert_holds(Recipe.load(folder, verify=True), "b", 'Ä \n"漢\udcff.png')
    assert recipe.generation == 3
    assert recipe.created == created
    assert recipe.extractor_path.name == "extractor-1.onnx"
    assert names_in(folder) == live_files(recipe)


def test_a_recipe_without_an_image_equals_one_that_never_had_it(create, tmp_path):
    create("a", "b", "c")
    removed = remove_images(tmp_path / "recipe", ["b"])
    never = create("a", "c", folder=tmp_path / "other")
    for role in (
        "embeddings",
        *GEOMETRY["level_names"],
    ):  # codes may differ, since they keep the basis of all three images
        assert removed.files[role].sha256 == never.files[role].sha256


def test_the_mask_and_the_basis_stay_while_images_come_and_go(create):
    created = create("a", "b", ignore=mask())
    np.testing.assert_array_equal(created.ignore, mask(), strict=True)
    added = add_images(created.folder, images("c", "d"), 2)
    removed = remove_images(created.folder, ["a", "d"])
    for recipe in (added, removed):
        np.testing.assert_array_equal(recipe.ignore, mask(), strict=True)
        assert recipe.files["ignore"] == created.files["ignore"]
        for level, first in zip(recipe.codes, created.codes, strict=True):
            np.testing.assert_array_equal(level.basis, first.basis, strict=True)
    assert_holds(removed, "b", "c")
    assert create("e", overwrite=True).ignore is None
    assert not (created.folder / "ignore-1.npy").exists()


def test_a_reader_holds_what_it_opened(create):
    reader = create("a", "b")
    add_images(reader.folder, images("c"), 1)
    writer = remove_images(reader.folder, ["a"])
    assert not (reader.folder / "layer1-1.npy").exists()
    assert_holds(reader, "a", "b")
    assert_holds(writer, "b", "c")


def test_calibration_is_kept_by_add_and_remove(create):
    folder = create("a", "b", "c").folder
    before = names_in(folder)
    assert set_calibration(folder, CALIBRATION).calibration == CALIBRATION
    assert names_in(folder) == before
    assert add_images(folder, images("d"), 1).calibration == CALIBRATION
    recipe = remove_images(folder, ["a"])
    assert recipe.calibration == CALIBRATION
    assert recipe.calibration.tau.images == 3
    assert set_calibration(folder, None).calibration is None
    assert_holds(Recipe.load(folder, verify=True), "b", "c", "d")


def test_settings_change_along_with_the_thresholds(create):
    folder = create("a", "b").folder
    set_calibration(folder, CALIBRATION, settings=Settings(kappa=3, sigma=2.0, storage="float32"))
    recipe = Recipe.load(folder, verify=True)
    assert recipe.settings == Settings(kappa=3, sigma=2.0, storage="float32")
    assert recipe.calibration == CALIBRATION
    assert set_calibration(folder, None).settings == recipe.settings
    assert_holds(recipe, "a", "b")


def test_another_recipes_extractor_and_features_take_the_place_of_the_own(create, tmp_path):
    reader = create("a", "b", ignore=mask())
    set_calibration(reader.folder, CALIBRATION)
    (tmp_path / "other.onnx").write_bytes(b"another" * 1000)
    fitted = create_small(
        tmp_path / "fitted", "a", "b", extractor_path=tmp_path / "other.onnx", ignore=mask(),
        settings=Settings(storage="float16"),
    )  # fmt: skip
    options = {"calibration": CALIBRATION, "tuning": FULL.tuning}
    fitted = fitted.with_settings(Settings(kappa=3, storage="float16"))
    recipe = replace_extractor(reader.folder, fitted, generation=1, **options)
    assert_holds(Recipe.load(recipe.folder, verify=True), "a", "b")
    assert_holds(reader, "a", "b")
    assert (recipe.generation, recipe.created, recipe.tuning) == (2, reader.created, FULL.tuning)
    assert (recipe.settings, recipe.calibration) == (fitted.settings, CALIBRATION)
    assert {role: file.sha256 for role, file in recipe.files.items()} == {
        role: file.sha256 for role, file in fitted.files.items()
    }
    assert names_in(recipe.folder) == live_files(recipe)
    with pytest.raises(RecipeError, match="expected generation 1, which the thresholds were made from, got 2"):
        replace_extractor(recipe.folder, fitted, generation=1, **options)
    with (fitted.folder / "layer1-1.npy").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")
    with pytest.raises(RecipeError, match=r"layer1-1\.npy: expected SHA-256 .*: its content was changed"):
        replace_extractor(recipe.folder, fitted, generation=2, **options)
    assert Recipe.load(recipe.folder, verify=True) == recipe
    assert names_in(recipe.folder) == live_files(recipe)


@pytest.mark.parametrize(("name", "own", "new"), [("storage", "float32", "float16"), ("framing", "whole", "paper")])
def test_settings_that_are_built_in(create, name, own, new):
    recipe = create("a", "b")
    with pytest.raises(InputError) as error:
        set_calibration(recipe.folder, CALIBRATION, settings=Settings(**{"storage": "float32", name: new}))
    assert str(error.value) == f"{name}: expected '{own}', which is built into the stored features, got '{new}'"
    assert Recipe.load(recipe.folder) == recipe


@pytest.mark.parametrize(
    "other", [{"extractor_path": "other.onnx"}, {"settings": Settings(framing="paper", storage="float32")}]
)
def test_features_of_another_extractor_or_framing_are_not_added(create, tmp_path, extractor, other):
    first = create("a", "b")
    again = create("a", "b", overwrite=True)
    assert_holds(
        add_images(first.folder, images("c"), 1, made_for=first), "a", "b", "c"
    )  # the same recipe, created again
    (tmp_path / "other.onnx").write_bytes(b"another")
    if "extractor_path" in other:
        other = {"extractor_path": tmp_path / "other.onnx"}
    replaced = create_small(first.folder, "x", overwrite=True, **({"extractor_path": extractor} | other))
    text = (
        "expected the extractor and the framing that the features were made with, got others: the recipe was replaced"
    )
    with pytest.raises(RecipeError, match=text):
        add_images(first.folder, images("d"), 1, made_for=again)
    assert Recipe.load(first.folder, verify=True) == replaced
    add_images(first.folder, images("d"), 1, made_for=replaced)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("a", "names: expected several names, got 'a'"),
        (None, "names: expected several names, got None"),
        (7, "names: expected several names, got 7"),
        ([["a"]], "names[0]: expected str, got list"),
        (["a", 1], "names[1]: expected str, got int"),
    ],
)
def test_names_are_several_texts(create, names, text):
    recipe = create("a", "b")
    with pytest.raises(InputError) as error:
        remove_images(recipe.folder, names)
    assert str(error.value) == text
    assert_holds(remove_images(recipe.folder, (name for name in ["a"])), "b")


def test_a_recipe_of_links_into_a_cache_is_read_and_changed_as_a_copy(create, tmp_path):
    cached = create("a", "b", ignore=mask())
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in cached.folder.iterdir():
        if path.name != ".lock":
            (linked / path.name).symlink_to(path)
    assert_holds(Recipe.load(linked, verify=True), "a", "b")
    before = {path.name: path.read_bytes() for path in cached.folder.iterdir()}
    for change in (
        lambda: add_images(linked, images("c"), 1),
        lambda: remove_images(linked, ["a"]),
        lambda: set_calibration(linked, CALIBRATION),
    ):
        with pytest.raises(RecipeError) as error:
            change()
        assert str(error.value) == (
            f"{linked}/recipe.json: expected an ordinary file to change, got a link; "
            f"change a copy that holds the files themselves: cp -rL {linked} NEW"
        )
    assert {path.name: path.read_bytes() for path in cached.folder.iterdir()} == before
    subprocess.run(["/bin/cp", "-rL", linked, tmp_path / "copy"], check=True)
    assert_holds(add_images(tmp_path / "copy", images("c"), 1), "a", "b", "c")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda folder: add_images(folder, images("c", "a"), 2), "image 'a': expected a name of its own"),
        (lambda folder: add_images(folder, images("c"), 2), "features: expected 4 images, got 3"),
        (lambda folder: add_images(folder, images("c", "d"), 1), "features: expected 3 images, got more"),
        (lambda folder: add_images(folder, images(), 0), "count: expected an integer from 1"),
        (lambda folder: remove_images(folder, []), "names: expected 1 to 1 of 2 images, got 0"),
        (lambda folder: remove_images(folder, ["a", "b"]), "names: expected 1 to 1 of 2 images, got 2"),
        (lambda folder: remove_images(folder, ["c"]), "recipe, got 'c'"),
        (lambda folder: set_calibration(folder, "0.5"), "calibration: expected Calibration, got str"),
    ],
)
def test_changes_refuse_and_leave_the_recipe(create, change, text):
    recipe = create("a", "b")
    with pytest.raises(InputError) as error:
        change(recipe.folder)
    assert text in str(error.value)
    assert Recipe.load(recipe.folder, verify=True) == recipe
    assert names_in(recipe.folder) == live_files(recipe)


def test_features_that_fail_midway_leave_the_recipe(create):
    def failing():
        yield from images("c")
        raise InputError("d.png: is truncated")

    recipe = create("a", "b")
    with pytest.raises(InputError, match=r"d\.png: is truncated"):
        add_images(recipe.folder, failing(), 2)
    assert Recipe.load(recipe.folder, verify=True) == recipe
    assert names_in(recipe.folder) == live_files(recipe)


def test_nothing_is_made_where_there_is_no_recipe(tmp_path):
    for change in (lambda: remove_images(tmp_path, ["a"]), lambda: add_images(tmp_path, images("a"), 1)):
        with pytest.raises(RecipeError, match=r"recipe\.json: is missing"):
            change()
    with pytest.raises(RecipeError, match=r"missing/recipe\.json: is missing"):
        Recipe.load(tmp_path / "missing")
    assert names_in(tmp_path) == set()


def edit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_edited_content_is_found_by_verifying_and_never_rehashed(create, name):
    path = create("a", "b", ignore=mask()).folder / name
    edit(path)
    if name != "ignore-1.npy":  # the mask is read when the recipe is loaded
        Recipe.load(path.parent)
    changes = [
        lambda: Recipe.load(path.parent, verify=True),
        lambda: add_images(path.parent, images("c"), 1),
        lambda: remove_images(path.parent, ["a"]),
        lambda: update_codes(path.parent),
    ]
    for change in changes:
        with pytest.raises(RecipeError) as error:
            change()
        assert str(error.value).startswith(f"{path}: expected SHA-256 ")


def test_memory_does_not_grow_with_the_number_of_images(create, tmp_path, monkeypatch):
    monkeypatch.setattr("spadeline.engine.match.codes.SAMPLE", 1 << 9)  # a bound that is reached by few images
    monkeypatch.setattr("spadeline.engine.files.CHUNK", 1 << 16)
    shapes = ((16, 16, 16), (32, 8, 8))
    image = features_of("x", shapes)
    size = sum(level.nbytes for level in image.levels)

    def create_many(count):
        features = ((ImageRecord(f"{index}"), image) for index in range(count))
        names = {"level_names": ("layer1", "layer2"), "level_shapes": shapes, "input_size": (64, 64)}
        create(folder=tmp_path / f"{count}", count=count, features=features, **names)

    def add_one(count):
        add_images(tmp_path / f"{count}", [(ImageRecord("new"), image)], 1)

    create_many(2)  # imports and caches
    for action in (create_many, add_one):
        few, many = (
            peak_memory(lambda action=action: action(50)),
            peak_memory(lambda action=action: action(400)),
        )
        # 350 further images hold 8 MB of features; names, records and recipe.json may take 2 kB an image.
        assert 350 * size > 8_000_000
        assert many - few < 350 * 2000


def test_copies_are_recipes_too(create, tmp_path):
    recipe = create("a", "b")
    shutil.copytree(recipe.folder, tmp_path / "copy")
    (tmp_path / "copy" / ".lock").unlink()
    assert_holds(Recipe.load(tmp_path / "copy", verify=True), "a", "b")
    assert_holds(remove_images(tmp_path / "copy", ["a"]), "b")
