import hashlib
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from spadeline.engine.calibration import threshold
from spadeline.engine.errors import InputError, RecipeError
from spadeline.engine.match.codes import CODES_VERSION
from spadeline.engine.recipe import recipe as opened_module
from spadeline.engine.recipe.arrays import write_array
from spadeline.engine.recipe.changes import add_images, set_calibration
from spadeline.engine.recipe.recipe import Recipe
from spadeline.engine.recipe.records import Calibration

from ..recipes import (
    CODE_FILES,
    FILES,
    as_version_1,
    as_version_2,
    assert_features,
    assert_holds,
    edit_manifest,
    features_of,
    images,
    mask,
    peak_memory,
    without_codes,
)


@pytest.mark.parametrize("index", [-1, 2, 0.0])
def test_an_unknown_image_has_no_features(create, index):
    with pytest.raises(InputError, match=f"index: expected an integer from 0 to 1, got {index}"):
        create("a", "b").features(index)


def test_load_follows_a_switch_that_comes_while_it_reads(create, monkeypatch):
    folder = create("a", "b").folder
    opened_file, switched = opened_module.OpenedFile, []

    def switch_first(*arguments, **options):
        if not switched:
            switched.append(True)
            add_images(folder, images("c"), 1)
        return opened_file(*arguments, **options)

    monkeypatch.setattr(opened_module, "OpenedFile", switch_first)
    assert_holds(Recipe.load(folder), "a", "b", "c")


@pytest.mark.parametrize("name", ["recipe.json", *FILES])
@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b""), ""),
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), ""),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"}}"), ""),
        (lambda path: os.truncate(path, 1 << 40), ""),
        (lambda path: (path.unlink(), path.symlink_to("away")), "is missing"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "ordinary file, got a folder or a device"),
        (lambda path: (path.unlink(), path.mkdir()), "ordinary file, got a folder"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "ordinary file, got a folder or a device"),
        (lambda path: path.rename(path.parent / "away"), "is missing"),
    ],
)
def test_damage_is_named_at_once(create, name, damage, text):
    path = create("a", "b", ignore=mask()).folder / name
    damage(path)

    def refused():
        with pytest.raises(RecipeError) as error:
            Recipe.load(path.parent)
        assert str(error.value).startswith(f"{path}: ")
        assert text in str(error.value)

    assert peak_memory(refused) < 1 << 20  # it doesn't depend on the size that the file claims


def swap_levels(folder):
    (folder / "layer1-1.npy").rename(folder / "x")
    (folder / "layer2-1.npy").rename(folder / "layer1-1.npy")
    (folder / "x").rename(folder / "layer2-1.npy")


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
            lambda c: c["images"].extend(c["images"][0] | {"name": str(i)} for i in range(798)),
            "embeddings-1.npy: expected float32 (800, 6) in C order",
        ),
        (
            lambda c: (
                without_codes(c),
                c["geometry"].update(
                    input_size=[10_000, 10_000],
                    level_shapes=[[2**20, 10_000, 10_000], [2**20, 5000, 5000], [2**20, 2500, 2500]],
                ),
            ),
            "layer1-1.npy: expected float32 (2, 2500, 2500, 16, 1048576) in C order",
        ),
        (
            lambda c: c["geometry"].update(
                input_size=[10_000, 10_000],
                level_shapes=[[255, 10_000, 10_000], [2**15, 5000, 5000], [2**15, 2500, 2500]],
            ),
            "layer1-1.npy: expected float32 (2, 2500, 2500, 16, 255) in C order",
        ),
        (
            lambda c: c["geometry"].update(input_size=[2**15, 2**15]),
            "recipe.json: geometry: input_size: expected at most 100000000 pixels, got 32768 x 32768",
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

    assert peak_memory(refused) < 1 << 20  # it doesn't depend on the numbers


@pytest.mark.parametrize("name", CODE_FILES)
def test_codes_of_another_version_are_left_alone(create, name):
    """This version doesn't use codes of another version, and scores don't depend on codes."""
    folder = create("a", "b").folder
    edit_manifest(folder, lambda content: content.update(codes_version=CODES_VERSION + 1))
    (folder / name).unlink()
    recipe = Recipe.load(folder, verify=True)
    assert recipe.codes is None
    assert recipe.codes_version == CODES_VERSION + 1
    assert recipe.files[name.removesuffix("-1.npy")].name == name
    assert_features(recipe, "a", "b")


def test_a_recipe_of_version_1(create):
    folder = create("a", "b").folder
    edit_manifest(folder, as_version_1)
    recipe = Recipe.load(folder, verify=True)
    assert recipe.codes is None
    assert recipe.ignore is None
    assert recipe.settings.level_weights is None
    assert_features(recipe, "a", "b")


@pytest.mark.parametrize("older", [lambda content: None, as_version_2])
@pytest.mark.parametrize(
    "change",
    [
        lambda made: made["theta"].update(value=4.0),
        lambda made: made["tau"].update(value=667.0),
        lambda made: made["tau"].update(bound=0.001),
        lambda made: made["theta"].update(false_alarm_rate=0.6),
        lambda made: made["theta"].update(confidence=0.5),
        lambda made: made["map_scores"].reverse() or made["map_scores"].__setitem__(0, 9.0),
    ],
)
def test_thresholds_that_do_not_follow_from_their_scores_are_found_by_verifying(create, change, older):
    scores = (1.0, 2.0, 3.0)
    made = threshold(scores, false_alarm_rate=0.3)
    calibration = Calibration(made, made, "leave-one-out", scores, scores)
    folder = create("a", "b", calibrate=lambda _: calibration).folder
    edit_manifest(folder, older)
    Recipe.load(folder, verify=True)
    edit_manifest(folder, lambda content: change(content["calibration"]))
    Recipe.load(folder)
    for verified in (lambda: Recipe.load(folder, verify=True), lambda: add_images(folder, images("c"), 1)):
        with pytest.raises(RecipeError, match=r"recipe\.json: (tau|theta): expected .*: spadeline calibrate"):
            verified()
    set_calibration(folder, calibration)
    Recipe.load(folder, verify=True)


def record(folder, role, array):
    """Replace the array in a file, and record its size and hash."""
    (folder / f"{role}-1.npy").unlink()
    stored = asdict(write_array(folder, 1, role, array))
    edit_manifest(folder, lambda content: content["files"].update({role: stored}))


@pytest.mark.parametrize(
    ("role", "array", "text"),
    [
        ("projected-layer2", np.zeros((1, 6, 320), np.uint8), "expected uint8 (2, 6, 320) in C order, got the header"),
        ("projected-layer2", np.zeros((2, 6, 320), np.int8), "expected uint8 (2, 6, 320) in C order, got the header"),
        ("rotated-layer2", np.zeros((2, 6, 320), np.uint8), "expected uint8 (2, 6, 1088) in C order, got the header"),
        ("basis-layer2", np.zeros((1, 256), np.float32), "expected float32 (65, 256) in C order, got the header"),
        ("basis-layer3", np.zeros((1, 5), np.float64), "expected float32 (1, 5) in C order, got the header"),
        ("ignore", np.zeros((36, 28), np.bool_), "expected bool (28, 36) in C order, got the header"),
        ("ignore", np.ones((28, 36), np.bool_), "expected a pixel or more that is scored"),
    ],
)
def test_arrays_that_contradict_the_geometry(create, role, array, text):
    """They are refused even if recipe.json has their size and hash."""
    folder = create("a", "b", ignore=mask()).folder
    record(folder, role, array)
    with pytest.raises(RecipeError) as error:
        Recipe.load(folder, verify=True)
    assert str(error.value).startswith(f"{folder / role}-1.npy: ")
    assert text in str(error.value)


@pytest.mark.parametrize("name", ["embeddings", "layer2"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_features_that_are_not_finite_are_found_by_verifying(create, name, value):
    folder = create("a", "b").folder
    path = folder / f"{name}-1.npy"
    content = bytearray(path.read_bytes())
    content[-4:] = np.float32(value).tobytes()
    path.write_bytes(content)
    edit_manifest(folder, lambda c: c["files"][name].update(sha256=hashlib.sha256(content).hexdigest()))
    Recipe.load(folder)
    with pytest.raises(RecipeError) as error:
        Recipe.load(folder, verify=True)
    assert str(error.value) == f"{path}: expected finite numbers, got NaN or infinity in row 1"


def test_an_image_is_read_by_any_integer(create):
    recipe = create("a", "b")
    for index in (1, np.int64(1), np.int32(1)):
        np.testing.assert_array_equal(recipe.features(index).embedding, features_of("b").embedding)
    for index in (2, np.int64(2), -1, 1.0, True, None):
        with pytest.raises(InputError, match="index: expected an integer from 0 to 1, got "):
            recipe.features(index)


def test_the_extractor_is_held_whatever_happens_to_its_file(create):
    recipe = create("a")
    path = recipe.extractor_path
    before = path.read_bytes()
    held = recipe.extractor_file
    assert (held.path, recipe.extractor_file) == (path, held)
    path.write_bytes(b"another")
    path.unlink()
    assert Path(held.address).read_bytes() == before
    with pytest.raises(PermissionError):
        Path(held.address).write_bytes(b"another")
    address = held.address
    del recipe, held
    assert not Path(address).exists()


def test_an_extractor_that_was_written_over_is_not_run(create):
    recipe = create("a")
    recipe.extractor_path.write_bytes(b"ONNX" * 1000)
    with pytest.raises(RecipeError, match=r"extractor-1\.onnx: expected SHA-256"):
        recipe.extractor_file  # noqa: B018 - read at first use
