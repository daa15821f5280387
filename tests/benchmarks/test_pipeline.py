import errno
import json
import os
from pathlib import Path

import pytest
from spadeline.engine.extract.extractor import Extractor

from page_parts import sections
from pipeline_parts import energy as energy_counters
from pipeline_parts.energy import measure_energy
from shared_parts.resized import resized_extractor

from .scripts import run


@pytest.fixture
def source(parts, extractor_path):
    pytest.importorskip("onnxruntime")
    return ("--extractor", extractor_path, "--images", parts / "train", "--queries", parts / "test")


def test_each_option_replaces_the_bases_value(tmp_path, source):
    options = ("--input", "64x64", "96x64", "--frame", "96x96", "200x300", "--gallery", 12, 14, "--threads", 1, 2)
    short = ("--runs", 8, "--warm-up", 0, "--seconds", 0, "--batch", 3, 1, "--depth", 2, 5)
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
    assert done.stdout.count("A frame takes ") == 6  # one sentence for each setting, one for all
    tables = sections.chapter(document, "pipeline").tables
    names = [row[0] for row in tables["stages"].rows]
    assert names[1:] == ["input size 96 × 64", "frame sizes 200 × 300", "gallery images 14", "threads 2"]
    assert len(tables["latency"].rows) == 10
    head, (base, *others) = tables["throughput"].head, tables["throughput"].rows
    assert head[1:] == (
        "predict", "predict_batch, batch 3", "predict_batch, batch 1", "stream, depth 2", "stream, depth 5",
    )  # fmt: skip
    assert None not in base
    assert all((row[3], row[5]) == (None, None) and None not in (*row[:3], row[4]) for row in others)
    assert done.stdout.count("predict_batch, batch 1 ") == done.stdout.count("stream, depth 5") == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--gallery", 1), "--gallery: expected 2 or more"),
        (("--batch", 0), "expected numbers of 1 or more, got 0"),
        (("--depth", 2000), "--depth: expected at most 1024, got 2000"),
        (("--threads", 0), "expected numbers of 1 or more, got 0"),
        (("--seconds", -1), "expected numbers of 1 or more, got -1"),
        (("--input", "64"), "expected HEIGHTxWIDTH"),
        (("--input", "64x64", "1x64"), "--input: expected sides of 32 or more, got [(64, 64), (1, 64)]"),
        (("--json", "nowhere/report.json"), "expected a folder that exists"),
    ],
)
def test_options_that_make_no_sense(source, options, text):
    done = run(*source, *options, script="pipeline.py")
    assert done.returncode == 2
    assert text in done.stderr


def test_a_thousand_runs_give_all_percentiles_however_long_they_may_take(tmp_path, source):
    options = ("--runs", 1000, "--warm-up", 10, "--seconds", 3600, "--threads", 1, "--input", "48x64")
    done = run(*source, *options, "--json", tmp_path / "report.json", script="pipeline.py")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads((tmp_path / "report.json").read_text())["results"]
    for figures in result["latency"]:
        assert figures["runs"] == 1000
        assert figures["p50_s"] <= figures["p99_s"] <= figures["p99.9_s"] <= figures["max_s"]


def test_an_input_that_the_network_cannot_halve_is_one_sentence(source):
    done = run(*source, "--input", "40x52", script="pipeline.py")
    assert done.returncode == 1
    assert done.stderr.startswith("pipeline.py: ")
    assert "averages-40x52.onnx: level 1: expected the size of level 0 (10 x 13) halved once or more" in done.stderr


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


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    """A folder in place of the system's counters."""
    monkeypatch.setattr(energy_counters, "POWERCAP", tmp_path)
    return tmp_path


def counter(powercap, folder, name, before, limit=1_000_000):
    folder = powercap / folder
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(str(before))
    (folder / "max_energy_range_uj").write_text(str(limit))
    return folder / "energy_uj"


def test_energy_of_all_packages_over_a_counters_end(powercap):
    first = counter(powercap, "intel-rapl:0", "package-0", 100)
    second = counter(powercap, "intel-rapl:1", "package-1", 900_000)
    others = [counter(powercap, "intel-rapl:0:0", "core", 5), counter(powercap, "intel-rapl:2", "psys", 5)]

    def work():
        first.write_text(str(300_100))
        second.write_text(str(99_999))  # 100 up to the limit, and one to restart at 0
        for other in others:  # a part of the first, and the whole platform
            other.write_text(str(900_000))
        return 5

    energy = measure_energy(work)
    assert energy["joules_per_frame"] == pytest.approx(0.5 / 5)
    assert energy["watts"] > 0


def test_energy_that_cannot_be_read(powercap):
    none = {"not_measured": f"{powercap} has no intel-rapl counters of packages"}
    assert measure_energy(lambda: 1) == none
    counter(powercap, "intel-rapl:1", "psys", 1)
    assert measure_energy(lambda: 1) == none
    path = counter(powercap, "intel-rapl:0", "package-0", 1)
    path.unlink()
    assert measure_energy(lambda: 1) == {"not_measured": f"{path}: No such file or directory"}


def test_energy_that_only_root_may_read(powercap, monkeypatch):
    path = counter(powercap, "intel-rapl:0", "package-0", 1)
    read_text = Path.read_text

    def denied(self):  # root could read a file without permissions
        if self == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return read_text(self)

    monkeypatch.setattr(Path, "read_text", denied)
    assert measure_energy(lambda: 1) == {"not_measured": f"{path}: Permission denied"}
