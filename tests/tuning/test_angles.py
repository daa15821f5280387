"""Angles: numbers of them are tried like other extractors, and one that finds more becomes part of the recipe."""

import pytest
from spadeline.engine import Recipe, calibrate, fit, tune
from spadeline.engine.errors import InputError
from spadeline.engine.tuning import tuning as tuning_module

from .spots import SETTINGS, try_few_settings

pytestmark = pytest.mark.filterwarnings("ignore:.*(far above|far below) the others")


@pytest.fixture
def recipe(parts, extractor_path, tmp_path):
    options = {"extractor": extractor_path, "settings": SETTINGS, "threads": 1, "false_alarm_rate": 0.1}
    return fit(parts / "train" / "good", tmp_path / "recipe", **options)


def test_angles_that_win_become_the_recipes(recipe, labelled, parts, extractor_path, tmp_path, monkeypatch):
    try_few_settings(monkeypatch)
    monkeypatch.setattr(tuning_module, "best_of", lambda trials: trials[-1])
    images = parts / "train" / "good"
    tuned = tune(recipe.folder, labelled, angles=[2, 1], images=images, threads=1)
    assert {(trial.extractor, trial.settings.angles) for trial in tuned.trials} == {(None, 1), (None, 2)}
    assert tuned.record.changed[0] == "angles"
    assert tuned.record.extractors == 1
    now = Recipe.load(recipe.folder, verify=True)
    assert (now.generation, len(now.originals), len(now.images), now.settings.angles) == (2, 12, 24, 2)
    assert [image.name for image in now.originals] == [image.name for image in recipe.images]
    options = {"extractor": extractor_path, "settings": now.settings, "threads": 1, "false_alarm_rate": 0.1}
    assert now.calibration == fit(images, tmp_path / "fitted", **options).calibration
    assert now.calibration == calibrate(recipe.folder, threads=1).calibration


def test_a_recipe_with_angles_is_tuned_without_images(parts, labelled, extractor_path, tmp_path, monkeypatch):
    try_few_settings(monkeypatch)
    settings = {**vars(SETTINGS), "angles": 2}
    made = fit(
        parts / "train" / "good", tmp_path / "r", extractor=extractor_path, settings=type(SETTINGS)(**settings),
        threads=1, false_alarm_rate=0.1,
    )  # fmt: skip
    tuned = tune(made.folder, labelled, threads=1, dry_run=True)
    assert tuned.own.calibration == made.calibration


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"angles": [4]},
            "images: expected the recipe's normal images along with extractors or angles to try, got none",
        ),
        ({"angles": [0]}, "angles: expected an integer from 1 to 72, got 0"),
        ({}, "extractors: expected at least one to try along with images, or angles to try, got none"),
    ],
)
def test_what_is_refused(recipe, labelled, parts, options, text):
    given = {} if "expected the recipe's" in text else {"images": parts / "train" / "good"}
    with pytest.raises(InputError, match=text):
        tune(recipe.folder, labelled, threads=1, **given, **options)
