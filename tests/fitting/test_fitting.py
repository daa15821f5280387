"""From images to a recipe: which images are taken, what is stored, what is refused."""

import os
import shutil

import numpy as np
import pytest
from spadeline.engine import Detector, InputError, OutputError, Recipe, RecipeError, Settings, fit
from spadeline.engine.fitting import fitting as fitting_module
from spadeline.engine.images.reading import read_image

from ..conftest import tagged
from .conftest import SETTINGS


def test_test_images_never_get_into_the_gallery(parts, extractor_path, tmp_path):
    recipe = fit(parts, tmp_path / "r", extractor=extractor_path, settings=SETTINGS, threads=1)
    assert [image.name for image in recipe.images] == [f"{seed:03}.png" for seed in range(12)]
    for name in ("abnormal", "test", "ground_truth"):
        shutil.copytree(parts / "train" / "good", tmp_path / name / "normal")
        shutil.copytree(parts / "test" / "scratch", tmp_path / name / name)
        with pytest.raises(InputError, match=f"expected normal images only, got a folder with {name}"):
            fit(tmp_path / name, tmp_path / "r2", extractor=extractor_path)
    assert not (tmp_path / "r2").exists()


@pytest.mark.parametrize("inner", ["bottle/test/good", "bottle/ground_truth/cut", "a/b/abnormal"])
def test_folders_of_data_sets_never_get_into_the_gallery(parts, extractor_path, tmp_path, inner):
    shutil.copytree(parts / "train" / "good", tmp_path / "sets" / "bottle" / "train" / "good")
    shutil.copytree(parts / "test" / "good", tmp_path / "sets" / inner)
    name = next(name for name in ("test", "ground_truth", "abnormal") if name in inner)
    text = rf"got a folder with {name} \(.*\); give the folder that holds normal images alone, such as a class's train/good$"
    with pytest.raises(InputError, match=text):
        fit(tmp_path / "sets", tmp_path / "r", extractor=extractor_path)
    assert not (tmp_path / "r").exists()


def test_a_recipe_that_is_there_is_known_before_the_work(recipe, parts, monkeypatch):
    monkeypatch.setattr(fitting_module, "Extractor", lambda *_, **__: pytest.fail("opened the extractor"))
    with pytest.raises(RecipeError, match="expected no recipe, got one; overwrite it, or create elsewhere"):
        fit(parts / "train" / "good", recipe.folder, extractor=recipe.extractor_path)


def test_float16_storage_scores_almost_the_same(recipe, parts, extractor_path, tmp_path):
    settings = Settings(**{**vars(SETTINGS), "storage": "float16"})
    half = fit(parts / "train" / "good", tmp_path / "half", extractor=extractor_path, settings=settings, threads=1)
    assert half.levels[0].dtype == np.float16
    assert half.calibration.map_scores == pytest.approx(recipe.calibration.map_scores, rel=0.05)


def test_paper_framing_is_kept_by_the_recipe(parts, extractor_path, tmp_path):
    settings = Settings(**{**vars(SETTINGS), "framing": "paper"})
    fit(parts / "train" / "good", tmp_path / "r", extractor=extractor_path, settings=settings, threads=1)
    detector = Detector.load(tmp_path / "r", device="cpu", threads=1)
    frame = read_image(parts / "test" / "scratch" / "201.png")
    border = frame.copy()
    border[:4] = 255  # outside the centre crop, which sees 7/8 of each side
    np.testing.assert_array_equal(detector.predict(frame).nearest_images, detector.predict(border).nearest_images)


def test_an_image_that_comes_twice_is_known_before_the_work(parts, extractor_path, tmp_path):
    image = parts / "train" / "good" / "000.png"
    with pytest.raises(InputError, match=rf"^source: '{image}' comes twice$"):
        fit([image, parts / "train" / "good" / "001.png", image], tmp_path / "r", extractor=extractor_path)
    assert not (tmp_path / "r").exists()


def test_two_fits_agree(recipe, parts, extractor_path, tmp_path):
    again = fit(parts / "train" / "good", tmp_path / "again", extractor=extractor_path, settings=SETTINGS, threads=2)
    assert again.calibration == recipe.calibration
    for a, b in zip(again.levels, recipe.levels, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_bad_image_stops_the_fit_and_leaves_no_recipe(parts, extractor_path, tmp_path):
    shutil.copytree(parts / "train" / "good", tmp_path / "images")
    (tmp_path / "images" / "006.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    with pytest.raises(InputError, match=r"006\.png: expected an undamaged image|006\.png: expected a BMP"):
        fit(tmp_path / "images", tmp_path / "r", extractor=extractor_path, settings=SETTINGS, threads=1)
    with pytest.raises(RecipeError):
        Recipe.load(tmp_path / "r")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"false_alarm_rate": 0.0}, "false_alarm_rate: expected"),
        ({"held_out": 1.0}, "held_out: expected a share from 0 to below 1, got 1.0"),
        ({"held_out": 0.01}, "held_out: expected a share that leaves images on both sides of 12, got 0.01"),
        ({"settings": Settings(kappa=999)}, "kappa: expected"),
    ],
)
def test_bad_options_are_refused(parts, extractor_path, tmp_path, options, text):
    options = {"settings": SETTINGS} | options
    if options["settings"].kappa > 1:
        options["settings"] = Settings(kappa=999, k_gallery=2, k_score=2, window=0)
    with pytest.raises(InputError, match=text):
        fit(parts / "train" / "good", tmp_path / "r", extractor=extractor_path, threads=1, **options)
    assert not (tmp_path / "r" / "recipe.json").exists()


def test_one_image_or_none_is_not_enough(parts, extractor_path, tmp_path):
    one = [parts / "train" / "good" / "000.png"]
    with pytest.raises(InputError, match="expected at least 2 normal images, to compare one with the other, got 1"):
        fit(one, tmp_path / "r", extractor=extractor_path)
    with pytest.raises(InputError, match="source: expected a folder or at least one image, got none"):
        fit([], tmp_path / "r", extractor=extractor_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: expected at least one image"):
        fit(tmp_path / "empty", tmp_path / "r", extractor=extractor_path)


def test_an_unwritable_place_is_named(parts, extractor_path, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"file.*can't be written"):
        fit(parts / "train" / "good", tmp_path / "file", extractor=extractor_path, settings=SETTINGS, threads=1)


def test_a_pipe_among_the_images_is_an_error_at_once(parts, extractor_path, tmp_path):
    folder = shutil.copytree(parts / "train" / "good", tmp_path / "images")
    os.mkfifo(folder / "006b.png")
    with pytest.raises(InputError) as caught:
        fit(folder, tmp_path / "recipe", extractor=extractor_path, settings=SETTINGS, threads=1)
    assert str(caught.value) == f"{folder / '006b.png'}: expected an image file, got a named pipe"
    assert not (tmp_path / "recipe" / "recipe.json").exists()


def test_images_that_were_turned_are_reported(parts, extractor_path, tmp_path):
    for seed in range(4):
        tagged(parts / "train" / "good" / f"{seed:03}.png", tmp_path / f"{seed:03}.png", turned=seed % 2)
    text = (
        r"2 of 4 images have an EXIF orientation and were turned as a viewer shows them: 001\.png, 003\.png; a camera"
    )
    with pytest.warns(UserWarning, match=text):
        fit(tmp_path, tmp_path / "recipe", extractor=extractor_path, settings=SETTINGS, threads=1)
