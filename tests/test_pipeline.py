import json
import sys
from pathlib import Path

import pytest
from spadeline.engine.extractor import Extractor

from .test_benchmarks import BENCHMARKS, run

sys.path.insert(0, str(BENCHMARKS))  # they are scripts, not a package

import sections
from energy import measure_energy
from resized import resized_extractor


@pytest.fixture
def source(parts, extractor_path):
    pytest.importorskip("onnxruntime")
    return ("--extractor", extractor_path, "--images", parts / "train", "--queries", parts / "test")


def test_each_option_replaces_the_bases_value(tmp_path, source):
    options = ("--input", "64x64", "96x64", "--frame", "96x96", "200x300", "--gallery", 12, 14, "--threads", 1, 2)
    short = ("--runs", 8, "--warm-up", 0, "--seconds", 0)
    done = run(*source, *options, *short, "--json", tmp_path / "report.json", script="pipeline.py")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["benchmark"] == "pipeline"
    assert document["command"].startswith("python ")
    settings = [result["setting"] for result in document["results"]]
    assert [(s["input_size"], s["frame_sizes"], s["gallery_images"], s["threads"]) for s in settings] == [
        ([64, 64], [[96, 96]], 12, 1),
        ([96, 64], [[96, 96]], 12, 1),
        ([64, 64], [[200, 300]], 12, 1),
        ([64, 64], [[96, 96]], 14, 1),
        ([64, 64], [[96, 96]], 12, 2),
    ]
    for result in document["results"]:
        assert [figures["from"] for figures in result["latency"]] == ["camera frame", "prepared frame"]
        assert all(0 < figures["p50_s"] <= figures["max_s"] for figures in result["latency"])
        assert all(way["frames_per_s"] > 0 for way in result["throughput"])
        assert result["memory"]["recipe_bytes"] > result["memory"]["gallery_bytes"] > 0
        assert result["start"]["peak_bytes"] > 1e7
        assert {"not_measured"} == result["energy"].keys() or result["energy"]["joules_per_frame"] > 0
    assert document["results"][3]["recipe"]["images"] == 14
    assert done.stdout.count(" ms; ") == 5
    tables = sections.chapter(document, "pipeline").tables
    names = [row[0] for row in tables["stages"].rows]
    assert names[1:] == ["input size 96 × 64", "frame sizes 200 × 300", "gallery images 14", "threads 2"]
    assert len(tables["latency"].rows) == 10
    assert all(None not in row for row in tables["throughput"].rows)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--gallery", 1), "--gallery: expected 2 or more"),
        (("--threads", 0), "expected numbers of 1 or more, got 0"),
        (("--seconds", -1), "expected numbers of 1 or more, got -1"),
        (("--input", "64"), "expected HEIGHTxWIDTH"),
        (("--json", "nowhere/report.json"), "expected a folder that exists"),
    ],
)
def test_options_that_make_no_sense(source, options, text):
    done = run(*source, *options, script="pipeline.py")
    assert done.returncode == 2
    assert text in done.stderr


def test_images_that_cannot_be_used_are_one_sentence(source, tmp_path):
    done = run(*source[:4], "--queries", tmp_path, script="pipeline.py")
    assert done.returncode == 1
    assert done.stderr.startswith("pipeline.py: ")
    assert "expected at least one image" in done.stderr


def test_an_extractor_for_another_size(tmp_path, extractor_path):
    path = resized_extractor(Path(extractor_path), (96, 128), tmp_path)
    extractor = Extractor(path, device="cpu")
    assert extractor.input_size == (96, 128)
    assert [shape[1:] for shape in extractor.level_shapes] == [(24, 32), (12, 16), (6, 8)]
    assert resized_extractor(path, (96, 128), tmp_path) == path


def package(powercap, name, before, limit=1_000_000):
    folder = powercap / name
    folder.mkdir(parents=True)
    (folder / "energy_uj").write_text(str(before))
    (folder / "max_energy_range_uj").write_text(str(limit))
    return folder / "energy_uj"


def test_energy_of_all_packages_over_a_counters_end(tmp_path):
    first = package(tmp_path, "intel-rapl:0", 100)
    second = package(tmp_path, "intel-rapl:1", 900_000)
    package(tmp_path, "intel-rapl:0:0", 5)  # a part of the first

    def work():
        first.write_text(str(300_100))
        second.write_text(str(99_999))
        return 5

    energy = measure_energy(work, powercap=tmp_path)
    assert energy["joules_per_frame"] == pytest.approx(0.5 / 5)
    assert energy["watts"] > 0


def test_energy_that_cannot_be_read(tmp_path):
    assert measure_energy(lambda: 1, powercap=tmp_path) == {"not_measured": f"{tmp_path} has no intel-rapl counters"}
    counter = package(tmp_path, "intel-rapl:0", 1)
    counter.unlink()
    assert measure_energy(lambda: 1, powercap=tmp_path) == {"not_measured": f"{counter}: No such file or directory"}
