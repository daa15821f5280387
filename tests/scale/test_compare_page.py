"""The page of a comparison: changed images with both maps, however the maps and the images are to be had."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from spadeline.engine import Detector, calibrate
from spadeline.engine.cli.main import main
from spadeline.engine.images.reading import read_image
from spadeline.engine.images.resizing import as_rgb
from spadeline.engine.pages.pictures import data_url, heat_picture
from spadeline.engine.scale import RecipeScorer, compare, write_comparison
from spadeline.engine.scale.local_recipes import find_recipes
from spadeline.engine.scale.rows import schema, table

from ..evaluate.test_report import HOSTILE, Page
from .scored import USED, row, used_for, write

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("jinja2")
CAPTIONS = ["frame", "A: anomaly map", "B: anomaly map"]
NONE_MAPPED = schema(maps=False, masks=False)


@pytest.fixture
def recipes(recipe_folder, tmp_path):
    """Two recipes of the same parts, by name: the second one's thresholds are so low that good parts are above them."""
    folders = {name: shutil.copytree(recipe_folder, tmp_path / "recipes" / name) for name in ("strict", "lax")}
    calibrate(folders["strict"], false_alarm_rate=0.95, threads=1)
    return {"A": folders["lax"], "B": folders["strict"]}


@pytest.fixture
def images(parts, tmp_path):
    """A folder of four good parts, to score."""
    return shutil.copytree(parts / "test" / "good", tmp_path / "images")


def score(out, recipe, rows, *, source, **options):
    """Write what a run with this recipe would, without Ray."""
    scored = RecipeScorer(str(recipe), **options)(pyarrow.Table.from_pylist(rows))
    (local,) = find_recipes(recipe)
    used = used_for(local.recipe, local.name, local.sha256)
    return write(out, scored, used, source=source, maps=options.get("maps", False))


def rows_of(folder):
    return [{"path": str(path)} for path in sorted(folder.iterdir())]


def pages(tmp_path, a, b):
    write_comparison(tmp_path / "page.html", compare(a, b))
    return Page(tmp_path / "page.html")


def captions(page):
    return [caption for caption, _, _ in page.pictures()]


def heat_url(recipe, image):
    """Return the picture that the page should have, made by the detector itself."""
    detector = Detector.load(recipe, device="cpu", threads=1)
    frame = read_image(image)
    theta, framing = detector.recipe.calibration.theta.value, detector.recipe.settings.framing
    anomaly_map = detector.predict(frame).anomaly_map
    return data_url(heat_picture(as_rgb(frame), anomaly_map, theta, framing=framing, ignore=None))


@pytest.fixture
def both(tmp_path, recipes, images):
    """The images, scored with both recipes."""
    return [score(tmp_path / name, recipes[name], rows_of(images), source=images) for name in "AB"]


def test_recipes_draw_the_maps_with_their_own_thetas(tmp_path, recipes, images, both):
    page = pages(tmp_path, *both)
    result = compare(*both)
    changed = [Path(image.path) for image in result.changed]
    assert result.counts.changed["normal to anomalous"] == len(changed) >= 2
    assert result.a.theta > result.b.theta
    assert captions(page) == CAPTIONS * len(changed)
    for image in changed:
        for name in "AB":
            assert heat_url(recipes[name], image) in page.source
    places = [page.text.index(str(image)) for image in changed]
    assert places == sorted(places)
    assert f"{result.sentence}" in page.text
    first = result.changed[0]
    assert f"normal, score {first.a.pred_score:.4g} (θ = {result.a.theta:.4g})" in page.text
    assert f"anomalous (map), score {first.b.pred_score:.4g} (θ = {result.b.theta:.4g})" in page.text
    assert "notice" not in [attributes.get("class") for _, attributes in page.tags]


def test_maps_that_were_written_need_no_recipe(tmp_path, recipes, images):
    both = [score(tmp_path / name, recipes[name], rows_of(images), source=images, maps=True) for name in "AB"]
    image = compare(*both).changed[0].path
    wanted = [heat_url(recipes[name], image) for name in "AB"]
    shutil.rmtree(tmp_path / "recipes")
    page = pages(tmp_path, *both)
    assert all(url in page.source for url in wanted)
    assert "are missing" not in page.text


def test_maps_that_are_bounds_are_made_once_more(tmp_path, recipes, images, both):
    bounds = [
        score(tmp_path / f"label{name}", recipes[name], rows_of(images), source=images, maps=True, need="label")
        for name in "AB"
    ]
    image = compare(*bounds).changed[0].path
    assert all(heat_url(recipes[name], image) in pages(tmp_path, *bounds).source for name in "AB")
    shutil.rmtree(recipes["B"])
    page = pages(tmp_path, both[0], bounds[1])
    assert set(captions(page)) == {"frame", "A: anomaly map"}
    assert page.text.count(f"Anomaly maps of B are missing. {recipes['B']}") == 1


def test_a_recipe_that_has_changed_since_draws_no_map(tmp_path, recipes, both):
    calibrate(recipes["A"], false_alarm_rate=0.5, threads=1)
    page = pages(tmp_path, *both)
    assert set(captions(page)) == {"frame", "B: anomaly map"}
    assert f"A are missing. {recipes['A']}: its recipe.json has changed since the images were scored." in page.text


def test_a_recipe_that_can_not_be_opened_draws_no_map(tmp_path, recipes, both):
    (extractor,) = recipes["B"].glob("*.onnx")
    extractor.write_bytes(extractor.read_bytes()[:-1] + b"x")
    page = pages(tmp_path, *both)
    assert set(captions(page)) == {"frame", "A: anomaly map"}
    assert f"B are missing. {extractor}" in page.text


def test_images_that_are_gone_or_others_are_told(tmp_path, images, parts, both):
    gone, replaced = (Path(image.path) for image in compare(*both).changed[:2])
    gone.unlink()
    shutil.copy(next((parts / "test" / "scratch").iterdir()), replaced)
    page = pages(tmp_path, *both)
    assert f"No picture: {gone}: expected an image file, got: No such file or directory." in page.text
    assert page.text.count("A's recipe says anomalous now: the image isn't the one that was scored.") == 1
    assert captions(page) == CAPTIONS * (len(compare(*both).changed) - 1)


def test_images_from_parquet_files_are_found_there(tmp_path, recipes, images):
    """Their names are no files; several row groups and files, of which one has other columns."""
    rows = [{"path": path.name, "bytes": path.read_bytes()} for path in sorted(images.iterdir())]
    archive = tmp_path / "archive"
    archive.mkdir()
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows[:3]), archive / "b.parquet", row_group_size=1)
    parquet.write_table(pyarrow.Table.from_pylist(rows[3:]), archive / "c.parquet")
    parquet.write_table(pyarrow.table({"path": ["others"]}), archive / "a.parquet")
    both = [score(tmp_path / name, recipes[name], rows, source=archive) for name in "AB"]
    changed = compare(*both).changed
    page = pages(tmp_path, *both)
    assert captions(page) == CAPTIONS * len(changed)
    for image in changed:
        assert heat_url(recipes["B"], images / image.path) in page.source
    (archive / "b.parquet").write_bytes(b"damaged")
    assert f"No picture: {archive / 'b.parquet'}: expected a Parquet file, got: " in pages(tmp_path, *both).text


def test_images_of_the_other_source_are_taken_if_the_first_has_none(tmp_path, recipes, images):
    rows = [{"path": path.name, "bytes": path.read_bytes()} for path in sorted(images.iterdir())]
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(rows), tmp_path / "all.parquet")
    a = score(tmp_path / "A", recipes["A"], rows, source=tmp_path / "gone.parquet")
    b = score(tmp_path / "B", recipes["B"], rows, source=tmp_path / "all.parquet")
    assert captions(pages(tmp_path, a, b)) == CAPTIONS * len(compare(a, b).changed)


def test_an_error_has_its_text_and_no_map(tmp_path, recipes, images, both):
    scored = RecipeScorer(str(recipes["B"]))(pyarrow.Table.from_pylist(rows_of(images))).to_pylist()
    (local,) = find_recipes(recipes["B"])
    used = used_for(local.recipe, local.name, local.sha256)
    errors = [row(one["path"], "out of focus", used=used) for one in scored]
    b = write(tmp_path / "errors", table(errors, NONE_MAPPED), used, source=images)
    page = pages(tmp_path, both[0], b)
    assert captions(page) == ["frame", "A: anomaly map"] * 4
    assert page.text.count("error: out of focus") == 4
    assert "Judged in A, an error in B" in page.text


def made_up(out, scores):
    return write(out, table([row(path, score) for path, score in scores.items()], NONE_MAPPED), complete=False)


def test_of_many_changes_some_are_shown_and_the_rest_is_counted(tmp_path):
    paths = [f"{index:04}.png" for index in range(1234)]
    page = pages(
        tmp_path,
        made_up(tmp_path / "a", dict.fromkeys(paths, 5.0)),
        made_up(tmp_path / "b", dict.fromkeys(paths, 11.0)),
    )
    assert "Normal in A, anomalous in B: 1,234" in page.text
    assert "12 of these images are shown; spadeline compare --json lists the others, too." in page.text
    assert "0011.png" in page.text
    assert "0012.png" not in page.text
    assert "A isn't complete: " in page.text


def test_page_loads_and_runs_nothing(tmp_path, both):
    page = pages(tmp_path, *both)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base"}
    assert "default-src 'none'" in page.source
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")


def test_text_from_outside_is_escaped(tmp_path):
    used = replace(USED, folder=HOSTILE)
    a = write(tmp_path / "a", table([row(HOSTILE, 20.0)], NONE_MAPPED), used, source=HOSTILE)
    b = write(tmp_path / "b", table([row(HOSTILE, HOSTILE)], NONE_MAPPED), used, source=HOSTILE)
    page = pages(tmp_path, a, b)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>") >= 6  # both folders and sources, the path, the error


def test_the_command_writes_the_page(tmp_path, both, capsys):
    assert main(["compare", *map(str, both), "--html", str(tmp_path / "new" / "page.html")]) == 0
    assert captions(Page(tmp_path / "new" / "page.html"))[:3] == CAPTIONS
    assert main(["compare", *map(str, both), "--html", str(tmp_path)]) == 2
    assert f"{tmp_path}: can't be written" in capsys.readouterr().err
