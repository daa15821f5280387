"""Single trials: the scores are those of calibrate, and one trial is better than another by a fixed rule."""

from dataclasses import replace

import numpy as np
import pytest
from spadeline.engine import Settings, calibrate, fit
from spadeline.engine.tuning import search as search_module
from spadeline.engine.tuning.image_scores import ImageScores, Queried
from spadeline.engine.tuning.search import best_of, choices_of, described, search
from spadeline.engine.tuning.trials import Figures, Trial, Trials

from .spots import SETTINGS


def left_out(recipe):
    return [
        Queried(lambda index=index: recipe.features(index).levels, recipe.features(index).embedding[0], exclude=index)
        for index in range(len(recipe.images))
    ]


@pytest.mark.filterwarnings("ignore:.*(far above|far below) the others")
@pytest.mark.parametrize(
    "changes",
    [
        {"sigma": 0.0},
        {"sigma": 2.0, "kappa": 3, "window": 1, "k_gallery": 2},
        {"level_weights": (1.0, 10.0, 0.1), "label_rule": "either", "k_score": 1},
    ],
)
def test_scores_are_those_that_calibrate_stores(parts, extractor_path, tmp_path, changes):
    ignore = np.zeros((64, 64), np.bool_)
    ignore[:, 50:] = True
    recipe = fit(
        parts / "train" / "good", tmp_path / "r", extractor=extractor_path, threads=1, ignore=ignore,
        settings=replace(SETTINGS, distance="root"),
    )  # fmt: skip
    scores = ImageScores(recipe, left_out(recipe), sigmas=(8.0, 4.0, 0.0, 2.0), threads=1)
    settings = replace(recipe.settings, **changes)
    found = scores.scores(settings)
    assert scores.scores(replace(settings, sigma=4.0)) != found  # from the same distances
    calibration = calibrate(recipe.folder, changes=changes, threads=1).calibration
    assert tuple(score.map_score for score in found) == calibration.map_scores
    assert tuple(score.retrieved.image_score for score in found) == calibration.image_scores


def test_only_what_distances_depend_on_is_matched_again(recipe):
    scores = ImageScores(recipe, left_out(recipe), sigmas=(8.0, 2.0), threads=1)
    matched = []
    for changes in ({}, {"sigma": 2.0}, {"label_rule": "either", "k_score": 1}, {"kappa": 2}, {"window": 1}):
        before = len(matched)
        scores.scores(replace(SETTINGS, **changes), lambda: matched.append(1))
        assert (len(matched) > before) == (changes == {} or "kappa" in changes or "window" in changes)
    assert len(matched) == 3 * len(recipe.images)
    assert len(scores.match_seconds(SETTINGS)) == len(recipe.images)


def test_settings_that_reach_too_few_pixels_are_not_tried(recipe):
    trials = Trials(
        recipe, ImageScores(recipe, [], sigmas=(8.0,), threads=1), [], [], sigmas=(8.0,), false_alarm_rate=0.1,
        threads=1, on_progress=None,
    )  # fmt: skip
    narrow = replace(SETTINGS, k_gallery=2, window=0)  # 16 pixels of each image
    assert trials.possible(replace(narrow, kappa=32))
    assert not trials.possible(replace(narrow, kappa=33))
    # 12 images, one of which is left out
    assert trials.possible(replace(narrow, k_gallery=12, kappa=11 * 16))
    assert not trials.possible(replace(narrow, k_gallery=12, kappa=11 * 16 + 1))


def trial(found, *, separation=0.9, match_s=1.0, false_alarms=0, allowed=1, settings=SETTINGS):
    figures = Figures(abnormal=20, good=10, found=found, false_alarms=false_alarms, image_rocauc=0.5)
    return Trial(
        settings=settings, calibration=None, figures=figures, allowed=allowed, separation=separation, match_s=match_s
    )


def test_the_better_trial():
    assert trial(5).is_better(trial(4, separation=1.0, match_s=0.1))
    assert not trial(5).is_better(trial(5))
    assert trial(5, separation=0.91, match_s=9.0).is_better(trial(5))
    assert trial(5, match_s=0.7).is_better(trial(5))
    assert not trial(5, match_s=0.9).is_better(trial(5))  # it may be the machine's
    assert trial(5, false_alarms=1).is_better(trial(4))
    assert not trial(20, false_alarms=2).is_better(trial(4))


class Scripted:
    """Trials whose outcome follows from the settings alone."""

    def __init__(self, found):
        self._found, self.done = found, []

    def possible(self, settings):
        return True

    def run(self, settings, stage):
        self.done.append(settings)
        return trial(self._found(settings), settings=settings)


def test_the_search_changes_one_setting_after_the_other(recipe):
    def found(settings):
        return 3 + (settings.window == 1) + 2 * (settings.sigma == 2) + (settings.window == 1 and settings.kappa == 3)

    scripted = Scripted(found)
    best = search(scripted, recipe)
    assert described(best.settings, SETTINGS) == "kappa 3, window 1, sigma 2"
    assert best.figures.found == 7
    assert scripted.done[0] == SETTINGS


@pytest.mark.parametrize(("gain", "changed"), [(1, ""), (2, "sigma 2")])
def test_one_image_more_is_chance(recipe, gain, changed):
    best = search(Scripted(lambda settings: 3 + gain * (settings.sigma == 2)), recipe)
    assert described(best.settings, SETTINGS) == (changed or "the recipe's own")


def test_another_extractor_must_find_two_images_more():
    own = trial(5)
    assert best_of([own]) is own
    assert best_of([own, trial(6, separation=1.0)]) is own
    assert best_of([own, trial(9, false_alarms=2)]) is own
    others = trial(7), trial(8), trial(8, separation=0.95), trial(6)
    assert best_of([own, *others]) is others[2]


def test_values_are_those_that_change_something(recipe):
    def values(name, settings=SETTINGS):
        return {getattr(each, name) for choices in choices_of(recipe) for each in choices(settings)} - {
            getattr(settings, name)
        }

    assert values("window") == {0, 1, 2}  # the coarsest level has 4 x 4 pixels
    assert values("k_gallery") == {1, 3, 5, 10}  # of 12 images
    assert values("k_gallery", replace(SETTINGS, k_gallery=50)) == {1, 3, 5, 10}
    assert values("k_score") == set()  # the map alone decides
    assert values("k_score", replace(SETTINGS, label_rule="either")) == {1, 5, 10}
    assert values("sigma") == {0.0, 2.0, 4.0}
    weights = values("level_weights")
    assert weights == {(0.1, 1, 1), (10, 1, 1), (1, 0.1, 1), (1, 10, 1), (1, 1, 0.1), (1, 1, 10)}
    assert None in values("level_weights", replace(SETTINGS, level_weights=(1.0, 1.0, 10.0)))


def test_a_recipes_own_sigma_stays_among_those_tried(recipe):
    assert search_module.sigmas(recipe) == (8.0, 0.0, 2.0, 4.0)
    assert search_module.sigmas(replace(recipe, settings=Settings(sigma=5.0)))[0] == 5.0
