import re
import shutil
import subprocess

import numpy as np
import pytest
from spadeline.engine.calibration import threshold
from spadeline.engine.errors import InputError, OutputError, RecipeError
from spadeline.engine.match.codes import CODES_VERSION
from spadeline.engine.recipe.changes import (
    add_images,
    create_recipe,
    remove_images,
    set_calibration,
    update_codes,
)
from spadeline.engine.recipe.recipe import Recipe
from spadeline.engine.recipe.records import Calibration, ImageRecord
from spadeline.engine.settings import Settings

from ..recipes import (
    CODE_FILES,
    FEATURE_FILES,
    FILES,
    GEOMETRY,
    as_version_1,
    assert_features,
    assert_holds,
    create_small,
    edit_manifest,
    features_of,
    images,
    live_files,
    mask,
    names_in,
    peak_memory,
    without_codes,
)

TAU = threshold([1.0, 2.0, 3.0], false_alarm_rate=0.3)
CALIBRATION = Calibration(TAU, TAU, "leave-one-out", (1.0, 2.0, 3.0), (3.0, 2.0, 1.0))


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


def test_settings_change_along_with_the_thresholds(create):
    folder = create("a", "b").folder
    set_calibration(folder, CALIBRATION, settings=Settings(kappa=3, sigma=2.0, storage="float32"))
    recipe = Recipe.load(folder, verify=True)
    assert recipe.settings == Settings(kappa=3, sigma=2.0, storage="float32")
    assert recipe.calibration == CALIBRATION
    assert set_calibration(folder, None).settings == recipe.settings
    assert_holds(recipe, "a", "b")


@pytest.mark.parametrize(("name", "own", "new"), [("storage", "float32", "float16"), ("framing", "whole", "paper")])
def test_settings_that_are_built_in(create, name, own, new):
    recipe = create("a", "b")
    with pytest.raises(InputError) as error:
        set_calibration(recipe.folder, CALIBRATION, settings=Settings(**{"storage": "float32", name: new}))
    assert str(error.value) == f"{name}: expected '{own}', which is built into the stored features, got '{new}'"
    assert Recipe.load(recipe.folder) == recipe


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


def test_create_replaces_a_recipe_only_on_demand(create):
    first = create("a")
    with pytest.raises(RecipeError, match=re.escape(f"{first.folder}: expected no recipe, got one; overwrite it")):
        create("b")
    assert_holds(Recipe.load(first.folder, verify=True), "a")
    second = create("b", "c", overwrite=True)
    assert second.extractor_path.name == "extractor-2.onnx"
    assert_holds(Recipe.load(first.folder, verify=True), "b", "c")
    assert names_in(first.folder) == live_files(second)


@pytest.mark.parametrize("damage", [b"{", b'{"format": "spadeline-recipe", "version": 4}'])
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


def test_folder_that_cannot_be_made(create, extractor):
    with pytest.raises(OutputError, match=r"model\.onnx: can't be written: File exists"):
        create("a", folder=extractor)
    with pytest.raises(OutputError, match=r"model\.onnx/recipe: can't be written: Not a directory"):
        create("a", folder=extractor / "recipe")


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
