"""The page of a recipe's normal images: it shows suspects, it gives a command to remove them, and it loads nothing."""

import shutil
from dataclasses import replace

import pytest
from spadeline.engine import InputError, Settings, fit
from spadeline.engine.cli.main import main
from spadeline.engine.fitting.normals_page import write_normals_page
from spadeline.engine.folders.normal_images import normal_images
from spadeline.engine.recipe.changes import add_images, remove_images, set_calibration

from ..evaluate.test_report import HOSTILE, Page

pytest.importorskip("matplotlib")
SETTINGS = Settings(k_score=2, k_gallery=4, sigma=1.0)


@pytest.fixture
def contaminated(parts, extractor_path, tmp_path):
    """A recipe of 12 good parts and 2 scratched ones, and the folder of their images."""
    shutil.copytree(parts / "train" / "good", tmp_path / "images")
    for name in ("200.png", "201.png"):
        shutil.copy(parts / "test" / "scratch" / name, tmp_path / "images")
    with pytest.warns(UserWarning, match="^2 of 14 images score far above the others"):
        recipe = fit(tmp_path / "images", tmp_path / "r", extractor=extractor_path, settings=SETTINGS, threads=1)
    return recipe, tmp_path / "images"


def written(tmp_path, recipe, folder=None):
    images = None if folder is None else normal_images(folder)
    write_normals_page(tmp_path / "page.html", recipe, images=images, threads=1)
    return Page(tmp_path / "page.html")


def test_suspects_are_shown_with_maps_and_the_command(contaminated, tmp_path):
    recipe, folder = contaminated
    page = written(tmp_path, recipe, folder)
    assert "2 of 14images score far above the others" in page.text
    assert page.text.count("times the usual, far above the others") == 2
    first = max(zip(recipe.calibration.map_scores, recipe.calibration.image_names, strict=True))[1]
    other = {"200.png": "201.png", "201.png": "200.png"}[first]
    assert f"spadeline remove --calibrate {recipe.folder} {first} {other}" in page.text
    captions = [caption for caption, _, _ in page.pictures()]
    assert captions == ["image", "anomaly map", "nearest normal image"] * 4  # the next highest fill up
    frame, heat = page.pictures()[:2]
    assert abs(frame[2].astype(int) - heat[2].astype(int)).max() > 60
    assert f"θ = {recipe.calibration.theta.value:.4g}" in page.source
    assert page.text.index(first) < page.text.index(other, page.text.index(first))


def test_page_loads_and_runs_nothing(contaminated, tmp_path):
    page = written(tmp_path, *contaminated)
    names = {tag for tag, _ in page.tags}
    assert {"svg", "img", "table", "pre"} <= names
    assert not names & {"script", "link", "iframe", "object", "base"}
    assert "url(http" not in page.source
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/jpeg;base64,"))


def test_without_the_images_names_and_scores_are_left(contaminated, tmp_path):
    recipe, images = contaminated
    shutil.copytree(images, tmp_path / "others")
    for path in images.iterdir():
        (tmp_path / "others" / path.name).rename(tmp_path / "others" / f"other-{path.name}")
    for folder in (None, tmp_path / "others"):
        page = written(tmp_path, recipe, folder)
        assert page.pictures() == []
        assert "nearest normal image: " in page.text


def test_a_clean_recipe_shows_its_highest_scores(recipe_folder, parts, tmp_path):
    from spadeline.engine import Recipe

    page = written(tmp_path, Recipe.load(recipe_folder), parts / "train" / "good")
    assert "None is far above the others." in page.text
    assert "spadeline remove" not in page.text
    assert len(page.pictures()) == 12


def test_held_out_images_are_extracted_again(parts, extractor_path, tmp_path):
    shutil.copytree(parts / "train" / "good", tmp_path / "images")
    options = {"extractor": extractor_path, "settings": SETTINGS, "threads": 1, "held_out": 0.25}
    recipe = fit(tmp_path / "images", tmp_path / "r", **options)
    page = written(tmp_path, recipe, tmp_path / "images")
    assert "Each image was held out of the gallery" in page.text
    assert [caption for caption, _, _ in page.pictures()] == ["image", "anomaly map", "nearest normal image"] * 3
    scores = (10.0, *recipe.calibration.map_scores[1:])
    theta = replace(recipe.calibration.theta, value=10.0)
    recipe = replace(recipe, calibration=replace(recipe.calibration, map_scores=scores, theta=theta))
    page = written(tmp_path, recipe, tmp_path / "images")
    assert "take those with defects out of the folder and fit again" not in page.text  # of three images, none is usual


def test_near_copies_stand_beside_each_other(contaminated, tmp_path):
    recipe, folder = contaminated
    shutil.copy(folder / "003.png", folder / "twin.png")
    twin = [(replace(recipe.images[3], name="twin.png"), recipe.features(3))]
    page = written(tmp_path, add_images(recipe.folder, twin, 1), folder)
    assert "nearly equals 003.png" in page.text
    assert f"spadeline remove --calibrate {recipe.folder} twin.png" in page.text
    assert page.pictures()[-1][0] == "nearest normal image"


def test_images_that_were_removed_later_are_reported(contaminated, tmp_path):
    recipe, folder = contaminated
    page = written(tmp_path, remove_images(recipe.folder, ["200.png", "201.png"]), folder)
    assert "Images were removed since the thresholds were made." in page.text
    assert "spadeline remove" not in page.text
    assert "spadeline calibrate" in page.text


def test_thresholds_whose_images_are_not_known(contaminated, tmp_path):
    recipe, folder = contaminated
    for calibration, came in (
        (None, "none"),
        (replace(recipe.calibration, image_names=None), "ones of an older version"),
    ):
        other = set_calibration(recipe.folder, calibration)
        with pytest.raises(
            InputError, match=f"expected thresholds whose images are known, got {came}; spadeline calibrate"
        ):
            write_normals_page(tmp_path / "page.html", other, images=normal_images(folder))
    assert not (tmp_path / "page.html").exists()


def test_names_from_outside_are_escaped(parts, extractor_path, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(parts / "train" / "good", folder)
    shutil.copy(parts / "test" / "scratch" / "200.png", folder / f"{HOSTILE.replace('/', '')}.png")
    with pytest.warns(UserWarning, match="^1 of 13 images scores far above the others"):
        recipe = fit(folder, tmp_path / "r", extractor=extractor_path, settings=SETTINGS, threads=1)
    page = written(tmp_path, recipe, folder)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>") >= 2


def test_fit_and_info_write_the_page(parts, extractor_path, tmp_path, capsys):
    folder = parts / "train" / "good"
    options = [
        "--extractor",
        extractor_path,
        "--recipe",
        tmp_path / "r",
        "--k-gallery",
        "4",
        "--html",
        tmp_path / "1.html",
    ]
    assert main([str(part) for part in ("fit", folder, *options)]) == 0
    assert len(Page(tmp_path / "1.html").pictures()) == 12
    capsys.readouterr()
    options = ["--html", tmp_path / "2.html", "--normal-images", folder]
    assert main([str(part) for part in ("info", tmp_path / "r", *options)]) == 0
    assert "highest scores: " in capsys.readouterr().out
    assert len(Page(tmp_path / "2.html").pictures()) == 12
