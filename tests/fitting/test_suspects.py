"""Suspect images by their scores; and, on real images if they are there, that defects among normal ones are found."""

import shlex
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from spadeline.engine import Recipe, Settings, fit
from spadeline.engine.calibration import threshold
from spadeline.engine.fitting.fitting import remove
from spadeline.engine.fitting.suspects import (
    far_above,
    far_below,
    find_suspects,
    highest_scores,
    near_copies,
    removal_command,
    sentences,
)
from spadeline.engine.images.reading import read_image
from spadeline.engine.recipe.records import Calibration, ImageRecord

from ..conftest import SHARED
from .conftest import SETTINGS


def recipe_of(map_scores, image_scores=None, *, method="leave-one-out", gallery=None, features=None, **settings):
    """Stand for a recipe: the fields that the rules use, of images named by their indices."""
    names = tuple(f"{index}.png" for index in range(len(map_scores)))
    image_scores = image_scores or [1.0] * len(map_scores)
    thresholds = [threshold(scores, false_alarm_rate=0.01) for scores in (image_scores, map_scores)]
    calibration = Calibration(*thresholds, method, tuple(image_scores), tuple(map_scores), names)
    gallery = names if gallery is None else gallery
    if features is None:
        features = np.random.default_rng(0).standard_normal((len(gallery), 2, 2, 1, 50))
    features = features.astype(np.float16)
    return SimpleNamespace(
        folder="line 1",
        calibration=calibration,
        originals=[ImageRecord(name) for name in gallery],
        images=[ImageRecord(name) for name in gallery],
        families=[range(index, index + 1) for index in range(len(gallery))],
        settings=Settings(**settings),
        embeddings=features.reshape(len(features), -1).astype(np.float32),
        levels=[features],
    )


USUAL = [10.0, 11.0, 12.0, 13.0, 14.0, 10.5, 11.5, 12.5, 13.5, 14.5]  # four of five are at most 13.5


def test_far_from_the_others():
    scores = np.array([*USUAL, 40.0, 2.9, 0.0, 23.4, 23.6])
    assert far_above(scores) == [10, 14]  # the limit is 14.5 + 2 * (14.5 - 10)
    assert far_below(scores, Settings()) == [12, 11]  # the limit is 0.3 * 10
    assert far_below(np.sqrt(scores), Settings(distance="root")) == [12, 11]
    assert far_below(np.sqrt(scores), Settings()) == [12]
    for few in ([1.0], [1.0, 9.0], [0.0, 0.0]):
        assert far_above(np.array(few)) == []
    assert far_below(np.zeros(3), Settings()) == [0, 1, 2]


def test_scores_that_decide_are_looked_at():
    scores = ([*USUAL, 30.0], [*USUAL[:-1], 40.0, 14.0])
    for rule, above in (("map", ("10.png",)), ("image", ("9.png",)), ("either", ("10.png", "9.png"))):
        assert find_suspects(recipe_of(*scores, label_rule=rule)).above == above


def test_thresholds_of_an_older_version_have_no_suspects():
    recipe = recipe_of([*USUAL, 30.0])
    recipe.calibration = replace(recipe.calibration, image_names=None)
    assert find_suspects(recipe).above == ()
    assert sentences(recipe) == []
    assert highest_scores(recipe.calibration) == {"map_scores": [], "image_scores": []}
    recipe.calibration = None
    assert sentences(recipe) == []


def test_the_highest_scores_have_names():
    highest = highest_scores(recipe_of([*USUAL, 30.0]).calibration)["map_scores"]
    assert highest == [("10.png", 30.0), ("9.png", 14.5), ("4.png", 14.0), ("8.png", 13.5), ("3.png", 13.0)]


def test_near_copies_are_pairs():
    rng = np.random.default_rng(1)
    features = rng.standard_normal((40, 3, 4, 1, 20))
    assert near_copies(recipe_of([1.0] * 40, features=features)) == []
    features[[7, 9]] = features[[2, 7]] + 0.1 * rng.standard_normal((2, 3, 4, 1, 20))
    features[9] = features[7]
    found = near_copies(recipe_of([1.0] * 40, features=features))
    assert found == [(7, 2), (9, 2), (9, 7)]
    twice = np.concatenate([features[:30], features[:30] + 0.1 * rng.standard_normal((30, 3, 4, 1, 20))])
    assert {(index + 30, index) for index in range(30)} <= set(near_copies(recipe_of([1.0] * 60, features=twice)))
    assert near_copies(recipe_of([1.0], features=features[:1])) == []
    assert near_copies(recipe_of([1.0] * 2, features=features[:2])) == []


def test_a_large_gallery_is_compared_block_by_block(monkeypatch):
    rng = np.random.default_rng(2)
    features = rng.standard_normal((50, 2, 2, 1, 20))
    features[41] = features[3]
    expected = near_copies(recipe_of([1.0] * 50, features=features))
    assert expected == [(41, 3)]
    monkeypatch.setattr("spadeline.engine.fitting.suspects._BLOCK", 7)
    assert near_copies(recipe_of([1.0] * 50, features=features)) == expected


def test_sentences_say_what_to_do():
    recipe = recipe_of([*USUAL, 30.0, 2.0])
    above, below = sentences(recipe)
    look = (
        "look at them with spadeline info 'line 1' --html FILE --normal-images FOLDER, "
        "and take out what doesn't belong there"
    )
    assert above == (
        "1 of 12 images scores far above the others and may show defects, which then pass as normal: 10.png; "
        f"{look}: spadeline remove --calibrate 'line 1' 10.png"
    )
    assert below == (
        "1 of 12 images scores far below the others, as copies do, and may make the thresholds too low: 11.png; "
        f"{look}: spadeline remove --calibrate 'line 1' 11.png"
    )
    held = recipe_of([*USUAL, 30.0], method="held-out", gallery=("a.png", "b.png", "c.png"))
    assert sentences(held)[0].endswith("FOLDER, and fit again without those that aren't normal")
    removed = recipe_of([*USUAL, 30.0], gallery=tuple(f"{index}.png" for index in range(10)))
    assert sentences(removed)[0].endswith("they are no longer in the recipe: spadeline calibrate 'line 1'")


def test_a_threshold_of_0_is_reported():
    zero = "every frame that differs from the normal images at all is anomalous"
    texts = sentences(recipe_of([0.0] * 12, label_rule="either"))
    assert texts[0] == f"theta is 0: {zero}"
    assert texts[1].startswith("12 of 12 images score far below the others, as copies do")
    assert texts[1].endswith("spadeline remove --calibrate 'line 1' NAME …")
    assert not any(zero in text for text in sentences(recipe_of([0.0] * 12, label_rule="image")))


def test_a_command_can_be_typed_in():
    recipe = recipe_of(USUAL)
    assert removal_command(recipe, ["it's.png"]) == """spadeline remove --calibrate 'line 1' 'it'"'"'s.png'"""
    assert removal_command(recipe, ["-x.png", "a b"]) == "spadeline remove --calibrate 'line 1' -- -x.png 'a b'"


def test_a_contaminated_set_is_reported_and_corrected_by_one_command(recipe, parts, extractor_path, tmp_path):
    shutil.copytree(parts / "train" / "good", tmp_path / "images")
    for name in ("200.png", "201.png"):
        shutil.copy(parts / "test" / "scratch" / name, tmp_path / "images")
    with pytest.warns(
        UserWarning, match=r"^2 of 14 images score far above the others .*: 20\d.png, 20\d.png; "
    ) as caught:
        bad = fit(tmp_path / "images", tmp_path / "r", extractor=extractor_path, settings=SETTINGS, threads=1)
    assert len(caught) == 1
    names = sorted(find_suspects(bad).above)
    assert names == ["200.png", "201.png"]
    assert bad.calibration.theta.value == max(bad.calibration.map_scores)  # the user decides what is left out
    command = shlex.split(str(caught[0].message).rpartition(": ")[2])
    assert command[:4] == ["spadeline", "remove", "--calibrate", str(bad.folder)]
    mended = remove(bad.folder, command[4:], threads=1)
    assert mended.generation == bad.generation + 1
    assert mended.calibration.map_scores == pytest.approx(recipe.calibration.map_scores, rel=1e-6)
    assert mended.calibration.theta.value < 0.5 * bad.calibration.theta.value
    assert Recipe.load(bad.folder).calibration == mended.calibration


@pytest.mark.filterwarnings("ignore:.* far above the others")
def test_near_copies_are_reported(parts, extractor_path, tmp_path):
    """If every part was shot twice, thresholds are far too low, and no score stands out."""
    shutil.copytree(parts / "train" / "good", tmp_path / "images")
    (tmp_path / "images" / "again").mkdir()
    for path in sorted((tmp_path / "images").glob("*.png")):
        picture = read_image(path)
        picture[:8, :8] += 1
        Image.fromarray(picture).save(path.parent / "again" / path.name)
    text = r"^\d+ of 24 normal images nearly equal another, .*: again/(0\d\d).png and \1.png, .*, …; .*r NAME …$"
    with pytest.warns(UserWarning, match=text):
        fit(tmp_path / "images", tmp_path / "r", extractor=extractor_path, settings=SETTINGS, threads=1)


@pytest.mark.parametrize("kind", ["crack", "hole", "print"])
def test_defects_among_real_normal_images_are_named(tmp_path, hazelnut, kind):
    folder, extractor = hazelnut
    shutil.copytree(folder / "train" / "good", tmp_path / "images")
    for path in (folder / "test" / kind).iterdir():
        shutil.copy(path, tmp_path / "images" / f"{kind}-{path.name}")
    with pytest.warns(UserWarning, match=rf"far above the others .*: {kind}-00\d.png"):
        recipe = fit(tmp_path / "images", tmp_path / "r", extractor=extractor, settings=Settings(), threads=2)
    assert all(name.startswith(kind) for name in find_suspects(recipe).above)


@pytest.mark.filterwarnings("ignore:the images differ in their proportions")
@pytest.mark.parametrize("name", ["hazelnut_reduced", "transistor_reduced", "kolektorsdd"])
def test_real_normal_images_are_not_suspect(tmp_path, name):
    if not (SHARED / name).is_dir() or not (SHARED / "resnet50_thin.onnx").is_file():
        pytest.skip(f"no {name} images and pretrained ResNet beside the project")
    options = {"extractor": SHARED / "resnet50_thin.onnx", "settings": Settings(k_gallery=25), "threads": 2}
    recipe = fit(SHARED / name, tmp_path / "r", **options)  # a warning is an error
    assert sentences(recipe) == []


def test_two_shots_of_one_cookie_are_found(tmp_path):
    if not (SHARED / "cookie").is_dir() or not (SHARED / "resnet50_thin.onnx").is_file():
        pytest.skip("no cookie images and pretrained ResNet beside the project")
    for index in range(1, 9):
        with Image.open(SHARED / "cookie" / "train" / "good" / f"normal-{index}.jpg") as image:
            image.save(tmp_path / f"{index}.png")
    settings = Settings(k_gallery=7)
    with pytest.warns(UserWarning, match="1 of 8 normal images nearly equal another, .*: 2.png and 1.png;"):
        fit(tmp_path, tmp_path / "r", extractor=SHARED / "resnet50_thin.onnx", settings=settings, threads=2)
