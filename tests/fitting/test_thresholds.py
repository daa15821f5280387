"""Thresholds: of which images, at which rate, and made again from what the recipe holds."""

import shutil

import numpy as np
import pytest
from spadeline.engine import Detector, InputError, Recipe, RecipeError, Settings, add, calibrate, fit
from spadeline.engine.fitting import fitting as fitting_module
from spadeline.engine.fitting.fitting import remove
from spadeline.engine.folders.listing import named_images
from spadeline.engine.images.reading import read_image
from spadeline.engine.inspect.scoring import Scorer
from spadeline.engine.recipe.changes import remove_images

from .conftest import SETTINGS


def test_names_are_relative_and_thresholds_leave_one_out(recipe):
    assert [image.name for image in recipe.images] == [f"{seed:03}.png" for seed in range(12)]
    assert recipe.calibration.method == "leave-one-out"
    assert recipe.calibration.tau.images == recipe.calibration.theta.images == 12
    assert not recipe.calibration.theta.supported  # 12 images are too few for 1 %
    assert recipe.calibration.theta.value == max(recipe.calibration.map_scores)


def test_leaving_out_equals_never_having_had_the_image(recipe, tmp_path):
    folder = shutil.copytree(recipe.folder, tmp_path / "without")
    without = remove_images(folder, ["004.png"])
    features = recipe.features(4)
    scores = Scorer(without, threads=1).score([level[0] for level in features.levels], features.embedding[0])
    assert scores.image_score == pytest.approx(recipe.calibration.image_scores[4], rel=1e-6)
    assert scores.map_score == pytest.approx(recipe.calibration.map_scores[4], rel=1e-6)


def test_thresholds_record_their_images(recipe, parts, extractor_path, tmp_path):
    assert recipe.calibration.image_names == tuple(image.name for image in recipe.images)
    held = fit(parts, tmp_path / "held", extractor=extractor_path, settings=SETTINGS, threads=1, held_out=0.25)
    assert len(held.calibration.image_names) == 3
    assert set(held.calibration.image_names).isdisjoint(image.name for image in held.images)


@pytest.mark.filterwarnings("ignore:.* far above the others")
def test_removing_keeps_the_rate_and_commits_all_or_nothing(recipe, monkeypatch):
    calibrate(recipe.folder, false_alarm_rate=0.2, changes={"label_rule": "either"}, threads=1)
    removed = remove(recipe.folder, ["004.png"], threads=1)
    assert removed.calibration.theta.false_alarm_rate == 0.1
    assert removed.calibration.theta.images == 11

    def fail(*_, **__):
        raise InputError("no thresholds")

    monkeypatch.setattr(fitting_module, "leave_one_out", fail)
    with pytest.raises(InputError, match="no thresholds"):
        remove(recipe.folder, ["005.png"], threads=1)
    assert Recipe.load(recipe.folder, verify=True).calibration == removed.calibration
    assert Recipe.load(recipe.folder).images == removed.images


def test_a_held_out_fold_gives_the_thresholds(parts, extractor_path, tmp_path):
    seen = []
    recipe = fit(
        parts / "train" / "good", tmp_path / "r", extractor=extractor_path, settings=SETTINGS, threads=1,
        held_out=0.25, false_alarm_rate=0.3, on_progress=lambda *progress: seen.append(progress),
    )  # fmt: skip
    assert (len(recipe.images), recipe.calibration.method, recipe.calibration.tau.images) == (9, "held-out", 3)
    assert ("extract", 9, 9) in seen
    assert ("calibrate", 3, 3) in seen
    kept = {image.name for image in recipe.images}
    held = [path for name, path in named_images(parts / "train" / "good") if name not in kept]
    detector = Detector.load(tmp_path / "r", device="cpu", threads=1)
    scores = sorted(detector.predict(read_image(path)).map_score for path in held)
    assert sorted(recipe.calibration.map_scores) == pytest.approx(scores, rel=1e-6)


def test_calibrating_again_needs_no_image_and_takes_new_settings(recipe):
    again = calibrate(recipe.folder, false_alarm_rate=0.01, threads=1)
    assert again.calibration.theta.value == pytest.approx(recipe.calibration.theta.value, rel=1e-6)
    changed = calibrate(recipe.folder, false_alarm_rate=0.2, changes={"kappa": 3, "distance": "root"}, threads=1)
    assert (changed.settings.kappa, changed.settings.distance) == (3, "root")
    assert changed.calibration.theta.supported
    squared = calibrate(recipe.folder, false_alarm_rate=0.2, changes={"distance": "squared"}, threads=1)
    assert changed.calibration.tau.value == pytest.approx(squared.calibration.tau.value**0.5)
    assert squared.calibration.theta.value < changed.calibration.theta.value < 1
    assert changed.generation == recipe.generation
    with pytest.raises(
        InputError, match="framing: expected 'whole', which is built into the stored features, got 'paper'"
    ):
        calibrate(recipe.folder, changes={"framing": "paper"}, threads=1)


def test_calibrating_again_keeps_the_rate_that_was_asked_for(recipe):
    calibrate(recipe.folder, false_alarm_rate=0.2, threads=1)
    again = calibrate(recipe.folder, changes={"kappa": 2}, threads=1)
    assert again.calibration.tau.false_alarm_rate == again.calibration.theta.false_alarm_rate == 0.2


def test_either_rule_has_two_thresholds_of_half_the_rate(recipe):
    """A frame may be above either threshold, so their rates add up."""
    either = calibrate(recipe.folder, false_alarm_rate=0.4, changes={"label_rule": "either"}, threads=1)
    alone = calibrate(recipe.folder, false_alarm_rate=0.2, changes={"label_rule": "map"}, threads=1)
    assert either.calibration == alone.calibration
    scores = np.array([either.calibration.image_scores, either.calibration.map_scores]).T
    thresholds = (either.calibration.tau.value, either.calibration.theta.value)
    assert np.mean(np.any(scores > thresholds, axis=1)) <= 0.4
    again = calibrate(recipe.folder, changes={"label_rule": "either"}, threads=1)  # asked for 0.2 of a frame
    assert again.calibration.theta.false_alarm_rate == 0.1
    assert calibrate(recipe.folder, threads=1).calibration == again.calibration
    back = calibrate(recipe.folder, changes={"label_rule": "image"}, threads=1)
    assert back.calibration.theta.false_alarm_rate == 0.2


def test_thresholds_of_other_images_are_not_taken(recipe, parts):
    def add_meanwhile(_stage, done, _total):
        if done == 1:
            add(recipe.folder, parts / "test" / "good" / "100.png", threads=1)

    with pytest.raises(RecipeError, match=r"expected generation 1, .* got 2: images were added or removed meanwhile"):
        calibrate(recipe.folder, threads=1, on_progress=add_meanwhile)
    assert Recipe.load(recipe.folder).calibration == recipe.calibration


@pytest.mark.filterwarnings("ignore:.* far above the others")
def test_level_weights_scale_the_map_scores(recipe):
    first, second = (
        calibrate(recipe.folder, changes={"level_weights": weights}, threads=1) for weights in ([1, 1, 1], [4, 4, 4])
    )
    assert first.settings.level_weights == (1.0, 1.0, 1.0)
    assert first.calibration.map_scores == pytest.approx(recipe.calibration.map_scores, rel=1e-6)
    quadruple = [4 * score for score in first.calibration.map_scores]
    assert second.calibration.map_scores == pytest.approx(quadruple, rel=1e-6)
    assert second.calibration.image_scores == first.calibration.image_scores
    coarse = calibrate(recipe.folder, changes={"level_weights": (1e-6, 1e-6, 1.0)}, threads=1)
    fine = calibrate(recipe.folder, changes={"level_weights": (1.0, 1e-6, 1e-6)}, threads=1)
    for part_of_it in (coarse, fine):
        assert part_of_it.calibration.theta.value < 0.9 * recipe.calibration.theta.value
    assert Recipe.load(recipe.folder).settings.level_weights == (1.0, 1e-6, 1e-6)


def test_weights_of_another_number_of_levels_are_refused(recipe, parts, extractor_path, tmp_path):
    with pytest.raises(InputError, match="level_weights: expected"):
        calibrate(recipe.folder, changes={"level_weights": (1.0, 2.0)}, threads=1)
    assert Recipe.load(recipe.folder).calibration == recipe.calibration
    settings = Settings(**{**vars(SETTINGS), "level_weights": (1.0,) * 4})
    with pytest.raises(InputError, match="level_weights: expected"):
        fit(parts / "train" / "good", tmp_path / "r", extractor=extractor_path, settings=settings, threads=1)
    assert not (tmp_path / "r" / "recipe.json").exists()
