"""Copies of images: how they are found, and that neither galleries nor thresholds have any."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from spadeline.engine import InputError, add, calibrate, fit
from spadeline.engine.fitting.copies import find_copies, pixels_digest, some, without_copies
from spadeline.engine.recipe.changes import add_images, remove_images
from spadeline.engine.recipe.records import ImageRecord

from ..recipes import as_version_2, edit_manifest
from .conftest import SETTINGS

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def test_a_digest_is_of_pixels_and_shape():
    rgb = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    assert pixels_digest(rgb) == pixels_digest(np.asfortranarray(rgb)) == pixels_digest(rgb.copy())
    others = [rgb.reshape(12, 8, 3), rgb[..., ::-1], rgb[:, :-1]]
    assert len({pixels_digest(other) for other in (rgb, *others)}) == 4


def test_the_first_of_copies_stays():
    records = [ImageRecord("a", A, A), ImageRecord("b", B, B), ImageRecord("a.bmp", C, A), ImageRecord("b too", B, B)]
    assert find_copies(records) == ([0, 1], [("a.bmp", "a"), ("b too", "b")])
    assert find_copies(records[1:3], among=records[:1]) == ([0], [("a.bmp", "a")])


def test_images_of_an_older_version_are_compared_by_their_files():
    old = [ImageRecord("old", A), ImageRecord("of no file")]
    assert find_copies([ImageRecord("same file", A, B), ImageRecord("no file either")], among=old) == (
        [1],
        [("same file", "old")],
    )
    assert without_copies([*old, ImageRecord("no file either")]) == [0, 1, 2]


def test_without_copies_leaves_all_of_them_out():
    records = [ImageRecord("a", A, A), ImageRecord("b", B, B), ImageRecord("a.bmp", C, A)]
    assert without_copies(records) == [1]


def test_a_sentence_names_a_few_images():
    assert some(["a", "b"]) == "a, b"
    assert some(list("abcdef")) == "a, b, c, d, e, …"


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_exact_copies_are_left_out_of_a_fit(recipe, parts, extractor_path, tmp_path, suffix):
    """With copies in the gallery, each image would find its copy, and the thresholds would be 0."""
    originals = tmp_path / "images" / "a"
    shutil.copytree(parts / "train" / "good", originals)
    saved_again(originals, tmp_path / "images" / "b", suffix)
    text = rf"^12 of 24 images are exact copies and left out: b/000{suffix} of a/000.png, .*, …$"
    with pytest.warns(UserWarning, match=text):
        doubled = fit(tmp_path / "images", tmp_path / "r", extractor=extractor_path, settings=SETTINGS, threads=1)
    assert [image.name for image in doubled.images] == [f"a/{seed:03}.png" for seed in range(12)]
    assert doubled.calibration.theta == recipe.calibration.theta
    shutil.copytree(originals, tmp_path / "one" / "a", ignore=lambda _, names: names[1:])
    saved_again(tmp_path / "one" / "a", tmp_path / "one" / "b", suffix)
    with (
        pytest.warns(UserWarning, match=r"^1 of 2 images is an exact copy and left out"),
        pytest.raises(InputError, match=r"expected at least 2 normal images, .* got 1$"),
    ):
        fit(tmp_path / "one", tmp_path / "r2", extractor=extractor_path)
    assert not (tmp_path / "r2").exists()


def test_a_copy_is_in_neither_gallery_nor_held_out_fold(parts, extractor_path, tmp_path):
    shutil.copytree(parts / "train" / "good", tmp_path / "images" / "a")
    saved_again(tmp_path / "images" / "a", tmp_path / "images" / "b", ".bmp")
    with pytest.warns(UserWarning, match=r"^12 of 24 images are exact copies"):
        recipe = fit(
            tmp_path / "images", tmp_path / "r", extractor=extractor_path, settings=SETTINGS, threads=1, held_out=0.25
        )
    used = {image.name for image in recipe.images} | set(recipe.calibration.image_names)
    assert used == {f"a/{seed:03}.png" for seed in range(12)}
    assert min(recipe.calibration.map_scores) > 0


def test_copies_of_held_images_are_not_added(recipe, parts, tmp_path):
    saved_again(parts / "train" / "good", tmp_path / "new", ".bmp")
    before = (recipe.folder / "recipe.json").read_bytes()
    with pytest.warns(UserWarning, match=r"^12 of 12 images are exact copies and left out: 000.bmp of 000.png, "):
        unchanged = add(recipe.folder, tmp_path / "new", threads=1)
    assert unchanged.images == recipe.images
    assert (recipe.folder / "recipe.json").read_bytes() == before
    shutil.copy(parts / "test" / "good" / "100.png", tmp_path / "new")
    with pytest.warns(UserWarning, match=r"^12 of 13 images are exact copies and left out"):
        added = add(recipe.folder, tmp_path / "new", threads=1)
    assert [image.name for image in added.images[12:]] == ["100.png"]


def test_copies_of_an_older_version_are_known_by_their_files(recipe, parts, tmp_path):
    edit_manifest(recipe.folder, as_version_2)
    shutil.copy(parts / "train" / "good" / "003.png", tmp_path / "again.png")
    with pytest.warns(UserWarning, match=r"^1 of 1 images is an exact copy and left out: again.png of 003.png$"):
        add(recipe.folder, tmp_path / "again.png", threads=1)


def test_exact_copies_that_a_recipe_holds_give_no_thresholds(recipe):
    twice = [(replace(recipe.images[i], name=f"copy-{i:03}.png"), recipe.features(i)) for i in (0, 1)]
    add_images(recipe.folder, twice, 2)
    text = (
        r"^4 of 14 images are exact copies of each other and give no thresholds: 000.png, 001.png, copy-000.png, "
        r"copy-001.png; spadeline remove takes images out$"
    )
    near = r"2 of 14 normal images nearly equal another, .*: copy-000.png and 000.png, copy-001.png and 001.png;"
    with pytest.warns(UserWarning, match=text), pytest.warns(UserWarning, match=near):
        again = calibrate(recipe.folder, threads=1)
    assert again.calibration.theta.images == 10
    assert again.calibration.image_names == tuple(f"{index:03}.png" for index in range(2, 12))
    assert min(again.calibration.map_scores) > 0
    pairs = zip(again.calibration.map_scores, recipe.calibration.map_scores[2:], strict=True)
    assert all(score >= before * (1 - 1e-6) for score, before in pairs)  # copies take places in the gallery
    remove_images(recipe.folder, [f"{seed:03}.png" for seed in range(2, 12)])
    with pytest.raises(InputError, match=r"expected images without exact copies for thresholds, got copies alone$"):
        calibrate(recipe.folder, threads=1, changes={"k_gallery": 2})


def saved_again(folder, target, suffix):
    target.mkdir(parents=True)
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            image.save(target / f"{path.stem}{suffix}")
