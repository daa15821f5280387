"""Tuning as a whole: what is chosen, what is written, and that the final figures come from images that chose nothing."""

import shutil

import pytest
from PIL import Image
from spadeline.engine import Recipe, calibrate, remove_images, tune
from spadeline.engine.errors import InputError
from spadeline.engine.settings import all_settings
from spadeline.engine.tuning import trials as trials_module

from shared_parts.drawn import part

from .spots import SETTINGS, flagged, halves_of, spotted, write

pytestmark = pytest.mark.filterwarnings("ignore:.*(far above|far below) the others")


def test_settings_that_find_more_are_written_as_calibrate_would(recipe, labelled, tmp_path):
    twin = shutil.copytree(recipe.folder, tmp_path / "twin")
    _, final = halves_of(labelled)
    before = flagged(recipe, final)
    tuned = tune(recipe.folder, labelled, threads=1)
    assert tuned.written
    assert tuned.chosen.figures.found >= tuned.own.figures.found + 2
    assert tuned.chosen.settings != SETTINGS
    assert tuned.own.settings == SETTINGS
    now = Recipe.load(recipe.folder, verify=True)
    assert (now.settings, now.calibration) == (tuned.chosen.settings, tuned.chosen.calibration)
    assert now.calibration.theta.images == 12
    changes = {name: getattr(now.settings, name) for name in tuned.record.changed}
    again = calibrate(twin, changes=changes, threads=1)
    assert (again.settings, again.calibration) == (now.settings, now.calibration)
    # What a detector says of the final half is what was told.
    assert flagged(now, final) == (tuned.after.found, tuned.after.false_alarms)
    assert before == (tuned.before.found, tuned.before.false_alarms)
    assert before[0] < tuned.after.found
    assert (tuned.after.abnormal, tuned.after.good) == (6, 4)


def test_the_recipe_knows_why(recipe, labelled):
    tuned = tune(recipe.folder, labelled, threads=1)
    record = Recipe.load(recipe.folder).tuning
    assert record == tuned.record
    assert (record.tried, record.found) == (len(tuned.trials), tuned.after.found)
    assert (record.choosing_abnormal, record.choosing_good, record.final_abnormal, record.final_good) == (6, 4, 6, 4)
    assert record.changed
    assert {*record.changed} < {setting.name for setting in all_settings()}
    # The reason stays while the settings do.
    assert calibrate(recipe.folder, false_alarm_rate=0.2, threads=1).tuning == record
    assert remove_images(recipe.folder, ["004.png"]).tuning == record
    assert calibrate(recipe.folder, changes={"sigma": 3.0}, threads=1).tuning is None


def test_the_final_figures_come_from_images_that_chose_nothing(recipe, labelled, monkeypatch):
    """The halves disagree: in the final one, no part has a spot."""
    monkeypatch.setattr(trials_module, "FASTER", 0.0)  # no choice by time, which differs from run to run
    first = tune(recipe.folder, labelled, threads=1, dry_run=True)
    _, final = halves_of(labelled)
    for path in final:
        if path.parent.name == "spot":
            write(path, part(int(path.stem))[0])
    second = tune(recipe.folder, labelled, threads=1, dry_run=True)
    assert [trial.figures for trial in second.trials] == [trial.figures for trial in first.trials]
    assert second.chosen.settings == first.chosen.settings
    assert second.chosen.figures.found >= 4
    assert first.after.found > second.after.found
    # The other way round: in the half that chooses, no part has a spot.
    for paths, picture in zip(halves_of(labelled), (lambda seed: part(seed)[0], spotted), strict=True):
        for path in paths:
            if path.parent.name == "spot":
                write(path, picture(int(path.stem)))
    third = tune(recipe.folder, labelled, threads=1, dry_run=True)
    assert third.chosen is third.own
    assert third.before == third.after == first.before


def test_without_evidence_the_settings_stay(recipe, labelled):
    for path in (labelled / "test" / "spot").iterdir():
        write(path, part(int(path.stem))[0])
    tuned = tune(recipe.folder, labelled, threads=1)
    assert tuned.chosen is tuned.own
    assert tuned.before == tuned.after
    assert len(tuned.trials) > 15
    now = Recipe.load(recipe.folder)
    assert (now.settings, now.calibration) == (SETTINGS, recipe.calibration)
    assert now.tuning.changed == ()


def test_a_dry_run_writes_nothing(recipe, labelled):
    before = {path.name: path.read_bytes() for path in recipe.folder.iterdir()}
    seen = []
    tuned = tune(recipe.folder, labelled, threads=1, dry_run=True, on_progress=lambda *each: seen.append(each))
    assert not tuned.written
    assert tuned.chosen.settings != SETTINGS
    assert {path.name: path.read_bytes() for path in recipe.folder.iterdir()} == before
    assert {("read", 20, 20), ("extract", 20, 20), ("the recipe's own settings", 22, 22), ("final half", 10, 10)} <= {
        *seen
    }


def test_the_rate_is_the_recipes_or_the_one_given(recipe, labelled):
    tuned = tune(recipe.folder, labelled, threads=1, dry_run=True)
    assert tuned.false_alarm_rate == tuned.own.calibration.theta.false_alarm_rate == 0.1
    tuned = tune(recipe.folder, labelled, threads=1, false_alarm_rate=0.3)
    assert tuned.false_alarm_rate == 0.3
    either = tuned.chosen.settings.label_rule == "either"
    assert Recipe.load(recipe.folder).calibration.theta.false_alarm_rate == (0.15 if either else 0.3)


def test_false_alarms_beyond_the_bound_are_not_allowed(recipe, labelled):
    tuned = tune(recipe.folder, labelled, threads=1, dry_run=True)
    for trial in tuned.trials:
        bounds = {"map": trial.calibration.theta.bound, "image": trial.calibration.tau.bound}
        bound = bounds.get(trial.settings.label_rule, sum(bounds.values()))
        assert trial.allowed - 1 < 4 * min(bound, 1) <= trial.allowed
    assert tuned.chosen.eligible


@pytest.mark.filterwarnings("error:.* left out")
def test_copies_prove_nothing(recipe, labelled, parts):
    shutil.copy(parts / "train" / "good" / "003.png", labelled / "test" / "good" / "x.png")
    with Image.open(labelled / "test" / "spot" / "405.png") as picture:
        picture.save(labelled / "test" / "spot" / "y.bmp")
    text = "2 of 22 images are exact copies and left out: test/good/x.png of 003.png, test/spot/y.bmp of "
    with pytest.warns(UserWarning, match=text):
        tuned = tune(recipe.folder, labelled, threads=1, dry_run=True)
    assert (tuned.own.figures.abnormal + tuned.after.abnormal, tuned.own.figures.good + tuned.after.good) == (12, 8)


def test_the_frame_check_counts_as_in_every_verdict(recipe, labelled):
    calibrate(recipe.folder, changes={"frame_check": "on"}, threads=1)
    for path in (labelled / "test" / "spot").iterdir():
        write(path, part(int(path.stem))[0] // 8)
    tuned = tune(recipe.folder, labelled, threads=1, dry_run=True)
    assert tuned.before.found == 6
    assert flagged(recipe, halves_of(labelled)[1]) == (6, 0)


def test_errors(recipe, labelled, parts):
    with pytest.raises(InputError, match="labelled: expected at least 8 abnormal images, 4 for each half, got 4"):
        tune(recipe.folder, parts, threads=1)
    with pytest.raises(InputError, match="false_alarm_rate: expected a number between 0 and 1"):
        tune(recipe.folder, labelled, threads=1, false_alarm_rate=1.0)
    write(labelled / "test" / "good" / "wide.png", part(1, size=96)[0][:48])
    with pytest.raises(InputError, match=r"wide\.png: "):
        tune(recipe.folder, labelled, threads=1)
    (labelled / "test" / "good" / "wide.png").unlink()
    remove_images(recipe.folder, [image.name for image in recipe.images[1:]])
    with pytest.raises(InputError, match="expected at least 2 images for leave-one-out thresholds, got 1"):
        tune(recipe.folder, labelled, threads=1)
    assert Recipe.load(recipe.folder).tuning is None
