"""benchmarks/doors.py: it counts the frames that are equal in both doors, and shows those that differ."""

import json

import pytest

from page_parts.doors import doors

from ..benchmarks.scripts import run

pytestmark = pytest.mark.xdist_group("door")


def test_drawn_parts_through_both_doors(installed, parts, extractor_path, tmp_path):
    options = ("--installed", installed, "--data", parts, "--extractor", extractor_path, "--most-queries", 2)
    done = run(*options, "--threads", 1, "--json", tmp_path / "report.json", script="doors.py")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "report.json").read_text())
    assert [row["need"] for row in document["results"]] == ["map", "label", "map", "map"]
    for row in document["results"]:
        assert row["frames"] == 4
        assert set(row["equal"].values()) == {4}
        assert row["largest_difference"] == {"map": 0.0, "score": 0.0}
    assert "Of 16 inspections through both doors, 0 differ in any bit." in done.stdout


def test_a_prefix_without_a_library(parts, extractor_path, tmp_path):
    done = run("--installed", tmp_path, "--data", parts, "--extractor", extractor_path, script="doors.py")
    assert done.returncode == 1
    assert done.stderr == (
        f"doors.py: {tmp_path}: expected the prefix of an installed libspadeline.so, found none below it\n"
    )


def test_frames_that_differ_are_counted():
    row = {"network": "resnet18", "settings": "as fitted", "frames": 10}
    equal = dict.fromkeys(("label", "reasons", "mask", "regions", "map", "neighbours", "scores"), 10)
    label = {"label": 10, "scores": 9}
    document = {
        "command": "python x",
        "results": [
            row | {"data": "nuts", "need": "map", "equal": equal, "largest_difference": {"map": 0.0, "score": 0.0}},
            row
            | {
                "data": "bolts",
                "need": "map",
                "equal": equal | {"map": 7, "mask": 9},
                "largest_difference": {"map": 0.25, "score": 0.0},
            },
            row | {"data": "nuts", "need": "label", "equal": label, "largest_difference": {"map": 0.0, "score": 1e-9}},
        ],
    }
    chapter = doors(document)
    assert chapter.finding == "Of 30 inspections through both doors, 4 differ in any bit."
    assert chapter.tables["verdicts"].rows == [
        ("resnet18", "as fitted", "map", 20, 20, 20, 19, 20, 17, 20, 20, "0.25", "0"),
        ("resnet18", "as fitted", "label", 10, 10, None, None, None, None, None, 9, None, "1e-09"),
    ]
