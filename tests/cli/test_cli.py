"""What the command line prints, its exit codes, and that no error ends in a traceback."""

import io
import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from spadeline.engine.cli.commands import COMMANDS
from spadeline.engine.cli.main import main


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


def test_a_fault_never_looks_like_an_anomalous_image(monkeypatch, recipe_folder, capsys):
    def fail(_options):
        raise ZeroDivisionError

    monkeypatch.setitem(COMMANDS, "info", fail)
    assert main(["info", str(recipe_folder)]) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


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
    assert json.loads(out)["neighbourhood"] == 3
    assert json.loads(run(*arguments, "--preset", "paper", "--json")[1])["neighbourhood"] == 1
    assert json.loads(run(*arguments, "--preset", "paper", "--neighbourhood", 3, "--json")[1])["neighbourhood"] == 3


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
