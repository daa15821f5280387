"""The class that Ray Data's workers run, without Ray: rows that equal the detector's results, and errors as rows."""

import shutil
from dataclasses import asdict
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from spadeline.engine import Detector, InputError, RecipeError, calibrate
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.images.reading import read_image
from spadeline.engine.scale import COLUMNS, RecipeScorer
from spadeline.engine.scale import local_recipes as opening
from spadeline.engine.scale import rows as rows_module
from spadeline.engine.scale import scorer as scorer_module
from spadeline.engine.scale.worker import Attempts, Worker

pa = pytest.importorskip("pyarrow")
ONLY_ASKED = ["map", "mask"]


@pytest.fixture
def images(parts):
    return sorted(str(path) for path in (parts / "test").rglob("*.png"))


@pytest.fixture
def other_recipe(recipe_folder, tmp_path):
    """Another recipe with the same extractor, framing and images, and another label rule."""
    other = shutil.copytree(recipe_folder, tmp_path / "other")
    calibrate(other, changes={"label_rule": "either"}, threads=1)
    return other


def without_time(rows):
    return [{name: value for name, value in row.items() if name != "milliseconds"} for row in rows]


def test_rows_equal_the_detectors_results(recipe_folder, images):
    detector = Detector.load(recipe_folder, device="cpu", threads=1)
    table = RecipeScorer(recipe_folder, maps=True, masks=True)(pa.table({"path": images}))
    assert table.schema.names == list(COLUMNS)
    rows = table.to_pylist()
    assert [row["path"] for row in rows] == images
    assert {row["label"] for row in rows} == {True, False}
    for row in rows:
        result = detector.predict(read_image(row["path"]))
        for name in ("pred_score", "image_score", "map_score", "need", "decided"):
            assert row[name] == getattr(result, name)
        assert (row["label"], row["reason"], row["error"]) == (result.pred_label, "+".join(result.reasons), None)
        wanted = [
            {name: list(part) if isinstance(part, tuple) else part for name, part in asdict(region).items()}
            for region in result.regions
        ]
        assert row["regions"] == wanted
        np.testing.assert_array_equal(np.array(row["map"], np.float32), result.anomaly_map)
        np.testing.assert_array_equal(np.array(row["mask"]), result.pred_mask)
        assert (row["recipe"], row["generation"]) == (recipe_folder.name, detector.recipe.generation)
        assert row["milliseconds"] > 0


def test_all_formats_of_batches_give_the_same_rows(recipe_folder, images):
    scorer = RecipeScorer(recipe_folder, need="label")
    table = pa.table({"path": images})
    content = [Path(path).read_bytes() for path in images]
    wanted = without_time(scorer(table).to_pylist())
    assert {row["need"] for row in wanted} == {"label"}
    for batch in (
        table.to_pandas(),
        {"path": np.array(images, object)},
        pa.table({"path": images, "bytes": content}),
        {"bytes": np.array(content, object), "path": np.array(images)},
    ):
        assert without_time(scorer(batch).to_pylist()) == wanted
    nameless = without_time(scorer({"bytes": content}).to_pylist())
    assert nameless == [row | {"path": None} for row in wanted]


def test_what_cannot_be_judged_is_a_row_with_its_error(recipe_folder, images, tmp_path):
    damaged, small = tmp_path / "damaged.png", tmp_path / "tall.png"
    damaged.write_bytes(Path(images[0]).read_bytes()[:500])
    from PIL import Image

    Image.new("L", (20, 400)).save(small)
    paths = [str(damaged), images[0], str(tmp_path / "gone.png"), str(small), str(tmp_path)]
    table = RecipeScorer(recipe_folder)(pa.table({"path": paths}))
    rows = table.to_pylist()
    assert [row["path"] for row in rows] == paths
    assert [row["error"] is None for row in rows] == [False, True, False, False, False]
    assert [row["label"] for row in rows][::2] == [None, None, None]
    assert "undamaged" in rows[0]["error"]
    assert "No such file" in rows[2]["error"]
    assert "proportions" in rows[3]["error"]
    assert "a folder" in rows[4]["error"]
    facts = {"path", "recipe", "generation", "recipe_sha256", "error"}
    for row in (rows[0], rows[2], rows[3], rows[4]):
        assert all(row[name] is None for name in row.keys() - facts)
    assert without_time(RecipeScorer(recipe_folder)({"name": ["x"]}).to_pylist())[0]["error"] == (
        "batch: expected path or bytes in each row, got columns name"
    )


def test_an_error_that_no_image_is_to_blame_for_is_raised(recipe_folder, images, monkeypatch):
    scorer = RecipeScorer(recipe_folder)

    def fail(frame, need):
        raise RecipeError("the gallery is gone")

    monkeypatch.setattr(scorer._opened[0].detector, "predict", fail)
    with pytest.raises(RecipeError, match="the gallery is gone"):
        scorer({"path": images[:1]})


def test_recipes_share_an_extractor_and_what_it_extracts(recipe_folder, other_recipe, images, monkeypatch):
    alone = [
        without_time(RecipeScorer(recipe)({"path": images}).to_pylist()) for recipe in (recipe_folder, other_recipe)
    ]
    scorer = RecipeScorer([recipe_folder, other_recipe])
    first, second = (opened.detector.extractor for opened in scorer._opened)
    assert first is second
    runs = []
    run = Extractor._run
    monkeypatch.setattr(Extractor, "_run", lambda self, binding: runs.append(binding) or run(self, binding))
    both = without_time(scorer({"path": images}).to_pylist())
    assert len(runs) == len(images)
    assert both[::2] == alone[0]
    assert both[1::2] == alone[1]


@pytest.mark.filterwarnings("ignore::spadeline.engine.fitting.suspects.SuspectWarning")
def test_recipes_with_other_framings_share_no_features(recipe_folder, parts, extractor_path, images, tmp_path):
    from spadeline.engine import Settings, fit

    squeezed = tmp_path / "paper"
    settings = Settings(k_score=3, k_gallery=8, framing="paper")
    fit(parts / "train" / "good", squeezed, extractor=extractor_path, settings=settings, threads=1)
    alone = without_time(RecipeScorer(squeezed)({"path": images}).to_pylist())
    assert without_time(RecipeScorer([recipe_folder, squeezed])({"path": images}).to_pylist())[1::2] == alone


def test_images_and_recipes_at_an_address(recipe_folder, images, tmp_path):
    here = RecipeScorer(recipe_folder)({"path": images}).to_pylist()
    scorer = RecipeScorer(recipe_folder.as_uri(), cache=tmp_path / "cache")
    there = scorer({"path": [f"file://{path}" for path in images] + ["file:///nowhere/x.png"]}).to_pylist()
    assert without_time(row | {"path": None} for row in there[:-1]) == without_time(
        row | {"path": None} for row in here
    )
    assert "file:///nowhere/x.png: expected an image file, got: " in there[-1]["error"]
    assert [path.is_dir() for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == [True]


def test_a_recipe_is_fetched_once_and_anew_after_a_change(recipe_folder, tmp_path, monkeypatch):
    recipe, cache = shutil.copytree(recipe_folder, tmp_path / "recipe"), tmp_path / "cache"
    fetched = []
    monkeypatch.setattr(opening, "_copy", lambda *how, copy=opening._copy: fetched.append(how) or copy(*how))
    (first,) = opening.find_recipes(recipe.as_uri(), cache=cache)
    (again,) = opening.find_recipes(recipe.as_uri(), cache=cache)
    assert (first.name, first.sha256, first.recipe.folder) == ("recipe", again.sha256, again.recipe.folder)
    assert len(fetched) == 1
    calibrate(recipe, changes={"label_rule": "either"}, threads=1)
    (changed,) = opening.find_recipes(recipe.as_uri(), cache=cache)
    assert len(fetched) == 2
    assert changed.recipe.settings.label_rule == "either"
    assert first.sha256 != changed.sha256


def test_a_copy_that_fails_leaves_nothing(recipe_folder, tmp_path, monkeypatch):
    def fail(system, root, partial):
        partial.mkdir()
        raise OSError("the bucket is gone.")

    monkeypatch.setattr(opening, "_copy", fail)
    with pytest.raises(RecipeError, match=r": expected a recipe that can be read, got: the bucket is gone$"):
        opening.find_recipes(recipe_folder.as_uri(), cache=tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"threads": 0}, InputError, "threads: expected an integer from 1 to 1024, got 0"),
        ({"need": "all"}, InputError, "need: expected one of map, mask, label, got 'all'"),
        ({"gallery": "disk"}, InputError, "gallery: expected one of auto, memory, mapped, got 'disk'"),
        ({"sha256": ["0" * 64]}, RecipeError, "each node must have the same recipe"),
    ],
)
def test_options_that_cannot_be(recipe_folder, options, error, text):
    with pytest.raises(error) as raised:
        RecipeScorer(recipe_folder, **options)
    assert text in str(raised.value)


def test_recipes_that_cannot_be(recipe_folder, tmp_path):
    copy = shutil.copytree(recipe_folder, tmp_path / recipe_folder.name)
    with pytest.raises(InputError, match="recipes: expected folders of different names, got parts, parts"):
        RecipeScorer([recipe_folder, copy])
    with pytest.raises(InputError, match="recipes: expected at least one, got none"):
        RecipeScorer([])
    with pytest.raises(RecipeError, match=r"file:///nowhere: expected a recipe that can be read, got: "):
        RecipeScorer("file:///nowhere", cache=tmp_path / "cache")


def test_bytes_are_limited(recipe_folder, images, monkeypatch):
    monkeypatch.setattr(scorer_module, "MAX_FILE_BYTES", 10)
    (row,) = RecipeScorer(recipe_folder)({"path": ["a.png"], "bytes": [b"x" * 11]}).to_pylist()
    assert row["error"] == "a.png: expected at most 10 bytes, got 11"


def test_the_columns_are_those_that_are_documented():
    assert rows_module.schema(maps=True, masks=True).names == list(COLUMNS)
    assert rows_module.schema(maps=False, masks=False).names == [name for name in COLUMNS if name not in ONLY_ASKED]


@pytest.mark.ray
def test_a_worker_that_does_not_reach_its_counter_scores_all_the_same(recipe_folder, images, monkeypatch):
    ray = pytest.importorskip("ray")

    def gone(_):
        raise ray.exceptions.RayActorError

    monkeypatch.setattr(ray, "get", gone)
    batch = pa.table({"path": images})
    rows = Worker(Mock(), recipes=recipe_folder)(batch).to_pylist()
    assert without_time(rows) == without_time(RecipeScorer(recipe_folder)(batch).to_pylist())


@pytest.mark.ray
def test_a_batch_that_ended_its_worker_is_scored_image_by_image(recipe_folder, images, monkeypatch):
    ray = pytest.importorskip("ray")
    counted = Attempts()
    attempts = Mock()
    attempts.begin.remote, attempts.end.remote = counted.begin, counted.end
    monkeypatch.setattr(ray, "get", lambda value: value)
    worker, batch = Worker(attempts, recipes=recipe_folder), pa.table({"path": images})
    wanted = without_time(RecipeScorer(recipe_folder)(batch).to_pylist())
    ended = []

    def score(some, score=worker.score):
        ended.append(some["path"].to_pylist())
        if images[2] in ended[-1]:
            raise KeyboardInterrupt  # as a process that ends: nothing after it is done
        return score(some)

    monkeypatch.setattr(worker, "score", score)
    for alone in (0, 1, 2):
        with pytest.raises(KeyboardInterrupt):
            worker(batch)
        assert ended == ([images] if alone == 0 else [[images[0]], [images[1]], [images[2]]])
        ended.clear()
    rows = without_time(worker(batch).to_pylist())
    assert [row for row in rows if row["error"] is None] == [*wanted[:2], *wanted[3:]]
    assert rows[2]["error"] == (
        f"{images[2]}: expected an image that can be inspected, got one at which the process ended 2 times"
    )
    assert rows[2]["label"] is None
    assert worker(pa.table({"path": images[:1]})).to_pylist()[0]["error"] is None
