"""benchmarks/detectors.py: its report, and its errors."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from spadeline.engine.json_data import to_json
from spadeline.engine.units import latency

from detectors_parts import by_spadeline
from detectors_parts.process import Job
from page_parts import sections
from page_parts.detectors import detectors

from ..conftest import part
from .scripts import BENCHMARKS, needs_torch


def run(*arguments):
    command = [sys.executable, str(BENCHMARKS / "detectors.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def peers(tmp_path):
    """An environment like that of set_up_peers.sh, but with the packages of the tests: torch, and no anomalib."""
    (tmp_path / "peers" / "bin").mkdir(parents=True)
    python = tmp_path / "peers" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return tmp_path / "peers"


def test_the_whole_command(parts, extractor_path, peers, tmp_path):
    needs_torch()
    pytest.importorskip("faiss")
    options = ("--extractor", extractor_path, "--images", parts, "--peers", peers, "-K", 4, "--threads", 1)
    few = ("--seconds", 0.05, "--peer-detectors", "spade", "padim-torch", "--quantized", extractor_path)
    done = run(*options, *few, "--json", tmp_path / "report.json")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["benchmark"] == "detectors"
    assert document["command"].startswith("python ")
    (result,) = document["results"]
    assert (result["images"], result["frames"], result["gallery_images"], result["weights"]) == (12, 8, 4, "random")
    rows = {row["name"]: row for row in result["rows"]}
    names = ("spadeline", "spadeline, averages")
    ours = [name + need for name in names for need in ("", " (mask)", " (label)")]
    assert list(rows) == [*ours, "SPADE, torch"], result["left_out"]
    for name in ours:
        whole = name in names
        assert (rows[name]["pixel_rocauc"] is not None) == whole
        assert rows[name]["verdict_of"] == ("" if whole else name.rpartition(" ")[0])
        assert 0 < rows[name]["median_s"]["good"] < 1
    told = "The same verdict for every frame: spadeline (mask) as spadeline, spadeline (label) as spadeline, "
    assert told in done.stdout
    assert rows["SPADE, torch"]["difference_to_spadeline"] < 1e-3
    assert rows["SPADE, torch"]["pixel_rocauc"] == pytest.approx(rows["spadeline"]["pixel_rocauc"], abs=1e-3)
    assert result["left_out"] == {"PaDiM, anomalib torch": f"anomalib is not installed in {sys.prefix}"}
    assert f"PaDiM, anomalib torch: left out, anomalib is not installed in {sys.prefix}" in done.stdout
    assert "SPADE, torch: maps and scores are spadeline's within" in done.stdout
    table = sections.chapter(document, "detectors").tables["detectors"]
    assert [row[0] for row in table.rows] == list(rows)
    assert "accuracy of its own. PaDiM, anomalib torch: left out, anomalib is not installed in " in table.note


def test_without_an_extractor_a_backbone_of_random_weights_is_taken(parts, tmp_path):
    pytest.importorskip("torchvision")
    pytest.importorskip("faiss")
    options = (
        "--images",
        parts,
        "--peer-detectors",
        "--needs",
        "--threads",
        1,
        "--seconds",
        0.05,
        "--models",
        tmp_path / "models",
    )
    done = run(*options, "--json", tmp_path / "report.json")
    assert done.returncode == 0, done.stderr
    assert "resnet18, random weights, input 224 × 224" in done.stdout
    (result,) = json.loads((tmp_path / "report.json").read_text())["results"]
    assert (result["backbone"], result["weights"], result["peers"]) == ("resnet18", "random", {})
    (row,) = result["rows"]
    assert (row["name"], row["precision"]) == ("spadeline", "float32")
    assert row["model_bytes"] > 40e6
    assert (tmp_path / "models" / "resnet18-random.onnx").exists()


def test_spadeline_by_openvino_is_left_out_where_it_has_none(recipe_folder, extractor_path, monkeypatch):
    monkeypatch.setattr(by_spadeline, "RECIPE", recipe_folder.name)
    job = Job("spadeline", extractor_path, Path(), Path(), Path(), (64, 64), 8, 3, 1)
    for need in ("map", "mask", "label"):
        detect, precision = by_spadeline.open_detector(job, recipe_folder.parent, need)
        assert precision == "float32"
        answer = detect(part(301, scratched=True)[0])
        assert (answer.label, answer.anomaly_map.shape) == (True, (64, 64))
    with pytest.raises(ValueError, match=r"^its start chose CPUExecutionProvider"):
        by_spadeline.open_detector(job, recipe_folder.parent, "label-openvino")


def test_images_of_one_label_tell_nothing(parts, extractor_path, tmp_path):
    shutil.copytree(parts, tmp_path / "parts", ignore=shutil.ignore_patterns("scratch"))
    done = run("--images", tmp_path / "parts", "--extractor", extractor_path)
    assert done.returncode == 1
    assert "expected train/good, and normal and abnormal images in test" in done.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--images", "x", "--models", __file__), f"--models: expected a folder, got the file {__file__}"),
        ((), "the following arguments are required: --images"),
        (("--images", "x", "-K", "0"), "expected numbers above 0, got 0, "),
        (("--images", "x", "--models", "/nowhere/at/all"), "expected a folder that exists, got /nowhere/at/all"),
        (("--images", "/nowhere"), "detectors.py: /nowhere: expected a data set's folder, got no such path"),
    ],
)
def test_what_it_cannot_do_is_said_in_one_sentence(options, text):
    done = run(*options)
    assert done.returncode != 0
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_figure_that_is_not_there_is_a_dash():
    times = to_json(latency([0.01, 0.01, 0.02]))
    row = {
        "name": "spadeline", "precision": "int8", "image_rocauc": 1.0, "image_rocauc_by_map": 1.0, "image_rocauc_by_embedding": None, "pixel_rocauc": None, "aupro_0.3": None,
        "difference_to_spadeline": None, "latency": times, "frames_per_s": 99.0, "model_bytes": 1, "peak_bytes": 2,
    }  # fmt: skip
    result = {
        "input_size": (64, 64),
        "backbone": "b",
        "weights": "w",
        "images": 1,
        "gallery_images": 1,
        "frames": 1,
        "peers": {},
        "rows": [row],
        "left_out": {},
    }
    text = detectors({"command": "python x", "results": [result]}).text()
    *_, row, note = text.splitlines()
    assert row.split() == [
        "spadeline",
        "1.000",
        "1.000",
        "-",
        "-",
        "-",
        "10.0",
        "-",
        "-",
        "20.0",
        "99.0",
        "1.00e-06",
        "2.00e-06",
    ]
    assert note.strip() == "spadeline computes in int8."
    assert "Runs timed: spadeline 3." in text
