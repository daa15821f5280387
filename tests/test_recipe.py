import json
import os
import re
import shutil
import tracemalloc

import numpy as np
import pytest
from spadeline.engine import recipe as recipe_module
from spadeline.engine.calibration import threshold
from spadeline.engine.cells import to_cells
from spadeline.engine.errors import InputError, OutputError, RecipeError
from spadeline.engine.extractor import Features
from spadeline.engine.recipe import (
    Calibration,
    ImageRecord,
    Recipe,
    Settings,
    add_images,
    create_recipe,
    remove_images,
    set_calibration,
)

GEOMETRY = {
    "level_names": ("layer1", "layer2", "layer3"),
    "level_shapes": ((3, 7, 9), (4, 4, 5), (5, 2, 3)),
    "input_size": (28, 36),
    "embedding_size": 6,
}
TAU = threshold([1.0, 2.0, 3.0], false_alarm_rate=0.3)
CALIBRATION = Calibration(TAU, TAU, "leave-one-out", (1.0, 2.0, 3.0), (3.0, 2.0, 1.0))


def features_of(name, shapes=GEOMETRY["level_shapes"]):
    rng = np.random.default_rng(list(name.encode("utf-8", "surrogateescape")))
    levels = tuple(rng.standard_normal((1, *shape), np.float32) for shape in shapes)
    return Features(levels, rng.standard_normal((1, 6), np.float32))


def images(*names):
    return ((ImageRecord(name, f"{len(name):064x}"), features_of(name)) for name in names)


@pytest.fixture
def extractor(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"onnx" * 1000)
    return path


@pytest.fixture
def create(tmp_path, extractor):
    def create(*names, folder=tmp_path / "recipe", settings=Settings(storage="float32"), **options):  # noqa: B008
        options = GEOMETRY | {"count": len(names), "features": images(*names)} | options
        return create_recipe(folder, extractor_path=extractor, settings=settings, **options)

    return create


def assert_holds(recipe, *names):
    """Everything readable of a recipe is what these images put into it, bit by bit."""
    assert tuple(image.name for image in recipe.images) == names
    stored = [features_of(name) for name in names]
    np.testing.assert_array_equal(recipe.embeddings, np.concatenate([f.embedding for f in stored]), strict=True)
    for level, array in enumerate(recipe.levels):
        expected = np.concatenate([f.levels[level] for f in stored]).astype(recipe.settings.storage)
        np.testing.assert_array_equal(array, to_cells(expected, 2 - level), strict=True)
    for index, image in enumerate(stored):
        read = recipe.features(index)
        np.testing.assert_array_equal(read.embedding, image.embedding, strict=True)
        for got, level in zip(read.levels, image.levels, strict=True):
            np.testing.assert_array_equal(got, level.astype(recipe.settings.storage).astype(np.float32), strict=True)


def peak_memory(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def live_files(recipe):
    return {file.name for file in recipe.files.values()} | {"recipe.json", ".lock"}


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_create_and_load(create, extractor, storage):
    settings = Settings(storage=storage, k_gallery=2, window=1)
    created = create("a", "b", "c", settings=settings)
    recipe = Recipe.load(created.folder, verify=True)
    assert recipe == created
    assert recipe.settings == settings
    assert recipe.generation == 1
    assert recipe.calibration is None
    assert recipe.images[1] == ImageRecord("b", f"{1:064x}")
    assert {name: getattr(recipe, name) for name in GEOMETRY if name != "embedding_size"} == {
        name: value for name, value in GEOMETRY.items() if name != "embedding_size"
    }
    assert recipe.extractor_path == recipe.folder / "extractor-1.onnx"
    assert recipe.extractor_path.read_bytes() == extractor.read_bytes()
    assert names_in(recipe.folder) == live_files(recipe)
    assert_holds(recipe, "a", "b", "c")


def test_arrays_are_read_only_maps(create):
    recipe = create("a", "b")
    for array in (recipe.embeddings, *recipe.levels):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
        assert array.flags.c_contiguous
    assert recipe.features(0).levels[0].flags.writeable


@pytest.mark.parametrize("index", [-1, 2, 0.0])
def test_features_of_no_image(create, index):
    with pytest.raises(InputError, match=f"index: expected an integer from 0 to 1, got {index}"):
        create("a", "b").features(index)


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
    for role in ("embeddings", *GEOMETRY["level_names"]):
        assert removed.files[role].sha256 == never.files[role].sha256


def test_a_reader_holds_what_it_opened(create):
    reader = create("a", "b")
    add_images(reader.folder, images("c"), 1)
    writer = remove_images(reader.folder, ["a"])
    assert not (reader.folder / "layer1-1.npy").exists()
    assert_holds(reader, "a", "b")
    assert_holds(writer, "b", "c")


def test_load_follows_a_switch_under_its_hands(create, monkeypatch):
    folder = create("a", "b").folder
    open_array, switched = recipe_module.open_array, []

    def switch_first(*arguments, **options):
        if not switched:
            switched.append(True)
            add_images(folder, images("c"), 1)
        return open_array(*arguments, **options)

    monkeypatch.setattr(recipe_module, "open_array", switch_first)
    assert_holds(Recipe.load(folder), "a", "b", "c")


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


def test_create_never_replaces_a_recipe_unasked(create):
    first = create("a")
    with pytest.raises(RecipeError, match=re.escape(f"{first.folder}: expected no recipe, got one; overwrite it")):
        create("b")
    assert_holds(Recipe.load(first.folder, verify=True), "a")
    second = create("b", "c", overwrite=True)
    assert second.extractor_path.name == "extractor-2.onnx"
    assert_holds(Recipe.load(first.folder, verify=True), "b", "c")
    assert names_in(first.folder) == live_files(second)


@pytest.mark.parametrize("damage", [b"{", b'{"format": "spadeline-recipe", "version": 2}'])
def test_overwrite_replaces_a_damaged_recipe(create, damage):
    folder = create("a").folder
    (folder / "recipe.json").write_bytes(damage)
    before = names_in(folder)
    with pytest.raises(InputError, match="expected 5 images, got 1"):
        create("b", count=5, overwrite=True)
    assert names_in(folder) == before
    recipe = create("b", overwrite=True)
    assert recipe.generation == 2
    assert names_in(folder) == live_files(recipe)


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


def test_an_extractor_that_the_sweep_would_take(create, tmp_path):
    source = tmp_path / "recipe" / "extractor-7.onnx"
    source.parent.mkdir()
    source.write_bytes(b"mine")
    options = GEOMETRY | {"count": 1, "features": images("a"), "settings": Settings(storage="float32")}
    with pytest.raises(InputError, match=r"extractor-7\.onnx: expected a name that isn't the recipe's own"):
        create_recipe(source.parent, extractor_path=source, **options)
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


def test_create_refuses_a_missing_extractor(create, extractor, tmp_path):
    extractor.unlink()
    with pytest.raises(InputError, match=r"model\.onnx: can't be read: No such file or directory"):
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


FILES = ["extractor-1.onnx", "embeddings-1.npy", "layer1-1.npy", "layer2-1.npy", "layer3-1.npy"]


@pytest.mark.parametrize("name", ["recipe.json", *FILES])
@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b""), ""),
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), ""),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"}}"), ""),
        (lambda path: os.truncate(path, 1 << 40), ""),
        (
            lambda path: (path.rename(path.parent / "away"), path.symlink_to("away")),
            "ordinary file, got a link",
        ),
        (lambda path: (path.unlink(), path.mkdir()), "ordinary file, got a folder"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "ordinary file, got a folder or a device"),
        (lambda path: path.rename(path.parent / "away"), "is missing"),
    ],
)
def test_damage_is_named_at_once(create, name, damage, text):
    path = create("a", "b").folder / name
    damage(path)

    def refused():
        with pytest.raises(RecipeError) as error:
            Recipe.load(path.parent)
        assert str(error.value).startswith(f"{path}: ")
        assert text in str(error.value)

    assert peak_memory(refused) < 1 << 20  # however large the file claims to be


@pytest.mark.parametrize("name", FILES)
def test_edited_content_is_found_by_verifying_and_never_rehashed(create, name):
    path = create("a", "b").folder / name
    edit(path)
    Recipe.load(path.parent)
    changes = [
        lambda: Recipe.load(path.parent, verify=True),
        lambda: add_images(path.parent, images("c"), 1),
        lambda: remove_images(path.parent, ["a"]),
    ]
    for change in changes:
        with pytest.raises(RecipeError) as error:
            change()
        assert str(error.value).startswith(f"{path}: expected SHA-256 ")


def swap_levels(folder):
    (folder / "layer1-1.npy").rename(folder / "x")
    (folder / "layer2-1.npy").rename(folder / "layer1-1.npy")
    (folder / "x").rename(folder / "layer2-1.npy")


def edit_manifest(folder, change):
    content = json.loads((folder / "recipe.json").read_bytes())
    change(content)
    (folder / "recipe.json").write_text(json.dumps(content))


def record_swapped_levels(content):
    first, second = content["files"]["layer1"], content["files"]["layer2"]
    first["size"], second["size"] = second["size"], first["size"]
    first["sha256"], second["sha256"] = second["sha256"], first["sha256"]


def test_swapped_levels_are_found_even_if_recorded(create):
    folder = create("a", "b").folder
    swap_levels(folder)
    with pytest.raises(RecipeError, match=r"layer1-1\.npy: expected \d+ bytes, got \d+"):
        Recipe.load(folder)
    edit_manifest(folder, record_swapped_levels)
    with pytest.raises(
        RecipeError, match=r"layer1-1\.npy: expected float32 \(2, 2, 3, 16, 3\) in C order, got the header"
    ):
        Recipe.load(folder, verify=True)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda c: c["geometry"].update(embedding_size=2**20),
            "embeddings-1.npy: expected float32 (2, 1048576) in C",
        ),
        (
            lambda c: c["geometry"].update(embedding_size=1),
            "embeddings-1.npy: expected float32 (2, 1) in C order",
        ),
        (
            lambda c: c["settings"].update(storage="float16"),
            "layer1-1.npy: expected float16 (2, 2, 3, 16, 3) in C",
        ),
        (lambda c: c["images"].pop(), "embeddings-1.npy: expected float32 (1, 6) in C order"),
        (
            lambda c: c["images"].extend({"name": str(i), "sha256": None} for i in range(998)),
            "embeddings-1.npy: expected float32 (1000, 6) in C order",
        ),
        (
            lambda c: c["geometry"].update(
                input_size=[2**15, 2**15],
                level_shapes=[[2**20, 2**15, 2**15], [2**20, 2**14, 2**14], [2**20, 2**13, 2**13]],
            ),
            "layer1-1.npy: expected float32 (2, 8192, 8192, 16, 1048576) in C order",
        ),
        (
            lambda c: c["files"]["layer3"].update(name="../layer3-1.npy"),
            "recipe.json: files: layer3: expected the name",
        ),
    ],
)
def test_a_manifest_that_contradicts_the_files(create, change, text):
    folder = create("a", "b").folder
    edit_manifest(folder, change)

    def refused():
        with pytest.raises(RecipeError) as error:
            Recipe.load(folder)
        assert text in str(error.value)

    assert peak_memory(refused) < 1 << 20  # whatever the numbers ask for


def test_memory_does_not_grow_with_the_number_of_images(create, tmp_path):
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
