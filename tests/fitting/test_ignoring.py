"""The mask of what is never scored: its sources, its place in the frame, and the thresholds that it changes."""

import shutil

import numpy as np
import pytest
from PIL import Image
from spadeline.engine import InputError, Recipe, Settings, add, calibrate, fit
from spadeline.engine.recipe.changes import remove_images

from .conftest import SETTINGS


def lower_half(height, width):
    mask = np.zeros((height, width), bool)
    mask[height // 2 :] = True
    return mask


def test_an_ignore_mask_comes_as_array_or_file_of_any_size(parts, extractor_path, tmp_path):
    Image.fromarray(lower_half(192, 96)).save(tmp_path / "mask.png")
    Image.fromarray(np.dstack([lower_half(32, 32) * np.uint8(v) for v in (0, 3, 0)])).save(tmp_path / "green.png")
    sources = [lower_half(96, 96), lower_half(64, 64) * np.uint8(7), tmp_path / "mask.png", str(tmp_path / "green.png")]
    for index, source in enumerate(sources):
        recipe = fit(
            parts / "train" / "good", tmp_path / str(index), extractor=extractor_path, settings=SETTINGS, threads=1,
            ignore=source,
        )  # fmt: skip
        np.testing.assert_array_equal(recipe.ignore, lower_half(64, 64))
        assert recipe.ignore.dtype == np.bool_


def test_without_a_mask_there_is_none(recipe):
    assert recipe.ignore is None


def test_a_pixel_that_is_ignored_in_part_is_ignored(parts, extractor_path, tmp_path):
    mask = np.zeros((96, 96), np.uint8)  # 1.5 frame pixels for one of the input
    mask[4, 7] = 1
    recipe = fit(
        parts / "train" / "good", tmp_path / "r", extractor=extractor_path, settings=SETTINGS, threads=1, ignore=mask
    )
    np.testing.assert_array_equal(np.argwhere(recipe.ignore), [[2, 4], [2, 5], [3, 4], [3, 5]])


def test_a_mask_is_framed_like_the_frames(parts, extractor_path, tmp_path):
    mask = np.ones((96, 96), bool)
    mask[12:84, 12:84] = False  # the paper's crop sees rows and columns 6 to 90, of 96
    settings = Settings(**{**vars(SETTINGS), "framing": "paper"})
    recipe = fit(
        parts / "train" / "good", tmp_path / "r", extractor=extractor_path, settings=settings, threads=1, ignore=mask
    )
    rows, columns = np.nonzero(~recipe.ignore)
    # 64 * 8 / 7 rounds to 73 rows, of which 4 are cut off above: from 12 / 96 * 73 - 4 = 5.1 to 84 / 96 * 73 - 4 = 59.9.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 58, 6, 58)


def test_thresholds_are_made_with_the_mask(recipe, parts, extractor_path, tmp_path):
    """The mask covers where normal images differ most: the maps' thresholds fall, the image scores stay."""
    folder = tmp_path / "odd"
    shutil.copytree(parts / "train" / "good", folder)
    with Image.open(folder / "003.png") as image:
        picture = np.array(image)
    picture[70:90, 20:60] = 255
    Image.fromarray(picture).save(folder / "003.png")
    options = {"extractor": extractor_path, "settings": SETTINGS, "threads": 1}
    with pytest.warns(UserWarning, match=r"^1 of 12 images scores far above the others .*: 003.png;"):
        plain = fit(folder, tmp_path / "plain", **options)
    masked = fit(folder, tmp_path / "masked", ignore=lower_half(96, 96), **options)
    held_out = fit(folder, tmp_path / "held", ignore=lower_half(96, 96), held_out=0.25, **options)
    assert masked.calibration.image_scores == plain.calibration.image_scores
    assert masked.calibration.theta.value < 0.3 * plain.calibration.theta.value
    assert max(held_out.calibration.map_scores) < 0.3 * plain.calibration.theta.value
    again = calibrate(masked.folder, threads=1)
    assert again.calibration.map_scores == pytest.approx(masked.calibration.map_scores, rel=1e-6)
    np.testing.assert_array_equal(again.ignore, lower_half(64, 64))


def test_a_mask_outlives_adding_and_removing(parts, extractor_path, tmp_path):
    folder = tmp_path / "r"
    options = {"extractor": extractor_path, "settings": SETTINGS, "threads": 1}
    fit(parts / "train" / "good", folder, ignore=lower_half(96, 96), **options)
    added = add(folder, parts / "test" / "good" / "100.png", threads=1)
    removed = remove_images(folder, ["004.png"])
    for recipe in (added, removed, Recipe.load(folder, verify=True)):
        np.testing.assert_array_equal(recipe.ignore, lower_half(64, 64))
    assert fit(parts / "train" / "good", folder, overwrite=True, **options).ignore is None


@pytest.mark.parametrize(
    ("ignore", "text"),
    [
        (np.zeros((9, 9), np.float32), "ignore: expected bool or uint8 (h, w), got float32 (9, 9)"),
        (np.zeros((9, 9, 1), bool), "ignore: expected bool or uint8 (h, w), got bool (9, 9, 1)"),
        (np.zeros((4, 9), bool), "ignore: frame: expected sides of at least 8 pixels, got 4 x 9"),
        (np.ones((40, 40), bool), "ignore: expected a pixel or more that is scored, got a mask that ignores all"),
        # Every other pixel of a frame twice the size: no pixel of the input is left whole.
        (np.tile(np.uint8([0, 1]), (96, 64)), "ignore: expected a pixel or more that is scored, got a mask that ignores all"),
        ("nowhere.png", "nowhere.png: expected an image file, got: No such file or directory"),
    ],
)  # fmt: skip
def test_masks_that_can_not_be_used(parts, extractor_path, tmp_path, ignore, text):
    with pytest.raises(InputError) as caught:
        fit(parts / "train" / "good", tmp_path / "r", extractor=extractor_path, settings=SETTINGS, ignore=ignore)
    assert str(caught.value) == text
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("how", ["jpeg", "dark gray", "alpha"])
def test_an_ignore_mask_of_gray_values_is_split_into_background_and_mark(parts, extractor_path, tmp_path, how):
    mask = np.zeros((96, 96), np.uint8)
    mask[:40, :48] = 255
    path = tmp_path / "mask.png"
    if how == "jpeg":
        path = tmp_path / "mask.jpg"
        Image.fromarray(mask).save(path, quality=95)
    elif how == "dark gray":
        Image.fromarray(np.maximum(mask, 3)).save(path)
    else:
        Image.merge("LA", [Image.new("L", (96, 96), 255), Image.fromarray(mask)]).save(path)
    folders = tmp_path / "by-file", tmp_path / "by-array"
    for folder, ignore in zip(folders, (path, mask), strict=True):
        options = {"extractor": extractor_path, "settings": SETTINGS, "threads": 1, "ignore": ignore}
        fit(parts / "train" / "good", folder, **options)
    by_file, by_array = (Recipe.load(folder).ignore for folder in folders)
    np.testing.assert_array_equal(by_file, by_array)
