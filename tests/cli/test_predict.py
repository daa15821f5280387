"""What ``predict`` prints and writes, in which order, and its exit codes."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from spadeline.engine import Detector, ExtractorError
from spadeline.engine.cli.main import main
from spadeline.engine.images.reading import read_image

from ..recipes import edit_manifest


def test_the_exit_code_of_predict_tells_its_verdict(run, recipe_folder, parts):
    good, scratched = parts / "test" / "good", parts / "test" / "scratch"
    code, out, err = run("predict", recipe_folder, good, "--threads", 1)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["normal"] * 4
    code, out, _ = run("predict", recipe_folder, good / "100.png", scratched)
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["normal"] + ["ANOMALOUS"] * 4


def test_predict_prints_json_lines_that_equal_the_api(run, recipe_folder, parts):
    folder = parts / "test" / "scratch"
    code, out, _ = run("predict", recipe_folder, folder, "--json")
    detector = Detector.load(recipe_folder, device="cpu")
    assert code == 1
    for record in map(json.loads, out.splitlines()):
        result = detector.predict(read_image(record["image"]))
        for name in ("pred_label", "pred_score", "image_score", "map_score"):
            assert record[name] == getattr(result, name)
        assert record["regions"][0]["peak"] == list(result.regions[0].peak)
        assert record["nearest_images"][0] == f"{result.nearest_images[0]:03}.png"
        assert set(record["timings_s"]) == {"prepare", "extract", "retrieve", "match", "map"}


def test_predict_says_what_was_needed_and_what_is_undecided(run, recipe, parts):
    good = parts / "test" / "good" / "100.png"
    (record,) = map(json.loads, run("predict", recipe, good, "--json")[1].splitlines())
    assert (record["need"], record["decided"], record["pred_label"]) == ("map", True, False)
    code, out, _ = run("predict", recipe, good, "--json", "--need", "label", "--deadline-s", 0)
    record = json.loads(out)
    assert (code, record["need"], record["decided"], record["pred_label"]) == (1, "label", False, True)
    assert np.isfinite(record["pred_score"])
    code, out, _ = run("predict", recipe, good, "--deadline-s", 0)
    assert code == 1
    assert out.startswith("ANOMALOUS")
    assert out.endswith("100.png  (map)  undecided\n")
    assert "undecided" not in run("predict", recipe, good, "--deadline-s", 1000)[1]
    assert run("calibrate", recipe, "--need", "label", "--label-rule", "image")[0] == 0
    assert json.loads(run("predict", recipe, good, "--json")[1])["need"] == "label"
    assert json.loads(run("predict", recipe, good, "--json", "--need", "map")[1])["need"] == "map"


@pytest.mark.parametrize("deadline_s", ["-1", "nan"])
def test_predict_refuses_a_deadline_that_is_no_time(run, recipe_folder, parts, deadline_s):
    code, out, err = run("predict", recipe_folder, parts / "test" / "good", f"--deadline-s={deadline_s}")
    assert (code, out) == (2, "")
    assert err.startswith("spadeline: deadline_s: expected a finite number of 0 or more, got ")


def test_overlays_of_upper_bounds_are_said_to_be(run, recipe_folder, parts, tmp_path):
    good, said = parts / "test" / "good" / "100.png", "spadeline: overlays: maps that aren't exact are drawn as their"
    for options, is_said in (((), False), (("--need", "map"), False), (("--deadline-s", 0), True)):
        err = run("predict", recipe_folder, good, "--overlays", tmp_path / "pictures", *options)[2]
        assert err.startswith(said) == is_said, options
    assert run("predict", recipe_folder, good, "--deadline-s", 0)[2] == ""


def test_predict_goes_on_after_a_bad_image(run, recipe_folder, parts, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    code, out, err = run("predict", recipe_folder, bad, parts / "test" / "good" / "100.png")
    assert code == 2
    assert len(out.splitlines()) == 1
    assert "bad.png: expected a BMP, JPEG, PNG" in err
    code, out, _ = run("predict", recipe_folder, bad, parts / "test" / "good" / "100.png", "--json")
    first, second = map(json.loads, out.splitlines())
    assert "bad.png: expected" in first["error"]
    assert second["pred_label"] is False


def test_predict_goes_on_after_a_pipe_in_a_folder(run, recipe_folder, parts, tmp_path):
    folder = tmp_path / "frames"
    shutil.copytree(parts / "test" / "good", folder)
    os.mkfifo(folder / "101b.png")
    code, out, err = run("predict", recipe_folder, folder, "--json")
    assert (code, err) == (2, "")
    records = {Path(record["image"]).name: record for record in map(json.loads, out.splitlines())}
    assert list(records) == ["100.png", "101.png", "101b.png", "102.png", "103.png"]
    assert records.pop("101b.png")["error"] == f"{folder / '101b.png'}: expected an image file, got a named pipe"
    assert not any(record["pred_label"] for record in records.values())


def test_predict_keeps_the_order_whatever_is_wrong_with_an_image(run, recipe_folder, parts, tmp_path):
    good, scratched = parts / "test" / "good" / "100.png", parts / "test" / "scratch" / "200.png"
    (tmp_path / "bad.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((8, 4000), np.uint8)).save(tmp_path / "long.png")
    images = [good, tmp_path / "bad.png", scratched, tmp_path / "long.png", good]
    recipe = tmp_path / "recipe"
    shutil.copytree(recipe_folder, recipe)
    # The paper's framing refuses such a long frame; the file itself is accepted.
    edit_manifest(recipe, lambda content: content["settings"].update(framing="paper"))
    code, out, err = run("predict", recipe, *images, "--json", "--overlays", tmp_path / "pictures")
    assert (code, err) == (2, "")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["image"] for record in records] == [str(image) for image in images]
    assert ["error" in record for record in records] == [False, True, False, True, False]
    assert "bad.png: expected a BMP" in records[1]["error"]
    assert records[3]["error"].startswith("frame: expected ")
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["100.png", "200.png"]


def test_predict_ends_where_the_detector_fails(run, recipe_folder, parts, monkeypatch):
    """The error isn't of the image, so the other images would fail, too."""

    def fail(*_, **__):
        raise ExtractorError("the graph: out of memory")

    monkeypatch.setattr(Detector, "_predict", fail)
    code, out, err = run("predict", recipe_folder, parts / "test" / "good")
    assert (code, out, err) == (2, "", "spadeline: the graph: out of memory\n")


def test_predict_writes_overlays(run, recipe_folder, parts, tmp_path):
    run("predict", recipe_folder, parts / "test" / "scratch", "--overlays", tmp_path / "pictures")
    pictures = sorted((tmp_path / "pictures" / "scratch").iterdir())
    assert [picture.name for picture in pictures] == [f"{seed}.png" for seed in range(200, 204)]
    assert read_image(pictures[0]).shape == (96, 96, 3)
    shutil.copy(parts / "test" / "good" / "100.png", tmp_path / "100.png")
    code, _, err = run(
        "predict",
        recipe_folder,
        tmp_path / "100.png",
        parts / "test" / "good" / "100.png",
        "--overlays",
        tmp_path / "pictures",
    )
    assert code == 2
    assert "overlays: expected a name for each image" in err
    (tmp_path / "file").write_text("")
    code, _, err = run("predict", recipe_folder, parts / "test" / "scratch", "--overlays", tmp_path / "file")
    assert code == 2
    assert "file" in err
    assert "can't be written" in err


def test_overlays_never_replace_an_image(run, recipe_folder, parts, tmp_path, monkeypatch):
    shutil.copytree(parts / "test" / "scratch", tmp_path / "images" / "new")
    monkeypatch.chdir(tmp_path / "images" / "new")
    before = Path("200.png").read_bytes()
    for arguments in (("200.png", "--overlays", "."), ("../new", "--overlays", "..")):
        code, out, err = run("predict", recipe_folder, *arguments)
        assert (code, out) == (2, "")
        assert "overlays: expected another folder than the images'" in err
    assert Path("200.png").read_bytes() == before


def test_a_name_too_long_for_any_file_is_one_sentence(run, recipe_folder):
    code, out, err = run("predict", recipe_folder, "x" * 300)
    assert (code, out) == (2, "")
    assert err == f"spadeline: {'x' * 300}: File name too long\n"


@pytest.mark.parametrize("json_", [[], ["--json"]])
def test_names_that_the_terminal_cannot_show(recipe_folder, parts, tmp_path, json_):
    name = tmp_path / os.fsdecode(b"x\xff.png")
    shutil.copy(parts / "test" / "good" / "100.png", name)
    code = "import sys; from spadeline.engine.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "predict", str(recipe_folder), str(name), "--device", "cpu", *json_]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "x\\udcff.png" in done.stdout


def test_progress_shows_on_a_terminal(monkeypatch, recipe_folder, parts):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    main(["predict", str(recipe_folder), str(parts / "test" / "good")])
    assert "predict" in terminal.getvalue()
    assert "4/4" in terminal.getvalue() or "3/4" in terminal.getvalue()
