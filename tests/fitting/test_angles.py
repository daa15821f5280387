"""Normal images that are kept at several angles: what is turned, and that no image is compared with itself."""

import warnings

import numpy as np
import pytest
from spadeline.engine import Detector, InputError, Settings, add, calibrate, fit
from spadeline.engine.fitting.fitting import remove
from spadeline.engine.fitting.suspects import SuspectWarning, near_copies
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb
from spadeline.engine.images.turning import turned
from spadeline.engine.recipe.recipe import Recipe
from spadeline.engine.recipe.records import ImageRecord

SETTINGS = Settings(k_score=2, k_gallery=8, sigma=1.0, storage="float32", angles=4)


@pytest.fixture(scope="module")
def folder(parts, extractor_path, tmp_path_factory):
    """A recipe of twelve parts at four angles. Tests that change it copy it."""
    folder = tmp_path_factory.mktemp("angles") / "recipe"
    fitted(parts / "train" / "good", folder, extractor_path)
    return folder


def fitted(source, folder, extractor_path):
    with warnings.catch_warnings():  # few drawn parts are alike enough
        warnings.simplefilter("ignore", SuspectWarning)
        return fit(source, folder, extractor=extractor_path, settings=SETTINGS, threads=1)


@pytest.mark.parametrize("size", [(8, 8), (7, 7)])
def test_quarter_turns_move_pixels(size):
    rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    for quarters in range(4):
        np.testing.assert_array_equal(turned(rgb, 90 * quarters), np.rot90(rgb, quarters))


def test_a_turned_picture_keeps_its_size_and_mirrors_what_it_lacks():
    rgb = np.full((20, 60, 3), 100, np.uint8)
    assert (turned(rgb, 37) == rgb).all()


def test_each_image_is_followed_by_its_turned_ones(folder, parts):
    recipe = Recipe.load(folder)
    assert (len(recipe.originals), len(recipe.images)) == (12, 48)
    assert recipe.families == tuple(range(first, first + 4) for first in range(0, 48, 4))
    first, *others = recipe.images[:4]
    assert [image.name for image in others] == [f"000.png, turned by {d} degrees" for d in (90, 180, 270)]
    assert {(image.original, image.sha256) for image in others} == {("000.png", first.sha256)}
    assert (first.original, first.degrees, first.pixels_sha256 is None) == (None, 0.0, False)
    assert recipe.frame_sizes == 12 * (as_rgb(read_image(parts / "train/good/000.png")).shape[:2],)


def test_a_turned_frame_matches_its_turned_image(folder, parts):
    frame = as_rgb(read_image(parts / "train/good/003.png"))
    result = Detector.load(folder, threads=1).predict(turned(frame, 180))
    assert result.nearest_images[0] == 3 * 4 + 2
    assert result.map_score == pytest.approx(0, abs=1e-5)


def test_thresholds_leave_out_all_angles_of_an_image(folder, parts, extractor_path, tmp_path):
    """Two square parts that have all angles in common would give thresholds of 0, if each found itself turned."""
    recipe = Recipe.load(folder)
    assert recipe.calibration.image_names == tuple(image.name for image in recipe.originals)
    assert min(recipe.calibration.map_scores) > 0
    rest = [path for path in sorted((parts / "train/good").iterdir()) if path.name != "005.png"]
    without = Detector.load(fitted(rest, tmp_path / "rest", extractor_path).folder, threads=1)
    result = without.predict(read_image(parts / "train/good/005.png"))
    assert recipe.calibration.map_scores[5] == pytest.approx(result.map_score, rel=1e-5)
    assert recipe.calibration.image_scores[5] == pytest.approx(result.image_score, rel=1e-5)
    with pytest.warns(SuspectWarning):
        assert calibrate(tmp_path / "rest", threads=1).calibration == without.recipe.calibration


def test_held_out_images_are_not_turned(parts, extractor_path, tmp_path):
    source = parts / "train" / "good"
    recipe = fit(source, tmp_path / "r", extractor=extractor_path, settings=SETTINGS, held_out=0.25, threads=1)
    assert (len(recipe.originals), len(recipe.images), recipe.calibration.theta.images) == (9, 36, 3)


def test_images_are_added_and_removed_with_all_their_angles(parts, extractor_path, tmp_path):
    paths = sorted((parts / "train/good").iterdir())
    recipe = fitted(paths[:3], tmp_path / "r", extractor_path)
    recipe = add(recipe.folder, paths[3], threads=1)
    assert [image.name for image in recipe.originals] == [*map(str, paths[:3]), "003.png"]
    recipe = remove(recipe.folder, [str(paths[1])], threads=1)
    again = fitted([paths[0], *paths[2:4]], tmp_path / "again", extractor_path)
    assert [image.facts for image in recipe.images] == [image.facts for image in again.images]
    assert recipe.calibration.map_scores == again.calibration.map_scores
    for role, array in zip(recipe.level_names, recipe.levels, strict=True):
        np.testing.assert_array_equal(array, again.levels[again.level_names.index(role)])
    with pytest.raises(InputError, match=r"expected images of .*, got '003.png, turned by 90 degrees'"):
        remove(recipe.folder, ["003.png, turned by 90 degrees"], threads=1)
    with pytest.warns(UserWarning, match="1 of 1 images is an exact copy and left out: 003.png of 003.png"):
        assert add(recipe.folder, paths[3], threads=1).images == recipe.images


def test_an_image_that_changed_meanwhile_is_refused(parts, extractor_path, tmp_path):
    source = tmp_path / "images"
    source.mkdir()
    for path in sorted((parts / "train/good").iterdir())[:3]:
        (source / path.name).write_bytes(path.read_bytes())

    def change(stage, done, total):
        if (stage, done) == ("read", total):
            (source / "000.png").write_bytes((source / "001.png").read_bytes())

    with pytest.raises(InputError, match="expected the image that was read before, got another: it was changed"):
        fit(source, tmp_path / "r", extractor=extractor_path, settings=SETTINGS, threads=1, on_progress=change)


def test_turned_images_are_no_near_copies(folder):
    assert all(recipe_image % 4 == 0 for pair in near_copies(Recipe.load(folder)) for recipe_image in pair)


def test_angles_are_built_in(folder):
    with pytest.raises(InputError, match="angles: expected 4, which is built into the stored features, got 2"):
        calibrate(folder, changes={"angles": 2})


def test_a_record_has_a_name_and_an_angle():
    record = ImageRecord("a.png", "a" * 64, "b" * 64)
    assert record.turned(22.5, None).name == "a.png, turned by 22.5 degrees"
