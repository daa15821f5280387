"""Other extractors: each is tried on the same halves, and one that finds more becomes part of the recipe."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from spadeline.engine import Detector, Recipe, calibrate, fit, remove_images, tune
from spadeline.engine.errors import ExtractorError, InputError
from spadeline.engine.images.reading import read_image
from spadeline.engine.tuning.candidates import open_candidates

import shared_parts.drawn
from shared_parts.drawn import part, write_small_extractor

from .spots import SETTINGS, edited, flagged, halves_of, try_few_settings, write, write_blind

pytestmark = pytest.mark.filterwarnings("ignore:.*(far above|far below) the others")


@pytest.fixture(autouse=True)
def few_settings(monkeypatch):
    try_few_settings(monkeypatch)


@pytest.fixture(scope="module")
def blind_path(tmp_path_factory, extractor_path):
    """An extractor that sees the frame's margin alone, where no defect is."""
    return write_blind(extractor_path, tmp_path_factory.mktemp("blind") / "blind.onnx")


@pytest.fixture(scope="module")
def other_path(tmp_path_factory):
    """An extractor with a larger input and two levels."""
    path = tmp_path_factory.mktemp("other") / "other.onnx"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shared_parts.drawn, "INPUT_SIDE", 96)
        write_small_extractor(path)
    return edited(path, path, lambda graph: graph.output.remove(graph.output[2]))


@pytest.fixture
def blind_recipe(parts, blind_path, tmp_path):
    settings = replace(SETTINGS, level_weights=(1.0, 2.0, 1.0))
    return fit(
        parts / "train" / "good", tmp_path / "recipe", extractor=blind_path, settings=settings, threads=1,
        false_alarm_rate=0.1,
    )  # fmt: skip


def files_below(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("chosen", ["extractor_path", "other_path"])
def test_an_extractor_that_finds_more_replaces_the_recipes(
    request, blind_recipe, labelled, parts, chosen, tmp_path
):  # fmt: skip
    path, images = request.getfixturevalue(chosen), parts / "train" / "good"
    renamed = shutil.copytree(images, tmp_path / "renamed")
    (renamed / "003.png").rename(renamed / "z.png")
    for spot in (labelled / "test" / "spot").iterdir():
        write(spot, part(int(spot.stem), scratched=True)[0])
    frame = read_image(labelled / "test" / "spot" / "400.png")
    opened = Detector.load(blind_recipe.folder, device="cpu", threads=1)
    before = opened.predict(frame)
    tuned = tune(blind_recipe.folder, labelled, extractors=[path], images=renamed, threads=1)
    assert tuned.chosen.extractor == path
    assert tuned.chosen.figures.found >= tuned.own.figures.found + 2
    assert {trial.extractor for trial in tuned.trials} == {None, path}
    assert tuned.record.changed[0] == "extractor"
    assert (tuned.record.extractors, tuned.record.tried) == (2, len(tuned.trials))
    assert ("level_weights" in tuned.record.changed) == (tuned.chosen.settings.level_weights != (1.0, 2.0, 1.0))
    now = Recipe.load(blind_recipe.folder, verify=True)
    assert (now.generation, now.created, now.tuning) == (2, blind_recipe.created, tuned.record)
    assert now.extractor_path.read_bytes() == path.read_bytes()
    assert [image.name for image in now.images] == [image.name for image in blind_recipe.images]
    assert {each.name for each in now.folder.iterdir()} == {
        "recipe.json", ".lock", *(file.name for file in now.files.values())
    }  # fmt: skip
    assert not [*tmp_path.glob(".*")]
    # It is what a fit with that extractor and these settings gives, and says what was told.
    fresh = fit(images, tmp_path / "fresh", extractor=path, settings=now.settings, threads=1, false_alarm_rate=0.1)
    assert (now.images, now.geometry, now.calibration) == (fresh.images, fresh.geometry, fresh.calibration)
    assert [file.sha256 for file in now.files.values()] == [now.files[role].sha256 for role in fresh.files]
    assert flagged(now, halves_of(labelled)[1]) == (tuned.after.found, tuned.after.false_alarms)
    # Who opened the recipe before keeps what was opened.
    assert np.array_equal(opened.predict(frame).anomaly_map, before.anomaly_map)


def test_the_recipes_extractor_stays_without_evidence(recipe, labelled, parts, blind_path, extractor_path, tmp_path):
    before, seen = files_below(tmp_path), []
    copy = shutil.copy(extractor_path, tmp_path.parent / "copy.onnx")
    options = {"threads": 1, "dry_run": True, "on_progress": lambda *each: seen.append(each)}
    alone = tune(recipe.folder, labelled, threads=1, dry_run=True)
    tuned = tune(
        recipe.folder, labelled, extractors=[copy, blind_path, blind_path], images=parts / "train" / "good", **options
    )
    assert files_below(tmp_path) == before
    assert tuned.chosen.extractor is None
    assert tuned.record.extractors == 2  # the recipe's own and its copy are one
    assert "extractor" not in tuned.record.changed
    own = [trial.figures for trial in tuned.trials if trial.extractor is None]
    assert own[0] == alone.trials[0].figures
    assert max(figures.found for figures in own) > max(
        trial.figures.found for trial in tuned.trials if trial.extractor == blind_path
    )
    assert tuned.before == alone.before
    wanted = (
        ("read normal images, 64 x 64", 12, 12),
        ("blind.onnx: normal images", 12, 12),
        ("blind.onnx: labelled images", 20, 20),
    )
    assert {*wanted, ("blind.onnx: the recipe's own settings", 22, 22)} <= {*seen}


def candidates(recipe, paths, images):
    return open_candidates(recipe, paths, (), images, device="cpu", threads=1, on_progress=None)


def test_the_images_are_all_of_the_recipes(recipe, parts, blind_path, tmp_path):
    folder = shutil.copytree(parts / "train" / "good", tmp_path / "images")
    remove_images(recipe.folder, ["000.png", "007.png"])
    write(folder / "more.png", part(77)[0])
    recipe = Recipe.load(recipe.folder)
    text = r"3 of 13 images aren't the recipe's and are left out: 000\.png, 007\.png, more\.png"
    with pytest.warns(UserWarning, match=text):
        (candidate,) = candidates(recipe, [blind_path], folder)
    assert tuple(image.record for image in candidate.images) == recipe.images
    (folder / "001.png").unlink()
    write(folder / "002.png", part(78)[0])
    text = f"{folder}: expected the recipe's 10 normal images, got a folder without 2 of them: 001.png, 002.png"
    with pytest.raises(InputError, match=text):
        candidates(recipe, [blind_path], folder)


def test_errors(recipe, parts, other_path, blind_path, extractor_path, tmp_path):
    images, ignore = parts / "train" / "good", np.zeros((96, 96), np.bool_)
    with pytest.raises(InputError, match="images: expected the recipe's normal images along with extractors"):
        candidates(recipe, [blind_path], None)
    with pytest.raises(
        InputError, match="extractors: expected at least one to try along with images, or angles to try"
    ):
        candidates(recipe, [], images)
    with pytest.raises(ExtractorError, match=r"gone\.onnx: is missing"):
        candidates(recipe, [tmp_path / "gone.onnx"], images)
    ignore[:, 80:] = True
    masked = fit(images, tmp_path / "masked", extractor=extractor_path, settings=SETTINGS, ignore=ignore, threads=1)
    text = "expected an input of 64 x 64, for which the recipe's ignore mask was made, got 96 x 96; fit a recipe"
    with pytest.raises(InputError, match=text):
        candidates(masked, [other_path], images)
    (candidate,) = candidates(masked, [blind_path], images)
    fitted = candidate.fit(masked, tmp_path / "fitted", None)
    assert np.array_equal(fitted.ignore, masked.ignore)
    again = fit(images, tmp_path / "again", extractor=blind_path, settings=SETTINGS, ignore=ignore, threads=1)
    assert (fitted.images, fitted.settings) == (again.images, again.settings)
    assert calibrate(fitted.folder, threads=1).calibration == again.calibration
