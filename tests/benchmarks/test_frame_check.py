"""benchmarks/frame_check.py: which frames it finds, and its false alarms."""

import json
import re

import pytest

from .scripts import run


def test_the_frame_check_on_drawn_parts(tmp_path, parts, extractor_path):
    pytest.importorskip("faiss")
    options = ("--images", parts, "--extractor", extractor_path, "--frames", 2, "--learn", 5, 10, 200, "--splits", 3)
    done = run(*options, "--json", tmp_path / "report.json", script="frame_check.py")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "report.json").read_text())
    rows = {row["frame"]: row for row in document["found"]}
    assert rows["as it is"]["frames"] == 4
    assert rows["black"]["check"] == rows["white"]["check"] == rows["a tenth of the exposure"]["check"] == 2
    assert rows["black"]["reasons"]["contrast"] == 2
    assert [(row["learnt_from"], row["judged"]) for row in document["false_alarms"]] == [(5, 33), (10, 18)]
    assert "contrast 2" in done.stdout  # why the black frames were flagged
    alone = run(*options, "--only-false-alarms", script="frame_check.py")
    assert "black" not in alone.stdout
    assert "False alarms, by reason:" in alone.stdout
    assert re.search(rf"{parts.name}, averages +10 +16 ", alone.stdout)
