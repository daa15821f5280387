"""From images to a recipe: what is stored, where the thresholds come from, what is refused."""

import os
import shlex
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from PIL import Image
from spadeline.engine import Detector, InputError, OutputError, Recipe, RecipeError, Settings, add, calibrate, fit
from spadeline.engine.fitting import fitting as fitting_module
from spadeline.engine.fitting.fitting import remove
from spadeline.engine.fitting.suspects import find_suspects
from spadeline.engine.folders.listing import named_images
from spadeline.engine.images.reading import read_image
from spadeline.engine.inspect.scoring import Scorer
from spadeline.engine.recipe.changes import add_images, remove_images

from ..conftest import part, tagged
from ..recipes import as_version_2, edit_manifest

SETTINGS = Settings(k_score=2, k_gallery=4, sigma=1.0, storage="float32")


@pytest.fixture
def recipe(parts, extractor_path, tmp_path):
    folder = tmp_path / "recipe"
    return fit(parts / "train" / "good", folder, extractor=extractor_path, settings=SETTINGS, threads=1)


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


def test_a_name_that_is_taken_is_refused_before_the_work(recipe, parts, tmp_path, monkeypatch):
    for name, source in (("003.png", "100.png"), ("new.png", "101.png")):
        shutil.copy(parts / "test" / "good" / source, tmp_path / name)
    images = [tmp_path / "003.png", tmp_path / "new.png"]
    shutil.rmtree(tmp_path / "folder", ignore_errors=True)
    (tmp_path / "folder").mkdir()
    for path in images:
        shutil.copy(path, tmp_path / "folder")
    monkeypatch.setattr(fitting_module, "Extractor", lambda *_, **__: pytest.fail("opened the extractor"))
    text = (
        r"^images: expected names that the recipe doesn't hold yet, got '003\.png': --rename adds them under free names, "
        "spadeline remove takes the old ones out$"
    )
    with pytest.raises(InputError, match=text):
        add(recipe.folder, tmp_path / "folder", threads=1)
    assert Recipe.load(recipe.folder).images == recipe.images
    monkeypatch.undo()
    added = add(recipe.folder, tmp_path / "folder", rename=True, threads=1)
    assert [image.name for image in added.images[12:]] == ["003-2.png", "new.png"]
    shutil.copy(parts / "test" / "good" / "102.png", tmp_path / "folder" / "003.png")
    with pytest.warns(UserWarning, match=r"^1 of 2 images is an exact copy"):
        added = add(recipe.folder, tmp_path / "folder", rename=True, threads=1)
    assert [image.name for image in added.images[14:]] == ["003-3.png"]


def test_a_recipe_that_is_there_is_known_before_the_work(recipe, parts, monkeypatch):
    monkeypatch.setattr(fitting_module, "Extractor", lambda *_, **__: pytest.fail("opened the extractor"))
    with pytest.raises(RecipeError, match="expected no recipe, got one; overwrite it, or create elsewhere"):
        fit(parts / "train" / "good", recipe.folder, extractor=recipe.extractor_path)


def test_thresholds_record_their_images(recipe, parts, extractor_path, tmp_path):
    assert recipe.calibration.image_names == tuple(image.name for image in recipe.images)
    held = fit(parts, tmp_path / "held", extractor=extractor_path, settings=SETTINGS, threads=1, held_out=0.25)
    assert len(held.calibration.image_names) == 3
    assert set(held.calibration.image_names).isdisjoint(image.name for image in held.images)


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


def saved_again(folder, target, suffix):
    target.mkdir(parents=True)
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            image.save(target / f"{path.stem}{suffix}")


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


def test_adding_a_falsely_alarmed_image_ends_the_alarm(recipe, tmp_path):
    odd, _ = part(900, scratched=True)
    Image.fromarray(odd).save(tmp_path / "odd.png")
    assert Detector.load(recipe.folder, device="cpu", threads=1).predict(odd).pred_label
    added = add(recipe.folder, tmp_path / "odd.png", threads=1)
    assert added.images[-1].name == "odd.png"
    assert added.calibration == recipe.calibration
    result = Detector.load(recipe.folder, device="cpu", threads=1).predict(odd)
    assert not result.pred_label
    assert result.map_score == 0
    with pytest.warns(UserWarning, match=r"^1 of 1 images is an exact copy and left out: odd.png of odd.png$"):
        assert add(recipe.folder, tmp_path / "odd.png", threads=1).generation == added.generation


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


def test_images_are_not_added_to_a_recipe_that_another_network_has_replaced(recipe, parts, tmp_path, monkeypatch):
    """Only this check can find it: both networks' features have the same shapes."""
    other = tmp_path / "other.onnx"
    model = onnx.load(recipe.extractor_path)
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.float32(1 / 16), "scale"))
    onnx.save(model, other)
    opened = fitting_module.Extractor

    def replaced_meanwhile(*arguments, **options):
        monkeypatch.setattr(fitting_module, "Extractor", opened)
        extractor = opened(*arguments, **options)
        fit(parts / "train" / "good", recipe.folder, extractor=other, settings=SETTINGS, threads=1, overwrite=True)
        return extractor

    monkeypatch.setattr(fitting_module, "Extractor", replaced_meanwhile)
    with pytest.raises(RecipeError, match="the recipe was replaced meanwhile; add the images again"):
        add(recipe.folder, parts / "test" / "good" / "100.png", threads=1)
    assert len(add(recipe.folder, parts / "test" / "good" / "100.png", threads=1).images) == 13


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
