"""``spadeline score`` on Ray: the detector's results, each once, whatever is killed; and its errors without Ray."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from spadeline.engine import Detector, calibrate
from spadeline.engine.images.reading import read_image

from ..conftest import SIZE

pytest.importorskip("pyarrow")

COMMAND = [sys.executable, "-m", "spadeline.command", "score"]
LONGEST_S = 900  # of a run, which takes a minute where nothing else runs
EQUAL = ("pred_score", "image_score", "map_score", "need", "decided")


@pytest.fixture(scope="module")
def with_ray():
    pytest.importorskip("ray")


@pytest.fixture(scope="module")
def images(parts, tmp_path_factory):
    """Many images, of few different contents."""
    folder = tmp_path_factory.mktemp("many") / "images"
    folder.mkdir()
    several = sorted((parts / "test").rglob("*.png"))
    for index in range(160):
        shutil.copyfile(several[index % len(several)], folder / f"{index:03}.png")
    return folder


def rows_of(folder):
    import pyarrow.parquet as pq

    return sorted(pq.read_table(folder).to_pylist(), key=lambda row: row["path"])


def check_equal(rows, recipe, images, **how):
    """Check that there is one row for each image, and that it is what the detector says of it."""
    assert [Path(row["path"]).name for row in rows] == [path.name for path in sorted(images.iterdir())]
    detector, known = Detector.load(recipe, device="cpu", threads=1), {}
    for row in rows:
        content = (images / Path(row["path"]).name).read_bytes()
        if content not in known:
            known[content] = detector.predict(read_image(images / Path(row["path"]).name), **how)
        result = known[content]
        assert row["error"] is None
        assert [row[name] for name in EQUAL] == [getattr(result, name) for name in EQUAL]
        assert (row["label"], row["reason"]) == (result.pred_label, "+".join(result.reasons))
        assert [tuple(region["box"]) for region in row["regions"]] == [region.box for region in result.regions]


@pytest.fixture(scope="module")
def cluster(with_ray, recipe_folder, images, tmp_path_factory):
    """What three runs on a cluster of three nodes told, and the folder that they wrote into."""
    out = tmp_path_factory.mktemp("cluster")
    script = Path(__file__).with_name("cluster_run.py")
    command = [sys.executable, script, recipe_folder, images, out]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LONGEST_S)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((out / "told.json").read_text()), out


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_a_worker_and_a_node_are_killed_and_each_image_has_its_row_once(cluster, recipe_folder, images):
    told, out = cluster
    assert [event["killed"] for event in told["kills"]["happened"]] == ["worker", "node"]
    assert told["kills"]["happened"][1]["after"] < 160
    assert told["kills"]["counts"]["scored"] == {recipe_folder.name: 160}
    check_equal(rows_of(out / "kills"), recipe_folder, images)


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_parquet_files_are_scored_and_a_run_over_them_is_taken_up(cluster, recipe_folder, images):
    told, out = cluster
    assert told["tables"]["counts"]["images"] == 160
    assert told["still connected"]
    check_equal(rows_of(out / "tables"), recipe_folder, images, need="label")


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_the_programs_of_the_page_run(cluster):
    told, _ = cluster
    assert told["programs"] == [8, True, [False] * 4 + [True] * 4]


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_a_cpu_stays_free_on_a_cluster(cluster):
    told, _ = cluster
    assert told["refused"] == [
        "workers: expected at most 2 of 1 threads on nodes of 1, 1, 1 CPUs, of which one stays free for reading, got 3",
        "threads: expected a cluster with CPUs for a worker of 2 and one that stays free for reading, got nodes of 1, 1, 1",
    ]


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_an_image_that_ends_its_worker_each_time_is_a_row_with_that_error(cluster, recipe_folder):
    told, _ = cluster
    counts = told["poisoned"]["counts"]
    assert (counts["images"], counts["scored"], counts["errors"]) == (
        5,
        {recipe_folder.name: 4},
        {recipe_folder.name: 1},
    )
    labels = told["poisoned"]["labels"]
    assert [name for name, label in labels.items() if label is None] == ["poison.png"]
    assert told["poisoned"]["error"].endswith(
        "poison.png: expected an image that can be inspected, got one at which the process ended 2 times"
    )


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_a_workers_error_is_the_runs(cluster):
    told, _ = cluster
    (kind, text) = told["worker's error"]
    assert kind == "RecipeError"
    assert "extractor-1.onnx: expected SHA-256 " in text
    assert text.endswith(": its content was changed")


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_two_recipes_and_a_bad_file_on_this_machine(with_ray, recipe_folder, parts, tmp_path):
    other = shutil.copytree(recipe_folder, tmp_path / "other")
    calibrate(other, changes={"label_rule": "either"}, threads=1)
    images = shutil.copytree(parts / "test", tmp_path / "images")
    (images / "good" / "bad.png").write_bytes(b"no image")
    here = {"capture_output": True, "text": True, "timeout": LONGEST_S, "cwd": tmp_path}
    command = [*COMMAND, recipe_folder, "other", "images", "--out", "out", "--masks"]
    done = subprocess.run(command, check=False, **here)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Traceback" not in done.stderr
    name = recipe_folder.name
    assert done.stdout.splitlines() == [
        f"{name}: 9 images = 8 scored + 1 errors; 4 anomalous",
        "other: 9 images = 8 scored + 1 errors; 4 anomalous",
    ]
    for recipe in (recipe_folder, other):
        rows = rows_of(tmp_path / "out" / recipe.name)
        assert Counter(row["label"] for row in rows) == {True: 4, False: 4, None: 1}
        (error,) = (row["error"] for row in rows if row["error"])
        assert "bad.png: expected " in error
        assert all(np.array(row["mask"]).shape == (SIZE, SIZE) for row in rows if row["mask"])
    assert {Path(row["path"]).parent.parent for row in rows} == {images}
    again = subprocess.run([*command, "--resume", "--json"], check=False, **here)
    assert json.loads(again.stdout)["scored"] == {name: 8, "other": 8}


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_a_run_that_is_killed_goes_on_where_it_was(with_ray, recipe_folder, images, tmp_path):
    code = (
        "import sys; from spadeline.engine.scale import score, written; written.PART_IMAGES = 16; "
        "score(sys.argv[1], sys.argv[2], sys.argv[3], workers=1, resume=True)"
    )
    command = [sys.executable, "-c", code, recipe_folder, images, tmp_path / "out"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + LONGEST_S
        while not list((tmp_path / "out").glob("*/part-*.parquet")) and run.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    done = len(rows_of(tmp_path / "out"))
    assert 0 < done <= 160
    again = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LONGEST_S)
    assert again.returncode == 0, again.stderr[-4000:]
    check_equal(rows_of(tmp_path / "out"), recipe_folder, images)


def test_without_ray_the_error_has_the_command(run, recipe_folder, parts, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, out, err = run("score", recipe_folder, parts / "test", "--out", tmp_path / "out")
    assert (code, out, err) == (2, "", "spadeline: ray is not installed: pip install 'spadeline[ray]'\n")
    assert not (tmp_path / "out").exists()
