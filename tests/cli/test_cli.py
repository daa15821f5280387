"""What the command line prints, its exit codes, and that no error ends in a traceback."""

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from spadeline.engine import Detector, ExtractorError, Recipe
from spadeline.engine.cli.commands import COMMANDS
from spadeline.engine.cli.main import main
from spadeline.engine.images.reading import read_image

from ..recipes import as_version_2, edit_manifest, without_codes


@pytest.fixture
def run(capsys):
    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture
def recipe(recipe_folder, tmp_path):
    return shutil.copytree(recipe_folder, tmp_path / "recipe")


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
    assert "too few for the 1.00% asked for" in run("info", tmp_path / "r")[1]


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

    monkeypatch.setattr(Detector, "predict", fail)
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
    assert json.loads(run("info", recipe, "--json")[1])["version"] == 3
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


def test_eval_prints_figures_and_writes_the_report(run, recipe_folder, parts, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    code, out, _ = run("eval", recipe_folder, parts, "--html", tmp_path / "report.html")
    assert code == 0
    assert "pixel ROCAUC" in out
    assert "4 of 4 abnormal found" in out
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    monkeypatch.chdir(parts)
    assert run("eval", recipe_folder, ".", "--html", tmp_path / "report.html")[0] == 0
    assert f"<h1>{parts.name}</h1>" in (tmp_path / "report.html").read_text()
    code, out, _ = run("eval", recipe_folder, parts, "--json")
    summary = json.loads(out)
    assert summary["pixel_rocauc"] > 0.9
    assert summary["image_rocauc_by_map_score"] == 1.0
    code, _, err = run("eval", recipe_folder, parts / "train" / "good")
    assert code == 2
    assert "expected train/good and test/<kind>, or normal and abnormal, got neither" in err


def test_eval_says_which_folders_it_took(run, recipe_folder, parts, tmp_path):
    for name, source in (("OK", "test/good"), ("NG", "test/scratch"), ("GT", "ground_truth/scratch")):
        shutil.copytree(parts / source, tmp_path / "set" / name)
    shutil.copytree(parts / "test" / "good", tmp_path / "set" / "NG" / "@eaDir")
    code, out, err = run("eval", recipe_folder, tmp_path / "set", "--json")
    line = f"spadeline: {tmp_path / 'set'}: test images: 4 normal from OK, 4 abnormal from NG (4 with masks)\n"
    assert (code, err) == (0, line)
    summary = json.loads(out)
    assert summary["dataset"]["taken"] == [
        {"folder": "OK", "label": False, "images": 4, "with_mask": 0},
        {"folder": "NG", "label": True, "images": 4, "with_mask": 4},
    ]
    assert summary["pixel_rocauc"] > 0.9


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


def test_eval_says_which_figures_are_not_defined(run, recipe_folder, parts, tmp_path):
    shutil.copytree(parts / "test" / "good", tmp_path / "set" / "test" / "good")
    code, out, _ = run("eval", recipe_folder, tmp_path / "set")
    assert code == 0
    assert "not defined" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["info", "nowhere"], "nowhere"),
        (["predict", "nowhere", "image.png"], "nowhere"),
        (["fit", "nowhere", "--extractor", "x.onnx", "--recipe", "r"], "nowhere: expected a folder of images, got no such path"),
        (["export", "x.onnx", "--backbone", "vgg16"], "backbone: expected one of resnet18"),
        (["export", "x.onnx", "--input-size", "100x100"], "input_size: expected"),
    ],
)  # fmt: skip
def test_errors_are_one_sentence(run, tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert text in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_exit_with_2(capsys):
    for arguments in ([], ["fit"], ["export", "x", "--input-size", "big"], ["predict", "r", "i", "--device", "tpu"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
    assert "expected HEIGHTxWIDTH" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip().count(".") == 2


def test_interrupts_and_closed_pipes_end_quietly(monkeypatch, recipe_folder, capsys):
    for error, code in ((KeyboardInterrupt, 130), (BrokenPipeError, 2)):
        monkeypatch.setattr(sys, "stderr", io.StringIO())

        def fail(_options, error=error):
            raise error

        monkeypatch.setitem(COMMANDS, "info", fail)
        assert main(["info", str(recipe_folder)]) == code


def test_a_name_too_long_for_any_file_is_one_sentence(run, recipe_folder):
    code, out, err = run("predict", recipe_folder, "x" * 300)
    assert (code, out) == (2, "")
    assert err == f"spadeline: {'x' * 300}: File name too long\n"


def test_a_fault_never_looks_like_an_anomalous_image(monkeypatch, recipe_folder, capsys):
    def fail(_options):
        raise ZeroDivisionError

    monkeypatch.setitem(COMMANDS, "info", fail)
    assert main(["info", str(recipe_folder)]) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


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


def test_export_reports_what_it_verified(run, tmp_path):
    pytest.importorskip("torch")
    arguments = (
        "export",
        tmp_path / "x.onnx",
        "--backbone",
        "resnet18",
        "--input-size",
        "64x64",
        "--weights",
        "random",
    )
    code, out, err = run(*arguments)
    assert code == 0
    assert "resnet18" in out
    assert "largest error against torch" in out
    assert "warning: resnet18 gets random weights" in err
    code, out, _ = run(*arguments, "--json")
    assert json.loads(out)["weights"] == "random"


def test_the_demo_runs_on_few_cells(run, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("elpv_dataset")
    pytest.importorskip("matplotlib")
    from spadeline.engine.cli import demo
    from spadeline.engine.errors import DownloadError
    from spadeline.export import extractor

    monkeypatch.setattr(demo, "FIT", 6)
    monkeypatch.setattr(demo, "TEST", 2)
    real = extractor.export_extractor

    def offline(path, *, backbone, weights="torchvision"):
        if weights == "torchvision":
            raise DownloadError("no network")
        return real(path, backbone=backbone, weights=weights)

    monkeypatch.setattr("spadeline.export.export_extractor", offline)
    code, out, _ = run("demo", "--folder", tmp_path / "demo", "--threads", 2)
    assert code == 0
    assert "RANDOM WEIGHTS" in out
    assert "image ROCAUC by map maximum" in out
    assert "RANDOM WEIGHTS" in (tmp_path / "demo" / "report.html").read_text()
    # An earlier demo is replaced.
    code, out, err = run("demo", "--folder", tmp_path / "demo", "--threads", 2, "--json")
    assert code == 0
    assert "RANDOM WEIGHTS" in err
    outcome = json.loads(out)
    assert outcome["report"] == str(tmp_path / "demo" / "report.html")
    assert "RANDOM WEIGHTS" in outcome["notices"][0]
    assert outcome["summary"]["images"]["total"] == 4
    assert len(list((tmp_path / "demo" / "cells" / "test" / "defective").iterdir())) == 2
    with Image.open(next((tmp_path / "demo" / "cells" / "train" / "good").iterdir())) as cell:
        assert np.asarray(cell).shape == (300, 300)


@pytest.mark.parametrize("command", ["predict", "eval", "bench"])
@pytest.mark.parametrize(("option", "value"), [("memory_limit", "1000000"), ("tensorrt_cache", "engines")])
def test_options_of_the_gpu_reach_it(run, recipe_folder, parts, command, option, value):
    """Without a GPU, the option is an error that names it."""
    flag = "--" + option.replace("_", "-")
    images = parts if command == "eval" else parts / "test"
    code, _, err = run(command, recipe_folder, images, "--device", "cpu", flag, value)
    assert code == 2
    assert f"spadeline: {option}: expected device 'auto' or 'cuda' with it, got 'cpu'" in err
