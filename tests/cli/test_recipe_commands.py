"""The commands that make, change and describe a recipe: ``fit``, ``add``, ``remove``, ``calibrate``, ``codes``, ``info``."""

import json
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
from PIL import Image
from spadeline.engine import Detector, Recipe, preset
from spadeline.engine.images.reading import read_image

from ..recipes import as_version_2, edit_manifest, without_codes


def test_fit_takes_a_data_sets_good_images_and_settings(run, parts, extractor_path, tmp_path):
    code, out, err = run(
        "fit", parts, "--extractor", extractor_path, "--recipe", tmp_path / "r", "--k-gallery", 5, "--kappa", 2,
        "--storage", "float16", "--false-alarm-rate", 0.2, "--label-rule", "either", "--threads", 1,
    )  # fmt: skip
    taken = f"spadeline: {parts}: normal images: 12 from train/good; left out: ground_truth, test\n"
    assert (code, err) == (0, taken)
    assert "12 normal images" in out
    assert "leave-one-out" in out
    settings = Recipe.load(tmp_path / "r", verify=True).settings
    assert (settings.k_gallery, settings.kappa, settings.storage, settings.label_rule) == (5, 2, "float16", "either")
    code, _, err = run("fit", parts, "--extractor", extractor_path, "--recipe", tmp_path / "r", "--k-gallery", 5)
    assert code == 2
    assert "expected no recipe, got one" in err
    code, out, err = run(
        "fit", parts, "--extractor", extractor_path, "--recipe", tmp_path / "r", "--overwrite", "--json"
    )
    assert code == 0
    assert json.loads(out)["settings"]["k_gallery"] == 50
    taken = {"source": str(parts), "images": {"train/good": 12}, "left_out": ["ground_truth", "test"]}
    assert json.loads(out)["taken"] == taken
    assert "warning: k_gallery: expected at most the recipe's 12 normal images, got 50" in err
    assert "too few for the 1.00% asked for, which 99 support" in run("info", tmp_path / "r")[1]


def test_a_preset_holds_where_no_option_says_otherwise(run, parts, extractor_path, tmp_path):
    run("fit", parts, "--extractor", extractor_path, "--recipe", tmp_path / "r", "--preset", "paper", "--k-score", 3)
    assert Recipe.load(tmp_path / "r").settings == replace(preset("paper"), k_score=3)


def test_codes_come_back(run, recipe):
    manifest = json.loads((recipe / "recipe.json").read_text())
    assert run("codes", recipe)[0] == 0  # nothing to do
    assert json.loads((recipe / "recipe.json").read_text()) == manifest
    edit_manifest(recipe, without_codes)
    assert "spadeline codes" in run("info", recipe)[1]
    assert json.loads(run("info", recipe, "--json")[1])["codes"] is False
    assert json.loads(run("codes", recipe, "--json")[1])["codes"] is True
    assert set(json.loads((recipe / "recipe.json").read_text())["files"]) == set(manifest["files"])


def test_info_tells_what_an_older_recipe_json_cannot(run, recipe):
    assert "holds no hash of itself" not in run("info", recipe, "--verify")[1]
    assert json.loads(run("info", recipe, "--json")[1])["version"] == 5
    edit_manifest(recipe, as_version_2)
    code, out, _ = run("info", recipe, "--verify")
    assert code == 0
    assert "recipe.json is of version 2, which holds no hash of itself: damage to it may pass" in out
    edit_manifest(recipe, lambda content: content["calibration"]["theta"].update(value=1e9))
    assert run("info", recipe)[0] == 0
    code, out, err = run("info", recipe, "--verify")
    assert (code, out) == (2, "")
    assert "recipe.json: theta: expected " in err
    assert "make the thresholds anew with: spadeline calibrate" in err
    assert run("calibrate", recipe)[0] == 0
    assert "holds no hash of itself" not in run("info", recipe, "--verify")[1]


def test_add_remove_calibrate_info(run, recipe, parts):
    code, out, _ = run("add", recipe, parts / "test" / "good" / "100.png")
    assert code == 0
    assert "13 normal images, generation 2" in out
    code, out, _ = run("remove", recipe, "100.png", "003.png", "--json")
    assert json.loads(out)["images"] == 11
    code, out, _ = run("calibrate", recipe, "--kappa", 3, "--false-alarm-rate", 0.25, "--json")
    record = json.loads(out)
    assert record["settings"]["kappa"] == 3
    assert record["calibration"]["theta"]["images"] == 11
    assert run("info", recipe, "--verify")[0] == 0
    assert "no codes" not in run("info", recipe)[1]
    (recipe / "layer1-3.npy").write_bytes(b"x" + (recipe / "layer1-3.npy").read_bytes()[1:])
    code, _, err = run("info", recipe, "--verify")
    assert code == 2
    assert "layer1-3.npy" in err
    assert run("remove", recipe, "nobody.png")[0] == 2


def test_remove_and_calibrate_and_add_under_another_name(run, recipe, parts, tmp_path):
    code, out, _ = run("remove", recipe, "003.png", "--calibrate", "--json")
    record = json.loads(out)
    assert (code, record["images"], record["calibration"]["theta"]["images"], record["generation"]) == (0, 11, 11, 2)
    assert record["calibration"]["theta"]["false_alarm_rate"] == 0.1  # the recipe's rate
    calibration = Recipe.load(recipe).calibration
    name, score = record["calibration"]["highest"]["map_scores"][0]
    assert calibration.map_scores[calibration.image_names.index(name)] == score == max(calibration.map_scores)
    assert set(record["calibration"]["suspects"]) == {"above", "below", "near_copies"}
    shutil.copy(parts / "test" / "good" / "100.png", tmp_path / "004.png")
    code, _, err = run("add", recipe, tmp_path / "004.png")
    assert (code, "got '004.png': --rename adds them under free names" in err) == (2, True)
    assert run("add", recipe, tmp_path / "004.png", "--rename")[0] == 0
    assert Recipe.load(recipe).images[-1].name == "004-2.png"
    code, _, err = run("add", recipe, tmp_path / "004.png")
    assert (code, "1 of 1 images is an exact copy and left out: 004.png of 004-2.png" in err) == (0, True)


def test_calibrate_keeps_the_rate_unless_told_another(run, recipe):
    def rate(*arguments):
        record = json.loads(run("calibrate", recipe, "--json", *arguments)[1])
        return record["calibration"]["theta"]["false_alarm_rate"]

    assert rate("--kappa", 1) == 0.1  # the recipe's rate
    assert rate("--false-alarm-rate", 0.3) == 0.3
    assert rate("--label-rule", "either") == 0.15
    out = run("info", recipe)[1]
    calibration = Recipe.load(recipe).calibration
    expected = calibration.tau.expected_rate + calibration.theta.expected_rate
    assert f"either: false-alarm rate {expected:.2%} expected at the most, below " in out
    assert "with 90% confidence" in out


def test_weights_and_a_mask_from_the_command_line(run, parts, extractor_path, tmp_path):
    mask = np.zeros((96, 96), np.uint8)
    mask[:, 72:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    recipe = tmp_path / "r"
    code, out, err = run(
        "fit", parts, "--extractor", extractor_path, "--recipe", recipe, "--k-gallery", 5, "--ignore",
        tmp_path / "mask.png", "--level-weights", 1, 0.5, 2, "--threads", 1,
    )  # fmt: skip
    assert code == 0
    assert all("far above the others" in line for line in err.splitlines() if "warning" in line)
    assert "25.0% of the image is never scored" in out
    loaded = Recipe.load(recipe)
    assert loaded.settings.level_weights == (1.0, 0.5, 2.0)
    np.testing.assert_array_equal(loaded.ignore, np.arange(64) >= np.full((64, 1), 48))
    code, out, _ = run("calibrate", recipe, "--level-weights", 3, 2, 1, "--json")
    record = json.loads(out)
    assert record["settings"]["level_weights"] == [3.0, 2.0, 1.0]
    assert record["ignored_share"] == 0.25
    assert "25.0% of the image is never scored" in run("info", recipe)[1]
    code, _, err = run("calibrate", recipe, "--level-weights", 3, 2)
    assert code == 2
    assert "level_weights: expected" in err
    code, out, _ = run("predict", recipe, parts / "test" / "good" / "100.png", "--json")
    statistics = json.loads(out)["match_statistics"]
    detector = Detector.load(recipe, device="cpu")
    result = detector.predict(read_image(parts / "test" / "good" / "100.png"))
    assert set(statistics) == {field.name for field in fields(result.match_statistics)}


def test_recipes_without_a_mask_ignore_nothing(run, recipe_folder):
    assert json.loads(run("info", recipe_folder, "--json")[1])["ignored_share"] is None
    assert "never scored" not in run("info", recipe_folder)[1]


@pytest.mark.parametrize(
    ("good", "bad"), [("OK", "NG"), ("camera1", "defect"), ("Normal", "Abnormal"), ("a", "Ground_Truth")]
)
def test_fit_and_add_refuse_folders_that_hold_defects(run, recipe, parts, extractor_path, tmp_path, good, bad):
    shutil.copytree(parts / "train" / "good", tmp_path / "set" / good)
    shutil.copytree(parts / "test" / "scratch", tmp_path / "set" / bad)
    for command in (
        ("fit", tmp_path / "set", "--extractor", extractor_path, "--recipe", tmp_path / "r"),
        ("add", recipe, tmp_path / "set"),
    ):
        code, out, err = run(*command)
        assert (code, out) == (2, "")
        assert f"expected normal images only, got a folder with {bad} (" in err
    assert not (tmp_path / "r").exists()
    assert Recipe.load(recipe).generation == 1


def test_add_says_which_folders_it_took(run, recipe, parts, tmp_path):
    shutil.copytree(parts / "test" / "good", tmp_path / "new" / "camera1")
    shutil.copy(parts / "test" / "scratch" / "200.png", tmp_path / "new" / "1.png")
    code, out, err = run("add", recipe, tmp_path / "new", "--json")
    assert (code, err) == (0, f"spadeline: {tmp_path / 'new'}: normal images: 1 directly in it, 4 from camera1\n")
    assert json.loads(out)["taken"]["images"] == {".": 1, "camera1": 4}
