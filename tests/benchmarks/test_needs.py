"""Map, mask and label side by side: the option --data of benchmarks/matcher.py and benchmarks/pipeline.py."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from spadeline.engine.match.cells import to_cells
from spadeline.engine.match.matcher import Matcher
from spadeline.engine.result import Statistics

from page_parts import sections
from shared_parts.contrast import Found, nearest_per_random
from shared_parts.needs import Contestant, Verdict, difference, hold
from shared_parts.subjects import Subject

from .scripts import run

FEW = ("--threads", 1, "--rounds", 1)


@pytest.fixture
def sets(tmp_path, parts):
    """Two data sets: one with scratched parts, one without."""
    shutil.copytree(parts, tmp_path / "sets" / "bars")
    shutil.copytree(parts, tmp_path / "sets" / "plain", ignore=shutil.ignore_patterns("scratch"))
    return tmp_path / "sets" / "bars", tmp_path / "sets" / "plain"


@pytest.fixture
def extractors(tmp_path, extractor_path):
    pytest.importorskip("onnxruntime")
    return extractor_path, shutil.copy(extractor_path, tmp_path / "other.onnx")


def measured(tmp_path, script, *options):
    done = run(*options, *FEW, "--json", tmp_path / "report.json", script=script)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads((tmp_path / "report.json").read_text()), done.stdout


def test_the_matcher_over_sets_networks_and_sizes(tmp_path, sets, extractors):
    options = ("--data", *sets, "--extractor", *extractors, "--input", "64x64", "64x96", "--dense", "--most-queries", 2)
    document, printed = measured(tmp_path, "matcher.py", *options)
    assert document["benchmark"] == "matcher_needs"
    results = document["results"]
    subjects = [(result["data"], result["network"], result["input_size"]) for result in results]
    assert subjects == [
        (data, network, size)
        for data in ("bars", "plain")
        for network in ("averages", "other")
        for size in ([64, 64], [64, 96])
    ]
    for result in results:
        rows = {row["name"]: row for row in result["rows"]}
        assert list(rows) == ["map", "mask", "label", "dense path"]
        assert (result["images"], result["cells"]) == (12, 16 if result["input_size"] == [64, 64] else 24)
        assert result["nearest_per_random"].keys() == ({"good"} if result["data"] == "plain" else {"good", "defective"})
        for row in rows.values():
            for group in result["nearest_per_random"]:
                figures = row[group]
                assert (figures["frames"], figures["runs"]) == (2, 2)
                assert 0 < figures["median_s"] <= figures["slowest_s"]
                assert figures["anomalous"] == rows["map"][group]["anomalous"]
        if result["data"] == "bars":
            assert rows["map"]["defective"]["anomalous"] == 2
            assert 0 < result["nearest_per_random"]["good"] < result["nearest_per_random"]["defective"]
    tables = sections.chapter(document, "needs").tables
    assert list(tables) == ["needs", "tails", "brief", "growth"]
    head, row = tables["needs"].head, tables["needs"].rows[0]
    assert head[:8] == ["images", "network", "input", "K", "map, ms", "mask, ms", "label, ms", "dense path, ms"]
    assert row[:4] == ["bars", "averages", "64 × 64", 12]
    assert dict(zip(head, row, strict=True))["defects found"] == "2 of 2"
    plain = dict(zip(head, tables["needs"].rows[-1], strict=True))
    assert (plain["defects found"], plain["map, ms"][-3:]) == (None, "/ –")
    assert [row[2] for row in tables["growth"].rows[:3]] == ["64 × 64", "64 × 96", "as pixels to the power of"]
    assert "Good frames, 8 pairs of images and network, medians: the map takes " in printed


def test_the_chain_beside_its_backbone(tmp_path, sets, extractors):
    document, printed = measured(tmp_path, "pipeline.py", "--data", sets[0], "--extractor", extractors[0])
    (result,) = document["results"]
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["map", "mask", "label", "backbone alone"]
    assert rows["label"]["good"]["stages_s"].keys() == {"prepare", "extract", "retrieve", "match", "map"}
    assert rows["label"]["latency"]["runs"] == 8
    assert "anomalous" not in rows["backbone alone"]["good"]
    assert result["detector"]["rounds"] is True
    tables = sections.chapter(document, "needs").tables
    assert list(tables) == ["needs", "tails", "brief", "stages"]
    row = dict(zip(tables["needs"].head, tables["needs"].rows[0], strict=True))
    ratio = rows["label"]["good"]["median_s"] / rows["backbone alone"]["good"]["median_s"]
    assert row["label, of the backbone's"].startswith(f"{ratio:.2f} / ")
    assert "Good frames, bars, averages, 64 × 64, medians: the map takes " in printed


def test_a_recipe_that_lies_there_is_taken_again(tmp_path, sets, extractors):
    def fitted():
        options = ("--data", sets[0], "--extractor", extractors[0], "--most-queries", 1, "--recipes", tmp_path / "kept")
        measured(tmp_path, "matcher.py", *options)
        return {path: path.stat().st_ino for path in (tmp_path / "kept").glob("*/recipe.json")}

    first = fitted()
    assert fitted() == first
    shutil.copy(sets[0] / "test" / "good" / "100.png", sets[0] / "train" / "good")
    assert len(fitted()) == len(first) + 1 == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--data", "a/x", "b/x", "--extractor", "n"), "--data: expected names that differ, got x x"),
        (("--data", "x", "--extractor", "n", "--images", "y"), "--data: expected only options of data, dense, "),
        (("--data", "x", "--extractor", "n", "--kappa", "2"), "threads with it, got kappa"),
        (("--data", "x", "--extractor", "n", "--rounds", "0"), "expected numbers of 1 or more, got 0"),
        (
            ("--data", "x", "--extractor", "n", "--input", "8x64"),
            "--input: expected sides of 32 or more, got [(8, 64)]",
        ),
        (("--data", "x", "--extractor", "n", "--json", "no/where"), "expected a folder that exists, got no/where"),
    ],
)
@pytest.mark.parametrize("script", ["matcher.py", "pipeline.py"])
def test_options_that_make_no_sense(script, options, text):
    done = run(*options, script=script)
    assert done.returncode == 2
    assert text in done.stderr


def test_data_sets_need_a_network():
    done = run("--data", "x")
    assert done.returncode == 2
    assert "--data: expected --extractor with it, got none" in done.stderr


def test_options_of_data_sets_need_some():
    for script, options in (("matcher.py", ("--dense",)), ("pipeline.py", ("--extractor", "x", "--rounds", "3"))):
        done = run(*options, script=script)
        assert done.returncode == 2
        assert f"{options[-2:][0].strip('-')}: expected --data with it, got none" in done.stderr


def test_several_networks_take_data_sets():
    done = run("--extractor", "a", "b", "--images", "x", "--queries", "y")
    assert done.returncode == 2
    assert "--extractor: expected one, got 2" in done.stderr


def test_a_set_without_test_images_is_one_sentence(parts, extractor_path, tmp_path):
    shutil.copytree(parts / "train", tmp_path / "parts" / "train")
    done = run("--data", tmp_path / "parts", "--extractor", extractor_path)
    assert done.returncode == 1
    assert done.stderr == f"matcher.py: {tmp_path / 'parts'}: expected a data set with train/good and test\n"


NOTHING = Statistics(path="pruned", pairs=0, passed=(0,), exact=0, guarded_cells=0)
HIGH = np.float32([[1, 2], [3, 4]])
TRUTH = Verdict(
    label=True, mask=HIGH > 2, upper=HIGH, lower=HIGH, decided=True, statistics=NOTHING, stages_s={"match": 0.0}
)


@pytest.mark.parametrize(
    ("equal", "change", "text"),
    [
        ("map", {}, ""),
        ("map", {"upper": HIGH * np.float32(1 + 2e-7)}, ""),
        ("map", {"upper": HIGH + np.float32(1e-4)}, "the map differs by 2.5e-05 of its maximum, allowed 1e-06"),
        ("mask", {"upper": HIGH + 1, "lower": HIGH - 1}, ""),
        ("mask", {"upper": HIGH - 1}, "its bounds don't hold the map"),
        ("mask", {"lower": HIGH + 1}, "its bounds don't hold the map"),
        ("mask", {"mask": HIGH > 1}, "the mask differs in 1 pixels, first in (0, 1)"),
        ("mask", {"label": False}, "the label is False, expected True"),
        ("label", {"label": False}, "the label is False, expected True"),
        ("label", {"mask": HIGH > 0}, ""),
        ("label", {"decided": False}, "it isn't decided, though there is no deadline"),
    ],
)
def test_what_must_be_as_the_map_says(equal, change, text):
    assert difference(replace(TRUTH, **change), TRUTH, equal) == text


def subject(*labels):
    frames = [SimpleNamespace(path=f, label=label) for f, label in zip(map(_path, range(9)), labels, strict=False)]
    return Subject("nuts", "net", SimpleNamespace(input_size=(2, 2)), frames)


def _path(index):
    return SimpleNamespace(parent=SimpleNamespace(name="kind"), name=f"{index}.png")


def test_a_wrong_verdict_ends_the_run_before_anything_is_timed():
    wrong = replace(TRUTH, label=False)
    contestants = [Contestant("map", lambda _: TRUTH, "map"), Contestant("label", lambda _: wrong, "label")]
    with pytest.raises(SystemExit, match=r"^nuts, net, 2x2: label of .*: the label is False, expected True; no time"):
        hold(subject(True), contestants, rounds=1, seconds=60)


def test_rounds_make_a_hundred_runs_unless_time_is_up():
    asked = []

    def inspect(index):
        asked.append(index)
        return TRUTH

    contestants = [
        Contestant("map", inspect, "map"),
        Contestant("yardstick", lambda _: TRUTH, "map", every_round=False),
        Contestant("backbone", lambda _: None, None),
    ]
    frames = subject(False, True, True)
    rows = hold(frames, contestants, rounds=None, seconds=60)
    assert [row["latency"]["runs"] for row in rows] == [102, 3, 102]
    assert [rows[0][group]["frames"] for group in ("good", "defective")] == [1, 2]
    assert asked[:7] == [0, 1, 2, 2, 0, 1, 2]  # the equality of all first, then one frame that isn't timed
    assert [row["latency"]["runs"] for row in hold(frames, contestants, rounds=None, seconds=0)] == [3, 3, 3]


def test_the_nearest_as_a_part_of_random_ones():
    rng = np.random.default_rng(3)
    sizes = ((6, 5), (3, 3))
    levels = [rng.standard_normal((4, c, *size)).astype(np.float32) for c, size in zip((3, 8), sizes, strict=True)]
    matcher = Matcher(levels, threads=1, weights=(2.0, 0.5))
    cells = [to_cells(level, depth) for level, depth in zip(levels, (1, 0), strict=True)]
    scorer = SimpleNamespace(matcher=matcher, gallery=SimpleNamespace(levels=cells))
    query = [rng.standard_normal((c, *size)).astype(np.float32) for c, size in zip((3, 8), sizes, strict=True)]

    def everything(image):  # (6 * 5, 6 * 5): all pairs of pixels
        total = 0
        for weight, level, size in zip((2.0, 0.5), range(2), sizes, strict=True):
            grown = [
                values.repeat(1 << level, 1).repeat(1 << level, 2)[:, :6, :5].reshape(len(values), -1).astype(float)
                for values in (query[level], levels[level][image])
            ]
            total = total + weight * np.square(grown[0][:, :, None] - grown[1][:, None, :]).sum(axis=0)
            assert size == levels[level].shape[2:]
        return total

    ids = np.array([2, 0, 3])
    pairs = np.stack([everything(image) for image in ids])
    expected = pairs.min(axis=(0, 2)).mean() / pairs.mean()
    found = nearest_per_random(scorer, Found(query, SimpleNamespace(nearest_images=ids)))
    assert found == pytest.approx(expected, rel=0.1)  # random pairs are a sample
